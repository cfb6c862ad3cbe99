"""Identity: numbers stay with their hands and are never given twice."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from hand_mesh_ros.hand.model import HandModel, load_hand_model
from hand_mesh_ros.perception.track import Tracker, TrackSettings
from hand_mesh_ros.types import SIDES, HandEstimate, ManoParameters, Side

MS = 1_000_000
PERIOD = 33 * MS
START = 1_763_700_000 * 10**9


def estimate(place: np.ndarray, side: Side = "right") -> HandEstimate:
    """A hand whose 21 joints lie around ``place``; only joints matter to a tracker."""
    spread = np.random.default_rng(3).normal(0, 0.04, (21, 3))
    zeros = (np.zeros(n) for n in (3, 45, 10, 3))
    return HandEstimate(
        side=side,
        joints=place + spread - spread.mean(0),
        covariance=np.zeros((21, 3, 3)),
        wrist=np.eye(4),
        wrist_covariance=np.zeros((6, 6)),
        mano=ManoParameters("none", side, *zeros),
        confidence=1.0,
        side_confidence=1.0,
        joint_confidence=np.ones(21),
        visibility=np.ones(21),
        residual_px=np.zeros((1, 21)),
        view_indices=(0,),
        scale_source="multi_view",
    )


def step(tracker: Tracker, places: list[Any], stamp_ns: int) -> list[int]:
    """One instant with hands at these places; the number each got."""
    estimates = [estimate(np.array(place, dtype=float)) for place in places]
    tracks = tracker.live(stamp_ns)
    expected = [tracker.moving(track, stamp_ns).joints.mean(0) for track in tracks]
    distance = np.array(
        [[np.linalg.norm(e.joints.mean(0) - x) for x in expected] for e in estimates]
    ).reshape(len(estimates), len(tracks))
    matched = tracker.match(distance, np.full(len(estimates), 0.9), tracks, stamp_ns)
    hands = tracker.update(
        [(e, t, 1.0) for e, t in zip(estimates, matched, strict=True)], stamp_ns
    )
    return [hand.track_id for hand in hands]


def test_numbers_stay_with_hands_in_any_order() -> None:
    tracker = Tracker(TrackSettings())
    assert step(tracker, [[0, 0, 0], [0.3, 0, 0]], START) == [1, 2]
    assert step(tracker, [[0.3, 0.02, 0], [0, 0.02, 0]], START + PERIOD) == [2, 1]
    assert [t.hand.age for t in tracker.tracks] == [2, 2]


def test_hands_that_pass_each_other_keep_their_numbers() -> None:
    """At 1 m/s, 8 cm apart at the closest: where they are going tells them apart."""
    tracker = Tracker(TrackSettings())
    for k in range(31):
        x = -0.5 + k / 30
        numbers = step(tracker, [[x, 0.04, 0], [-x, -0.04, 0]], START + k * PERIOD)
        assert numbers == [1, 2], k


@pytest.mark.parametrize("missed", [1, 5, 10])
def test_a_short_absence_is_bridged(missed: int) -> None:
    tracker = Tracker(TrackSettings(max_gap=0.5))
    for k in range(5):
        step(tracker, [[0.01 * k, 0, 0]], START + k * PERIOD)
    for k in range(missed):
        assert step(tracker, [], START + (5 + k) * PERIOD) == []
    back = START + (5 + missed) * PERIOD
    assert step(tracker, [[0.01 * (5 + missed), 0, 0]], back) == [1]


def test_after_a_long_absence_it_is_another_hand() -> None:
    tracker = Tracker(TrackSettings(max_gap=0.5))
    step(tracker, [[0, 0, 0]], START)
    assert len(tracker.live(START + 500 * MS)) == 1
    assert tracker.live(START + 501 * MS) == []
    assert step(tracker, [[0, 0, 0]], START + 501 * MS) == [2]


def test_a_hand_names_the_calibration_of_its_newest_measurement() -> None:
    """Filtered, predicted, and while it is not seen."""
    models: dict[Side, HandModel] = {side: load_hand_model(side=side) for side in SIDES}
    tracker = Tracker(TrackSettings(), models)
    for k, name in enumerate(["network", "network", "landmarks"]):
        stamp = START + k * PERIOD
        measured = replace(
            estimate(np.zeros(3)), covariance=np.tile(1e-4 * np.eye(3), (21, 1, 1)),
            wrist_covariance=1e-4 * np.eye(6), calibration=name,
        )  # fmt: skip
        track = next(iter(tracker.live(stamp)), None)
        (hand,) = tracker.update([(measured, track, 1.0)], stamp, ahead=0.02)
        assert hand.ahead == 0.02 and hand.estimate.calibration == name
        assert hand.track_id == 1 and tracker.tracks[0].state is not None
    (unseen,) = tracker.coasting((), stamp + PERIOD)
    assert unseen.extrapolated and unseen.estimate.calibration == "landmarks"


def test_a_hand_elsewhere_is_another_hand() -> None:
    tracker = Tracker(TrackSettings())
    step(tracker, [[0, 0, 0]], START)
    assert step(tracker, [[0.5, 0, 0]], START + PERIOD) == [2]
    assert step(tracker, [[0, 0, 0], [0.5, 0, 0]], START + 2 * PERIOD) == [1, 2]


def test_numbers_are_never_given_twice() -> None:
    tracker, rng = Tracker(TrackSettings(max_gap=0.1)), np.random.default_rng(1)
    ended: set[int] = set()
    alive: set[int] = set()
    for k in range(200):
        if k % 50 == 49:
            tracker.reset()
            ended |= alive
            alive = set()
        places = rng.uniform(-2, 2, (int(rng.integers(0, 4)), 3))
        numbers = set(step(tracker, list(places), START + k * PERIOD))
        assert not numbers & ended
        live = {t.hand.track_id for t in tracker.tracks}
        ended |= alive - live
        alive = live
    assert len(ended) > 100


def test_prediction_moves_on_but_not_away() -> None:
    tracker = Tracker(TrackSettings())
    for k in range(20):
        step(tracker, [[0.01 * k, 0, 0]], START + k * PERIOD)
    (track,) = tracker.tracks
    stamp = START + 19 * PERIOD
    speed = 0.01 / (PERIOD * 1e-9)
    here = tracker.moving(track, stamp).joints.mean(0)
    ahead = tracker.moving(track, stamp + PERIOD).joints.mean(0) - here
    np.testing.assert_allclose(ahead, [speed * PERIOD * 1e-9, 0, 0], atol=1e-4)
    far = tracker.moving(track, stamp + 10**10).joints.mean(0) - here
    assert far[0] <= speed * 0.2 + 1e-6
