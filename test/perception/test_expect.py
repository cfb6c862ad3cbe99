"""What tracks let expect of frames, and landmarks that are brought to the set's time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hand_mesh_ros.geometry.cameras import project
from hand_mesh_ros.hand.model import load_hand_model
from hand_mesh_ros.perception.estimate import HandViews
from hand_mesh_ros.perception.expect import Expectation, expect
from hand_mesh_ros.perception.landmark_fit import LandmarkFit
from hand_mesh_ros.perception.track import Tracker, TrackSettings
from hand_mesh_ros.types import SIDES, Camera, Frame

PERIOD = 33_333_333
START = 1_763_700_000_000_000_001
BLANK = np.zeros((1, 1, 3), np.uint8)
SPEED = np.array([0.0, 0.5, 0.0])


class Moving:
    """A tracker that has watched a hand go at half a metre a second."""

    def __init__(self, scene: Any, count: int) -> None:
        models = {side: load_hand_model(side=side) for side in SIDES}
        self.cameras: tuple[Camera, ...] = scene.cameras(count)
        self.scene, self.rng = scene, np.random.default_rng(2)
        self.hand = scene.hand(np.random.default_rng(5), "right")
        self.tracker = Tracker(TrackSettings(), models)
        backend = LandmarkFit(models)
        track = None
        for k in range(12):
            stamp = START + k * PERIOD
            hand = self.at(stamp)
            views = [scene.view(hand, i, c, self.rng, 1.0) for i, c in enumerate(self.cameras)]
            (estimate,) = backend.estimate([HandViews(tuple(views))])
            assert estimate is not None
            self.tracker.update([(estimate, track, 3.0)], stamp)
            (track,) = self.tracker.tracks
        self.stamp = START + 12 * PERIOD

    def at(self, stamp_ns: int) -> Any:
        away = (stamp_ns - START) * 1e-9 - 0.2
        return self.hand.at(self.scene.centre + away * SPEED)

    def expected(self, late: dict[int, float]) -> Expectation:
        """Frames at the set's time, but for those that are so many seconds older."""
        frames = [
            Frame(c, self.stamp - round(late.get(i, 0.0) * 1e9), BLANK)
            for i, c in enumerate(self.cameras)
        ]
        return expect(self.tracker, self.tracker.live(self.stamp), frames, self.stamp)

    def seen(self, expected: Expectation) -> list[Any]:
        return [
            self.scene.view(self.at(frame.stamp_ns), i, frame.camera, self.rng, 0.5)
            for i, frame in enumerate(expected.frames)
        ]


@pytest.fixture(scope="module")
def moving(scene: Any) -> Moving:
    return Moving(scene, 3)


def test_landmarks_of_a_late_camera_are_brought_to_the_set_s_time(moving: Moving) -> None:
    """40 ms at half a metre a second are 2 cm, some 17 pixels."""
    expected = moving.expected({1: 0.04})
    views = moving.seen(expected)
    moved = expected.at_set_time(views, expected.distances(views), 0.12)
    truth = project(moving.cameras[1], moving.at(moving.stamp).landmarks)
    before = np.linalg.norm(views[1].uv - truth, axis=-1).mean()
    after = np.linalg.norm(moved[1].uv - truth, axis=-1).mean()
    assert before > 8
    assert after < 0.3 * before
    assert (moved[1].sigma > views[1].sigma).all()
    # As much less sure as it errs, not more than twice.
    assert np.median(moved[1].sigma) < 3 * max(after, 1.0)
    assert moved[0] is views[0] and moved[2] is views[2]


def test_a_view_that_is_no_track_s_stays(moving: Moving, scene: Any) -> None:
    expected = moving.expected({1: 0.04})
    other = moving.hand.at(scene.centre + [0, -0.25, 0.1])
    view = scene.view(other, 1, moving.cameras[1], moving.rng)
    distance = expected.distances([view])
    assert distance[0, 0] > 0.15
    assert expected.at_set_time([view], distance, 0.12) == [view]


def test_distances_are_metres_across_the_line_of_sight(moving: Moving) -> None:
    expected = moving.expected({})
    views = moving.seen(expected)
    assert (expected.distances(views) < 0.015).all()
    across = np.linalg.inv(moving.cameras[0].T_camera_world)[:3, 0]
    beside = moving.hand.at(moving.at(moving.stamp).joints.mean(0) + 0.05 * across)
    view = moving.scene.view(beside, 0, moving.cameras[0], moving.rng, 0.5)
    assert expected.distances([view])[0, 0] == pytest.approx(0.05, abs=0.015)


def test_hints_lie_on_the_hand_in_every_camera(moving: Moving) -> None:
    hints = moving.expected({1: 0.04}).hints()
    assert [index for index, _ in hints] == [0, 1, 2]
    for index, roi in hints:
        stamp = moving.stamp - (40_000_000 if index == 1 else 0)
        middle = project(moving.cameras[index], moving.at(stamp).joints).mean(0)
        assert np.linalg.norm(roi[:2] - middle) < roi[2] / 6


def test_nothing_is_expected_without_tracks(scene: Any) -> None:
    tracker = Tracker(TrackSettings())
    frames = [Frame(camera, START, BLANK) for camera in scene.cameras(2)]
    expected = expect(tracker, [], frames, START)
    assert expected.hints() == []
    view = scene.view(scene.hand(np.random.default_rng(0), "left"), 0, frames[0].camera,
                      np.random.default_rng(0))
    distance = expected.distances([view])
    assert distance.shape == (1, 0)
    assert expected.at_set_time([view], distance, 0.1) == [view]
