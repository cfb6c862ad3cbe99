"""Two small cameras and a listener, in lockstep with a `hand_mesh_node` process: for `bench soak`.

What is shown is the synthetic cell's; what may be wrong with it is the caller's choice.
"""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from hand_mesh_ros.geometry.rotations import invert_rigid
from hand_mesh_ros.render.synthetic import SyntheticCell
from hand_mesh_ros.ros.builders import transform
from hand_mesh_ros.ros.camera_info import camera_info_message
from hand_mesh_ros.ros.environment import child_environment
from hand_mesh_ros.ros.images import encode_image, nanoseconds

NAMES = ("camera_0", "camera_1")
PERIOD_NS = 33_333_333
_MODULE = "hand_mesh_ros.ros.bench_flaky_node"
_PARAMETERS: dict[str, Any] = {
    "cameras": list(NAMES),
    "output_frame": "world",
    "backend": "flaky",
    "max_hands": 1,
    "sync.max_wait": 0.05,
    "failures.limit": 10,
    "failures.retry_after": 0.5,
}


class NodeProcess:
    """The node under test; ``flaky`` is the file whose existence makes its backend fail."""

    def __init__(self, folder: Path, domain: int) -> None:
        self.flaky, self.log = folder / "flaky", folder / "node.log"
        parameters = folder / "parameters.yaml"
        parameters.write_text(yaml.safe_dump({"/**": {"ros__parameters": _PARAMETERS}}))
        environment = child_environment(domain) | {"FLAKY_FILE": str(self.flaky)}
        command = [sys.executable, "-m", _MODULE, "--ros-args", "--params-file", str(parameters)]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def rss_mb(self) -> float:
        """Resident memory, MiB."""
        pages = int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1])
        return pages * 4096 / 2**20

    def kill(self) -> None:
        """Without a chance to say goodbye."""
        self._process.kill()
        self._process.wait()

    def end(self) -> int:
        """SIGINT; the exit status."""
        self._process.send_signal(signal.SIGINT)
        try:
            return self._process.wait(15)
        except subprocess.TimeoutExpired:
            self.kill()
            return -1


class Stage:
    """Publishes instants and hears the answers; ``heard`` maps capture times to HandArrays.

    ``shown`` holds every capture time that was ever published.
    """

    def __init__(self, domain: int) -> None:
        import rclpy
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.qos import DurabilityPolicy, QoSProfile
        from sensor_msgs.msg import CameraInfo, Image
        from tf2_msgs.msg import TFMessage

        from hand_mesh_ros.msg import HandArray

        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=domain)
        self.node = rclpy.create_node("soak", context=self.context)
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.node)
        scene = SyntheticCell(cameras=2, seconds=1.0, fps=30.0, width=320, height=240)
        self.cameras = scene.cameras
        self._sets = [scene.frame_set(i) for i in range(12)]
        self._order = itertools.cycle((*range(12), *range(10, 0, -1)))
        self._images = [self.node.create_publisher(Image, f"/{n}/image_raw", 10) for n in NAMES]
        self._infos = [
            self.node.create_publisher(CameraInfo, f"/{n}/camera_info", 10) for n in NAMES
        ]
        latched = QoSProfile(depth=5, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._static = self.node.create_publisher(TFMessage, "/tf_static", latched)
        self._tf = TFMessage
        self.heard: dict[int, Any] = {}
        self.order: list[int] = []
        self.shown: set[int] = set()
        self.stamp_ns = 1_000_000_000_000
        self.node.create_subscription(HandArray, "/hand_mesh_node/hands", self._on_hands, 50)

    def _on_hands(self, message: Any) -> None:
        stamp = nanoseconds(message.header.stamp)
        self.heard[stamp] = message
        self.order.append(stamp)

    def place_cameras(self) -> None:
        """Publish the extrinsics."""
        poses = [(invert_rigid(c.T_camera_world), "world", c.frame_id, 1) for c in self.cameras]
        self._static.publish(self._tf(transforms=[transform(*pose) for pose in poses]))

    def spin(self, seconds: float, done: Callable[[], bool] = lambda: False) -> bool:
        """Let messages come until ``done()``; whether it was."""
        end = time.monotonic() + seconds
        while not done():
            if time.monotonic() >= end:
                return False
            self._executor.spin_once(timeout_sec=0.01)
        return True

    def show(
        self,
        cameras: Sequence[int] = (0, 1),
        spoil: Callable[[Any, Any], None] | None = None,
        spoiled: Sequence[int] = (),
        patience: float = 1.0,
    ) -> Any:
        """One instant; ``spoil(info, image)`` changes what the ``spoiled`` cameras publish.

        Returns the HandArray of that instant, None if none comes.
        """
        self.stamp_ns += PERIOD_NS
        stamp, frames = self.stamp_ns, self._sets[next(self._order)].frames
        self.shown.add(stamp)
        for k in cameras:
            camera = frames[k].camera
            info = camera_info_message(camera, stamp)
            image = encode_image(frames[k].image, stamp, camera.frame_id)
            if spoil is not None and k in spoiled:
                spoil(info, image)
            self._infos[k].publish(info)
            self._images[k].publish(image)
        self.spin(patience, lambda: stamp in self.heard)
        return self.heard.pop(stamp, None)

    def ready(self) -> bool:
        """Whether a node listens to both cameras and is heard."""
        return (
            all(p.get_subscription_count() for p in (*self._images, *self._infos, self._static))
            and self.node.count_publishers("/hand_mesh_node/hands") > 0
        )

    def close(self) -> None:
        """End the listener."""
        import rclpy

        self._executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)
