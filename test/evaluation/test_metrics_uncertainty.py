"""Uncertainty, motion and occlusion: draws whose answer is known, and cases by hand."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.integrate import simpson
from scipy.stats import multivariate_normal, pearsonr, spearmanr

from hand_mesh_ros.evaluation.metrics import motion, occlusion
from hand_mesh_ros.evaluation.metrics import uncertainty as unsure

Array = NDArray[np.float64]


@pytest.fixture
def draws(rng: np.random.Generator) -> tuple[Array, Array]:
    """Errors (4000, 3) drawn from their own covariances (4000, 3, 3), sigmas of 1 to 30 mm."""
    root = rng.normal(0, 1, (4000, 3, 3)) * rng.uniform(0.001, 0.015, (4000, 1, 1))
    covariance = root @ np.swapaxes(root, -1, -2) + 1e-6 * np.eye(3)
    factor = np.linalg.cholesky(covariance)
    return (factor @ rng.normal(size=(4000, 3, 1)))[..., 0], covariance


def test_nees_and_likelihood_equal_the_slow_ones(draws: tuple[Array, Array]) -> None:
    error, covariance = draws[0][:50], draws[1][:50]
    slow = [e @ np.linalg.inv(C) @ e for e, C in zip(error, covariance, strict=True)]
    np.testing.assert_allclose(unsure.nees(error, covariance), slow, rtol=1e-9)
    density = [
        -multivariate_normal.logpdf(1e3 * e, cov=1e6 * C)
        for e, C in zip(error, covariance, strict=True)
    ]
    found = unsure.negative_log_likelihood(error, covariance)
    np.testing.assert_allclose(found, density, rtol=1e-9)


def test_honest_covariances_are_recognised(draws: tuple[Array, Array]) -> None:
    error, covariance = draws
    assert unsure.nees(error, covariance).mean() / 3 == pytest.approx(1.0, abs=0.05)
    shares = unsure.coverage(error, covariance)
    np.testing.assert_allclose(shares, unsure.LEVELS, atol=0.03)
    boastful = unsure.coverage(error, covariance / 9)
    assert (boastful < np.array(unsure.LEVELS) - 0.2).all()
    honest = unsure.negative_log_likelihood(error, covariance).mean()
    for factor in (0.25, 4.0):
        assert unsure.negative_log_likelihood(error, factor * covariance).mean() > honest


def test_what_is_no_covariance_is_unknown() -> None:
    covariance = np.stack([np.eye(3), np.full((3, 3), np.nan), np.zeros((3, 3)), -np.eye(3)])
    values = unsure.nees(np.ones((4, 3)), covariance)
    assert values[0] == pytest.approx(3.0)
    assert np.isnan(values[1:]).all()
    assert np.isnan(unsure.negative_log_likelihood(np.ones((4, 3)), covariance)[1:]).all()
    assert np.isnan(unsure.coverage(np.full((1, 3), np.nan), covariance[:1])).all()


def _slow_ausc(error: Array, key: Array) -> float:
    order = sorted(range(len(error)), key=lambda i: key[i])
    means = []
    for percent in range(2, 101, 2):
        kept = order[: max(int(round(percent / 100 * len(error))), 1)]
        means.append(sum(error[i] for i in kept) / len(kept))
    return float(simpson(means, x=np.arange(0.02, 1.001, 0.02)))


def test_ause_equals_the_slow_one_and_knows_an_oracle(rng: np.random.Generator) -> None:
    sigma = rng.uniform(0.002, 0.03, 700)
    error = np.abs(rng.normal(0, sigma))
    found = unsure.sparsification(error, sigma**2)
    slow = _slow_ausc(error, sigma) - _slow_ausc(error, error)
    assert found.ause == pytest.approx(slow, abs=1e-12)
    assert unsure.sparsification(error, error).ause == pytest.approx(0.0, abs=1e-15)
    assert found.ause < unsure.sparsification(error, -sigma).ause
    assert found.by_error[-1] == pytest.approx(error.mean())


def test_correlations_equal_those_of_scipy(rng: np.random.Generator) -> None:
    a = rng.normal(size=200)
    b = a + rng.normal(size=200)
    b[5] = np.nan
    known = np.isfinite(b)
    assert unsure.correlation(a, b) == pytest.approx(pearsonr(a[known], b[known])[0])
    ranked = unsure.correlation(a, b, ranks=True)
    assert ranked == pytest.approx(spearmanr(a[known], b[known])[0])
    spoilt = a.copy()
    spoilt[0] = 1e6
    assert unsure.correlation(a, spoilt) < 0.9 < unsure.correlation(a, spoilt, clip=0.01)
    assert np.isnan(unsure.correlation(a, np.ones(200)))


def test_motion_of_polynomials_by_hand(rng: np.random.Generator) -> None:
    """x = t^3 + 2 t^2 at uneven times: jerk 6 everywhere, mean acceleration of a run exact."""
    stamps = np.cumsum(rng.uniform(0.02, 0.04, 30))
    joints = np.zeros((30, 21, 3))
    joints[..., 0] = (stamps**3 + 2 * stamps**2)[:, None]
    sequence = np.zeros(30, dtype=int)
    np.testing.assert_allclose(motion.jitter(joints, stamps, sequence), 6.0, rtol=1e-6)
    expected = 4 + 6 * (stamps[:-2] + stamps[1:-1] + stamps[2:]) / 3
    found = motion.acceleration(joints, stamps, sequence)
    np.testing.assert_allclose(found, np.tile(expected[:, None], 21), rtol=1e-6)
    moved = joints + 5 * stamps[:, None, None]  # a velocity is no error of acceleration
    assert motion.acceleration_error(moved, joints, stamps, sequence).max() < 1e-6


def test_motion_stops_at_gaps_and_between_sequences() -> None:
    stamps = np.array([0.0, 0.1, 0.2, 0.3, 0.9, 1.0, 1.1, 0.0, 0.1, 0.2])
    sequence = np.array([0] * 7 + [1] * 3)
    joints = np.random.default_rng(0).normal(size=(10, 21, 3))
    assert len(motion.acceleration(joints, stamps, sequence)) == 2 + 1 + 1
    assert len(motion.jitter(joints, stamps, sequence)) == 1
    assert len(motion.jitter(joints[:2], stamps[:2], sequence[:2])) == 0
    with pytest.raises(ValueError, match="ascend"):
        motion.jitter(joints, stamps[::-1], np.zeros(10, dtype=int))


def test_occlusion_bins() -> None:
    share = np.array([0.0, 0.2499, 0.25, 0.5, 0.74, 0.75, 1.0, np.nan])
    np.testing.assert_array_equal(occlusion.bin_of(share), [0, 0, 1, 2, 2, 3, 3, -1])
    np.testing.assert_array_equal(
        occlusion.globally_occluded(np.array([0.39, 0.4])), [True, False]
    )
    visibility = np.full((2, 21), np.nan)
    visibility[0, :4] = [1, 1, 0, 1]
    np.testing.assert_allclose(occlusion.visible_share(visibility), [0.75, np.nan])
