"""Whether a covariance means something: NEES, coverage, likelihood, sparsification.

``error`` (..., 3) m is prediction minus truth, ``covariance`` (..., 3, 3) m^2; where either is not
finite, or the covariance not positive definite, all answers are NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import simpson
from scipy.stats import chi2, rankdata

Array = NDArray[np.float64]

LEVELS = (0.50, 0.68, 0.95)
_KEPT = np.arange(2, 101, 2) / 100  # shares of the most certain, of Hand-Uncertainty (BMVC 2025)


def nees(error: Array, covariance: Array) -> Array:
    """Normalised squared error ``e^T C^-1 e``, (...,): 3 in the mean if the covariance is true."""
    factor, usable = _cholesky(covariance, error)
    white = np.linalg.solve(factor, np.where(usable[..., None], error, 0.0)[..., None])[..., 0]
    return np.where(usable, np.square(white).sum(-1), np.nan)


def negative_log_likelihood(error: Array, covariance: Array, unit: float = 1e-3) -> Array:
    """Of a Gaussian, nats a point, (...,); densities are per ``unit`` metres cubed, so per mm^3."""
    factor, usable = _cholesky(covariance, error)
    diagonal = np.diagonal(factor, axis1=-2, axis2=-1)
    log_volume = np.log(diagonal).sum(-1) - 3 * np.log(unit)
    value = 0.5 * nees(error, covariance) + log_volume + 1.5 * np.log(2 * np.pi)
    return np.where(usable, value, np.nan)


def coverage(error: Array, covariance: Array, levels: Sequence[float] = LEVELS) -> Array:
    """Share (L,) of the errors inside the ellipsoids that should hold ``levels`` of them."""
    squared = nees(error, covariance)
    squared = squared[np.isfinite(squared)]
    if not squared.size:
        return np.full(len(levels), np.nan)
    return np.asarray((squared[:, None] <= chi2.ppf(np.asarray(levels), 3)).mean(0))


class Sparsification(NamedTuple):
    """Mean error of the most certain share ``kept`` (50,) of the points, and of the best share.

    ``ause`` is the area between both curves, in the unit of the error; 0 is a perfect order.
    """

    kept: Array
    by_uncertainty: Array
    by_error: Array
    ause: float


def sparsification(error: Array, uncertainty: Array) -> Sparsification:
    """Does the uncertainty rank the errors? Both (...,); shares of 2, 4, ... 100 %.

    AUSC and AUSE as Hand-Uncertainty (BMVC 2025) has them: Simpson's rule over the share kept,
    minus the same for an oracle that sorts by the error itself.
    """
    known = np.isfinite(error) & np.isfinite(uncertainty)
    error, uncertainty = error[known], uncertainty[known]
    if not error.size:
        nothing = np.full(_KEPT.shape, np.nan)
        return Sparsification(_KEPT, nothing, nothing, float("nan"))
    count = np.maximum(np.round(_KEPT * error.size).astype(int), 1)

    def kept_error(order: NDArray[np.int_]) -> Array:
        return np.asarray(np.cumsum(error[order])[count - 1] / count)

    ours = kept_error(np.argsort(uncertainty, kind="stable"))
    best = kept_error(np.argsort(error, kind="stable"))
    area = float(simpson(ours, x=_KEPT) - simpson(best, x=_KEPT))
    return Sparsification(_KEPT, ours, best, area)


def correlation(a: Array, b: Array, *, ranks: bool = False, clip: float = 0.0) -> float:
    """Pearson's correlation of two sets (...,), or with ``ranks`` Spearman's; NaN if undefined.

    ``clip``: the share at either end that each is clipped to first (0.01 is 1 to 99 %).
    """
    known = np.isfinite(a) & np.isfinite(b)
    pair = np.stack([a[known], b[known]])
    if pair.shape[1] < 2:
        return float("nan")
    if ranks:
        pair = np.stack([rankdata(row) for row in pair])
    if clip > 0:
        low, high = np.quantile(pair, [clip, 1 - clip], axis=1)
        pair = np.clip(pair, low[:, None], high[:, None])
    pair = pair - pair.mean(1, keepdims=True)
    size = np.linalg.norm(pair, axis=1).prod()
    return float((pair[0] * pair[1]).sum() / size) if size > 0 else float("nan")


def total_variance(covariance: Array) -> Array:
    """A point's uncertainty as one number: the sum of its variances, (...,) m^2."""
    return np.asarray(np.trace(covariance, axis1=-2, axis2=-1))


def _cholesky(covariance: Array, error: Array) -> tuple[Array, NDArray[np.bool_]]:
    """Lower factors (..., 3, 3), identity where not usable, and where they are usable (...,)."""
    finite = np.asarray(np.isfinite(covariance).all((-1, -2)) & np.isfinite(error).all(-1))
    safe = np.where(finite[..., None, None], covariance, np.eye(3))
    definite = np.linalg.eigvalsh(safe)[..., 0] > 0
    safe = np.where(definite[..., None, None], safe, np.eye(3))
    return np.linalg.cholesky(safe), finite & definite
