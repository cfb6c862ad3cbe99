"""Joints of several views, each with its covariance, made one; a view that errs badly counts less.

`fuse.fuse_points` takes covariances at their word. A network's errors have longer tails than a
Gaussian: here they are a multivariate t's, whose weights fall with the distance from the answer.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_FREEDOM: Final = 3.0
_ROUNDS: Final = 6


def fuse_robust(
    points: Array, covariance: Array, common: float = 0.0, freedom: float = _FREEDOM
) -> tuple[Array, Array]:
    """Fused points (N, D) and covariance (N, D, D) of V views' points (V, N, D), in one frame.

    ``covariance`` (V, N, D, D), one each; ``common``: one sigma, m, of an error that is the same
    in all views and is in none of the covariances. ``freedom`` of the t, large for a Gaussian's
    weights. Each point is weighted by itself: a view may be wrong about one finger only.
    Method: iteratively reweighted least squares, weights (v + D) / (v + d^2).
    """
    size = points.shape[-1]
    information = np.linalg.inv(covariance)
    weight = np.ones(points.shape[:-1])
    for _ in range(_ROUNDS):
        weighted = weight[..., None, None] * information
        total = np.linalg.inv(weighted.sum(0))
        mean = (total @ (weighted @ points[..., None]).sum(0))[..., 0]
        gap = points - mean
        squared = np.einsum("vni,vnij,vnj->vn", gap, information, gap)
        weight = (freedom + size) / (freedom + squared)
    # views that happen to agree are no surer than they say
    believed = np.minimum(weight, 1.0)[..., None, None] * information
    return mean, np.linalg.inv(believed.sum(0)) + common**2 * np.eye(size)
