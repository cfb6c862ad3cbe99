"""Smoothness in time: acceleration and jitter of joints, from capture times."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# A run of samples is not differentiated across a gap of this many usual steps.
_GAP = 1.8


def derivative(joints: Array, stamps: Array, sequence: NDArray[np.int_], order: int) -> Array:
    """The ``order``-th derivative in time, (M, J, 3), at every run of ``order + 1`` samples.

    ``joints`` (N, J, 3) m and ``stamps`` (N,) s, ascending within each ``sequence`` (N,) of
    consecutive samples. Divided differences, so steps need not be equal; a run that crosses
    sequences, or a gap of more than 1.8 times the median step, is left out. NaN where a joint is.
    """
    count = len(joints) - order
    if count < 1:
        return np.zeros((0, *joints.shape[1:]))
    step = np.diff(stamps)
    same = np.diff(sequence) == 0
    if (step[same] <= 0).any():
        raise ValueError("stamps must ascend within a sequence; sort the samples by time")
    usual = np.median(step[same]) if same.any() else 0.0
    joined = same & (step <= _GAP * usual)
    whole = np.lib.stride_tricks.sliding_window_view(joined, order).all(-1)
    current = np.asarray(joints, dtype=np.float64)
    for k in range(1, order + 1):
        span = stamps[k:] - stamps[:-k]
        # Spans across sequences may be zero or negative; those runs are left out below.
        current = np.diff(current, axis=0) / np.where(span != 0, span, np.nan)[:, None, None]
    return math.factorial(order) * current[whole]


def acceleration_error(
    predicted: Array, true: Array, stamps: Array, sequence: NDArray[np.int_]
) -> Array:
    """Distance (M, J) of predicted and true accelerations, m/s^2 (Kanazawa et al. 2019)."""
    return np.asarray(np.linalg.norm(derivative(predicted - true, stamps, sequence, 2), axis=-1))


def acceleration(joints: Array, stamps: Array, sequence: NDArray[np.int_]) -> Array:
    """Size (M, J) of the joints' accelerations, m/s^2."""
    return np.asarray(np.linalg.norm(derivative(joints, stamps, sequence, 2), axis=-1))


def jitter(joints: Array, stamps: Array, sequence: NDArray[np.int_]) -> Array:
    """Size (M, J) of the joints' jerk, m/s^3: the third derivative of position.

    Papers call its mean jitter but differ in unit and in what is held to be a second, so that
    their figures are not comparable with each other.
    """
    return np.asarray(np.linalg.norm(derivative(joints, stamps, sequence, 3), axis=-1))
