"""How sure the landmark backend is of its hands, and what a track makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from hand_mesh_ros.evaluation.bench_recordings import Seen, Trial, promises
from hand_mesh_ros.hand.landmarks import load_landmark_model
from hand_mesh_ros.hand.model import HandModel, load_hand_model
from hand_mesh_ros.perception import landmark_fit
from hand_mesh_ros.perception.estimate import HandViews, times_covariance
from hand_mesh_ros.perception.landmark_fit import LandmarkFit, reprojection_misfit
from hand_mesh_ros.perception.track import Tracker, TrackSettings
from hand_mesh_ros.types import SIDES, HandEstimate, Side, View

MODELS: dict[Side, HandModel] = {side: load_hand_model(side=side) for side in SIDES}
MS = 1_000_000


def made(views: tuple[View, ...]) -> HandEstimate:
    (estimate,) = LandmarkFit(MODELS).estimate([HandViews(views, right_votes=9.0)])
    assert estimate is not None
    return estimate


def seen(scene: Any, count: int, noise: float = 1.5) -> tuple[View, ...]:
    rng = np.random.default_rng(1)
    hand = scene.hand(rng, "right")
    return tuple(
        replace(scene.view(hand, i, camera, rng, noise), sigma=np.full(21, 1.5))
        for i, camera in enumerate(scene.cameras(count))
    )


@pytest.mark.parametrize("count", [1, 3])
def test_landmarks_that_fit_a_hand_badly_make_it_less_sure(
    scene: Any, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In proportion to their misfit, by the factor of one view or of several."""
    views = seen(scene, count)
    estimate = made(views)
    factor = load_landmark_model().misfit[count > 1]
    wanted = factor * reprojection_misfit(estimate, views)
    assert estimate.widened == pytest.approx(wanted) and factor > 5
    rng = np.random.default_rng(2)
    worse = made(tuple(replace(v, uv=v.uv + rng.normal(0, 3.0, (21, 2))) for v in views))
    assert worse.widened > 1.5 * estimate.widened
    assert worse.calibration == estimate.calibration != ""
    alone = replace(load_landmark_model(), misfit=(0.0, 0.0))
    monkeypatch.setattr(landmark_fit, "load_landmark_model", lambda: alone)
    plain = made(views)
    for name in ("covariance", "wrist_covariance"):
        np.testing.assert_allclose(getattr(estimate, name), wanted * getattr(plain, name))


def test_nothing_makes_a_hand_surer(scene: Any) -> None:
    """Landmarks that agree perfectly leave the covariance of the fit as it is."""
    views = seen(scene, 3, noise=0.01)
    sharp = made(views)
    assert reprojection_misfit(sharp, views) < 0.02
    assert sharp.widened == 1.0


def test_what_lasts_is_published_and_not_averaged_away(scene: Any) -> None:
    """A wider covariance by errors that stay neither slows a track down nor shrinks with time."""
    hand = made(seen(scene, 3))
    narrow = replace(
        hand, covariance=hand.covariance / hand.widened,
        wrist_covariance=hand.wrist_covariance / hand.widened, widened=1.0,
    )  # fmt: skip
    wide = replace(
        narrow, covariance=9 * narrow.covariance, wrist_covariance=9 * narrow.wrist_covariance,
        widened=9.0,
    )  # fmt: skip
    rng = np.random.default_rng(3)
    shifts = 0.01 * np.arange(20)[:, None] * [1.0, 0, 0] + rng.normal(0, 0.001, (20, 3))

    def tracked(estimate: HandEstimate) -> list[HandEstimate]:
        tracker, out = Tracker(TrackSettings(), MODELS), []
        for k, shift in enumerate(shifts):
            wrist = estimate.wrist.copy()
            wrist[:3, 3] += shift
            mano = replace(estimate.mano, transl=estimate.mano.transl + shift)
            moved = replace(estimate, joints=estimate.joints + shift, wrist=wrist, mano=mano)
            track = tracker.tracks[0] if tracker.tracks else None
            out.append(tracker.update([(moved, track, 1.0)], k * 33 * MS)[0].estimate)
        return out

    for a, b in zip(tracked(narrow), tracked(wide), strict=True):
        np.testing.assert_allclose(a.joints, b.joints, atol=1e-9)
    ratio = np.trace(b.wrist_covariance[:3, :3]) / np.trace(a.wrist_covariance[:3, :3])
    assert 7 < ratio < 11


def test_views_that_promise_too_much_are_found_out(scene: Any) -> None:
    """`bench solver --recordings`: two views against two, and one against three."""

    class TooSure(LandmarkFit):
        def estimate(self, hands: Sequence[HandViews]) -> list[HandEstimate | None]:
            found = super().estimate(hands)
            return [None if e is None else times_covariance(e, 1e-3) for e in found]

    hands = [Seen("right", seen(scene, 4)), Seen("right", seen(scene, 3))]
    honest = promises([Trial(hands, LandmarkFit(MODELS))])
    assert set(honest) == {f"{n}_inside_{p}" for n in ("one_view", "two_views") for p in (68, 95)}
    assert min(honest.values()) > 60
    assert max(promises([Trial(hands, TooSure(MODELS))]).values()) < 40
