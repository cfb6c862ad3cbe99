"""Points from rays: weighted linear triangulation, refinement, epipolar distance.

Observations are arrays over views: ``uv`` (V, N, 2) distorted pixels, NaN where not seen, and
``sigma`` (V, N) pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.geometry.cameras import project_with_jacobian, undistort, undistort_views
from hand_mesh_ros.geometry.rotations import invert_rigid, skew
from hand_mesh_ros.types import Camera

Array = NDArray[np.float64]


def triangulate(cameras: Sequence[Camera], uv: Array, sigma: Array) -> Array:
    """World points (N, 3) by the weighted linear method (DLT); NaN with fewer than two views.

    Each view adds the two rows ``x P3 - P1`` and ``y P3 - P2`` of Hartley & Zisserman 12.2, in
    normalised coordinates and divided by the angular sigma; a second pass divides by the depth as
    well, so that the residual is the angle and near cameras do not dominate.
    """
    normal = undistort_views(cameras, uv)
    P = np.stack([c.T_camera_world[:3] for c in cameras])
    focal = np.array([c.focal for c in cameras])
    seen = np.isfinite(normal).all(-1) & np.isfinite(sigma)
    weight = np.where(seen, focal[:, None] / np.where(seen, sigma, 1.0), 0.0)
    normal = np.where(seen[..., None], normal, 0.0)
    rows = normal[..., None] * P[:, None, 2:3, :] - P[:, None, :2, :]  # (V, N, 2, 4)
    points = _solve(rows * weight[..., None, None])
    depth = np.einsum("vj,nj->vn", P[:, 2, :3], points) + P[:, 2, 3, None]
    safe = np.where(np.abs(depth) > 1e-3, depth, 1e-3)
    points = _solve(rows * (weight / safe)[..., None, None])
    points[seen.sum(0) < 2] = np.nan
    return points


def _solve(rows: Array) -> Array:
    """Inhomogeneous least squares over views, with N systems at once; (V, N, 2, 4) to (N, 3)."""
    A, b = rows[..., :3], -rows[..., 3]
    normal = np.einsum("vnki,vnkj->nij", A, A)
    right = np.einsum("vnki,vnk->ni", A, b)
    # A hair of damping keeps under-determined points (masked out by the caller) from raising.
    damping = 1e-12 * np.trace(normal, axis1=-2, axis2=-1)[:, None, None] + 1e-30
    return np.asarray(np.linalg.solve(normal + damping * np.eye(3), right[..., None])[..., 0])


def triangulation_covariance(cameras: Sequence[Camera], points: Array, sigma: Array) -> Array:
    """Covariance (N, 3, 3), m^2, of triangulated points for pixel noise ``sigma`` (V, N).

    Inverse of the sum of ``J^T J / sigma^2`` over the views; NaN where that is singular. Views
    that did not see a point have an infinite or NaN sigma.
    """
    J = np.stack([project_with_jacobian(c, points).jacobian for c in cameras])
    weight = np.where(np.isfinite(sigma), 1 / np.square(np.where(sigma > 0, sigma, np.inf)), 0.0)
    information = np.einsum("vnki,vnkj,vn->nij", J, J, weight)
    ok = np.isfinite(information).all((-1, -2))
    ok &= (weight > 0).sum(0) >= 2
    safe = np.where(ok[:, None, None], information, np.eye(3))
    return np.where(ok[:, None, None], np.linalg.inv(safe + 1e-9 * np.eye(3)), np.nan)


def reprojection_errors(cameras: Sequence[Camera], points: Array, uv: Array) -> Array:
    """Pixel distances (V, N) of world points (N, 3) to ``uv`` (V, N, 2); NaN where not seen."""
    projected = [project_with_jacobian(c, points) for c in cameras]
    out = np.stack([np.linalg.norm(p.uv - o, axis=-1) for p, o in zip(projected, uv, strict=True)])
    return np.where(np.stack([p.valid for p in projected]), out, np.nan)


def essential(a: Camera, b: Camera) -> Array:
    """Essential matrix E (3, 3) with ``x_b^T E x_a = 0`` in normalised coordinates."""
    T = b.T_camera_world @ invert_rigid(a.T_camera_world)
    return np.asarray(skew(T[:3, 3]) @ T[:3, :3])


def epipolar_distance(a: Camera, b: Camera, uv_a: Array, uv_b: Array) -> Array:
    """Symmetric epipolar distance in pixels (Sampson), (...,), of matching pixels (..., 2).

    First-order distance of the pair to the epipolar constraint (Hartley & Zisserman 11.4.3),
    scaled by the mean focal length; NaN where a pixel cannot be undistorted.
    """
    E = essential(a, b)
    xa = undistort(a, uv_a)
    xb = undistort(b, uv_b)
    ha = np.concatenate([xa, np.ones((*xa.shape[:-1], 1))], -1)
    hb = np.concatenate([xb, np.ones((*xb.shape[:-1], 1))], -1)
    line_b, line_a = ha @ E.T, hb @ E
    error = (hb * line_b).sum(-1)
    gradient = np.sqrt((line_b[..., :2] ** 2).sum(-1) + (line_a[..., :2] ** 2).sum(-1))
    return np.asarray(np.abs(error) / np.maximum(gradient, 1e-12) * 0.5 * (a.focal + b.focal))
