"""Distances of points in space: mean errors, area under the PCK curve, F-scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

Array = NDArray[np.float64]

AUC_LIMIT, AUC_STEPS = 0.05, 100
"""FreiHAND's, HO3D's and DexYCB's thresholds: 100 from 0 to 50 mm. POEM's are 20 to 20 mm."""


def distances(predicted: Array, true: Array) -> Array:
    """Euclidean distances (N, P) of points (N, P, D), in their unit; NaN where one is unknown."""
    return np.asarray(np.linalg.norm(predicted - true, axis=-1))


def mean_error(errors: Array) -> float:
    """Mean over samples for each point, then over points: the benchmarks' order of means.

    ``errors`` (N, P); NaN takes no part. The order matters only where points are unknown.
    """
    return mean_of(_by_point(errors))


def mean_of(values: Array) -> float:
    """The mean of what is finite; NaN of nothing."""
    values = values[np.isfinite(values)]
    return float(values.mean()) if values.size else float("nan")


def by_sample(errors: Array) -> Array:
    """Mean error of each sample, (N,), of errors (N, P)."""
    return _by_point(errors.T)


def _by_point(errors: Array) -> Array:
    known = np.isfinite(errors)
    total = np.where(known, errors, 0.0).sum(0)
    count = known.sum(0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def pck_curve(
    errors: Array, limit: float = AUC_LIMIT, steps: int = AUC_STEPS
) -> tuple[Array, Array]:
    """Thresholds (steps,) from 0 to ``limit`` and the share of points within each (``<=``).

    The share is taken for each point of errors (N, P), then averaged over the points.
    """
    thresholds = np.linspace(0.0, limit, steps)
    columns = [np.sort(column[np.isfinite(column)]) for column in errors.T]
    shares = [np.searchsorted(c, thresholds, "right") / c.size for c in columns if c.size]
    return thresholds, np.mean(shares, axis=0) if shares else np.full(steps, np.nan)


def area_under_pck(errors: Array, limit: float = AUC_LIMIT, steps: int = AUC_STEPS) -> float:
    """Area under `pck_curve` by the trapezoidal rule, over that of a perfect one: in [0, 1]."""
    thresholds, share = pck_curve(errors, limit, steps)
    between = 0.5 * (share[1:] + share[:-1])
    return float((between * np.diff(thresholds)).sum() / limit)


def f_scores(predicted: Array, true: Array, thresholds: Sequence[float]) -> Array:
    """F-scores (N, T) of meshes (N, V, 3) and (N, W, 3), which need not have the same vertices.

    Precision is the share of predicted vertices whose nearest true one is nearer than the
    threshold (strictly), recall the same the other way; ``F = 2PR / (P + R)``, 0 where both are
    (Knapitsch et al. 2017, as FreiHAND's evaluation uses it). NaN for meshes that are not finite.
    """
    out = np.full((len(true), len(thresholds)), np.nan)
    limits = np.asarray(thresholds)
    for i, (ours, theirs) in enumerate(zip(predicted, true, strict=True)):
        if np.isfinite(ours).all() and np.isfinite(theirs).all():
            there, back = _within(ours, theirs, limits), _within(theirs, ours, limits)
            total = there + back
            out[i] = np.where(total > 0, 2 * there * back / np.where(total > 0, total, 1.0), 0.0)
    return out


def _within(points: Array, others: Array, limits: Array) -> Array:
    # What is farther than the largest threshold need not be found: that is what makes it fast.
    nearest, _ = cKDTree(others).query(points, distance_upper_bound=float(limits.max()))
    return np.asarray((nearest[:, None] < limits).mean(0))
