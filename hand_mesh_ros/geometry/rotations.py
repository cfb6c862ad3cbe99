"""Rotations as arrays: axis-angle, matrices, quaternions (xyzw) and 6D, batched over ``...``."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.geometry.arrays import AnyArray, eye, namespace, zeros

Array = NDArray[np.float64]
_SMALL = 0.02


def skew(v: AnyArray) -> AnyArray:
    """Cross-product matrices, ``skew(a) @ b == cross(a, b)``: (..., 3) to (..., 3, 3).

    NumPy or torch.
    """
    out = zeros((*v.shape[:-1], 3, 3), v)
    out[..., 0, 1], out[..., 0, 2] = -v[..., 2], v[..., 1]
    out[..., 1, 0], out[..., 1, 2] = v[..., 2], -v[..., 0]
    out[..., 2, 0], out[..., 2, 1] = -v[..., 1], v[..., 0]
    return out


def _sinc_terms(omega: AnyArray) -> tuple[AnyArray, AnyArray, AnyArray]:
    """sin(a)/a, (1-cos(a))/a^2 and (a-sin(a))/a^3 as (..., 1, 1), by series near zero."""
    xp = namespace(omega)
    a2 = xp.sum(omega * omega, axis=-1)[..., None, None]
    small = a2 < _SMALL**2
    angle = xp.sqrt(xp.where(small, xp.ones_like(a2), a2))
    half = xp.sin(0.5 * angle) / angle
    sine = xp.sin(angle)
    s = xp.where(small, 1 - a2 / 6 + a2 * a2 / 120, sine / angle)
    c = xp.where(small, 0.5 - a2 / 24 + a2 * a2 / 720, 2 * half * half)
    d = xp.where(small, 1 / 6 - a2 / 120 + a2 * a2 / 5040, (angle - sine) / angle**3)
    return s, c, d


def exp_so3(omega: AnyArray) -> AnyArray:
    """Rotation matrices (..., 3, 3) of axis-angle vectors (..., 3), radians (Rodrigues).

    NumPy or torch.
    """
    s, c, _ = _sinc_terms(omega)
    W = skew(omega)
    return eye(3, omega) + s * W + c * (W @ W)


def left_jacobian(omega: AnyArray) -> AnyArray:
    """Left Jacobian of SO(3), (..., 3, 3): ``exp(w + dw) ~ exp(J(w) dw) exp(w)``.

    Source: T. Barfoot, State Estimation for Robotics, eq. 7.77. NumPy or torch.
    """
    return exp_and_left_jacobian(omega)[1]


def exp_and_left_jacobian(omega: AnyArray) -> tuple[AnyArray, AnyArray]:
    """`exp_so3` and `left_jacobian` together, for the price of one."""
    s, c, d = _sinc_terms(omega)
    W = skew(omega)
    W2 = W @ W
    identity = eye(3, omega)
    return identity + s * W + c * W2, identity + c * W + d * W2


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


def axis_angle_to_quaternion(omega: Array) -> Array:
    """Unit quaternions (..., 4) xyzw with w >= 0 of axis-angle vectors (..., 3).

    The inverse of `rotation_vector`, up to whole turns.
    """
    omega = np.asarray(omega, dtype=np.float64)
    angle = np.linalg.norm(omega, axis=-1, keepdims=True)
    # np.sinc(x) is sin(pi x) / (pi x), whole at zero.
    q = np.concatenate([0.5 * np.sinc(angle / (2 * np.pi)) * omega, np.cos(angle / 2)], axis=-1)
    return np.where(q[..., 3:] < 0, -q, q)


def xyzw_to_wxyz(q: Array) -> Array:
    """Quaternions (..., 4) in the order of ROS and SciPy to that of PyTorch3D and most papers."""
    return np.asarray(np.roll(q, 1, axis=-1))


def wxyz_to_xyzw(q: Array) -> Array:
    """The inverse of `xyzw_to_wxyz`."""
    return np.asarray(np.roll(q, -1, axis=-1))


def matrix_to_6d(R: Array, *, interleaved: bool = False) -> Array:
    """The first two columns a, b of rotation matrices (..., 3, 3) as six numbers (..., 6).

    Either one after the other, (a0 a1 a2 b0 b1 b2), as HaMeR and WiLoR store them, or row by row
    of the (3, 2) block, ``interleaved`` (a0 b0 a1 b1 a2 b2), as HMR and SPIN do.
    Source: Zhou et al., On the Continuity of Rotation Representations, CVPR 2019.
    """
    columns = np.asarray(R, dtype=np.float64)[..., :2]
    if not interleaved:
        columns = np.swapaxes(columns, -1, -2)
    return columns.reshape(*columns.shape[:-2], 6)


def matrix_from_6d(sixd: Array, *, interleaved: bool = False) -> Array:
    """Rotation matrices (..., 3, 3) of any six numbers (..., 6), by Gram-Schmidt on the columns.

    The layouts are those of `matrix_to_6d`. Where the two columns are parallel or zero, the result
    is still a rotation, but an arbitrary one.
    """
    sixd = np.asarray(sixd, dtype=np.float64)
    if interleaved:
        a, b = sixd[..., 0::2], sixd[..., 1::2]
    else:
        a, b = sixd[..., :3], sixd[..., 3:]
    x = _normalised(a, np.array([1.0, 0.0, 0.0]))
    rest = b - (x * b).sum(-1, keepdims=True) * x
    # Any direction across x will do where b leaves the choice open.
    other = np.eye(3)[np.abs(x).argmin(-1)]
    y = _normalised(rest, other - (x * other).sum(-1, keepdims=True) * x)
    y = y / np.linalg.norm(y, axis=-1, keepdims=True)
    return np.stack([x, y, np.cross(x, y)], axis=-1)


def _normalised(v: Array, otherwise: Array) -> Array:
    length = np.linalg.norm(v, axis=-1, keepdims=True)
    return np.where(length > 1e-12, v / np.maximum(length, 1e-12), otherwise)


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
