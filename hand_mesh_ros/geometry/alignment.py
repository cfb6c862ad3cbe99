"""Rigid and similarity alignment of point sets (Procrustes; Umeyama 1991)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.geometry.rotations import project_to_so3

Array = NDArray[np.float64]


def procrustes(
    source: Array,
    target: Array,
    weights: Array | None = None,
    *,
    with_scale: bool = False,
    reflect: bool = False,
) -> tuple[Array, Array, Array]:
    """Least-squares ``scale * R @ source + t ~ target`` with a proper rotation.

    ``source`` and ``target`` are (..., N, 3), ``weights`` (..., N) non-negative. Returns scale
    (...,), R (..., 3, 3) and t (..., 3). With all weights zero the answer is meaningless.
    ``reflect`` lets R have determinant -1 where that fits better: a mirrored hand fits its
    original then, which only published evaluation code wants.
    """
    w = np.ones(source.shape[:-1]) if weights is None else np.asarray(weights, dtype=np.float64)
    w = (w / np.maximum(w.sum(-1, keepdims=True), 1e-12))[..., None]
    mean_s = (w * source).sum(-2, keepdims=True)
    mean_t = (w * target).sum(-2, keepdims=True)
    s, t = source - mean_s, target - mean_t
    covariance = np.swapaxes(w * t, -1, -2) @ s
    R = _nearest_orthogonal(covariance) if reflect else project_to_so3(covariance)
    rotated = s @ np.swapaxes(R, -1, -2)
    scale = np.ones(source.shape[:-2])
    if with_scale:
        scale = (w * rotated * t).sum((-1, -2)) / np.maximum((w * s * s).sum((-1, -2)), 1e-18)
    shift = mean_t[..., 0, :] - scale[..., None] * (R @ np.swapaxes(mean_s, -1, -2))[..., 0]
    return scale, R, shift


def _nearest_orthogonal(M: Array) -> Array:
    U, _, Vt = np.linalg.svd(M)
    return np.asarray(U @ Vt)
