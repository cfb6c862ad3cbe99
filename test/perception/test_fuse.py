"""Fusion: full covariances, errors in common, contradictions; a real backend, view by view."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from hand_mesh_ros.hand.model import HandModel, load_hand_model
from hand_mesh_ros.hand.shape import bone_lengths
from hand_mesh_ros.perception.estimate import HandViews
from hand_mesh_ros.perception.fuse import (
    FuseSettings,
    PerView,
    consistent,
    fuse_estimates,
    fuse_points,
    fused,
)
from hand_mesh_ros.perception.landmark_fit import LandmarkFit
from hand_mesh_ros.types import SIDES, HandEstimate, Side

DRAWS = 20_000


class OneViewFit(LandmarkFit):
    """The landmark backend, allowed one view only."""

    single_view = True

    def estimate(self, hands: Sequence[HandViews]) -> list[HandEstimate | None]:
        assert all(len(hand.views) == 1 for hand in hands)
        return super().estimate(hands)


@pytest.fixture(scope="module")
def models() -> dict[Side, HandModel]:
    return {side: load_hand_model(side=side) for side in SIDES}


def cigars(rng: np.random.Generator) -> np.ndarray:
    """Covariances (3, DRAWS, 3, 3) of views at 0, 60 and 120 degrees, at times occluded."""
    out = []
    for angle in np.deg2rad([0.0, 60, 120]):
        ray = np.array([np.cos(angle), np.sin(angle), 0])
        clear = 0.004**2 * np.eye(3) + (0.015**2 - 0.004**2) * np.outer(ray, ray)
        out.append(np.where(rng.random(DRAWS) < 0.3, 16.0, 1.0)[:, None, None] * clear)
    return np.stack(out)


def drawn(rng: np.random.Generator, covariance: np.ndarray) -> np.ndarray:
    shape = (*covariance.shape[:-1], 1)
    return (np.linalg.cholesky(covariance) @ rng.normal(size=shape))[..., 0]


def nees(error: np.ndarray, covariance: np.ndarray) -> float:
    return float((error * np.linalg.solve(covariance, error[..., None])[..., 0]).mean())


def test_full_covariances_beat_means(rng: np.random.Generator) -> None:
    covariance = cigars(rng)
    points = drawn(rng, covariance)
    mean, spread = fuse_points(points, covariance, 0.0)
    error = np.linalg.norm(mean, axis=-1).mean()
    weight = 1 / np.trace(covariance, axis1=-2, axis2=-1)[..., None]
    scalar = np.linalg.norm((weight * points).sum(0) / weight.sum(0), axis=-1).mean()
    assert error < 0.7 * scalar < 0.7 * np.linalg.norm(points.mean(0), axis=-1).mean()
    assert 0.97 < nees(mean, spread) < 1.03
    inside = (mean * np.linalg.solve(spread, mean[..., None])[..., 0]).sum(-1) < 7.815
    assert 0.94 < inside.mean() < 0.96


def test_an_error_in_common_is_not_averaged_away(rng: np.random.Generator) -> None:
    covariance = cigars(rng)
    points = drawn(rng, covariance) + rng.normal(0, 0.005, (DRAWS, 3))
    mean, spread = fuse_points(points, covariance, 0.005)
    assert 0.97 < nees(mean, spread) < 1.03
    assert nees(mean, fuse_points(points, covariance, 0.0)[1]) > 2.5


def test_a_view_that_contradicts_two_others_is_left_out(rng: np.random.Generator) -> None:
    covariance = np.tile(1e-5 * np.eye(3), (4, 21, 1, 1))
    points = rng.normal(0, 0.05, (21, 3)) + drawn(rng, covariance)
    assert consistent(points, covariance, 4.0).all()
    points[2] += [0.03, 0, 0]
    assert consistent(points, covariance, 4.0).tolist() == [True, True, False, True]
    # Of two that contradict each other, neither is known to be wrong.
    assert consistent(points[1:3], covariance[1:3], 4.0).all()
    # Nor can two pairs say which pair is.
    points[3] += [0.03, 0, 0]
    assert consistent(points, covariance, 4.0).sum() >= 2


@pytest.mark.parametrize("seed", range(4))
def test_single_views_fused_are_near_the_truth(
    scene: Any, models: dict[Side, HandModel], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    hand = scene.hand(rng, SIDES[seed % 2])
    views = tuple(scene.view(hand, i, c, rng) for i, c in enumerate(scene.cameras(3)))
    backend = fused(OneViewFit(models))
    (estimate,) = backend.estimate([HandViews(views)])
    assert isinstance(backend, PerView) and estimate is not None
    assert estimate.side == hand.side
    assert estimate.view_indices == (0, 1, 2)
    assert estimate.residual_px.shape == (3, 21)
    assert estimate.scale_source == "multi_view"
    singles = OneViewFit(models).estimate([HandViews((view,)) for view in views])
    error = [
        np.linalg.norm(e.joints - hand.joints, axis=-1).mean()
        for e in (estimate, *singles)
        if e is not None
    ]
    assert error[0] < 0.6 * np.mean(error[1:])
    assert error[0] < 0.02
    gap = estimate.joints - hand.joints
    assert nees(gap, estimate.covariance) < 4
    # It is a hand: its bones are those of its shape.
    model = models[estimate.side]
    lengths = bone_lengths(model, estimate.mano.betas, np.eye(10))[0]
    assert np.linalg.norm(estimate.joints[9] - estimate.joints[0]) == pytest.approx(lengths[8])


def test_a_hand_of_one_view_and_one_that_nobody_believes(
    scene: Any, models: dict[Side, HandModel], rng: np.random.Generator
) -> None:
    hand = scene.hand(rng, "right")
    views = [scene.view(hand, i, c, rng) for i, c in enumerate(scene.cameras(2))]
    nonsense = replace(views[1], uv=rng.uniform(0, 400, (21, 2)))
    backend = fused(OneViewFit(models))
    alone, none, both = backend.estimate(
        [HandViews((views[0],)), HandViews((nonsense,)), HandViews((views[0], nonsense))]
    )
    assert alone is not None and alone.view_indices == (0,)
    assert none is None
    assert both is not None and both.view_indices == (0,)


def test_a_fused_hand_tells_what_was_measured_of_all_its_views(
    scene: Any, models: dict[Side, HandModel], rng: np.random.Generator
) -> None:
    """Their calibrations, and how much of their errors lasts."""
    hand = scene.hand(rng, "right")
    views = [scene.view(hand, i, c, rng) for i, c in enumerate(scene.cameras(2))]
    first, second = OneViewFit(models).estimate([HandViews((view,)) for view in views])
    assert first is not None and second is not None and first.calibration
    assert first.widened != second.widened

    def of(one: str, other: str) -> str:
        made = [
            (view, replace(e, calibration=name))
            for view, e, name in zip(views, (first, second), (one, other), strict=True)
        ]
        found = fuse_estimates(made, models, FuseSettings())
        assert found.view_indices == (0, 1)
        assert found.widened == pytest.approx((first.widened + second.widened) / 2)
        return found.calibration

    assert of("renders", "renders") == "renders"
    assert of("renders", "landmarks") == "renders & landmarks"
    assert of("renders", "") == of("", "renders") == ""


def test_a_backend_of_many_views_is_left_alone(models: dict[Side, HandModel]) -> None:
    backend = LandmarkFit(models)
    assert fused(backend) is backend
