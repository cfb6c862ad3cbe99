"""Calibration files to cameras: camera_array.toml, cN.dat, and ROS's camera_calibration YAML."""

from __future__ import annotations

import math
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from hand_mesh_ros.data.recordings import BadRecording
from hand_mesh_ros.geometry.intrinsics import camera_from_numbers
from hand_mesh_ros.geometry.rotations import exp_so3
from hand_mesh_ros.types import Camera, FloatArray

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ASSUMED_FIELD_OF_VIEW = math.radians(60)


def plain_name(text: str) -> str:
    """A camera name that can be part of a topic and a frame: letters, digits and underscores."""
    name = re.sub(r"\W+", "_", text, flags=re.ASCII).strip("_")
    return name if name[:1].isalpha() else f"cam_{name}".rstrip("_")


def optical_frame(name: str) -> str:
    """Name of a recorded camera's frame (REP-103's suffix for optical axes)."""
    return f"{name}_optical_frame"


def assumed_pinhole(name: str, width: int, height: int) -> Camera:
    """An undistorted camera with a horizontal field of view of 60 degrees."""
    f = width / 2 / math.tan(ASSUMED_FIELD_OF_VIEW / 2)
    K = np.array([[f, 0, (width - 1) / 2], [0, f, (height - 1) / 2], [0, 0, 1.0]])
    return Camera(name=name, width=width, height=height, K=K, frame_id=optical_frame(name))


def read_calibration(path: Path, name: str, size: tuple[int, int]) -> Camera:
    """Intrinsics of one camera, to be used with images of ``size`` (width, height).

    ROS's camera_calibration YAML, a camera_array.toml (its only camera, or the one called
    ``name``), or a cN.dat. Raises :class:`BadRecording` if it cannot be read or is for images of
    another size, and ``BadCameraInfo`` if its numbers make no camera.
    """
    if not path.is_file():
        raise BadRecording(f"{path}: no such calibration file; expected .yaml, .toml or .dat")
    readers = {".yaml": _from_yaml, ".yml": _from_yaml, ".toml": _from_toml, ".dat": _from_dat}
    try:
        reader = readers[path.suffix.lower()]
    except KeyError:
        raise BadRecording(f"{path}: unknown kind of calibration; {', '.join(readers)}") from None
    camera = reader(path, name, size)
    if (camera.width, camera.height) != size:
        raise BadRecording(
            f"{path}: calibrated for {camera.width}x{camera.height}, but the images of {name} are "
            f"{size[0]}x{size[1]}; calibrate at the size that is recorded"
        )
    return camera


def read_camera_yaml(path: Path, name: str) -> Camera:
    """A camera out of the YAML that ROS's camera_calibration writes and camera_info reads."""
    import yaml

    try:
        content = yaml.safe_load(path.read_text())
        numbers = {
            key: content[field]["data"]
            for key, field in {"K": "camera_matrix", "D": "distortion_coefficients"}.items()
        }
        size = (int(content["image_width"]), int(content["image_height"]))
        model = content.get("distortion_model", content.get("camera_model", "plumb_bob"))
    except (yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadRecording(
            f"{path}: not a camera calibration ({error!r}); expected image_width, image_height, "
            "camera_matrix, distortion_model and distortion_coefficients"
        ) from error
    return camera_from_numbers(
        name=name, source=str(path), size=size, model=model, frame_id=optical_frame(name), **numbers
    )


def _from_yaml(path: Path, name: str, size: tuple[int, int]) -> Camera:
    return read_camera_yaml(path, name)


def _from_toml(path: Path, name: str, size: tuple[int, int]) -> Camera:
    cameras = list(read_camera_array(path).values())
    chosen = [camera for camera in cameras if camera.name == name] or cameras
    if len(chosen) != 1:
        names = ", ".join(camera.name for camera in cameras)
        raise BadRecording(f"{path}: which camera is {name}? The file has {names}")
    return replace(chosen[0], name=name, frame_id=optical_frame(name), T_camera_world=np.eye(4))


def _from_dat(path: Path, name: str, size: tuple[int, int]) -> Camera:
    return read_dat(path, name, size)


def read_camera_array(path: Path) -> dict[str, Camera]:
    """Cameras of a camera_array.toml by their id in the file, in its order, without ignored ones.

    ``rotation`` (3x3, or a Rodrigues vector) and ``translation`` (metres) map world to camera;
    ``distortions`` are plumb_bob's, or the fisheye model's four where ``fisheye`` is true.
    """
    try:
        entries = tomllib.loads(path.read_text())["cameras"]
        cameras = {
            str(entry.get("cam_id", entry.get("port", key))): _array_camera(path, key, entry)
            for key, entry in entries.items()
            if not entry.get("ignore", False)
        }
    except (tomllib.TOMLDecodeError, KeyError, AttributeError, UnicodeDecodeError) as error:
        raise BadRecording(
            f"{path}: cannot be read ({error!r}); expected tables [cameras.N] with size, matrix, "
            "distortions, rotation and translation"
        ) from error
    if not cameras:
        raise BadRecording(f"{path}: no camera is left; expected one without `ignore = true`")
    return cameras


def _array_camera(path: Path, key: str, entry: dict[str, Any]) -> Camera:
    source = f"{path} [cameras.{key}]"
    name = f"cam_{entry.get('cam_id', entry.get('port', key))}"
    camera = camera_from_numbers(
        name=name,
        source=source,
        size=(int(entry["size"][0]), int(entry["size"][1])),
        K=entry["matrix"],
        D=entry["distortions"],
        model="equidistant" if entry.get("fisheye", False) else "plumb_bob",
        frame_id=optical_frame(name),
    )
    rotation = np.array(entry["rotation"], dtype=np.float64)
    translation = np.array(entry["translation"], dtype=np.float64).reshape(-1)
    R = exp_so3(rotation.reshape(3)) if rotation.size == 3 else rotation
    return camera.placed(_pose(R, translation, source))


def read_dat(path: Path, name: str, size: tuple[int, int]) -> Camera:
    """K and plumb_bob distortion out of a cN.dat (``intrinsic:``, ``distortion:``)."""
    sections = _sections(path)
    return camera_from_numbers(
        name=name,
        source=str(path),
        size=size,
        K=_first(path, sections, "intrinsic"),
        D=_first(path, sections, "distortion"),
        frame_id=optical_frame(name),
    )


def read_dat_pose(path: Path, unit_m: float) -> FloatArray:
    """``T_camera_world`` (4, 4) in metres: the first ``R:`` and ``T:`` of a rot_trans_cN.dat."""
    sections = _sections(path)
    R = np.array(_first(path, sections, "R"))
    T = np.array(_first(path, sections, "T")) * unit_m
    return _pose(R.reshape(3, 3) if R.size == 9 else R, T, str(path))


def _sections(path: Path) -> list[tuple[str, list[float]]]:
    """``title:`` lines with the numbers below them; the same title may come again."""
    out: list[tuple[str, list[float]]] = []
    try:
        for line in path.read_text().splitlines():
            text = line.split("#")[0].strip()
            if text.endswith(":"):
                out.append((text[:-1].strip(), []))
            elif text:
                out[-1][1].extend(float(word) for word in text.split())
    except (OSError, ValueError, IndexError) as error:
        raise BadRecording(
            f"{path}: cannot be read ({error!r}); expected titled blocks of numbers"
        ) from error
    return out


def _first(path: Path, sections: list[tuple[str, list[float]]], title: str) -> list[float]:
    for name, numbers in sections:
        if name == title:
            return numbers
    raise BadRecording(f"{path}: there is no block `{title}:`")


def _pose(R: FloatArray, t: FloatArray, source: str) -> FloatArray:
    if R.shape != (3, 3) or t.shape != (3,) or not np.isfinite(t).all():
        raise BadRecording(
            f"{source}: rotation of shape {R.shape} and translation {t.tolist()}; expected 3x3 "
            "(or a Rodrigues vector of 3) and 3"
        )
    if not np.allclose(R @ R.T, np.eye(3), atol=1e-3) or np.linalg.det(R) < 0:
        raise BadRecording(f"{source}: the rotation is no rotation matrix: {R.tolist()}")
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = R, t
    return T
