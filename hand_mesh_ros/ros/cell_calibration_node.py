"""cell_calibration_node: the calibration in a cell file, as topics that every node understands.

Extrinsics go to ``/tf_static`` (latched), so that rviz and a robot's planner know the cameras as
well; intrinsics to ``~/<camera>/camera_info``, once a second, because image drivers publish a
CameraInfo of their own, which may be empty. cell.launch.py starts it where the file calibrates.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import CameraInfo
from tf2_msgs.msg import TFMessage

from hand_mesh_ros.data.calibrations import read_camera_yaml
from hand_mesh_ros.geometry.intrinsics import camera_from_numbers
from hand_mesh_ros.geometry.rotations import quaternion_to_matrix, rigid
from hand_mesh_ros.ros import builders
from hand_mesh_ros.ros.camera_info import camera_info_message
from hand_mesh_ros.ros.cell_files import CALIBRATION_NODE, CellCamera, read_cell
from hand_mesh_ros.ros.parameters import Spec, declare, read
from hand_mesh_ros.ros.running import run_node
from hand_mesh_ros.types import Camera, FloatArray

CALIBRATION_SPECS = (
    Spec("cell_file", "", "The cell file, with extrinsics or intrinsics of some cameras."),
)
_LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class CellCalibrationNode(Node):
    """See the module. ``ValueError`` tells of a file with nothing to publish."""

    def __init__(self, **options: Any) -> None:
        super().__init__(CALIBRATION_NODE, **options)
        declare(self, CALIBRATION_SPECS)
        file = read(self, CALIBRATION_SPECS)["cell_file"]
        if not file:
            raise ValueError("parameter cell_file is empty: name a cell file")
        cell = read_cell(Path(file).expanduser())
        if not any(camera.calibrated for camera in cell.cameras):
            raise ValueError(f"{file} calibrates no camera: write extrinsics or intrinsics in it")
        self._infos: list[tuple[Any, Camera]] = []
        for camera in cell.cameras:
            intrinsics = camera_of(camera)
            if intrinsics is not None:
                topic = f"~/{camera.name}/camera_info"
                self._infos.append((self.create_publisher(CameraInfo, topic, 1), intrinsics))
        self._static = self.create_publisher(TFMessage, "/tf_static", _LATCHED)
        now = self._now_ns()
        poses = [(camera, pose_of(camera)) for camera in cell.cameras]
        self._static.publish(
            TFMessage(
                transforms=[
                    builders.transform(T, cell.output_frame, camera.frame_id, now)
                    for camera, T in poses
                    if T is not None
                ]
            )
        )
        # Best-effort listeners hear no latched message, so it is said again and again.
        self.create_timer(1.0, self._publish, clock=Clock(clock_type=ClockType.STEADY_TIME))
        names = ", ".join(camera.name for camera in cell.cameras if camera.calibrated)
        self.get_logger().info(f"calibration of {names} from {file}")

    def _publish(self) -> None:
        for publisher, camera in self._infos:
            publisher.publish(camera_info_message(camera, self._now_ns()))

    def _now_ns(self) -> int:
        return int(self.get_clock().now().nanoseconds)


def camera_of(camera: CellCamera) -> Camera | None:
    """The camera that the file's intrinsics make; ``ValueError`` if they make none."""
    given = camera.intrinsics
    if given is None:
        return None
    if isinstance(given, Path):
        return replace(read_camera_yaml(given, camera.name), frame_id=camera.frame_id)
    coefficients = given.get("d", [])
    return camera_from_numbers(
        name=camera.name,
        source=f"camera.{camera.name}.intrinsics",
        size=(given["width"], given["height"]),
        K=given["k"],
        D=coefficients,
        model=given.get("distortion_model", "plumb_bob" if coefficients else "none"),
        frame_id=camera.frame_id,
    )


def pose_of(camera: CellCamera) -> FloatArray | None:
    """``T_output_camera`` (4, 4) of the file's extrinsics."""
    if not camera.extrinsics:
        return None
    numbers = np.array(camera.extrinsics)
    rotation = quaternion_to_matrix(numbers[3:] / np.linalg.norm(numbers[3:]))
    return rigid(rotation, numbers[:3])


def main(args: list[str] | None = None) -> None:
    """Run the node until it is told to stop."""
    run_node(CellCalibrationNode, args)


if __name__ == "__main__":
    main()
