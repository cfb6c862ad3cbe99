"""The pipeline with the real fit, fed the views that networks would give of true hands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from hand_mesh_ros.geometry.cameras import project
from hand_mesh_ros.hand.mirror import mirror_axis_angle
from hand_mesh_ros.hand.model import HandModel, load_hand_model
from hand_mesh_ros.hand.shape import HandShape, bone_lengths
from hand_mesh_ros.perception.estimate import HandViews, create_backend
from hand_mesh_ros.perception.pipeline import HandPipeline, PipelineSettings
from hand_mesh_ros.perception.surface import mesh_vertices, with_meshes
from hand_mesh_ros.perception.track import TrackSettings
from hand_mesh_ros.types import (
    SIDES,
    Camera,
    Frame,
    FrameSet,
    HandSet,
    ManoParameters,
    Side,
    View,
)

PERIOD = 66_666_667
START = 1_763_700_000_000_000_001
BLANK = np.zeros((480, 640, 3), np.uint8)


class TrueViews:
    """An `Observer` that sees what is really there, as far as it is asked to look.

    ``hands(stamp_ns)`` are the hands of an instant. A hand is seen in a frame that is searched, or
    where a hint lies on it. ``spoil(view)`` may change a view, or hide it with None.
    """

    def __init__(
        self,
        scene: Any,
        hands: Callable[[int], list[Any]],
        spoil: Callable[[View], View | None] = lambda view: view,
    ) -> None:
        self._scene, self._hands, self._spoil = scene, hands, spoil
        self._rng = np.random.default_rng(0)
        self.searched: list[list[int]] = []
        self.hinted: list[int] = []

    def __call__(
        self, frames: Sequence[Frame], hints: Sequence[tuple[int, Any]], search: Sequence[int]
    ) -> list[View]:
        self.searched.append(list(search))
        self.hinted.append(len(hints))
        views = []
        for index, frame in enumerate(frames):
            for hand in self._hands(frame.stamp_ns):
                middle = project(frame.camera, hand.joints).mean(0)
                on_it = any(
                    i == index and np.linalg.norm(roi[:2] - middle) < roi[2] / 4
                    for i, roi in hints
                )
                if index in search or on_it:
                    view = self._scene.view(hand, index, frame.camera, self._rng)
                    views.append(self._spoil(replace(view, frame=frame)))
        return [view for view in views if view is not None]


def frame_set(cameras: Sequence[Camera], stamp_ns: int) -> FrameSet:
    return FrameSet(tuple(Frame(camera, stamp_ns, BLANK) for camera in cameras))


def pipeline(observer: TrueViews, **settings: Any) -> HandPipeline:
    models = {side: load_hand_model(side=side) for side in ("left", "right")}
    return HandPipeline(
        observer, create_backend("landmarks", models=models), PipelineSettings(**settings)
    )


def run(
    made: HandPipeline, cameras: Sequence[Camera], count: int, begin: int = 0
) -> list[HandSet]:
    """The answers to ``count`` instants."""
    return [
        made.process(frame_set(cameras, START + k * PERIOD)) for k in range(begin, begin + count)
    ]


def seconds(stamp_ns: int) -> float:
    return (stamp_ns - START) * 1e-9


@pytest.fixture
def passing(scene: Any) -> Callable[[int], list[Any]]:
    """A right and a left hand that pass each other at half a metre a second, 14 cm apart."""
    rng = np.random.default_rng(4)
    right, left = scene.hand(rng, "right"), scene.hand(rng, "left")

    def hands(stamp_ns: int) -> list[Any]:
        y = 0.5 * (seconds(stamp_ns) - 0.6)
        return [
            right.at(scene.centre + [0.0, y, 0.07]),
            left.at(scene.centre + [0.0, -y, -0.07]),
        ]

    return hands


@pytest.fixture
def still(scene: Any) -> Callable[[int], list[Any]]:
    hand = scene.hand(np.random.default_rng(5), "right")
    return lambda stamp_ns: [hand]


def test_two_hands_keep_numbers_and_sides_while_they_pass(
    scene: Any, passing: Callable[[int], list[Any]]
) -> None:
    cameras = scene.cameras(4)
    answers = run(pipeline(TrueViews(scene, passing)), cameras, 18)
    sides: dict[int, set[str]] = {}
    for answer in answers:
        assert len(answer.hands) == 2
        right, left = passing(answer.stamp_ns)
        for hand in answer.hands:
            sides.setdefault(hand.track_id, set()).add(hand.estimate.side)
            truth = right if hand.estimate.side == "right" else left
            error = np.linalg.norm(hand.estimate.joints - truth.joints, axis=-1)
            assert np.median(error) < 0.006
    assert sorted(map(sorted, sides.values())) == [["left"], ["right"]]
    assert [hand.age for hand in answers[-1].hands] == [18, 18]


def test_an_answer_says_what_it_was_made_from(
    scene: Any, passing: Callable[[int], list[Any]]
) -> None:
    cameras = scene.cameras(3)
    (answer,) = run(pipeline(TrueViews(scene, passing)), cameras, 1)
    assert answer.stamp_ns == START
    assert answer.spread == 0
    assert answer.views == ("camera_0", "camera_1", "camera_2")
    assert answer.unmatched == ()
    for hand, views in zip(answer.hands, answer.observed, strict=True):
        assert tuple(view.index for view in views) == hand.estimate.view_indices == (0, 1, 2)
        assert hand.estimate.scale_source == "multi_view"
        assert hand.estimate.residual_px.shape == (3, 21)
        assert hand.estimate.vertices is None  # nobody has asked for the mesh yet
        assert np.median(hand.estimate.residual_px) < 4


def test_one_camera_gives_a_hand_of_model_size(
    scene: Any, still: Callable[[int], list[Any]]
) -> None:
    (camera,) = scene.cameras(1)
    answer = run(pipeline(TrueViews(scene, still)), [camera], 3)[-1]
    (hand,) = answer.hands
    assert hand.estimate.scale_source == "model_prior"
    error = hand.estimate.joints - still(START)[0].joints
    assert np.linalg.norm(error, axis=-1).max() < 0.08
    # What it is unsure of is the depth.
    axis = camera.T_camera_world[2, :3]
    covariance = hand.estimate.covariance
    along = np.einsum("i,nij,j->n", axis, covariance, axis)
    assert (along > 0.5 * np.trace(covariance, axis1=1, axis2=2)).all()


def test_whole_images_are_searched_in_turns_while_hands_are_tracked(
    scene: Any, still: Callable[[int], list[Any]]
) -> None:
    observer = TrueViews(scene, still)
    run(pipeline(observer, search_every=4), scene.cameras(4), 9)
    assert observer.searched[0] == [0, 1, 2, 3]
    assert observer.hinted == [0] + [4] * 8
    later = observer.searched[1:]
    assert all(len(search) == 1 for search in later)
    assert {i for search in later[:4] for i in search} == {0, 1, 2, 3}


@pytest.mark.parametrize(("coast", "coasted"), [(0.0, 0), (0.15, 2)])
def test_a_lost_hand_coasts_for_a_moment_and_comes_back_itself(
    scene: Any, still: Callable[[int], list[Any]], coast: float, coasted: int
) -> None:
    gone = range(5, 9)

    def hands(stamp_ns: int) -> list[Any]:
        return [] if round(seconds(stamp_ns) / (PERIOD * 1e-9)) in gone else still(stamp_ns)

    made = pipeline(TrueViews(scene, hands), track=TrackSettings(max_gap=0.5, coast=coast))
    answers = run(made, scene.cameras(3), 12)
    counts = [1] * (5 + coasted) + [0] * (4 - coasted) + [1] * 3
    assert [len(answer.hands) for answer in answers] == counts
    assert {hand.track_id for answer in answers for hand in answer.hands} == {1}
    shown = [answer.hands[0].estimate for answer in answers[4:7] if answer.hands]
    spread = [np.trace(estimate.wrist_covariance[:3, :3]) for estimate in shown]
    for k, answer in enumerate(answers):
        assert len(answer.observed) == len(answer.hands)
        for hand, views in zip(answer.hands, answer.observed, strict=True):
            assert hand.extrapolated == (k in gone)
            assert len(views) == len(hand.estimate.view_indices) == (0 if k in gone else 3)
            assert hand.estimate.residual_px.shape == (len(views), 21)
            assert np.linalg.norm(hand.estimate.joints - still(0)[0].joints, axis=-1).max() < 0.02
    assert all(np.diff(spread) > 0)


def test_a_glimpse_does_not_coast(scene: Any, still: Callable[[int], list[Any]]) -> None:
    """Something that was taken for a hand once is not told of again."""

    def hands(stamp_ns: int) -> list[Any]:
        return still(stamp_ns) if stamp_ns == START else []

    answers = run(pipeline(TrueViews(scene, hands)), scene.cameras(3), 3)
    assert [len(answer.hands) for answer in answers] == [1, 0, 0]


def test_filtered_bones_keep_the_lengths_of_a_calibrated_shape(
    scene: Any, passing: Callable[[int], list[Any]]
) -> None:
    made = pipeline(TrueViews(scene, passing))
    model = load_hand_model()
    shape = HandShape(model.model_id, np.full(10, 0.3), 0.01 * np.eye(10), 9, 9.0, "none", "")
    made.use_shape(shape)
    lengths = bone_lengths(model, shape.betas, shape.covariance)[0]
    rigid = [0, 4, 8, 12, 16]  # bones that end in the thumb's base and the knuckles
    for answer in run(made, scene.cameras(3), 8):
        for hand in answer.hands:
            joints = hand.estimate.joints
            bones = np.linalg.norm(joints[1:][rigid] - joints[0], axis=-1)
            np.testing.assert_allclose(bones, lengths[rigid], atol=1e-5)


def test_without_filter_a_hand_is_as_it_was_measured(
    scene: Any, passing: Callable[[int], list[Any]]
) -> None:
    cameras = scene.cameras(3)
    raw, filtered = (
        run(
            pipeline(TrueViews(scene, passing), track=TrackSettings(filter=on), compensate=False),
            cameras,
            6,
        )
        for on in (False, True)
    )
    views = [view for view in raw[-1].observed[0]]
    (estimate,) = create_backend(
        "landmarks", models={side: load_hand_model(side=side) for side in SIDES}
    ).estimate([HandViews(tuple(views), raw[-2].hands[0], 15.0)])
    assert estimate is not None
    np.testing.assert_allclose(estimate.joints, raw[-1].hands[0].estimate.joints, atol=2e-3)
    gap = filtered[-1].hands[0].estimate.joints - raw[-1].hands[0].estimate.joints
    assert 0 < np.abs(gap).max() < 0.02


@pytest.mark.parametrize("by_clock", [False, True])
def test_prediction_makes_up_for_latency_and_says_so(
    scene: Any, passing: Callable[[int], list[Any]], by_clock: bool
) -> None:
    """At half a metre a second, 100 ms are 5 cm."""
    late = 0.1
    settings = TrackSettings(predict=0.0 if by_clock else late)
    made = pipeline(TrueViews(scene, passing), track=settings)
    for k in range(15):
        frames = frame_set(scene.cameras(3), START + k * PERIOD)
        answer = made.process(frames, (lambda stamp_ns: late) if by_clock else None)
    assert answer.stamp_ns == START + 14 * PERIOD  # the capture time, whatever is predicted
    for hand in answer.hands:
        assert hand.extrapolated and hand.ahead == pytest.approx(late)
        assert len(hand.estimate.view_indices) == 3
        errors = []
        for stamp in (answer.stamp_ns + round(late * 1e9), answer.stamp_ns):
            right, left = passing(stamp)
            truth = right if hand.estimate.side == "right" else left
            errors.append(np.linalg.norm((hand.estimate.joints - truth.joints).mean(0)))
        assert errors[0] < 0.02 < 0.035 < errors[1]


@pytest.mark.parametrize("count", [2, 3])
def test_views_of_different_times_are_brought_together(
    scene: Any, passing: Callable[[int], list[Any]], count: int
) -> None:
    """One camera is 40 ms late: 2 cm at half a metre a second.

    Two cameras cannot tell that from a hand elsewhere; of three, the late one looks like an
    outlier.
    """
    cameras = scene.cameras(count)

    def watch(compensate: bool) -> tuple[float, float]:
        made = pipeline(TrueViews(scene, passing), compensate=compensate)
        errors, used = [], []
        for k in range(15):
            stamp = START + k * PERIOD
            late = [40_000_000 * (i == 1) for i in range(count)]
            frames = [Frame(c, stamp - d, BLANK) for c, d in zip(cameras, late, strict=True)]
            answer = made.process(FrameSet(tuple(frames)))
            right, left = passing(stamp)
            for hand, views in zip(answer.hands, answer.observed, strict=True):
                truth = right if hand.estimate.side == "right" else left
                if k > 4:
                    gap = hand.estimate.joints - truth.joints
                    errors.append(np.linalg.norm(gap, axis=-1).mean())
                    used.append(len(views))
                for view in views:  # what is passed on is what the camera saw, at its own time
                    seen = project(view.camera, truth.landmarks).mean(0)
                    assert (np.linalg.norm(view.uv.mean(0) - seen) > 4) == (view.index == 1)
        return float(np.median(errors)), float(np.mean(used))

    with_it, without = watch(True), watch(False)
    assert with_it[0] < 0.006
    assert with_it[1] > count - 0.2
    assert without[0] > 1.5 * with_it[0] if count == 2 else without[1] < with_it[1] - 0.5


def test_a_view_that_contradicts_the_others_is_left_out_and_counted(
    scene: Any, still: Callable[[int], list[Any]]
) -> None:
    def spoil(view: View) -> View | None:
        return replace(view, uv=view.uv + [25, -25]) if view.index == 2 else view

    made = pipeline(TrueViews(scene, still, spoil), search_every=1)
    answers = run(made, scene.cameras(4), 4)
    for answer in answers:
        assert [hand.estimate.view_indices for hand in answer.hands] == [(0, 1, 3)]
        assert [view.index for view in answer.unmatched] == [2]
    assert made.outliers == {"camera_2": 4}


def test_a_full_house_is_searched_rarely_and_a_new_hand_is_still_found(
    scene: Any, passing: Callable[[int], list[Any]]
) -> None:
    """The left hand comes, goes and comes back elsewhere."""
    away = range(12, 20)

    def hands(stamp_ns: int) -> list[Any]:
        right, left = passing(START)
        k = round(seconds(stamp_ns) / (PERIOD * 1e-9))
        if k in away:
            return [right]
        return [right, left if k < away.start else left.at(scene.centre + [0.0, 0.2, 0.1])]

    observer = TrueViews(scene, hands)
    answers = run(pipeline(observer, search_every=4, search_full=20), scene.cameras(4), 26)
    assert all(len(answer.hands) == 2 for answer in answers[:12])
    # Both are tracked: two images a camera at most in so many sets. One is lost: in turns.
    assert sum(map(len, observer.searched[1:12])) <= 4
    assert sum(map(len, observer.searched[13:20])) >= 6
    assert [len(answer.hands) for answer in answers[away.stop + 4 :]] == [2, 2]


def test_a_hand_that_was_gone_for_long_is_another(
    scene: Any, still: Callable[[int], list[Any]]
) -> None:
    made, cameras = pipeline(TrueViews(scene, still)), scene.cameras(3)
    (first,) = run(made, cameras, 1)
    (again,) = run(made, cameras, 1, begin=60)
    assert again.hands[0].track_id > first.hands[0].track_id


def test_numbers_go_on_after_a_reset(scene: Any, still: Callable[[int], list[Any]]) -> None:
    made, cameras = pipeline(TrueViews(scene, still)), scene.cameras(3)
    before = run(made, cameras, 3)[-1].hands[0].track_id
    made.reset()
    (after,) = run(made, cameras, 1, begin=-40)  # a bag that began again
    assert after.hands[0].track_id > before
    assert after.hands[0].age == 1


def test_a_network_that_errs_about_the_side_is_outvoted(
    scene: Any, still: Callable[[int], list[Any]]
) -> None:
    """All views of one instant in five say left."""

    def spoil(view: View) -> View:
        assert view.frame is not None
        k = round(seconds(view.frame.stamp_ns) / (PERIOD * 1e-9))
        return replace(view, right=0.1) if k % 5 == 4 else view

    answers = run(pipeline(TrueViews(scene, still, spoil)), scene.cameras(3), 15)
    assert all(len(answer.hands) == 1 for answer in answers)
    assert {hand.estimate.side for a in answers for hand in a.hands} == {"right"}
    assert {hand.track_id for a in answers for hand in a.hands} == {1}


def test_no_more_hands_than_wanted_and_the_best_supported_first(
    scene: Any, passing: Callable[[int], list[Any]]
) -> None:
    def spoil(view: View) -> View | None:
        return None if view.index == 2 and view.right > 0.5 else view

    (answer,) = run(pipeline(TrueViews(scene, passing, spoil), max_hands=1), scene.cameras(3), 1)
    (hand,) = answer.hands
    assert hand.estimate.side == "left"  # three views against two
    assert sorted(view.index for view in answer.unmatched) == [0, 1]


def test_a_hand_that_too_few_cameras_see_is_not_published(
    scene: Any, still: Callable[[int], list[Any]]
) -> None:
    def spoil(view: View) -> View | None:
        return view if view.camera.name == "camera_1" else None

    cameras = scene.cameras(3)
    (answer,) = run(pipeline(TrueViews(scene, still, spoil), min_views=2), cameras, 1)
    assert answer.hands == ()
    assert [view.index for view in answer.unmatched] == [1]
    # Of a set that has no more frames, no more can be asked.
    (alone,) = run(pipeline(TrueViews(scene, still, spoil), min_views=2), cameras[1:2], 1)
    assert len(alone.hands) == 1


def test_timings_tell_of_every_stage(scene: Any, still: Callable[[int], list[Any]]) -> None:
    made = pipeline(TrueViews(scene, still))
    run(made, scene.cameras(2), 1)
    assert set(made.timings) == {"observe", "associate", "estimate", "track"}
    assert all(value >= 0 for value in made.timings.values())


def test_an_unknown_backend_is_named_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="'magic'.*landmarks"):
        create_backend("magic")


def test_meshes_are_posed_when_asked_for_and_hold_the_joints(
    scene: Any, passing: Callable[[int], list[Any]]
) -> None:
    models: dict[Side, HandModel] = {side: load_hand_model(side=side) for side in SIDES}
    (answer,) = run(pipeline(TrueViews(scene, passing)), scene.cameras(3), 1)
    shown = with_meshes(answer, models)
    for hand in shown.hands:
        model, vertices = models[hand.estimate.side], hand.estimate.vertices
        assert vertices is not None and vertices.shape == model.v_template.shape
        tips = hand.estimate.joints[[4, 8, 12, 16, 20]]
        np.testing.assert_allclose(vertices[model.tips], tips, atol=1e-9)
    again = with_meshes(shown, models)
    assert again.hands[0].estimate.vertices is shown.hands[0].estimate.vertices


def test_a_mirrored_right_model_gives_the_left_hand_s_mesh() -> None:
    models: dict[Side, HandModel] = {side: load_hand_model(side=side) for side in SIDES}
    rng = np.random.default_rng(3)
    orient, pose, betas = rng.normal(0, 1, 3), rng.normal(0, 0.3, 45), rng.normal(0, 1, 10)
    transl = np.array([0.1, -0.2, 0.7])
    right = ManoParameters("m", "left", orient, pose, betas, transl, mirrored=True)
    left = ManoParameters(
        "m", "left", mirror_axis_angle(orient), mirror_axis_angle(pose), betas, transl
    )
    np.testing.assert_allclose(mesh_vertices(right, models), mesh_vertices(left, models), atol=1e-9)


def test_two_views_that_contradict_each_other_are_one_tracked_hand(
    scene: Any, still: Callable[[int], list[Any]]
) -> None:
    """What lies on a hand that is tracked, but agrees with no view of it, is no second hand."""

    def spoil(view: View) -> View | None:
        assert view.frame is not None
        bad = view.index == 1 and seconds(view.frame.stamp_ns) > 0.5
        return replace(view, uv=view.uv + [0, 25]) if bad else view

    made = pipeline(TrueViews(scene, still, spoil), search_every=1)
    answers = run(made, scene.cameras(2), 12)
    assert all(len(answer.hands) == 1 for answer in answers)
    assert [len(answer.observed[0]) for answer in answers] == [2] * 8 + [1] * 4
    assert sum(made.outliers.values()) == 4
