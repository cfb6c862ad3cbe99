"""Distances in images: HInt's PCK, reprojection of several views, leave-one-view-out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.geometry.triangulation import reprojection_errors, triangulate
from hand_mesh_ros.types import Camera

Array = NDArray[np.float64]
Solve = Callable[[Sequence[Camera], Array, Array], Array]

HINT_THRESHOLDS = (0.05, 0.10, 0.15)
"""HInt's, as shares of the longest side of the annotated hand's tight box."""


def hint_errors(predicted: Array, true: Array, box_px: Array) -> Array:
    """Distances (N, 21) of pixels (N, 21, 2) over the longest side (N,) of each tight box.

    A hand that was not found (NaN) is infinitely far, where its truth is known.
    """
    distance = np.linalg.norm(predicted - true, axis=-1) / box_px[:, None]
    known = np.isfinite(true).all(-1)
    return np.where(known, np.where(np.isfinite(distance), distance, np.inf), np.nan)


def hint_pck(
    errors: Array, counted: NDArray[np.bool_], thresholds: Sequence[float] = HINT_THRESHOLDS
) -> tuple[Array, Array]:
    """HInt's PCK (T,) in [0, 1] and that of each joint (T, 21), from `hint_errors` (N, 21).

    ``counted`` (N, 21): the joints that take part; all in the frame, the visible or the occluded
    ones. For each joint the share of its samples within the threshold (``<=``), then the plain
    mean over the 21 joints; as in HaMeR's evaluation, a joint without samples makes it NaN.
    """
    counted = counted & ~np.isnan(errors)
    within = errors[None] <= np.asarray(thresholds)[:, None, None]
    count = counted.sum(0)
    share = np.where(count > 0, (within & counted).sum(1) / np.maximum(count, 1), np.nan)
    return share.mean(-1), share


def multi_view_reprojection(cameras: Sequence[Camera], joints: Array, uv: Array) -> Array:
    """Pixel distances (N, V, J) of world joints (N, J, 3) to observed pixels (N, V, J, 2).

    NaN where a view did not see a joint, or cannot.
    """
    flat = uv.transpose(1, 0, 2, 3).reshape(len(cameras), -1, 2)
    return _by_hand(reprojection_errors(cameras, joints.reshape(-1, 3), flat), len(joints))


def leave_one_view_out(
    cameras: Sequence[Camera], uv: Array, sigma: Array | None = None, solve: Solve = triangulate
) -> Array:
    """Pixel distances (N, V, J) of each view from the points that the *other* views give.

    ``uv`` (N, V, J, 2), NaN where not seen; ``sigma`` (N, V, J) pixels, 1 by default. ``solve``
    makes world points (P, 3) of cameras, pixels (V, P, 2) and sigmas (V, P): by default linear
    triangulation, which needs two views and says NaN with fewer.
    """
    flat = uv.transpose(1, 0, 2, 3).reshape(len(cameras), -1, 2)
    weight = np.ones(flat.shape[:-1])
    if sigma is not None:
        weight = sigma.transpose(1, 0, 2).reshape(weight.shape)
    out = np.full(flat.shape[:-1], np.nan)
    for view, camera in enumerate(cameras):
        others = [i for i in range(len(cameras)) if i != view]
        points = solve([cameras[i] for i in others], flat[others], weight[others])
        out[view] = reprojection_errors([camera], points, flat[view : view + 1])[0]
    return _by_hand(out, len(uv))


def _by_hand(errors: Array, hands: int) -> Array:
    return errors.reshape(len(errors), hands, -1).transpose(1, 0, 2)
