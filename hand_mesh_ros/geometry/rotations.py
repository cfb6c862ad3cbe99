"""Rotations as arrays: axis-angle, matrices, quaternions (xyzw) and 6D, batched over ``...``."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
_SMALL = 1e-4


def skew(v: Array) -> Array:
    """Cross-product matrices: ``skew(a) @ b == cross(a, b)``; (..., 3) to (..., 3, 3)."""
    out = np.zeros((*v.shape[:-1], 3, 3))
    out[..., 0, 1], out[..., 0, 2] = -v[..., 2], v[..., 1]
    out[..., 1, 0], out[..., 1, 2] = v[..., 2], -v[..., 0]
    out[..., 2, 0], out[..., 2, 1] = -v[..., 1], v[..., 0]
    return out


def _sinc_terms(angle: Array) -> tuple[Array, Array, Array]:
    """sin(a)/a, (1-cos(a))/a^2 and (a-sin(a))/a^3, by series near zero."""
    a2 = angle**2
    small = angle < _SMALL
    safe = np.where(small, 1.0, angle)
    s = np.where(small, 1 - a2 / 6, np.sin(safe) / safe)
    c = np.where(small, 0.5 - a2 / 24, (1 - np.cos(safe)) / safe**2)
    d = np.where(small, 1 / 6 - a2 / 120, (safe - np.sin(safe)) / safe**3)
    return s, c, d


def exp_so3(omega: Array) -> Array:
    """Rotation matrices (..., 3, 3) of axis-angle vectors (..., 3), radians (Rodrigues)."""
    omega = np.asarray(omega, dtype=np.float64)
    s, c, _ = _sinc_terms(np.linalg.norm(omega, axis=-1))
    W = skew(omega)
    return np.eye(3) + s[..., None, None] * W + c[..., None, None] * (W @ W)


def left_jacobian(omega: Array) -> Array:
    """Left Jacobian of SO(3), (..., 3, 3): ``exp(w + dw) ~ exp(J(w) dw) exp(w)``.

    Source: T. Barfoot, State Estimation for Robotics, eq. 7.77.
    """
    _, c, d = _sinc_terms(np.linalg.norm(omega, axis=-1))
    W = skew(omega)
    return np.eye(3) + c[..., None, None] * W + d[..., None, None] * (W @ W)


def log_so3(R: Array) -> Array:
    """Axis-angle vectors (..., 3) with angle in [0, pi] of rotation matrices (..., 3, 3)."""
    return rotation_vector(matrix_to_quaternion(R))


def rotation_vector(q: Array) -> Array:
    """Axis-angle (..., 3) of unit quaternions (..., 4) in xyzw order, angle in [0, pi]."""
    q = np.where(q[..., 3:] < 0, -q, q)
    sin_half = np.linalg.norm(q[..., :3], axis=-1)
    angle = 2 * np.arctan2(sin_half, q[..., 3])
    factor = np.where(sin_half < 1e-9, 2.0, angle / np.where(sin_half < 1e-9, 1.0, sin_half))
    return np.asarray(q[..., :3] * factor[..., None])


def matrix_to_quaternion(R: Array) -> Array:
    """Unit quaternions (..., 4) xyzw with w >= 0 of matrices (..., 3, 3).

    The four candidates of Shepperd's method are formed at once and the best conditioned is taken.
    """
    R = np.asarray(R, dtype=np.float64)
    m00, m11, m22 = R[..., 0, 0], R[..., 1, 1], R[..., 2, 2]
    squares = np.stack(
        [1 + m00 - m11 - m22, 1 - m00 + m11 - m22, 1 - m00 - m11 + m22, 1 + m00 + m11 + m22], -1
    )
    a = R[..., 2, 1] - R[..., 1, 2]
    b = R[..., 0, 2] - R[..., 2, 0]
    c = R[..., 1, 0] - R[..., 0, 1]
    d = R[..., 1, 0] + R[..., 0, 1]
    e = R[..., 0, 2] + R[..., 2, 0]
    f = R[..., 2, 1] + R[..., 1, 2]
    rows = np.stack(
        [
            np.stack([squares[..., 0], d, e, a], -1),
            np.stack([d, squares[..., 1], f, b], -1),
            np.stack([e, f, squares[..., 2], c], -1),
            np.stack([a, b, c, squares[..., 3]], -1),
        ],
        -2,
    )
    best = np.argmax(squares, axis=-1)
    q = np.take_along_axis(rows, best[..., None, None], axis=-2)[..., 0, :]
    q = q / np.linalg.norm(q, axis=-1, keepdims=True)
    return np.where(q[..., 3:] < 0, -q, q)


def quaternion_to_matrix(q: Array) -> Array:
    """Matrices (..., 3, 3) of quaternions (..., 4) xyzw, normalised here."""
    q = np.asarray(q, dtype=np.float64)
    q = q / np.linalg.norm(q, axis=-1, keepdims=True)
    W = skew(q[..., :3])
    return np.eye(3) + 2 * q[..., 3, None, None] * W + 2 * (W @ W)


def project_to_so3(M: Array) -> Array:
    """Nearest rotation matrices (Frobenius norm) to (..., 3, 3), by SVD with det +1."""
    U, _, Vt = np.linalg.svd(M)
    flip = np.ones((*M.shape[:-2], 3))
    flip[..., 2] = np.sign(np.linalg.det(U @ Vt))
    return np.asarray((U * flip[..., None, :]) @ Vt)


def rigid(R: Array, t: Array) -> Array:
    """Homogeneous transform (4, 4) of a rotation (3, 3) and a translation (3,)."""
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = R, t
    return T


def invert_rigid(T: Array) -> Array:
    """Inverse of rigid transforms (..., 4, 4), without a general matrix inversion."""
    out = np.zeros_like(T)
    Rt = np.swapaxes(T[..., :3, :3], -1, -2)
    out[..., :3, :3] = Rt
    out[..., :3, 3] = -(Rt @ T[..., :3, 3, None])[..., 0]
    out[..., 3, 3] = 1
    return out


def transform_points(T: Array, points: Array) -> Array:
    """Apply one transform (4, 4) to points (..., 3)."""
    return np.asarray(points @ T[:3, :3].T + T[:3, 3])
