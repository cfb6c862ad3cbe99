"""Projection and its inverse for every distortion model of a CameraInfo.

Two families cover ROS's names. *Polynomial* (``none``, ``plumb_bob``, ``rational_polynomial``,
``thin_prism``) with OpenCV's coefficients k1 k2 p1 p2 k3 k4 k5 k6 s1 s2 s3 s4; *equidistant*, the
Kannala-Brandt fisheye with k1..k4. Sources: OpenCV's calib3d documentation of the pinhole and
fisheye camera models. Both are only invertible up to some radius, beyond which a polynomial folds
back into the picture: ``project`` marks such points invalid instead of inventing pixels for them.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.geometry.rotations import transform_points
from hand_mesh_ros.types import Camera

Array = NDArray[np.float64]
_ORDER = 12
_NEAR = 1e-6


class Projection(NamedTuple):
    """Pixels (..., 2), their derivative by the world point (..., 2, 3), and validity (...,)."""

    uv: Array
    jacobian: Array
    valid: NDArray[np.bool_]


def _coefficients(camera: Camera) -> Array:
    out = np.zeros(_ORDER)
    if camera.distortion != "none":
        d = np.asarray(camera.D, dtype=np.float64)[:_ORDER]
        out[: d.size] = d
    return out


def _polynomial(k: Array, xy: Array) -> tuple[Array, Array]:
    """Distorted normalised points and the derivative (..., 2, 2) of the polynomial family."""
    k1, k2, p1, p2, k3, k4, k5, k6, s1, s2, s3, s4 = k
    x, y = xy[..., 0], xy[..., 1]
    r2 = x * x + y * y
    top = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
    bottom = 1 + r2 * (k4 + r2 * (k5 + r2 * k6))
    d_top = k1 + r2 * (2 * k2 + 3 * k3 * r2)
    d_bottom = k4 + r2 * (2 * k5 + 3 * k6 * r2)
    radial = top / bottom
    d_radial = (d_top - radial * d_bottom) / bottom  # by r2
    out = np.stack(
        [
            x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x) + r2 * (s1 + s2 * r2),
            y * radial + 2 * p2 * x * y + p1 * (r2 + 2 * y * y) + r2 * (s3 + s4 * r2),
        ],
        -1,
    )
    prism_x, prism_y = s1 + 2 * s2 * r2, s3 + 2 * s4 * r2
    J = np.empty((*x.shape, 2, 2))
    J[..., 0, 0] = radial + 2 * x * x * d_radial + 2 * p1 * y + 6 * p2 * x + 2 * x * prism_x
    J[..., 0, 1] = 2 * x * y * d_radial + 2 * p1 * x + 2 * p2 * y + 2 * y * prism_x
    J[..., 1, 0] = 2 * x * y * d_radial + 2 * p2 * y + 2 * p1 * x + 2 * x * prism_y
    J[..., 1, 1] = radial + 2 * y * y * d_radial + 2 * p2 * x + 6 * p1 * y + 2 * y * prism_y
    return out, J


def _fisheye_angle(k: Array, theta: Array) -> tuple[Array, Array]:
    t2 = theta * theta
    value = theta * (1 + t2 * (k[0] + t2 * (k[1] + t2 * (k[2] + t2 * k[3]))))
    slope = 1 + t2 * (3 * k[0] + t2 * (5 * k[1] + t2 * (7 * k[2] + t2 * 9 * k[3])))
    return value, slope


def _equidistant(k: Array, points: Array) -> tuple[Array, Array]:
    """Distorted normalised points (..., 2) and derivative by the camera point (..., 2, 3)."""
    x, y, z = points[..., 0], points[..., 1], points[..., 2]
    rho2 = x * x + y * y
    rho = np.sqrt(rho2)
    theta = np.arctan2(rho, z)
    value, slope = _fisheye_angle(k, theta)
    axis = rho < 1e-12
    safe = np.where(axis, 1.0, rho)
    ratio = np.where(axis, 1 / np.where(axis, np.where(z == 0, 1, z), 1.0), value / safe)
    out = points[..., :2] * ratio[..., None]
    norm2 = np.maximum(rho2 + z * z, 1e-24)
    d_rho = np.where(axis, 0.0, (slope * z / norm2 - ratio) / safe)  # d ratio / d rho
    d_z = np.where(axis, 0.0, -slope / norm2)  # d ratio / d z
    d_z = np.where(axis, -1 / np.where(z == 0, 1, z) ** 2, d_z)
    J = np.empty((*x.shape, 2, 3))
    ux, uy = x / safe, y / safe
    J[..., 0, 0] = ratio + x * d_rho * ux
    J[..., 0, 1] = x * d_rho * uy
    J[..., 1, 0] = y * d_rho * ux
    J[..., 1, 1] = ratio + y * d_rho * uy
    J[..., 0, 2] = x * d_z
    J[..., 1, 2] = y * d_z
    return out, J


@lru_cache(maxsize=64)
def fold_radius(camera: Camera) -> float:
    """Largest undistorted radius (or angle, for ``equidistant``) before the model folds back."""
    k = _coefficients(camera)
    if camera.distortion == "equidistant":
        theta = np.linspace(0, np.pi, 721)
        bad = _fisheye_angle(k, theta)[1] <= 0
        return float(theta[np.argmax(bad)]) if bad.any() else float(np.pi)
    radius = np.linspace(0, 8, 1601)
    r2 = radius**2
    bottom = 1 + r2 * (k[5] + r2 * (k[6] + r2 * k[7]))
    distorted = radius * (1 + r2 * (k[0] + r2 * (k[1] + r2 * k[4]))) / bottom
    bad = (np.gradient(distorted, radius) <= 0) | (bottom <= 0)
    return float(radius[np.argmax(bad)]) if bad.any() else np.inf


def project_with_jacobian(camera: Camera, points: Array) -> Projection:
    """Project world points (..., 3) to distorted pixels with the analytic derivative.

    Points behind the camera or beyond the fold of the distortion are marked invalid; their pixels
    are finite but meaningless.
    """
    T = camera.T_camera_world
    local = transform_points(T, np.asarray(points, dtype=np.float64))
    k = _coefficients(camera)
    limit = fold_radius(camera)
    z = local[..., 2]
    if camera.distortion == "equidistant":
        xy, J = _equidistant(k, local)
        valid = np.arctan2(np.hypot(local[..., 0], local[..., 1]), z) < limit
    else:
        safe = np.where(z > _NEAR, z, 1.0)
        normal = local[..., :2] / safe[..., None]
        radius = np.linalg.norm(normal, axis=-1)
        valid = (z > _NEAR) & (radius < limit)
        shrink = np.where(radius < limit, 1.0, limit / np.maximum(radius, 1e-12))
        normal = normal * shrink[..., None]
        xy, J2 = _polynomial(k, normal)
        J = np.concatenate([J2, -(J2 @ normal[..., None])], -1) / safe[..., None, None]
    K = camera.K
    uv = xy @ K[:2, :2].T + K[:2, 2]
    return Projection(uv, K[:2, :2] @ J @ T[:3, :3], valid)


def project(camera: Camera, points: Array) -> Array:
    """Distorted pixels (..., 2) of world points (..., 3); NaN where the camera cannot see them."""
    uv, _, valid = project_with_jacobian(camera, points)
    return np.where(valid[..., None], uv, np.nan)


def undistort(camera: Camera, uv: Array, iterations: int = 12) -> Array:
    """Normalised image coordinates (..., 2) (x/z, y/z) of distorted pixels (..., 2), by Newton.

    Pixels that no ray inside the fold radius reaches, and fisheye rays at 90 degrees or more (which
    have no normalised coordinate), come out as NaN.
    """
    K = camera.K
    target = np.linalg.solve(K[:2, :2], (np.asarray(uv, dtype=np.float64) - K[:2, 2])[..., None])
    target = target[..., 0]
    if camera.distortion == "none" or not np.any(camera.D):
        if camera.distortion != "equidistant":
            return np.asarray(target)
    k = _coefficients(camera)
    limit = fold_radius(camera)
    if camera.distortion == "equidistant":
        radius = np.linalg.norm(target, axis=-1)
        theta = np.minimum(radius, limit)
        for _ in range(iterations):
            value, slope = _fisheye_angle(k, theta)
            theta = np.clip(theta - (value - radius) / np.maximum(slope, 1e-3), 0, limit)
        reached = np.abs(_fisheye_angle(k, theta)[0] - radius) < 1e-8
        reached &= theta < np.pi / 2 - 1e-6
        scale = np.where(radius < 1e-12, 1.0, np.tan(theta) / np.maximum(radius, 1e-12))
        return np.where(reached[..., None], target * scale[..., None], np.nan)
    xy = target.copy()
    for _ in range(iterations):
        value, J = _polynomial(k, xy)
        det = J[..., 0, 0] * J[..., 1, 1] - J[..., 0, 1] * J[..., 1, 0]
        det = np.where(np.abs(det) < 1e-6, 1e-6, det)
        error = value - target
        step = np.stack(
            [
                J[..., 1, 1] * error[..., 0] - J[..., 0, 1] * error[..., 1],
                J[..., 0, 0] * error[..., 1] - J[..., 1, 0] * error[..., 0],
            ],
            -1,
        )
        xy = xy - step / det[..., None]
        radius = np.linalg.norm(xy, axis=-1, keepdims=True)
        xy = np.where(radius > limit, xy * (limit / np.maximum(radius, 1e-12)), xy)
    reached = np.linalg.norm(_polynomial(k, xy)[0] - target, axis=-1) < 1e-7
    return np.where(reached[..., None], xy, np.nan)


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
