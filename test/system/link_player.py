"""Two synthetic cameras at 10 Hz, for a process of its own: `link_player.py FILE`.

Stamps are the times at which images are published; each is written to FILE as a line.
"""

from __future__ import annotations

import itertools
import sys
import time
from typing import TextIO

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image

from hand_mesh_ros.geometry.rotations import invert_rigid
from hand_mesh_ros.render.synthetic import SyntheticCell
from hand_mesh_ros.ros.builders import transform
from hand_mesh_ros.ros.camera_info import camera_info_message
from hand_mesh_ros.ros.images import encode_image
from hand_mesh_ros.ros.running import run_node

PERIOD = 0.1


class Player(Node):
    """Plays back and forth, so that the hand never jumps."""

    def __init__(self, stamps: TextIO) -> None:
        from tf2_msgs.msg import TFMessage  # ours, where the distribution has none

        super().__init__("player")
        cell = SyntheticCell(cameras=2, seconds=1.0, width=320, height=240)
        sets = [cell.frame_set(i) for i in range(4)]
        self._order = itertools.cycle(sets[i] for i in (0, 1, 2, 3, 2, 1))
        self._stamps = stamps
        latched = QoSProfile(
            depth=1,
            reliability=ReliabilityPolicy.RELIABLE,
            durability=DurabilityPolicy.TRANSIENT_LOCAL,
        )
        make = self.create_publisher
        self._static = make(TFMessage, "/tf_static", latched)
        self._static.publish(
            TFMessage(
                transforms=[
                    transform(invert_rigid(c.T_camera_world), "world", c.frame_id, 1)
                    for c in cell.cameras
                ]
            )
        )
        self._images = [make(Image, f"{c.name}/image_raw", 5) for c in cell.cameras]
        self._infos = [make(CameraInfo, f"{c.name}/camera_info", 5) for c in cell.cameras]
        self.create_timer(PERIOD, self._show)

    def _show(self) -> None:
        stamp = time.time_ns()
        print(stamp, file=self._stamps, flush=True)
        frames = next(self._order).frames
        for info, image, frame in zip(self._infos, self._images, frames, strict=True):
            info.publish(camera_info_message(frame.camera, stamp))
            image.publish(encode_image(frame.image, stamp, frame.camera.frame_id))


if __name__ == "__main__":
    with open(sys.argv[1], "w") as file:
        run_node(lambda: Player(file))  # type: ignore[arg-type]
