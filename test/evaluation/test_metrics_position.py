"""Metrics in space against slow implementations written from the definitions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.linalg import orthogonal_procrustes

from hand_mesh_ros.evaluation.metrics import alignment, position

Array = NDArray[np.float64]
MIRROR = np.array([-1.0, 1.0, 1.0])


@pytest.fixture
def hands(rng: np.random.Generator) -> tuple[Array, Array]:
    """Predictions and truths (6, 21, 3): hands half a metre away, with 1 cm of noise."""
    true = rng.normal(0, 0.04, (6, 21, 3)) + [0.05, -0.02, 0.5]
    predicted = 1.1 * (true + rng.normal(0, 0.01, true.shape)) + [0.02, 0.0, -0.05]
    return predicted, true


def _slow_similarity(predicted: Array, true: Array, proper: bool) -> Array:
    """One hand, as the benchmarks' evaluation code defines it, or by Umeyama for ``proper``."""
    mean_true, mean_ours = true.mean(0), predicted.mean(0)
    a, b = true - mean_true, predicted - mean_ours
    if proper:
        U, S, Vt = np.linalg.svd(a.T @ b)
        D = np.diag([1.0, 1.0, np.sign(np.linalg.det(U @ Vt))])
        scale = np.trace(np.diag(S) @ D) / (b**2).sum()
        return scale * b @ (U @ D @ Vt).T + mean_true
    size_a, size_b = np.linalg.norm(a) + 1e-8, np.linalg.norm(b) + 1e-8
    R, scale = orthogonal_procrustes(a / size_a, b / size_b)
    return (b / size_b) @ R.T * scale * size_a + mean_true


@pytest.mark.parametrize("proper", [False, True])
@pytest.mark.parametrize("mirrored", [False, True])
def test_similarity_alignment_equals_the_slow_one(
    hands: tuple[Array, Array], proper: bool, mirrored: bool
) -> None:
    predicted, true = hands
    if mirrored:
        predicted = predicted * MIRROR
    fast = alignment.similarity_aligned(predicted, true, proper=proper)
    slow = np.stack([_slow_similarity(p, t, proper) for p, t in zip(predicted, true, strict=True)])
    np.testing.assert_allclose(fast, slow, atol=1e-12)


def test_a_mirrored_hand_is_perfect_for_the_benchmarks_only(hands: tuple[Array, Array]) -> None:
    _, true = hands
    mirrored = true * MIRROR
    benchmark = position.distances(alignment.similarity_aligned(mirrored, true), true)
    proper = position.distances(alignment.similarity_aligned(mirrored, true, proper=True), true)
    assert benchmark.max() < 1e-7
    assert proper.mean() > 0.01


def test_proper_alignment_equals_that_of_hamer(shared_data: Path) -> None:
    """HaMeR's own similarity alignment, which forces a rotation, on its published fixture."""
    io = np.load(shared_data / "parity" / "hamer_tiny_io.npz")
    ours, true = (io[f"metric.{name}"].astype(np.float64) for name in ("S1", "S2"))
    moved = alignment.similarity_aligned(ours, true, proper=True)
    np.testing.assert_allclose(moved, io["metric.S1_aligned"], atol=1e-6)
    found = 1e3 * position.by_sample(position.distances(moved, true))
    np.testing.assert_allclose(found, io["metric.pa_mpjpe_mm"], atol=1e-4)


def test_alignment_of_zeros_puts_all_points_at_the_centre(hands: tuple[Array, Array]) -> None:
    _, true = hands
    moved = alignment.similarity_aligned(np.zeros_like(true), true)
    np.testing.assert_allclose(moved, np.broadcast_to(true.mean(1, keepdims=True), true.shape))


def test_unknown_joints_take_no_part(hands: tuple[Array, Array]) -> None:
    predicted, true = hands
    true = true.copy()
    true[2, 5:9] = np.nan
    known = [*range(5), *range(9, 21)]
    errors = position.distances(alignment.similarity_aligned(predicted, true), true)
    moved = _slow_similarity(predicted[2, known], true[2, known], False)
    np.testing.assert_allclose(
        errors[2, known], np.linalg.norm(moved - true[2, known], axis=-1), atol=1e-12
    )
    assert np.isnan(errors[2, 5:9]).all()
    true[3] = np.nan
    assert np.isnan(alignment.similarity_aligned(predicted, true)[3]).all()


def test_scale_translation_and_n_mpjpe_by_hand(hands: tuple[Array, Array]) -> None:
    predicted, true = hands
    st = alignment.scale_translation_aligned(predicted, true)
    n = alignment.bone_normalised(predicted, true)
    for i in range(len(true)):
        ratio = np.linalg.norm(true[i, 9] - true[i, 0]) / np.linalg.norm(
            predicted[i, 9] - predicted[i, 0]
        )
        scaled = predicted[i] * ratio
        np.testing.assert_allclose(st[i], scaled - scaled[0] + true[i, 0], atol=1e-12)
        np.testing.assert_allclose(
            n[i], (predicted[i] - predicted[i, 9]) * ratio + true[i, 9], atol=1e-12
        )
    assert np.isnan(alignment.scale_translation_aligned(np.zeros_like(true), true)).all()


def test_root_relative_by_either_root(hands: tuple[Array, Array]) -> None:
    _, true = hands
    moved = alignment.root_relative(true + [0.1, 0.2, 0.3], true + [0.1, 0.2, 0.3], 9)
    np.testing.assert_allclose(moved, true - true[:, 9:10], atol=1e-15)


def _slow_auc(errors: Array, limit: float, steps: int) -> float:
    thresholds = np.linspace(0, limit, steps)
    areas = []
    for column in errors.T:
        share = [np.mean([e <= t for e in column]) for t in thresholds]
        area = sum(
            (share[i] + share[i + 1]) / 2 * (thresholds[i + 1] - thresholds[i])
            for i in range(steps - 1)
        )
        areas.append(area / limit)
    return float(np.mean(areas))


@pytest.mark.parametrize(("limit", "steps"), [(0.05, 100), (0.02, 20)])
def test_auc_equals_the_slow_one(rng: np.random.Generator, limit: float, steps: int) -> None:
    errors = rng.gamma(2.0, 0.01, (40, 21))
    assert position.area_under_pck(errors, limit, steps) == pytest.approx(
        _slow_auc(errors, limit, steps), abs=1e-12
    )


def test_auc_of_known_errors() -> None:
    assert position.area_under_pck(np.zeros((3, 21))) == pytest.approx(1.0)
    assert position.area_under_pck(np.full((3, 21), 0.06)) == 0.0
    # While no error passes 5 cm, AUC is 1 - mean / 50 mm, but for the width of one step.
    errors = np.random.default_rng(0).uniform(0, 0.02, (500, 21))
    assert position.area_under_pck(errors) == pytest.approx(1 - errors.mean() / 0.05, abs=0.006)


def test_means_go_over_samples_first() -> None:
    errors = np.array([[1.0, 4.0], [3.0, np.nan]])
    assert position.mean_error(errors) == pytest.approx(3.0)  # not (1 + 4 + 3) / 3
    np.testing.assert_allclose(position.by_sample(errors), [2.5, 3.0])
    assert np.isnan(position.mean_error(np.full((2, 3), np.nan)))


def test_f_scores_equal_the_slow_ones(rng: np.random.Generator) -> None:
    true = rng.normal(0, 0.02, (3, 90, 3))
    predicted = rng.normal(0, 0.02, (3, 60, 3))  # other vertices: F-scores need no counterparts
    thresholds = (0.005, 0.015)
    fast = position.f_scores(predicted, true, thresholds)
    for i in range(3):
        apart = np.linalg.norm(predicted[i][:, None] - true[i][None], axis=-1)
        for j, threshold in enumerate(thresholds):
            p = (apart.min(1) < threshold).mean()
            r = (apart.min(0) < threshold).mean()
            assert fast[i, j] == pytest.approx(2 * p * r / (p + r) if p + r else 0.0, abs=1e-12)


def test_f_scores_at_the_ends(rng: np.random.Generator) -> None:
    mesh = rng.normal(0, 0.02, (1, 50, 3))
    np.testing.assert_allclose(position.f_scores(mesh, mesh, (0.005, 0.015)), 1.0)
    np.testing.assert_allclose(position.f_scores(mesh + 1.0, mesh, (0.005, 0.015)), 0.0)
    # A distance that equals the threshold is not within it.
    one, other = np.zeros((1, 1, 3)), np.array([[[0.5, 0.0, 0.0]]])
    assert position.f_scores(one, other, (0.5,))[0, 0] == 0.0
    assert np.isnan(position.f_scores(one * np.nan, other, (0.5,))).all()
