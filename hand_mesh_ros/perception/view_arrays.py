"""The views of an instant as arrays, so that geometry is done for all of them at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.geometry.cameras import undistort_views
from hand_mesh_ros.types import View

Array = NDArray[np.float64]
# The error in normalised coordinates that will do: 1e-4 of a pixel.
_EXACT: Final = 1e-7


class ViewArrays(NamedTuple):
    """N views: ``xy`` (N, 21, 2) in normalised coordinates, NaN where no ray reaches; ``sigma``

    (N, 21) in the same unit (radians, near the axis); ``P`` (N, 3, 4) world to camera; ``frame``
    (N,) index of the frame; ``right`` (N,) probability of a right hand.
    """

    xy: Array
    sigma: Array
    P: Array
    frame: NDArray[np.int64]
    right: Array

    def select(self, which: Sequence[int]) -> ViewArrays:
        """Some of the views."""
        i = list(which)
        return ViewArrays(self.xy[i], self.sigma[i], self.P[i], self.frame[i], self.right[i])


def view_arrays(views: Sequence[View]) -> ViewArrays:
    """Views, at least one, as arrays."""
    focal = np.array([v.camera.focal for v in views])
    return ViewArrays(
        xy=undistort_views([v.camera for v in views], np.stack([v.uv for v in views]), _EXACT),
        sigma=np.stack([v.sigma for v in views]) / focal[:, None],
        P=np.stack([v.camera.T_camera_world[:3] for v in views]),
        frame=np.array([v.index for v in views]),
        right=np.array([v.right for v in views]),
    )


def triangulate_arrays(a: ViewArrays, passes: int = 2) -> Array:
    """World points (21, 3) from all views of ``a``; see `geometry.triangulation.triangulate`.

    One pass minimises an algebraic error, to which far cameras contribute more than their share.
    """
    seen = np.asarray(np.isfinite(a.xy).all(-1))
    xy = np.where(seen[..., None], a.xy, 0.0)
    rows = xy[..., None] * a.P[:, None, 2:3] - a.P[:, None, :2]  # (V, 21, 2, 4)
    weight = np.where(seen, 1 / a.sigma, 0.0)
    points = _least_squares(rows * weight[..., None, None])
    for _ in range(passes - 1):
        depth = np.maximum(np.abs(points @ a.P[:, 2, :3].T + a.P[:, 2, 3]).T, 1e-3)
        points = _least_squares(rows * (weight / depth)[..., None, None])
    points[seen.sum(0) < 2] = np.nan
    return points


def errors_in_sigmas(a: ViewArrays, points: Array) -> tuple[Array, Array]:
    """How far ``points`` (21, 3) appear from where they were seen, in sigmas (V, 21), and depths

    (V, 21) m along the optical axes.
    """
    local = np.einsum("vij,nj->vni", a.P[..., :3], points) + a.P[:, None, :, 3]
    z = local[..., 2]
    safe = np.where(np.abs(z) > 1e-6, z, 1e-6)
    gap = local[..., :2] / safe[..., None] - a.xy
    return np.asarray(np.sqrt((gap * gap).sum(-1)) / a.sigma), z


def _least_squares(rows: Array) -> Array:
    """(V, N, 2, 4) rows ``[A | -b]`` to N solutions (N, 3)."""
    flat = np.moveaxis(rows, 1, 0).reshape(rows.shape[1], -1, 4)
    square = np.swapaxes(flat, 1, 2) @ flat  # (N, 4, 4)
    normal, right = square[:, :3, :3], -square[:, :3, 3:]
    damping = 1e-12 * np.trace(normal, axis1=1, axis2=2)[:, None, None] + 1e-30
    return np.asarray(np.linalg.solve(normal + damping * np.eye(3), right)[..., 0])
