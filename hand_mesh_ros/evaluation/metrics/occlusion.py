"""Errors by how much of the hand is seen."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

EDGES = (0.25, 0.5, 0.75)
"""Of UniHOPE's and SiMA-Hand's bins of the visible share of the hand."""
BINS = ("0-25 %", "25-50 %", "50-75 %", "75-100 %")


def bin_of(visible_share: Array) -> NDArray[np.int_]:
    """Bin 0 to 3 of visible shares (N,): an edge belongs to the bin above; -1 where unknown."""
    bins = np.digitize(visible_share, EDGES)
    return np.where(np.isfinite(visible_share), bins, -1)


def visible_share(visibility: Array) -> Array:
    """Share (N,) of a hand's joints that are visible, of visibilities (N, 21) in [0, 1].

    For want of masks; joints out of the image or unknown (NaN) do not count. NaN if none does.
    """
    known = np.isfinite(visibility)
    count = known.sum(-1)
    total = np.where(known, visibility, 0.0).sum(-1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def globally_occluded(visible: Array) -> NDArray[np.bool_]:
    """H2ONet's label of a frame: less than 40 % of the hand's mask is visible."""
    return np.asarray(visible < 0.40)
