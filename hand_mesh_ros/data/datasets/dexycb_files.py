"""DexYCB's files: YAML with Python's tuples in it, labels, depth."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from numpy.typing import NDArray

from hand_mesh_ros.data.datasets.base import BadSample
from hand_mesh_ros.data.datasets.files import array, item
from hand_mesh_ros.data.samples import BoolArray
from hand_mesh_ros.geometry.rotations import invert_rigid
from hand_mesh_ros.types import SIDES, DepthArray, FloatArray, Side


@dataclass(frozen=True, eq=False)
class Sequence:
    """What ``meta.yml`` says: frames, side, and the names of its calibrations."""

    path: Path
    frames: int
    side: Side
    extrinsics: str
    calibration: str
    objects: tuple[int, ...]
    grasped: int | None

    @property
    def name(self) -> str:
        return f"{self.path.parent.name}/{self.path.name}"


class Labels(NamedTuple):
    """One image's annotation; None where no hand is seen. ``uv`` of single joints may be NaN."""

    joints: FloatArray | None  # (21, 3) m
    uv: FloatArray | None  # (21, 2) px
    pose: FloatArray | None  # (51,) root 3, coefficients 45, translation 3


class _Loader(yaml.SafeLoader):
    """The safe loader, which also knows tuples: the files are written by PyYAML's unsafe one."""


def _tuple(loader: yaml.SafeLoader, node: yaml.Node) -> tuple[Any, ...]:
    if not isinstance(node, yaml.SequenceNode):
        raise yaml.YAMLError("a tuple that is no sequence")
    return tuple(loader.construct_sequence(node, deep=True))


_Loader.add_constructor("tag:yaml.org,2002:python/tuple", _tuple)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file with its keys as text; `BadSample` for anything else."""
    try:
        content = yaml.load(path.read_text(), Loader=_Loader)  # noqa: S506 (a safe loader)
    except OSError as error:
        raise BadSample(path, f"cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadSample(path, f"no YAML of plain values ({error})") from error
    if not isinstance(content, dict):
        raise BadSample(path, "holds no mapping")
    return {str(key): value for key, value in content.items()}


def read_sequence(path: Path) -> Sequence:
    """A sequence's ``meta.yml``."""
    file = path / "meta.yml"
    meta = read_yaml(file)
    side = item(item(meta, "mano_sides", file), 0, file)
    frames = item(meta, "num_frames", file)
    if side not in SIDES or not isinstance(frames, int) or frames < 0:
        raise BadSample(file, f"names side {side!r} and {frames!r} frames")
    return Sequence(
        path,
        frames,
        side,
        str(item(meta, "extrinsics", file)),
        str(item(item(meta, "mano_calib", file), 0, file)),
        tuple(meta.get("ycb_ids", ())),
        meta.get("ycb_grasp_ind"),
    )


@lru_cache(maxsize=64)
def intrinsics(root: Path, serial: str) -> FloatArray:
    """K (3, 3) of a colour camera."""
    path = root / "calibration" / "intrinsics" / f"{serial}_640x480.yml"
    colour = item(read_yaml(path), "color", path)
    fx, fy, cx, cy = array(
        [item(colour, key, path) for key in ("fx", "fy", "ppx", "ppy")], (4,), path, "'color'"
    )
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])


@lru_cache(maxsize=256)
def world_of(root: Path, calibration: str, serial: str) -> FloatArray:
    """``T_camera_world`` (4, 4), the world being the master camera.

    The file has 3 x 4 matrices from each camera to the master, row by row.
    """
    path = root / "calibration" / f"extrinsics_{calibration}" / "extrinsics.yml"
    found = {str(k): v for k, v in _extrinsics(path).items()}
    T_master_camera = np.eye(4)
    numbers = array(item(found, serial, path), (12,), path, f"extrinsics of {serial}")
    T_master_camera[:3] = numbers.reshape(3, 4)
    return np.asarray(invert_rigid(T_master_camera))


@lru_cache(maxsize=64)
def _extrinsics(path: Path) -> dict[Any, Any]:
    found = item(read_yaml(path), "extrinsics", path)
    if not isinstance(found, dict):
        raise BadSample(path, "'extrinsics' is no mapping")
    return found


@lru_cache(maxsize=64)
def shape_of(root: Path, calibration: str) -> FloatArray:
    """A person's betas (10,)."""
    path = root / "calibration" / f"mano_{calibration}" / "mano.yml"
    return array(item(read_yaml(path), "betas", path), (10,), path, "'betas'")


def read_labels(path: Path) -> Labels:
    """Joints, pixels and MANO's numbers of one image."""
    shapes = {"joint_3d": (1, 21, 3), "joint_2d": (1, 21, 2), "pose_m": (1, 51)}
    stored = _stored(path, tuple(shapes))
    joints, uv, pose = (
        array(value, shape, path, f"'{key}'")[0]
        for value, (key, shape) in zip(stored, shapes.items(), strict=True)
    )
    seen = uv != -1
    return Labels(
        None if (joints == -1).all() else joints,
        np.where(seen.all(-1, keepdims=True), uv, np.nan) if seen.any() else None,
        pose if pose.any() else None,
    )


def _stored(path: Path, keys: tuple[str, ...]) -> list[NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return [np.asarray(file[key]) for key in keys]
    except FileNotFoundError as error:
        raise BadSample(path, "annotation is missing") from error
    except KeyError as error:
        raise BadSample(path, f"an array is missing: {error.args[0]}") from error
    except (zipfile.BadZipFile, OSError, ValueError, EOFError) as error:
        raise BadSample(path, f"is no .npz archive of numbers ({error})") from error


@dataclass(frozen=True)
class LabelMask:
    """(H, W) True where the label image has labels from ``first`` to ``last``."""

    path: Path
    first: int
    last: int

    def __call__(self) -> BoolArray:
        (labels,) = _stored(self.path, ("seg",))
        return np.asarray((labels >= self.first) & (labels <= self.last))


@dataclass(frozen=True)
class MillimetreDepth:
    """A 16-bit depth image in millimetres; metres (H, W), 0 is unknown."""

    path: Path

    def __call__(self) -> DepthArray:
        import cv2

        raw = self.path.read_bytes() if self.path.is_file() else b""
        image = cv2.imdecode(np.frombuffer(raw, np.uint8), cv2.IMREAD_UNCHANGED) if raw else None
        if image is None or image.dtype != np.uint16:
            raise BadSample(self.path, "is no 16-bit depth image")
        return np.asarray(image * np.float32(1e-3))
