"""What the launch files start, as processes: they find each other, and large images get through.

`launch` is not among the ROS wheels: the processes are those that test/launch_stand_in.py reads
out of the launch files, with the same arguments, parameters, remappings and environment.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from sensor_msgs.msg import Image

from hand_mesh_ros.geometry.rotations import invert_rigid, matrix_to_quaternion
from hand_mesh_ros.msg import HandArray
from hand_mesh_ros.ros.environment import PROFILE_VARIABLES, child_environment, transport_variables
from hand_mesh_ros.ros.images import encode_image

LAUNCH = Path(__file__).resolve().parents[2] / "launch"
SEGMENT = 64 * 2**20  # as config/fastdds_large_images.xml has it


class Launched:
    """The processes of a launch file, running."""

    def __init__(self, started: list[Any], domain: int, folder: Path) -> None:
        self.logs: dict[str, Path] = {}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        for one in started:
            name = one.executable
            command = [sys.executable, "-m", f"hand_mesh_ros.ros.{name}", *one.command(folder)]
            # Of the profile, a process knows what the launch file says, and nothing else.
            base = {
                k: v for k, v in child_environment(domain).items() if k not in PROFILE_VARIABLES
            }
            self.logs[name] = folder / f"{name}.log"
            with self.logs[name].open("wb") as log:
                self.processes[name] = subprocess.Popen(
                    command, env=base | one.environment, stdout=log, stderr=log
                )

    def check(self) -> None:
        """Fail with the log of a process that has ended."""
        for name, process in self.processes.items():
            if process.poll() is not None:
                pytest.fail(f"{name} has ended:\n{self.logs[name].read_text()[-3000:]}")

    def end(self) -> dict[str, int]:
        """Exit statuses after SIGINT, as `ros2 launch` ends its processes."""
        for process in self.processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
        return {name: process.wait(20) for name, process in self.processes.items()}

    def kill(self) -> None:
        for process in self.processes.values():
            if process.poll() is None:
                process.kill()
                process.wait()


@pytest.fixture
def launched(
    described: Callable[..., Any], domain: int, tmp_path: Path, landmark_networks: None
) -> Iterator[Callable[..., Launched]]:
    """``launched(name, **arguments)`` starts everything that a launch file starts."""
    running: list[Launched] = []

    def begin(name: str, **arguments: str) -> Launched:
        started = described(LAUNCH / f"{name}.launch.py", **arguments).everything()
        running.append(Launched(started, domain, tmp_path))
        return running[-1]

    yield begin
    for one in running:
        one.kill()


def segments(pid: int) -> dict[str, int]:
    """Fast DDS's shared-memory segments that a process has mapped, with their sizes."""
    maps = Path(f"/proc/{pid}/maps").read_text()
    found = re.findall(r"^(\w+)-(\w+) .* (/dev/shm/fastrtps_[0-9a-f]+)$", maps, re.MULTILINE)
    sizes: dict[str, int] = {}
    for begin, end, name in found:
        sizes[name] = sizes.get(name, 0) + int(end, 16) - int(begin, 16)
    return sizes


def own_segments(pid: int) -> list[str]:
    """The large ones that this process made: Fast DDS keeps the maker's lock file open in it."""
    links = Path(f"/proc/{pid}/fd").iterdir()
    locked = {os.readlink(link).removesuffix("_el") for link in links if link.exists()}
    return [name for name, size in segments(pid).items() if size >= SEGMENT and name in locked]


def check_profile(pid: int) -> None:
    """The process was told of the profile, and has a segment of its size that no other one has.

    On a domain that does not leave this machine, rmw_fastrtps gives every process a small one as
    well.
    """
    variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    wanted = transport_variables({})
    assert {f"{name}={value}".encode() for name, value in wanted.items()} <= set(variables)
    assert own_segments(pid), f"no large segment of its own: {segments(pid)}"


def test_a_process_without_the_profile_has_a_small_segment() -> None:
    """That the check above can fail: Fast DDS's default is half a megabyte."""
    code = "import rclpy; rclpy.init(); n = rclpy.create_node('n'); print(flush=True); input()"
    environment = child_environment(1 + (os.getpid() * 3) % 100)
    environment = {k: v for k, v in environment.items() if k not in PROFILE_VARIABLES}
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()
        assert segments(process.pid) and not own_segments(process.pid)
    finally:
        process.kill()
        process.communicate()


def write_cell(path: Path, scene: Any) -> None:
    """A cell file with everything in it: names, topics, frames, intrinsics, extrinsics."""
    cameras = {}
    for camera in scene.cameras:
        T = invert_rigid(camera.T_camera_world)
        pose = [*T[:3, 3].tolist(), *matrix_to_quaternion(T[:3, :3]).tolist()]
        K = camera.K.reshape(-1).tolist()
        intrinsics = {"width": camera.width, "height": camera.height, "k": K}
        if len(camera.D):
            intrinsics |= {"distortion_model": camera.distortion, "d": camera.D.tolist()}
        cameras[camera.name] = {
            "image_topic": f"{camera.name}/rgb",
            "extrinsics": pose,
            "intrinsics": intrinsics,
            "reliability": "reliable",
        }
    parameters = {
        "cameras": list(cameras),
        "output_frame": "table",
        "num_threads": 1,
        "sync": {"max_wait": 0.5},
        "camera": cameras,
    }
    path.write_text(yaml.safe_dump({"/**": {"ros__parameters": parameters}}))


def test_a_calibrated_cell_needs_nothing_but_images(
    launched: Callable[..., Launched], peer: Any, tmp_path: Path
) -> None:
    """One file, a namespace, cameras elsewhere: hands come out where their truth is."""
    import numpy as np

    from hand_mesh_ros.render.synthetic import SyntheticCell
    from hand_mesh_ros.ros.readers import hand_set

    scene = SyntheticCell(cameras=2, seconds=1.0, width=320, height=240)
    write_cell(tmp_path / "cell.yaml", scene)
    publishers = [peer.publisher(f"/cell/{c.name}/rgb", Image) for c in scene.cameras]
    topic = "/robot/hand_mesh_node/hands"
    peer.listen(topic, HandArray)
    cell = launched(
        "cell", cell_file=str(tmp_path / "cell.yaml"), namespace="robot", camera_namespace="/cell"
    )
    assert set(cell.processes) == {"hand_mesh_node", "cell_calibration_node"}
    stamp, hands = 1_763_700_000_000_000_000, []

    def seen() -> bool:
        nonlocal stamp, hands
        cell.check()
        stamp += 66_666_667
        for publisher, frame in zip(publishers, scene.frame_set(0).frames, strict=True):
            publisher.publish(encode_image(frame.image, stamp, "whatever"))
        peer.until(lambda: False, patience=0.3)
        hands = [m for m in peer.heard[topic] if len(m.views) == 2 and m.hands]
        return bool(hands)

    peer.until(seen, "hands that both cameras see")
    assert hands[0].header.frame_id == "table"
    error = hand_set(hands[0]).hands[0].estimate.joints - scene.ground_truth(0)[0].joints
    assert np.linalg.norm(error, axis=-1).mean() < 0.03
    for process in cell.processes.values():
        check_profile(process.pid)
    assert cell.end() == {"hand_mesh_node": 0, "cell_calibration_node": 0}


def test_the_demo_starts_a_cell_that_sees_hands(
    launched: Callable[..., Launched], peer: Any
) -> None:
    topic = "/hand_mesh_node/hands"
    peer.listen(topic, HandArray)
    demo = launched("demo", pace="lockstep")
    assert set(demo.processes) == {"camera_cell_node", "hand_mesh_node"}

    def seen() -> bool:
        demo.check()
        return any(m.hands for m in peer.heard[topic])

    peer.until(seen, "hands of the demo")
    for process in demo.processes.values():
        check_profile(process.pid)
    assert demo.end() == {"camera_cell_node": 0, "hand_mesh_node": 0}


def test_one_camera_is_heard_on_the_topics_given(
    launched: Callable[..., Launched], peer: Any
) -> None:
    single = launched(
        "hand_mesh", image="/webcam/image", camera_info="/webcam/info", namespace="robot"
    )

    def subscribed() -> bool:
        single.check()
        return all(map(peer.node.count_subscribers, ("/webcam/image", "/webcam/info")))

    peer.until(subscribed, "the subscriptions")
    # Nodes are announced apart from their subscriptions, and may be known later.
    peer.until(
        lambda: ("hand_mesh_node", "/robot") in peer.node.get_node_names_and_namespaces(),
        "the node in its namespace",
    )
    check_profile(single.processes["hand_mesh_node"].pid)


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(word) for task in tasks for word in task.read_text().split()]


def test_every_process_of_the_demo_command_has_the_profile(
    tmp_path: Path, landmark_networks: None
) -> None:
    command = [sys.executable, "-m", "hand_mesh_ros.cli", "demo", "--seconds", "1"]
    environment = {k: v for k, v in child_environment().items() if k not in PROFILE_VARIABLES}
    with (tmp_path / "log").open("wb") as log:
        demo = subprocess.Popen(
            [*command, "--out", str(tmp_path / "demo")], env=environment, stdout=log, stderr=log
        )
    checked: set[int] = set()
    try:
        while demo.poll() is None and len(checked) < 2:
            for pid in set(children(demo.pid)) - checked:
                if segments(pid):
                    check_profile(pid)
                    checked.add(pid)
            time.sleep(0.1)
        assert len(checked) == 2, (tmp_path / "log").read_text()[-3000:]
        assert own_segments(demo.pid)  # the recorder is the command itself
    finally:
        if demo.poll() is None:
            demo.send_signal(signal.SIGINT)  # it ends its nodes
        demo.wait(60)
