"""A cell's cameras for benchmarks: pictures drawn beforehand, published raw at a steady rate.

    python -m hand_mesh_ros.ros.bench_player FOLDER RATE

The folder is `draw`'s. Nothing is drawn or encoded while it plays, so that what is measured is the
node, and the price of bringing it images.
"""

from __future__ import annotations

import pickle
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from hand_mesh_ros.render.synthetic import SyntheticCell
from hand_mesh_ros.types import Camera, Side


def draw(
    folder: Path, cameras: int, hands: tuple[Side, ...], sets: int, width: int, height: int
) -> tuple[Camera, ...]:
    """Draw ``sets`` consecutive instants, 30 a second, of the synthetic cell into a folder."""
    cell = SyntheticCell(cameras, hands, sets / 30, fps=30.0, width=width, height=height)
    shape = (len(cell), cameras, height, width, 3)
    pictures = np.lib.format.open_memmap(folder / "images.npy", "w+", np.uint8, shape)
    for i in range(len(cell)):
        for k, frame in enumerate(cell.frame_set(i).frames):
            pictures[i, k] = frame.image
    pictures.flush()
    (folder / "cameras.pickle").write_bytes(pickle.dumps(cell.cameras))
    return cell.cameras


class Player:
    """Publishes image, CameraInfo and extrinsics of every camera; plays to and fro for ever."""

    def __init__(self, node: Any, folder: Path) -> None:
        from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
        from sensor_msgs.msg import CameraInfo, Image
        from tf2_msgs.msg import TFMessage

        from hand_mesh_ros.geometry.rotations import invert_rigid
        from hand_mesh_ros.ros.builders import transform
        from hand_mesh_ros.ros.images import encode_image

        self._node = node
        self.cameras: tuple[Camera, ...] = pickle.loads((folder / "cameras.pickle").read_bytes())
        pictures = np.load(folder / "images.npy", mmap_mode="r")
        self._messages = [
            [encode_image(image, 0, c.frame_id) for image, c in zip(row, self.cameras, strict=True)]
            for row in pictures
        ]
        newest = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
        names = [camera.name for camera in self.cameras]
        self._images = [node.create_publisher(Image, f"/{n}/image_raw", newest) for n in names]
        self._infos = [node.create_publisher(CameraInfo, f"/{n}/camera_info", 5) for n in names]
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._static = node.create_publisher(TFMessage, "/tf_static", latched)
        poses = [(invert_rigid(c.T_camera_world), "world", c.frame_id, 1) for c in self.cameras]
        self._static.publish(TFMessage(transforms=[transform(*pose) for pose in poses]))

    def show(self, number: int) -> None:
        """Publish one instant, captured now."""
        from hand_mesh_ros.ros.camera_info import camera_info_message
        from hand_mesh_ros.ros.images import header

        stamp_ns = self._node.get_clock().now().nanoseconds
        place = number % max(2 * len(self._messages) - 2, 1)
        row = self._messages[min(place, 2 * len(self._messages) - 2 - place)]
        for k, camera in enumerate(self.cameras):
            self._infos[k].publish(camera_info_message(camera, stamp_ns))
            row[k].header = header(stamp_ns, camera.frame_id)
            self._images[k].publish(row[k])


def main() -> None:
    """Play until interrupted."""
    import rclpy

    import hand_mesh_ros.ros  # noqa: F401 (prepares the environment)

    folder, rate = Path(sys.argv[1]), float(sys.argv[2])
    rclpy.init()
    player = Player(rclpy.create_node("bench_player"), folder)
    number, due = 0, time.monotonic()
    try:
        while True:
            player.show(number)
            number += 1
            due = max(due + 1 / rate, time.monotonic())
            time.sleep(due - time.monotonic() if due > time.monotonic() else 0)
    except KeyboardInterrupt:
        rclpy.try_shutdown()


if __name__ == "__main__":
    main()
