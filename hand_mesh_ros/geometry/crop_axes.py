"""The axes that a crop is seen in: those of a camera turned to look at the crop's middle.

Off the image's middle a hand is seen from the side, so that the same picture means another
orientation in the camera's axes. In the crop's axes a picture means one orientation.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hand_mesh_ros.geometry.cameras import undistort, undistort_views
from hand_mesh_ros.types import Camera

Array = NDArray[np.float64]

_STEP = 0.05


def crop_axes(camera: Camera, rois: ArrayLike) -> Array:
    """Rotations (N, 3, 3) of points in the camera's optical axes into those of ROIs (N, 4).

    z goes through the crop's middle, x along its rows (where distortion bends them, as they run
    in the middle), y down. NaN where the lens shows nothing at the crop's middle.
    """
    return _axes(undistort(camera, _places(rois)))


def crop_axes_of_views(cameras: Sequence[Camera], rois: ArrayLike) -> Array:
    """`crop_axes` (N, 3, 3) of ROIs (N, 4) that lie in an image of one camera each."""
    return _axes(undistort_views(cameras, _places(rois).swapaxes(0, 1)).swapaxes(0, 1))


def _places(rois: ArrayLike) -> Array:
    """Pixels (3, N, 2) of ROIs: their middle, to the right of it and to the left."""
    u, v, side, angle = np.asarray(rois, dtype=np.float64).reshape(-1, 4).T
    middle = np.stack([u, v], -1)
    along = (_STEP * side)[:, None] * np.stack([np.cos(angle), np.sin(angle)], -1)
    return np.stack([middle, middle + along, middle - along])


def _axes(xy: Array) -> Array:
    """Axes (N, 3, 3) of `_places` in normalised coordinates (3, N, 2)."""
    towards, right, left = np.concatenate([xy, np.ones((*xy.shape[:-1], 1))], axis=-1)
    z = _unit(towards)
    x = right - left
    x = _unit(x - (x * z).sum(-1, keepdims=True) * z)
    return np.stack([x, np.cross(z, x), z], axis=-2)


def _unit(v: Array) -> Array:
    return np.asarray(v / np.linalg.norm(v, axis=-1, keepdims=True))
