"""The axes that a crop is seen in: those of a camera turned to look at the crop's middle.

Off the image's middle a hand is seen from the side, so that the same picture means another
orientation in the camera's axes. In the crop's axes a picture means one orientation.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hand_mesh_ros.geometry.cameras import undistort
from hand_mesh_ros.types import Camera

_STEP = 0.05


def crop_axes(camera: Camera, rois: ArrayLike) -> NDArray[np.float64]:
    """Rotations (N, 3, 3) of points in the camera's optical axes into those of ROIs (N, 4).

    z goes through the crop's middle, x along its rows (where distortion bends them, as they run
    in the middle), y down. NaN where the lens shows nothing at the crop's middle.
    """
    u, v, side, angle = np.asarray(rois, dtype=np.float64).reshape(-1, 4).T
    middle = np.stack([u, v], -1)
    along = (_STEP * side)[:, None] * np.stack([np.cos(angle), np.sin(angle)], -1)
    z = _unit(_directions(camera, middle))
    x = _directions(camera, middle + along) - _directions(camera, middle - along)
    x = _unit(x - (x * z).sum(-1, keepdims=True) * z)
    return np.stack([x, np.cross(z, x), z], axis=-2)


def _directions(camera: Camera, uv: NDArray[np.float64]) -> NDArray[np.float64]:
    xy = undistort(camera, uv)
    return np.concatenate([xy, np.ones((*xy.shape[:-1], 1))], axis=-1)


def _unit(v: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(v / np.linalg.norm(v, axis=-1, keepdims=True))
