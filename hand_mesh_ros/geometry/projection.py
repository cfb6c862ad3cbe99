"""Projection for every distortion model of a CameraInfo, on arrays of cameras at once.

Two families cover ROS's names. *Polynomial* (``none``, ``plumb_bob``, ``rational_polynomial``,
``thin_prism``) with OpenCV's coefficients k1 k2 p1 p2 k3 k4 k5 k6 s1 s2 s3 s4; *equidistant*, the
Kannala-Brandt fisheye with k1..k4. Sources: OpenCV's calib3d documentation of the pinhole and
fisheye camera models. Both are only invertible up to some radius, beyond which a polynomial folds
back into the picture: such points are marked invalid instead of getting invented pixels.

Everything here is for NumPy or torch alike; `hand_mesh_ros.geometry.cameras` has the functions for
one `Camera`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.geometry.arrays import AnyArray, like, namespace, zeros
from hand_mesh_ros.types import Camera

COEFFICIENTS = 12
_PLUMB_BOB = 5
_NEAR = 1e-6


class CameraArrays(NamedTuple):
    """Cameras as arrays with any leading shape (...,); see `stack_cameras`.

    R (..., 3, 3) and t (..., 3) of T_camera_world; A (..., 2, 2) and c (..., 2) of K; k (12, ...)
    distortion coefficients, first axis the coefficient (5 of them if the rest are all zero);
    ``limit`` (...,) the fold radius; ``fisheye`` (...,) whether the camera is equidistant, or None
    if none is.
    """

    R: AnyArray
    t: AnyArray
    A: AnyArray
    c: AnyArray
    k: AnyArray
    limit: AnyArray
    fisheye: AnyArray | None

    def to(self, reference: AnyArray) -> CameraArrays:
        """The same cameras as arrays of the kind of ``reference``."""
        return CameraArrays(*(None if a is None else like(a, reference) for a in self))

    def select(self, which: AnyArray) -> CameraArrays:
        """Some of the cameras, by a mask over their first leading axis."""
        first = [None if a is None else a[which] for a in self._replace(k=None)]
        return CameraArrays(*first)._replace(k=self.k[:, which])


class Projection(NamedTuple):
    """Pixels (..., N, 2), their derivative by the world point (..., N, 2, 3), validity (..., N)
    and depth along the optical axis (..., N)."""

    uv: AnyArray
    jacobian: AnyArray
    valid: AnyArray
    depth: AnyArray


def coefficients(camera: Camera) -> NDArray[np.float64]:
    """The camera's distortion coefficients, padded with zeros to 12."""
    out = np.zeros(COEFFICIENTS)
    if camera.distortion != "none":
        d = np.asarray(camera.D, dtype=np.float64)[:COEFFICIENTS]
        out[: d.size] = d
    return out


@lru_cache(maxsize=64)
def stack_cameras(cameras: tuple[Camera, ...]) -> CameraArrays:
    """Cameras as NumPy arrays with leading shape (V,); not to be written to."""
    T = np.stack([c.T_camera_world for c in cameras])
    K = np.stack([c.K for c in cameras])
    fisheye = np.array([c.distortion == "equidistant" for c in cameras])
    k = np.stack([coefficients(c) for c in cameras], axis=-1)
    return CameraArrays(
        R=T[:, :3, :3],
        t=T[:, :3, 3],
        A=K[:, :2, :2],
        c=K[:, :2, 2],
        k=k if k[_PLUMB_BOB:].any() else k[:_PLUMB_BOB],
        limit=np.array([fold_radius(c) for c in cameras]),
        fisheye=fisheye if fisheye.any() else None,
    )


def project_arrays(cameras: CameraArrays, points: AnyArray) -> Projection:
    """Project world points (..., N, 3) by cameras (...,) with the analytic derivative.

    The leading shapes of points and cameras broadcast. Pixels of points that a camera cannot see
    (behind it, or beyond the fold of its distortion) are finite but meaningless.
    """
    xp = namespace(points)
    local = points @ xp.matrix_transpose(cameras.R) + cameras.t[..., None, :]
    k, limit = cameras.k[..., None], cameras.limit[..., None]
    z = local[..., 2]
    in_front = z > _NEAR
    inverse = 1 / xp.where(in_front, z, xp.ones_like(z))
    normal = local[..., :2] * inverse[..., None]
    radius = xp.sqrt(xp.sum(normal * normal, axis=-1))
    valid = in_front & (radius < limit)
    # Held at the fold, where a polynomial is still tame; the point is marked invalid anyway.
    shrink = xp.minimum(xp.ones_like(radius), limit / xp.maximum(radius, _tiny(radius)))
    normal = normal * shrink[..., None]
    xy, J2 = polynomial(k, normal)
    by_depth = -(J2[..., 0] * normal[..., :1] + J2[..., 1] * normal[..., 1:])
    J = xp.concat([J2, by_depth[..., None]], axis=-1) * inverse[..., None, None]
    if cameras.fisheye is not None:
        fish_xy, fish_J, angle = _equidistant(k, local)
        fish = cameras.fisheye[..., None]
        xy = xp.where(fish[..., None], fish_xy, xy)
        J = xp.where(fish[..., None, None], fish_J, J)
        valid = xp.where(fish, angle < limit, valid)
    uv = xy @ xp.matrix_transpose(cameras.A) + cameras.c[..., None, :]
    # All of a camera's points in one product; thousands of 2x3 products are slow.
    rows = xp.reshape(J, (*J.shape[:-3], -1, 3)) @ cameras.R
    jacobian = cameras.A[..., None, :, :] @ xp.reshape(rows, (*rows.shape[:-2], *J.shape[-3:]))
    return Projection(uv, jacobian, valid, z)


def polynomial(k: AnyArray, xy: AnyArray) -> tuple[AnyArray, AnyArray]:
    """Distorted normalised points (..., 2) and their derivative (..., 2, 2).

    ``k`` (12, ...) or (5, ...) broadcasts against the points' shape.
    """
    xp = namespace(xy)
    if len(k) == _PLUMB_BOB:
        return _plumb_bob(k, xy)
    k1, k2, p1, p2, k3, k4, k5, k6, s1, s2, s3, s4 = (k[i] for i in range(COEFFICIENTS))
    x, y = xy[..., 0], xy[..., 1]
    xx, xy2, yy = x * x, 2 * x * y, y * y
    r2 = xx + yy
    bottom = 1 + r2 * (k4 + r2 * (k5 + r2 * k6))
    radial = (1 + r2 * (k1 + r2 * (k2 + r2 * k3))) / bottom
    d_top = k1 + r2 * (2 * k2 + 3 * k3 * r2)
    d_bottom = k4 + r2 * (2 * k5 + 3 * k6 * r2)
    slope = (d_top - radial * d_bottom) / bottom  # of the radial factor, by r2
    out = xp.stack(
        [
            x * radial + p1 * xy2 + p2 * (r2 + 2 * xx) + r2 * (s1 + s2 * r2),
            y * radial + p2 * xy2 + p1 * (r2 + 2 * yy) + r2 * (s3 + s4 * r2),
        ],
        axis=-1,
    )
    prism_x, prism_y = 2 * (s1 + 2 * s2 * r2), 2 * (s3 + 2 * s4 * r2)
    cross = xy2 * slope + 2 * (p1 * x + p2 * y)
    J = zeros((*r2.shape, 2, 2), xy)
    J[..., 0, 0] = radial + 2 * xx * slope + 2 * p1 * y + 6 * p2 * x + x * prism_x
    J[..., 0, 1] = cross + y * prism_x
    J[..., 1, 0] = cross + x * prism_y
    J[..., 1, 1] = radial + 2 * yy * slope + 2 * p2 * x + 6 * p1 * y + y * prism_y
    return out, J


def _plumb_bob(k: AnyArray, xy: AnyArray) -> tuple[AnyArray, AnyArray]:
    """`polynomial` with the first five coefficients only, at half the cost."""
    xp = namespace(xy)
    k1, k2, p1, p2, k3 = (k[i] for i in range(_PLUMB_BOB))
    x, y = xy[..., 0], xy[..., 1]
    xx, xy2, yy = x * x, 2 * x * y, y * y
    r2 = xx + yy
    radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
    slope = k1 + r2 * (2 * k2 + 3 * k3 * r2)
    p1x, p1y, p2x, p2y = p1 * x, p1 * y, p2 * x, p2 * y
    out = xp.stack(
        [
            x * radial + p1 * xy2 + p2 * (r2 + 2 * xx),
            y * radial + p2 * xy2 + p1 * (r2 + 2 * yy),
        ],
        axis=-1,
    )
    cross = xy2 * slope + 2 * (p1x + p2y)
    J = zeros((*r2.shape, 2, 2), xy)
    J[..., 0, 0] = radial + 2 * xx * slope + 2 * p1y + 6 * p2x
    J[..., 0, 1] = cross
    J[..., 1, 0] = cross
    J[..., 1, 1] = radial + 2 * yy * slope + 2 * p2x + 6 * p1y
    return out, J


def fisheye_angle(k: AnyArray, theta: AnyArray) -> tuple[AnyArray, AnyArray]:
    """Distorted angle of the equidistant model and its derivative by ``theta``."""
    t2 = theta * theta
    value = theta * (1 + t2 * (k[0] + t2 * (k[1] + t2 * (k[2] + t2 * k[3]))))
    slope = 1 + t2 * (3 * k[0] + t2 * (5 * k[1] + t2 * (7 * k[2] + t2 * 9 * k[3])))
    return value, slope


def _equidistant(k: AnyArray, points: AnyArray) -> tuple[AnyArray, AnyArray, AnyArray]:
    """Distorted points (..., 2), derivative by the camera point (..., 2, 3), and the angle."""
    xp = namespace(points)
    x, y, z = points[..., 0], points[..., 1], points[..., 2]
    rho2 = x * x + y * y
    rho = xp.sqrt(rho2)
    theta = xp.atan2(rho, z)
    value, slope = fisheye_angle(k, theta)
    one = xp.ones_like(rho)
    axis = rho < 1e-12
    safe, safe_z = xp.where(axis, one, rho), xp.where(z == 0, one, z)
    ratio = xp.where(axis, 1 / safe_z, value / safe)
    norm2 = rho2 + z * z + _tiny(rho)
    d_rho = xp.where(axis, 0 * one, (slope * z / norm2 - ratio) / safe)
    d_z = xp.where(axis, -1 / safe_z**2, -slope / norm2)
    ux, uy = x / safe, y / safe
    J = zeros((*x.shape, 2, 3), points)
    J[..., 0, 0] = ratio + x * d_rho * ux
    J[..., 0, 1] = x * d_rho * uy
    J[..., 1, 0] = y * d_rho * ux
    J[..., 1, 1] = ratio + y * d_rho * uy
    J[..., 0, 2] = x * d_z
    J[..., 1, 2] = y * d_z
    return points[..., :2] * ratio[..., None], J, theta


def _tiny(reference: AnyArray) -> float:
    """A positive number far below anything that matters, in the reference's precision."""
    return float(namespace(reference).finfo(reference.dtype).smallest_normal) ** 0.5


@lru_cache(maxsize=256)
def fold_radius(camera: Camera) -> float:
    """Largest undistorted radius (or angle, for ``equidistant``) before the model folds back."""
    k = coefficients(camera)
    if camera.distortion == "equidistant":
        theta = np.linspace(0, np.pi, 721)
        bad = fisheye_angle(k, theta)[1] <= 0
        return float(theta[np.argmax(bad)]) if bad.any() else float(np.pi)
    radius = np.linspace(0, 8, 1601)
    r2 = radius**2
    bottom = 1 + r2 * (k[5] + r2 * (k[6] + r2 * k[7]))
    distorted = radius * (1 + r2 * (k[0] + r2 * (k[1] + r2 * k[4]))) / bottom
    bad = (np.gradient(distorted, radius) <= 0) | (bottom <= 0)
    return float(radius[np.argmax(bad)]) if bad.any() else np.inf
