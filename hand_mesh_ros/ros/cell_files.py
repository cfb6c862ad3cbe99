"""The cell file: one YAML that names a cell's cameras, topics and frames, and may calibrate them.

It is the ROS parameter file of hand_mesh_node, so that the node, the launch files and a person all
read the same lines. A calibration is optional, camera by camera, beside the camera's parameters::

    camera:
      front:
        # Where the camera's optical frame is in output_frame: x, y, z (m), quaternion x, y, z, w.
        extrinsics: [0.5, 0.0, 1.2, 0.0, 1.0, 0.0, 0.0]
        # As in sensor_msgs/CameraInfo, or the path of a camera_calibration YAML beside this file.
        intrinsics:
          width: 1280
          height: 720
          distortion_model: plumb_bob
          k: [910.0, 0.0, 640.0, 0.0, 910.0, 360.0, 0.0, 0.0, 1.0]
          d: [0.0, 0.0, 0.0, 0.0, 0.0]

No rclpy and no NumPy in here: launch files import it, with the Python that `ros2` has.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hand_mesh_ros.ros.parameter_files import Parameters, camera_topics, cameras, read_parameters

CALIBRATION_NODE = "cell_calibration_node"
_INTRINSICS = {"width", "height", "distortion_model", "k", "d"}
_NEEDED = {"width", "height", "k"}


@dataclass(frozen=True)
class CellCamera:
    """One camera. Topics are as written; ``frame_id`` is its optical frame, empty: as it says.

    ``extrinsics``: x, y, z (m), qx, qy, qz, qw of the optical frame in the cell's ``output_frame``.
    ``intrinsics``: fields of a CameraInfo, or the path of a calibration file.
    """

    name: str
    image_topic: str
    info_topic: str
    depth_topic: str
    observations_topic: str
    frame_id: str
    extrinsics: tuple[float, ...] = ()
    intrinsics: Parameters | Path | None = None

    @property
    def topics(self) -> tuple[str, ...]:
        """What it, or the edge node beside it, is expected to publish."""
        named = (self.image_topic, self.info_topic, self.depth_topic, self.observations_topic)
        return tuple(filter(None, named))

    @property
    def calibrated(self) -> bool:
        """Whether the file says anything that must be published."""
        return bool(self.extrinsics) or self.intrinsics is not None


@dataclass(frozen=True)
class Cell:
    """All cameras in the file's order."""

    output_frame: str
    cameras: tuple[CellCamera, ...]

    def remappings(self, camera_namespace: str = "") -> list[tuple[str, str]]:
        """Names of hand_mesh_node's topics and what they are remapped to.

        Relative topics of cameras go to ``camera_namespace`` if there is one; the CameraInfo of a
        camera whose intrinsics are in the file to what cell_calibration_node publishes.
        """
        out: list[tuple[str, str]] = []
        for camera in self.cameras:
            for topic in camera.topics:
                if topic == camera.info_topic and camera.intrinsics is not None:
                    out.append((topic, f"{CALIBRATION_NODE}/{camera.name}/camera_info"))
                elif camera_namespace and not topic.startswith("/"):
                    out.append((topic, f"{camera_namespace.rstrip('/')}/{topic}"))
        return out


def read_cell(path: Path | str, node: str = "hand_mesh_node") -> Cell:
    """Read a cell file, as ``node`` is concerned.

    Raises ``FileNotFoundError``, or ``ValueError`` naming the file, the camera and what is wrong.
    """
    path = Path(path)
    parameters = read_parameters(path, node)
    names = list(cameras(parameters))
    for key in parameters:
        group, _, rest = key.partition(".")
        name, _, field = rest.partition(".")
        if group == "camera" and name not in names and field.startswith(("extr", "intr")):
            raise ValueError(f"{path} has {key}, but parameter cameras does not name {name}")
    output = str(parameters.get("output_frame") or ("world" if len(names) > 1 else ""))
    return Cell(output, tuple(_camera(path, parameters, name, output) for name in names))


def _camera(path: Path, parameters: Parameters, name: str, output_frame: str) -> CellCamera:
    prefix = f"camera.{name}."
    own = {k.removeprefix(prefix): v for k, v in parameters.items() if k.startswith(prefix)}
    image, info = camera_topics(name, own.get("image_topic", ""), own.get("info_topic", ""))
    extrinsics = _pose(own.get("extrinsics"), f"{path}: {prefix}extrinsics")
    if extrinsics and not output_frame:
        raise ValueError(f"{path}: {prefix}extrinsics needs output_frame: name their frame")
    intrinsics, frame = _intrinsics(own, path, prefix), own.get("frame_id", "")
    if extrinsics and intrinsics is None and not frame:
        raise ValueError(
            f"{path}: {prefix}extrinsics needs {prefix}frame_id: name the optical frame that the "
            "camera's CameraInfo tells"
        )
    return CellCamera(
        name=name,
        image_topic=image,
        info_topic=info,
        depth_topic=own.get("depth_topic", ""),
        observations_topic=own.get("observations_topic", ""),
        frame_id=frame or ("" if intrinsics is None else f"{name}_optical_frame"),
        extrinsics=extrinsics,
        intrinsics=intrinsics,
    )


def _pose(given: Any, source: str) -> tuple[float, ...]:
    if not given:
        return ()
    numbers = _numbers(given, source)
    if len(numbers) != 7:
        raise ValueError(f"{source} is {given!r}: it must be [x, y, z, qx, qy, qz, qw]")
    if abs(math.hypot(*numbers[3:]) - 1) > 1e-2:
        raise ValueError(f"{source}: the last four numbers are no rotation (a unit quaternion)")
    return tuple(numbers)


def _intrinsics(own: Parameters, path: Path, prefix: str) -> Parameters | Path | None:
    source = f"{path}: {prefix}intrinsics"
    if file := own.get("intrinsics"):
        found = path.parent / str(file)
        if not found.is_file():
            raise ValueError(f"{source}: there is no file {found}")
        return found
    fields = {k.partition(".")[2]: v for k, v in own.items() if k.startswith("intrinsics.")}
    if not fields:
        return None
    if wrong := (_NEEDED - set(fields)) | (set(fields) - _INTRINSICS):
        raise ValueError(
            f"{source} lacks, or does not know, {', '.join(sorted(wrong))}: width, height and k "
            "are needed, d and distortion_model may be given, as in sensor_msgs/CameraInfo"
        )
    lists = {key: _numbers(fields[key], f"{source}.{key}") for key in {"k", "d"} & set(fields)}
    return fields | lists


def _numbers(given: Any, source: str) -> list[float]:
    """A list that ROS takes as well: all of one type, so that 0 must be 0.0."""
    # PyYAML takes 2e-06 for a text, as YAML 1.1 does; ROS takes it for a number.
    read = [_number(entry) for entry in given] if isinstance(given, list) else [math.nan]
    if not all(math.isfinite(number) for number in read):
        raise ValueError(f"{source} is {given!r}: it must be a list of numbers with a point (0.0)")
    return read


def _number(entry: Any) -> float:
    """NaN for what is none, an integer included."""
    if isinstance(entry, str) and re.fullmatch(r"[-+]?\d+e[-+]?\d+", entry):
        return float(entry)
    return entry if isinstance(entry, float) else math.nan
