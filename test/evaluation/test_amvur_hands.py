"""How covariances of whole hands are judged."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chi2

from hand_mesh_ros.evaluation.amvur_hands import judged


@pytest.mark.parametrize(("wider", "inside"), [(1.0, (68, 95)), (4.0, (16.9, 41.8))])
def test_true_covariances_are_told_from_small_ones(
    wider: float, inside: tuple[float, float]
) -> None:
    """Errors ``wider`` times as large in square as their covariances say."""
    squared = wider * chi2.rvs(3, size=(4000, 21), random_state=np.random.default_rng(1))
    told = judged(squared)
    assert told["coverage_68"] == pytest.approx(inside[0], abs=1)
    assert told["coverage_95"] == pytest.approx(inside[1], abs=1)
    assert told["nees"] == pytest.approx(wider, rel=0.03)
    assert told["nees_median"] == pytest.approx(wider, rel=0.03)
