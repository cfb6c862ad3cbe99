"""One camera: projection, undistortion, rays. The formulas are in `projection`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.geometry.projection import (
    CameraArrays,
    Projection,
    fisheye_angle,
    polynomial,
    project_arrays,
    stack_cameras,
)
from hand_mesh_ros.types import Camera

Array = NDArray[np.float64]

# Newton's, at most, and the error in normalised coordinates of a ray that is found.
_STEPS: Final = 12
_REACHED: Final = 1e-7


@lru_cache(maxsize=256)
def _single(camera: Camera) -> CameraArrays:
    stacked = stack_cameras((camera,))
    k = stacked.k[:, 0]
    first = [None if a is None else a[0] for a in stacked]
    return CameraArrays(*first)._replace(k=k)


def project_with_jacobian(camera: Camera, points: Array) -> Projection:
    """Project world points (..., 3) to distorted pixels with the analytic derivative.

    Points behind the camera or beyond the fold of the distortion are marked invalid; their pixels
    are finite but meaningless.
    """
    points = np.asarray(points, dtype=np.float64)
    flat = project_arrays(_single(camera), points.reshape(-1, 3))
    shape = points.shape[:-1]
    return Projection(
        flat.uv.reshape(*shape, 2),
        flat.jacobian.reshape(*shape, 2, 3),
        flat.valid.reshape(shape),
        flat.depth.reshape(shape),
    )


def project(camera: Camera, points: Array) -> Array:
    """Distorted pixels (..., 2) of world points (..., 3); NaN where the camera cannot see them."""
    uv, _, valid, _ = project_with_jacobian(camera, points)
    return np.where(valid[..., None], uv, np.nan)


def undistort(camera: Camera, uv: Array) -> Array:
    """Normalised image coordinates (..., 2) (x/z, y/z) of distorted pixels (..., 2), by Newton.

    Pixels that no ray inside the fold radius reaches, and fisheye rays at 90 degrees or more (which
    have no normalised coordinate), come out as NaN.
    """
    uv = np.asarray(uv, dtype=np.float64)
    return undistort_views((camera,), uv.reshape(1, -1, 2)).reshape(uv.shape)


def undistort_views(cameras: Sequence[Camera], uv: Array, exact: float = 1e-14) -> Array:
    """`undistort` of pixels (V, N, 2) of as many cameras, at hardly more than the cost of one.

    ``exact``: the error in normalised coordinates that will do.
    """
    stacked = stack_cameras(tuple(cameras))
    centred = (np.asarray(uv, dtype=np.float64) - stacked.c[:, None])[..., None]
    target: Array = np.linalg.solve(stacked.A[:, None], centred)[..., 0]
    if stacked.fisheye is None:
        return _undistort_polynomial(stacked.k[..., None], stacked.limit[:, None], target, exact)
    xy = np.empty_like(target)
    for undistorted, which in (
        (_undistort_fisheye, stacked.fisheye),
        (_undistort_polynomial, ~stacked.fisheye),
    ):
        k, limit = stacked.k[:, which, None], stacked.limit[which, None]
        xy[which] = undistorted(k, limit, target[which], exact)
    return xy


def _undistort_polynomial(k: Array, limit: Array, target: Array, exact: float) -> Array:
    if not k.any():
        return target
    xy = target.copy()
    for step in range(_STEPS + 1):
        value, J = polynomial(k, xy)
        error = value - target
        if step == _STEPS or not (np.abs(error) > exact).any():
            break
        det = J[..., 0, 0] * J[..., 1, 1] - J[..., 0, 1] * J[..., 1, 0]
        det = np.where(np.abs(det) < 1e-6, 1e-6, det)
        xy[..., 0] -= (J[..., 1, 1] * error[..., 0] - J[..., 0, 1] * error[..., 1]) / det
        xy[..., 1] -= (J[..., 0, 0] * error[..., 1] - J[..., 1, 0] * error[..., 0]) / det
        radius = np.sqrt((xy * xy).sum(-1))
        if (radius > limit).any():
            xy *= np.minimum(1.0, limit / np.maximum(radius, 1e-12))[..., None]
    reached = (np.abs(error) <= _REACHED).all(-1)
    return np.where(reached[..., None], xy, np.nan)


def _undistort_fisheye(k: Array, limit: Array, target: Array, exact: float) -> Array:
    radius = np.linalg.norm(target, axis=-1)
    theta = np.minimum(radius, limit)
    for step in range(_STEPS + 1):
        value, slope = fisheye_angle(k, theta)
        error = value - radius
        if step == _STEPS or not (np.abs(error) > exact).any():
            break
        theta = np.clip(theta - error / np.maximum(slope, 1e-3), 0, limit)
    reached = (np.abs(error) <= _REACHED) & (theta < np.pi / 2 - 1e-6)
    scale = np.where(radius < 1e-12, 1.0, np.tan(theta) / np.maximum(radius, 1e-12))
    return np.where(reached[..., None], target * scale[..., None], np.nan)


def rays(camera: Camera, uv: Array) -> Array:
    """Unit directions (..., 3) in the world of the rays through distorted pixels (..., 2)."""
    xy = undistort(camera, uv)
    local = np.concatenate([xy, np.ones((*xy.shape[:-1], 1))], -1)
    local = local / np.linalg.norm(local, axis=-1, keepdims=True)
    return np.asarray(local @ camera.T_camera_world[:3, :3])


def look_at(eye: Array, target: Array, up: Array) -> Array:
    """``T_camera_world`` (4, 4) of an optical frame at ``eye`` that looks at ``target``."""
    z = np.asarray(target, float) - eye
    z = z / np.linalg.norm(z)
    x = np.cross(z, up)
    x = x / np.linalg.norm(x)
    R = np.stack([x, np.cross(z, x), z])
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = R, -R @ eye
    return T
