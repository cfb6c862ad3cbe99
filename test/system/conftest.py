"""Real nodes as processes, and a node of the test that plays cameras to them and listens.

Every module has a ROS domain of its own that does not leave this machine.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from hand_mesh_ros.ros.environment import child_environment

PATIENCE = 60.0
_domains = itertools.count()


class Process:
    """One of our nodes, running; its output is in ``log``."""

    def __init__(
        self,
        module: str,
        domain: int,
        folder: Path,
        parameters: Mapping[str, Any],
        arguments: Sequence[str] = (),
    ) -> None:
        """``arguments`` come after ROS's own, as "-r", "__node:=other"."""
        self.log = folder / f"{module}.log"
        file = folder / f"{module}.yaml"
        file.write_text(yaml.safe_dump({"/**": {"ros__parameters": dict(parameters)}}))
        command = [sys.executable, "-m", f"hand_mesh_ros.ros.{module}"]
        with self.log.open("wb") as log:
            self._popen = subprocess.Popen(
                [*command, "--ros-args", "--params-file", str(file), *arguments],
                env=child_environment(domain) | {"OMP_NUM_THREADS": "1"},
                stdout=log,
                stderr=log,
            )

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def running(self) -> bool:
        return self._popen.poll() is None

    def wait(self) -> int:
        """The exit status; fails if the process does not end."""
        return self._popen.wait(PATIENCE)

    def end(self, number: signal.Signals = signal.SIGINT) -> int:
        """Ask the process to end, and return its exit status."""
        self._popen.send_signal(number)
        try:
            return self._popen.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()
            pytest.fail(f"{number.name} did not end the node; its log:\n{self.output}")

    def kill(self) -> None:
        if self.running():
            self._popen.kill()
            self._popen.wait()


class Peer:
    """The test's own node: publishes, listens, calls services. Nothing happens but in `until`."""

    def __init__(self, domain: int) -> None:
        import rclpy
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

        self.latched = QoSProfile(
            depth=100,
            reliability=ReliabilityPolicy.RELIABLE,
            durability=DurabilityPolicy.TRANSIENT_LOCAL,
        )
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=domain)
        self.node = rclpy.create_node("peer", context=self.context)
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.node)
        self.heard: dict[str, list[Any]] = defaultdict(list)
        self._clients: dict[str, Any] = {}

    def listen(self, topic: str, kind: Any, qos: Any = 50) -> Any:
        """Keep every message of a topic in ``heard[topic]``."""
        return self.node.create_subscription(kind, topic, self.heard[topic].append, qos)

    def publisher(self, topic: str, kind: Any, qos: Any = 10) -> Any:
        return self.node.create_publisher(kind, topic, qos)

    def until(self, done: Callable[[], Any], what: str = "", patience: float = PATIENCE) -> Any:
        """Spin until ``done()`` is true and return it; with ``what``, fail if it never is."""
        end = time.monotonic() + patience
        while not (result := done()):
            if time.monotonic() > end:
                if what:
                    pytest.fail(f"waited {patience:g} s for {what}")
                return result
            self._executor.spin_once(timeout_sec=0.02)
        return result

    def call(self, service: str, kind: Any, *, again: bool = False, **request: Any) -> Any:
        """The answer of a service; ``again`` says that it may be asked twice without harm.

        That a service is ready says that its requests reach it. Whether the service has found the
        reader of its answers cannot be seen from here, and on a busy machine the first answer may
        be lost (Fast DDS gives up after 100 ms): so a new client waits a little, and a mere
        question is repeated.
        """
        if service not in self._clients:
            self._clients[service] = self.node.create_client(kind, service)
            self.until(self._clients[service].service_is_ready, f"the service {service}")
            self.until(lambda: False, patience=0.5)
        client = self._clients[service]
        self.until(client.service_is_ready, f"the service {service}")
        for _ in range(6 if again else 1):
            future = client.call_async(kind.Request(**request))
            if self.until(future.done, patience=PATIENCE / (6 if again else 1)):
                return future.result()
        pytest.fail(f"waited {PATIENCE:g} s for an answer of {service}")

    def close(self) -> None:
        import rclpy

        self._executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)


class Cell:
    """Small synthetic cameras as topics: raw images of one, compressed ones of the next."""

    PERIOD_NS = 66_666_667

    def __init__(self, peer: Peer, node: str = "/hand_mesh_node", cameras: int = 2) -> None:
        from sensor_msgs.msg import CameraInfo, CompressedImage, Image
        from tf2_msgs.msg import TFMessage

        from hand_mesh_ros.geometry.rotations import invert_rigid
        from hand_mesh_ros.msg import HandArray
        from hand_mesh_ros.render.synthetic import SyntheticCell
        from hand_mesh_ros.ros.builders import transform

        self.NAMES = tuple(f"camera_{i}" for i in range(cameras))
        self.IMAGES = tuple(
            f"/{name}/image_raw" + "/compressed" * (i % 2) for i, name in enumerate(self.NAMES)
        )
        self.INFOS = tuple(f"/{name}/camera_info" for name in self.NAMES)
        self.peer, self._hands = peer, f"{node}/hands"
        self.scene = SyntheticCell(cameras=cameras, seconds=1.0, width=320, height=240)
        self._sets = [self.scene.frame_set(i) for i in range(4)]
        # Ping-pong, so that the hand never jumps; a capture time like a driver's, of any digits.
        self._order = itertools.cycle((0, 1, 2, 3, 2, 1))
        self._shown: dict[int, int] = {}
        self._stamps = itertools.count(1_763_700_000_123_456_789, self.PERIOD_NS)
        self._image_publishers = [
            peer.publisher(topic, CompressedImage if i % 2 else Image)
            for i, topic in enumerate(self.IMAGES)
        ]
        self._info_publishers = [peer.publisher(topic, CameraInfo) for topic in self.INFOS]
        self._static = peer.publisher("/tf_static", TFMessage, peer.latched)
        self._static.publish(
            TFMessage(
                transforms=[
                    transform(invert_rigid(c.T_camera_world), "world", c.frame_id, 1)
                    for c in self.scene.cameras
                ]
            )
        )
        peer.listen(self._hands, HandArray)

    def messages(self, camera: int, stamp_ns: int, index: int = 0) -> tuple[Any, Any]:
        """CameraInfo and image message of a camera, to be published or spoiled."""
        from hand_mesh_ros.ros.camera_info import camera_info_message
        from hand_mesh_ros.ros.images import encode_compressed, encode_image

        frame = self._sets[index].frames[camera]
        encode = (encode_image, encode_compressed)[camera % 2]
        info = camera_info_message(frame.camera, stamp_ns)
        return info, encode(frame.image, stamp_ns, frame.camera.frame_id)

    def new_stamp(self) -> int:
        return next(self._stamps)

    def publish(self, camera: int, info: Any, image: Any) -> None:
        self._info_publishers[camera].publish(info)
        self._image_publishers[camera].publish(image)

    def show(self, cameras: tuple[int, ...] = (0, 1)) -> int:
        """Publish good frames of one instant; returns its capture time."""
        stamp, index = self.new_stamp(), next(self._order)
        self._shown[stamp] = index
        for camera in cameras:
            self.publish(camera, *self.messages(camera, stamp, index))
        return stamp

    def truth(self, stamp: int) -> Any:
        """The hand's joints (21, 3), m, in the world, at an instant that `show` has shown."""
        return self.scene.ground_truth(self._shown[stamp])[0].joints

    def ready(self, listeners: int = 1) -> bool:
        """Whether so many nodes listen to all cameras, and the hands of ours are heard."""
        publishers = (*self._image_publishers, *self._info_publishers, self._static)
        return (
            all(p.get_subscription_count() >= listeners for p in publishers)
            and self.peer.node.count_publishers(self._hands) > 0
        )

    def answer(self, stamp: int, patience: float = PATIENCE) -> Any:
        """The HandArray of a capture time, or None if it does not come."""
        from hand_mesh_ros.ros.images import nanoseconds

        def found() -> Any:
            heard = reversed(self.peer.heard[self._hands])
            return next((m for m in heard if nanoseconds(m.header.stamp) == stamp), None)

        return self.peer.until(found, patience=patience)

    def see(
        self, cameras: tuple[int, ...] = (0, 1), wanted: Callable[[Any], bool] | None = None
    ) -> Any:
        """Show frames, one instant at a time, until the answer has these cameras and a hand.

        Best-effort frames may be lost, and CameraInfo may come after its image: so it may take
        more than one instant.
        """
        names = [self.NAMES[i] for i in cameras]
        wanted = wanted or (lambda m: bool(m.hands))
        for _ in range(20):
            message = self.answer(self.show(cameras), patience=3)
            if message is not None and list(message.views) == names and wanted(message):
                return message
        pytest.fail(f"20 instants of {names} gave no such answer; last: {message}")


@pytest.fixture(scope="module")
def domain() -> int:
    return 1 + (os.getpid() * 7 + next(_domains)) % 100


@pytest.fixture(scope="module")
def peer(domain: int) -> Iterator[Peer]:
    pytest.importorskip("rclpy", reason="ROS 2 is not installed")
    made = Peer(domain)
    yield made
    made.close()


@pytest.fixture(scope="module")
def start(
    domain: int, tmp_path_factory: pytest.TempPathFactory, landmark_networks: None
) -> Iterator[Callable[..., Process]]:
    """``start(module, parameters, *arguments)``; what still runs at the end is killed."""
    processes: list[Process] = []

    def begin(module: str, parameters: Mapping[str, Any], *arguments: str) -> Process:
        folder = tmp_path_factory.mktemp("node")
        processes.append(Process(module, domain, folder, parameters, arguments))
        return processes[-1]

    begin.processes = processes  # type: ignore[attr-defined]
    yield begin
    for process in processes:
        process.kill()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Real processes on a machine that others use too: what fails is tried once more, and told."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.flaky(reruns=1))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """A failed test shows what its nodes said."""
    report = yield
    if report.failed:
        started = getattr(item, "funcargs", {}).get("start")
        for process in getattr(started, "processes", ()):
            report.sections.append((f"log of {process.log.stem}", process.output[-4000:]))
    return report


@pytest.fixture(scope="module")
def cell(peer: Peer) -> Cell:
    return Cell(peer)


@pytest.fixture(scope="session")
def cell_of() -> type[Cell]:
    """For cells of other cameras, and nodes of other names."""
    return Cell
