"""HO-3D's calibration of several cameras, and its depth images."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from hand_mesh_ros.data.datasets.base import BadSample
from hand_mesh_ros.data.datasets.files import array
from hand_mesh_ros.geometry.rotations import invert_rigid
from hand_mesh_ros.types import DepthArray, FloatArray

MULTI_CAMERA = (
    "ABF1", "AP1", "BB1", "GPMF1", "GSF1", "MDF1", "MPM1", "SB1", "ShSu1", "SiBF1", "SMu4",
)  # fmt: skip
"""Recordings of several cameras; the digit after the name is the camera's."""

DEPTH_UNIT = 0.00012498664727900177
"""Metres in one step of a depth image."""


@dataclass(frozen=True)
class MultiCamera:
    """One of a recording's cameras: ``view`` is its place in the calibration's order."""

    name: str
    view: int
    T_camera_world: FloatArray


@lru_cache(maxsize=128)
def rig_of(root: Path, sequence: str) -> MultiCamera | None:
    """Where a sequence's camera stands; None for one camera alone or without its calibration.

    ``calibration/NAME/calibration/cam_orders.txt`` lists camera digits; ``trans_i.txt`` (4 x 4)
    maps from the i-th of that list into the world, in optical axes, metres.
    """
    name, digit = sequence[:-1], sequence[-1:]
    folder = root / "calibration" / name / "calibration"
    order_file = folder / "cam_orders.txt"
    if name not in MULTI_CAMERA or not order_file.is_file():
        return None
    order = _table(order_file, (-1,)).astype(int).tolist()
    if not digit.isdecimal() or int(digit) not in order:
        raise BadSample(order_file, f"does not list the camera of sequence {sequence}")
    view = order.index(int(digit))
    T_world_camera = _table(folder / f"trans_{view}.txt", (4, 4))
    return MultiCamera(name, view, np.asarray(invert_rigid(T_world_camera)))


def _table(path: Path, shape: tuple[int, ...]) -> FloatArray:
    try:
        content = np.atleast_1d(np.loadtxt(path))
    except (OSError, ValueError) as error:
        raise BadSample(path, f"is no table of numbers ({error})") from error
    return array(content, shape, path, "the table")


@dataclass(frozen=True)
class DepthFile:
    """A depth image: metres are (red + 256 green) steps of `DEPTH_UNIT`; 0 is unknown."""

    path: Path

    def __call__(self) -> DepthArray:
        import cv2

        # Decoded as numbers, not as a picture: no orientation, no conversion of colours.
        raw = self.path.read_bytes() if self.path.is_file() else b""
        image = cv2.imdecode(np.frombuffer(raw, np.uint8), cv2.IMREAD_UNCHANGED) if raw else None
        if image is None or image.ndim != 3:
            raise BadSample(self.path, "is no colour image, in which depth is stored")
        # OpenCV's channels are blue, green, red. In 8 bits the product would overflow.
        wide = image.astype(np.float64)
        return np.asarray((wide[..., 2] + 256 * wide[..., 1]) * DEPTH_UNIT, dtype=np.float32)
