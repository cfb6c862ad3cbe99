"""Relative pose of two cameras from matched landmarks: the essential matrix, made metric by hands.

The second way to begin, beside `cell_start`: it takes nothing from a network's idea of attitude,
and fails where parallax is small or the cameras face each other.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.geometry.rotations import rigid, skew

Array = NDArray[np.float64]

_MOST: Final = 4000
_SEED: Final = 5


def relative_pose(a: Array, b: Array, sigma: float) -> Array | None:
    """``T_b_a`` (4, 4) with a unit baseline, of matched normalised points (N, 2); None if none.

    ``sigma`` is one standard deviation of the points. Nister's five points inside MAGSAC++.
    """
    import cv2

    rng = np.random.default_rng(_SEED)
    good = np.flatnonzero(np.isfinite(a).all(-1) & np.isfinite(b).all(-1))
    if len(good) < 8:
        return None
    some = np.sort(rng.permutation(good)[:_MOST])
    x, y = np.ascontiguousarray(a[some]), np.ascontiguousarray(b[some])
    cv2.setRNGSeed(_SEED)
    E, _ = cv2.findEssentialMat(
        x, y, np.eye(3), method=cv2.USAC_MAGSAC, prob=0.9999, threshold=3 * sigma
    )
    if E is None or E.shape != (3, 3):
        return None
    _, R, t, _ = cv2.recoverPose(E, x, y, np.eye(3))
    return rigid(R, t[:, 0])


def sampson(T_b_a: Array, a: Array, b: Array) -> Array:
    """Sampson distances (N,) in normalised units of matches (N, 2) to a relative pose."""
    E = skew(T_b_a[:3, 3]) @ T_b_a[:3, :3]
    h_a, h_b = (np.concatenate([p, np.ones((*p.shape[:-1], 1))], -1) for p in (a, b))
    line_b, line_a = h_a @ E.T, h_b @ E
    gradient = np.sqrt((line_b[..., :2] ** 2).sum(-1) + (line_a[..., :2] ** 2).sum(-1))
    return np.asarray(np.abs((h_b * line_b).sum(-1)) / np.maximum(gradient, 1e-12))


def depths(T_b_a: Array, a: Array, b: Array) -> tuple[Array, Array]:
    """Depths (N,) before both cameras of matches (N, 2), by the midpoint's least squares."""
    R, t = T_b_a[:3, :3], T_b_a[:3, 3]
    h_a, h_b = (np.concatenate([p, np.ones((*p.shape[:-1], 1))], -1) for p in (a, b))
    # z_b h_b - z_a R h_a = t in the least-squares sense.
    first, second = -(h_a @ R.T), h_b
    aa, bb = (first * first).sum(-1), (second * second).sum(-1)
    ab, at, bt = (first * second).sum(-1), first @ t, second @ t
    det = np.maximum(aa * bb - ab * ab, 1e-12)
    return (bb * at - ab * bt) / det, (aa * bt - ab * at) / det


def metric(T_b_a: Array, a: Array, b: Array, depth_a: Array, depth_b: Array) -> Array | None:
    """The pose with its baseline in metres, by known depths (N,) of the points before either.

    None where hardly any match lies before both cameras.
    """
    z_a, z_b = depths(T_b_a, a, b)
    ratio = np.concatenate([depth_a / z_a, depth_b / z_b])
    good = np.isfinite(ratio) & (ratio > 0) & np.tile((z_a > 0) & (z_b > 0), 2)
    if good.mean() < 0.5:
        return None
    return rigid(T_b_a[:3, :3], T_b_a[:3, 3] * float(np.median(ratio[good])))


def ray_angle(T_b_a: Array, a: Array, b: Array) -> Array:
    """Angle (N,) between the lines of sight of matches (N, 2), at most a right angle, radians."""
    h_a, h_b = (np.concatenate([p, np.ones((*p.shape[:-1], 1))], -1) for p in (a, b))
    u, v = h_a @ T_b_a[:3, :3].T, h_b
    cosine = (u * v).sum(-1) / (np.linalg.norm(u, axis=-1) * np.linalg.norm(v, axis=-1))
    return np.arccos(np.clip(np.abs(cosine), 0, 1))


