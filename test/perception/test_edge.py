"""Hands followed in a camera's own images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from hand_mesh_ros.geometry.cameras import project
from hand_mesh_ros.networks.assets import AssetError
from hand_mesh_ros.perception.build import build_observer
from hand_mesh_ros.perception.edge import EdgePipeline, EdgeSettings
from hand_mesh_ros.perception.observe_remote import RemoteObserver
from hand_mesh_ros.render.synthetic import SyntheticCell
from hand_mesh_ros.types import Camera, Frame, View

PERIOD_NS = 33_333_333
NONE = np.zeros((0, 0, 3), np.uint8)


class Sighted:
    """An observer that sees, in each frame, the views that are given; remembers what it is asked.

    With ``honest``, only those that lie in a hinted region, or all where it searches: like the
    networks, it sees nothing where it does not look.
    """

    def __init__(self, honest: bool = True) -> None:
        self.honest = honest
        self.hints: list[list[tuple[int, np.ndarray]]] = []
        self.searches: list[list[int]] = []
        self._remote = RemoteObserver(None)

    def __call__(
        self,
        frames: Sequence[Frame],
        hints: Sequence[tuple[int, np.ndarray]],
        search: Sequence[int],
    ) -> list[View]:
        self.hints.append(list(hints))
        self.searches.append(list(search))
        views = self._remote(frames, hints, search)
        if not self.honest:
            return views

        def looked_at(view: View) -> bool:
            rois = [roi for i, roi in hints if i == view.index]
            near = any(np.linalg.norm(roi[:2] - view.roi[:2]) < roi[2] / 3 for roi in rois)
            return near or view.index in search

        return [view for view in views if looked_at(view)]


@pytest.fixture
def film(scene: Any, rng: np.random.Generator) -> Callable[..., Frame]:
    """``film(camera, number, *places)``: a frame with a right hand at each place, (3,) m."""
    right = scene.hand(rng, "right")

    def frame(camera: Camera, number: int, *places: Any, sides: str = "", **changes: Any) -> Frame:
        from dataclasses import replace

        views = []
        for i, place in enumerate(places):
            side = {"l": 0.05, "?": 0.5, "r": 0.95}[sides[i]] if sides else 0.95
            view = scene.view(right.at(np.asarray(place)), 0, camera, rng, 0.5, right=side)
            views.append(replace(view, presence=0.9 - 0.1 * i, **changes))
        return Frame(camera, 10**18 + number * PERIOD_NS, NONE, observed=tuple(views))

    return frame


@pytest.fixture
def camera(scene: Any) -> Camera:
    return scene.cameras(1)[0]


def ids(answer: list[list[tuple[View, int]]]) -> list[int]:
    return [track for _, track in answer[0]]


# Ids ----------------------------------------------------------------------------------------


def test_an_id_stays_while_the_hand_moves_and_pauses(
    film: Callable[..., Frame], camera: Camera, scene: Any
) -> None:
    """Half a metre a second across the image, unseen for 4 frames on the way."""
    pipeline = EdgePipeline(Sighted())
    for number in range(30):
        place = scene.centre + [0, -0.2 + 0.5 * number / 30, 0]
        places = [] if 10 <= number < 14 else [place]
        answer = pipeline.process([film(camera, number, *places)])
        assert ids(answer) == [1] * len(places)


def test_a_hand_that_was_away_too_long_is_another(
    film: Callable[..., Frame], camera: Camera, scene: Any
) -> None:
    pipeline = EdgePipeline(Sighted(honest=False), EdgeSettings(max_gap=0.1))
    assert ids(pipeline.process([film(camera, 0, scene.centre)])) == [1]
    assert ids(pipeline.process([film(camera, 3, scene.centre)])) == [1]
    assert ids(pipeline.process([film(camera, 7, scene.centre)])) == [2]


def test_a_hand_somewhere_else_is_another(
    film: Callable[..., Frame], camera: Camera, scene: Any
) -> None:
    pipeline = EdgePipeline(Sighted(honest=False))
    assert ids(pipeline.process([film(camera, 0, scene.centre)])) == [1]
    assert ids(pipeline.process([film(camera, 1, scene.centre + [0, 0.25, 0])])) == [2]


def test_two_hands_that_pass_each_other_keep_their_ids(
    film: Callable[..., Frame], camera: Camera, scene: Any
) -> None:
    """A left and a right hand cross in the image, in whatever order they are found."""
    pipeline = EdgePipeline(Sighted(honest=False))
    for number in range(31):
        y = 0.012 * (number - 15)
        left, right = scene.centre + [0, y, 0.02], scene.centre + [0, -y, -0.02]
        turned = number % 2 == 1
        places, sides = ([right, left], "rl") if turned else ([left, right], "lr")
        answer = pipeline.process([film(camera, number, *places, sides=sides)])
        found = {round(view.right): track for view, track in answer[0]}
        assert found == {0: 1, 1: 2}, number


def test_two_hands_that_meet_and_part_keep_their_ids(
    film: Callable[..., Frame], camera: Camera, scene: Any
) -> None:
    """They turn back where they meet: only their sides, which are not known at first, tell."""
    pipeline = EdgePipeline(Sighted(honest=False))
    for number in range(31):
        y = 0.012 * abs(number - 15)
        left, right = scene.centre + [0, y, 0.002], scene.centre + [0, -y, -0.002]
        turned = number % 2 == 1
        sides = "??" if number == 0 else "rl" if turned else "lr"
        places = [right, left] if turned else [left, right]
        answer = pipeline.process([film(camera, number, *places, sides=sides)])
        found = [track for _, track in answer[0]]
        assert found == ([2, 1] if turned else [1, 2]), number


def test_cameras_count_for_themselves(
    film: Callable[..., Frame], scene: Any
) -> None:
    first, second = scene.cameras(2)
    pipeline = EdgePipeline(Sighted(honest=False))
    assert ids(pipeline.process([film(first, 0, scene.centre)])) == [1]
    both = pipeline.process([film(second, 1, scene.centre), film(first, 1, scene.centre)])
    assert [[track for _, track in frame] for frame in both] == [[1], [1]]
    assert [frame[0][0].camera.name for frame in both] == [second.name, first.name]


def test_a_clock_that_goes_back_starts_anew(
    film: Callable[..., Frame], camera: Camera, scene: Any
) -> None:
    observer = Sighted(honest=False)
    pipeline = EdgePipeline(observer)
    pipeline.process([film(camera, 100, scene.centre)])
    assert ids(pipeline.process([film(camera, 0, scene.centre)])) == [2]
    assert observer.hints[-1] == []
    pipeline.reset()
    assert ids(pipeline.process([film(camera, 1, scene.centre)])) == [3]


def test_no_more_hands_than_wanted_and_those_known_first(
    film: Callable[..., Frame], camera: Camera, scene: Any
) -> None:
    places = [scene.centre + [0, y, 0] for y in (-0.2, 0.0, 0.2)]
    pipeline = EdgePipeline(Sighted(honest=False), EdgeSettings(max_hands=2))
    (answer,) = pipeline.process([film(camera, 0, *places)])
    assert [view.presence for view, _ in answer] == [0.9, 0.8]  # the surest two
    (answer,) = pipeline.process([film(camera, 1, places[2], places[1])])
    assert {track for _, track in answer} == {2, 3}
    (answer,) = pipeline.process([film(camera, 2, *places)])
    assert {track for _, track in answer} == {2, 3}


# Where it looks -----------------------------------------------------------------------------


def test_the_next_region_is_where_the_hand_will_be(
    film: Callable[..., Frame], camera: Camera, scene: Any
) -> None:
    observer = Sighted()
    pipeline = EdgePipeline(observer)
    frames = [film(camera, n, scene.centre + [0, 0.02 * n, 0]) for n in range(4)]
    for frame in frames:
        pipeline.process([frame])
    ((index, roi),) = observer.hints[3]
    (true,), (before,) = frames[3].observed, frames[2].observed
    assert index == 0
    step = np.linalg.norm(true.roi[:2] - before.roi[:2])
    assert np.linalg.norm(roi[:2] - true.roi[:2]) < 0.25 * step
    np.testing.assert_allclose(roi[2:], before.roi[2:], rtol=1e-6)


def test_a_region_outside_the_image_is_not_looked_at(
    film: Callable[..., Frame], camera: Camera, scene: Any
) -> None:
    observer = Sighted(honest=False)
    pipeline = EdgePipeline(observer)
    for number in range(2):  # 0.1 m a frame, and at the edge already
        pipeline.process([film(camera, number, scene.centre + [0, 0.2 + 0.1 * number, 0])])
    pipeline.process([film(camera, 2)])
    assert len(observer.hints[1]) == 1 and observer.hints[2] == []


@pytest.mark.parametrize(("hands", "every"), [(0, 2), (1, 4), (2, 8)])
def test_how_often_whole_images_are_searched(
    film: Callable[..., Frame], camera: Camera, scene: Any, hands: int, every: int
) -> None:
    observer = Sighted()
    pipeline = EdgePipeline(observer, EdgeSettings(max_hands=2, search_every=4))
    places = [scene.centre + [0, y, 0] for y in (-0.15, 0.15)][:hands]
    for number in range(40):
        pipeline.process([film(camera, number, *places)])
    searched = np.flatnonzero(observer.searches and [len(s) for s in observer.searches])
    assert searched[0] == 0
    assert set(np.diff(searched)) == {every}


def test_a_lost_hand_is_searched_for_at_once_and_once(
    film: Callable[..., Frame], camera: Camera, scene: Any
) -> None:
    observer = Sighted()
    pipeline = EdgePipeline(observer, EdgeSettings(search_every=1000, max_gap=10.0))
    for number in range(10):
        pipeline.process([film(camera, number, *([scene.centre] if number < 5 else []))])
    assert [n for n, s in enumerate(observer.searches) if s] == [0, 6]


# With the networks --------------------------------------------------------------------------


@pytest.mark.parametrize("hands", [("right",), ("left", "right")])
def test_rendered_hands_are_followed(hands: tuple[Any, ...]) -> None:
    """Real networks, rendered images: each hand has one id, and its landmarks are where it is."""
    try:
        observer = build_observer(max_hands=len(hands), num_threads=1)
    except AssetError as error:
        pytest.skip(str(error))
    cell = SyntheticCell(cameras=1, hands=hands, seconds=1.0, fps=15.0)
    pipeline = EdgePipeline(observer, EdgeSettings(max_hands=len(hands)))
    followed: dict[str, list[int]] = {side: [] for side in hands}
    errors = []
    for number in range(len(cell)):
        (frame,) = cell.frame_set(number).frames
        for view, track in pipeline.process([frame])[0]:
            apart = {
                hand.side: np.linalg.norm(
                    project(frame.camera, hand.joints) - view.uv, axis=-1
                ).mean()
                for hand in cell.ground_truth(number)
            }
            side = min(apart, key=lambda s: apart[s])
            followed[side].append(track)
            errors.append(apart[side] / view.roi[2])
    for side in hands:
        assert len(followed[side]) >= 0.9 * len(cell), side
        assert len(set(followed[side])) == 1, followed
    assert np.median(errors) < 0.05
