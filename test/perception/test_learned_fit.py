"""Networks as backends: a network that truly reads the picture it is given, on painted hands.

Every joint is a dot of its own colour in the camera images. The network finds the dots in its
crops, and knows the hand's bones up to its orientation, which it takes from the crop's axes. So
crops, mirroring, rotations and cameras must all be right for the hand to come out right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from hand_mesh_ros.geometry.cameras import project
from hand_mesh_ros.geometry.rotations import exp_so3
from hand_mesh_ros.hand.kinematics import GLOBAL_ORIENT, HAND_POSE
from hand_mesh_ros.hand.landmarks import landmark_noise_id
from hand_mesh_ros.hand.mirror import mirror_axis_angle, mirror_points
from hand_mesh_ros.hand.model import HandModel, load_hand_model
from hand_mesh_ros.hand.shape import HandShape
from hand_mesh_ros.networks.landmarks import rois_from_landmarks
from hand_mesh_ros.perception.ask_network import AskSettings
from hand_mesh_ros.perception.estimate import HandViews
from hand_mesh_ros.perception.landmark_fit import LandmarkFit
from hand_mesh_ros.perception.learned import CropBatch, CropRule, NetworkCard, NetworkHands
from hand_mesh_ros.perception.learned_fit import LearnedFit, LearnedFitSettings
from hand_mesh_ros.perception.network_sigma import SigmaRule
from hand_mesh_ros.types import SIDES, Camera, Frame, Side, View

MODELS: dict[Side, HandModel] = {side: load_hand_model(side=side) for side in SIDES}
PUBLISHED = CropRule(size=256, corner=True, antialias=True, border="zero")
EXACT = SigmaRule(
    uv_floor=(0.01,) * 5, joint_floor=(0.002,) * 5, uv_usual=(0.0,) * 5, joint_usual=(0.0,) * 5,
    pose_sigma=0.1,
)  # fmt: skip


def _colours() -> np.ndarray:
    """21 colours, of which no two are alike in hue and saturation."""
    steps = np.array([0.1, 0.55, 1.0])
    grid = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(-1, 3)
    grid = grid[grid.max(1) == 1.0] / np.linalg.norm(grid[grid.max(1) == 1.0], axis=1)[:, None]
    more = np.array([[1, 0.3, 0], [0, 1, 0.3], [0.3, 0, 1]])
    return np.concatenate([grid, more / np.linalg.norm(more, axis=1)[:, None]])[:21]


COLOURS = _colours()


class DotReader:
    """The network. ``hand`` is whose bones it knows; it does not know where the hand is."""

    device = "cpu"

    def __init__(self, hand: Any, rule: CropRule, together: bool = False, room: int = 99) -> None:
        self.card = NetworkCard(
            "dots", rule, model_id=MODELS["right"].model_id, together=together, sigma=EXACT
        )
        self.batches: list[CropBatch] = []
        joints, params = hand.joints, hand.params
        self._pose = params[HAND_POSE]
        if hand.side == "left":  # it only ever sees right hands, in a mirrored world
            joints, self._pose = mirror_points(joints), mirror_axis_angle(self._pose)
        self._bones, self._room = joints - joints[0], room

    def region(self, view: View) -> np.ndarray:
        if self.card.rule.corner:
            low, high = view.uv.min(0), view.uv.max(0)
            return np.array([*(low + high) / 2, 2.1 * (high - low).max(), 0.0])
        return view.roi

    def __call__(self, batch: CropBatch) -> NetworkHands:
        import torch

        if len(batch) > self._room:
            raise torch.OutOfMemoryError("no room")
        self.batches.append(batch)
        pictures = batch.crops.permute(0, 2, 3, 1).numpy()
        size = pictures.shape[1]
        bright = np.linalg.norm(pictures, axis=-1)
        nearest = np.argmax(pictures @ COLOURS.T, axis=-1)
        rows, columns = np.mgrid[:size, :size]
        uv = np.full((len(batch), 21, 2), np.nan)
        for i in range(len(batch)):
            for j in range(21):
                weight = np.where((nearest[i] == j) & (bright[i] > 120), bright[i], 0.0)
                if weight.sum() > 0:
                    middle = np.array([(columns * weight).sum(), (rows * weight).sum()])
                    uv[i, j] = middle / weight.sum()
        uv = (uv - (size / 2 if self.card.rule.corner else (size - 1) / 2)) / (size / 2)
        turns = np.concatenate([np.zeros((1, 3)), self._pose.reshape(15, 3)])
        rotations = np.repeat(exp_so3(turns)[None], len(batch), axis=0)
        joints = self._bones @ np.swapaxes(batch.axes, -1, -2)
        return NetworkHands(joints, uv, rotations)


def spread_hand(scene: Any, rng: np.random.Generator, side: Side) -> Any:
    """A hand with stretched fingers, whose dots do not hide one another."""
    hand = scene.hand(rng, side)
    params = hand.params.copy()
    params[HAND_POSE] *= 0.3
    params[GLOBAL_ORIENT] = rng.normal(0, 0.5, 3)
    return type(hand)(side, params).at(scene.centre)


def painted(hand: Any, cameras: Sequence[Camera]) -> list[View]:
    """Views whose images show the joints as dots; landmarks are rough, and know no third axis."""
    import cv2

    views = []
    for index, camera in enumerate(cameras):
        image = np.zeros((camera.height, camera.width, 3), np.uint8)
        joints = project(camera, hand.joints)
        for place, colour in zip(joints, COLOURS, strict=True):
            centre = np.rint(place * 16).astype(int).tolist()
            cv2.circle(image, centre, 40, (255 * colour).tolist(), -1, cv2.LINE_AA, 4)
        rough = joints + [4.0, -3.0]
        views.append(
            View(
                index, camera, rough, np.full(21, 9.0), np.zeros((21, 3)), 0.9,
                0.95 if hand.side == "right" else 0.05, rois_from_landmarks(rough)[0],
                Frame(camera, 0, image),
            )
        )  # fmt: skip
    return views


def cameras_of(scene: Any, count: int) -> list[Camera]:
    """Pixels that are not square, an axis far from the middle, a distorting lens."""
    K = np.array([[720.0, 0, 355], [0, 610, 205], [0, 0, 1]])
    return [replace(camera, K=K) for camera in scene.cameras(count)]


def known_shape() -> HandShape:
    return HandShape(
        MODELS["right"].model_id, np.zeros(10), 1e-4 * np.eye(10), 50, 30.0, "mediapipe", "2026",
        offsets=np.full((21, 3), 0.01), offsets_sigma=np.full((21, 3), 0.001),
    )  # fmt: skip


@pytest.mark.parametrize("rule", [CropRule(), PUBLISHED], ids=["turned", "published"])
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("count", [1, 3])
def test_hands_come_out_where_they_are(
    scene: Any, rng: np.random.Generator, side: Side, count: int, rule: CropRule
) -> None:
    """By several views, or by one and the person's bones: metric, in the world, of either side."""
    hand = spread_hand(scene, rng, side)
    views = painted(hand, cameras_of(scene, count))
    shape = known_shape() if count == 1 else None
    backend = LearnedFit(DotReader(hand, rule), MODELS, shape=shape)
    votes = 9.0 if side == "right" else -9.0
    (estimate,) = backend.estimate([HandViews(tuple(views), None, votes)])
    assert estimate is not None and estimate.side == side
    assert estimate.scale_source == ("multi_view" if count > 1 else "calibrated_shape")
    error = estimate.joints - hand.joints
    assert np.linalg.norm(error, axis=-1).max() < (0.004 if count > 1 else 0.02)
    assert np.linalg.norm(error - error.mean(0), axis=-1).max() < 0.005
    spread = np.sqrt(np.trace(estimate.covariance, axis1=-2, axis2=-1))
    assert (np.linalg.norm(error, axis=-1) < 4 * spread).all()


class Bent(DotReader):
    """Sees the dots, but tells another form of the hand than they show."""

    bend = 0.0

    def __call__(self, batch: CropBatch) -> NetworkHands:
        said = super().__call__(batch)
        joints = said.joints.copy()
        joints[:, [4, 8, 12, 16, 20]] += np.array([0.0, 0.0, self.bend])
        return replace(said, joints=joints)


def test_a_hand_that_its_views_tell_otherwise_is_less_sure(
    scene: Any, rng: np.random.Generator
) -> None:
    hand = spread_hand(scene, rng, "right")
    views = HandViews(tuple(painted(hand, cameras_of(scene, 3))), None, 9.0)
    sigmas = []
    for bend in (0.0, 0.01, 0.03):
        network = Bent(hand, CropRule())
        network.bend = bend
        (estimate,) = LearnedFit(network, MODELS).estimate([views])
        assert estimate is not None
        sigmas.append(np.sqrt(np.trace(estimate.covariance[0])))
    assert sigmas[1] > 1.5 * sigmas[0] and sigmas[2] > 1.5 * sigmas[1]


def test_two_hands_of_all_cameras_are_one_batch_and_an_unsure_side_is_asked_twice(
    scene: Any, rng: np.random.Generator
) -> None:
    hand = spread_hand(scene, rng, "left")
    views = tuple(replace(v, right=0.5) for v in painted(hand, cameras_of(scene, 2)))
    network = DotReader(hand, CropRule())
    answers = LearnedFit(network, MODELS).estimate([HandViews(views), HandViews(views, None, -9.0)])
    (batch,) = network.batches
    assert len(batch) == 2 * 2 + 2
    assert [e.side for e in answers if e is not None] == ["left", "left"]
    turns = batch.axes @ np.swapaxes(batch.axes[:1], -1, -2)
    assert np.abs(turns[0] - np.eye(3)).max() < 1e-12 and np.linalg.det(turns[1]) > 0.99
    assert len(set(batch.group)) == 3


def test_jitter_averages_and_is_split_where_memory_is_short(
    scene: Any, rng: np.random.Generator, caplog: pytest.LogCaptureFixture
) -> None:
    """Groups stay whole for a network that looks at all views of a hand together."""
    hand = spread_hand(scene, rng, "right")
    views = painted(hand, cameras_of(scene, 3))
    network = DotReader(hand, CropRule(), together=True, room=5)
    backend = LearnedFit(network, MODELS, LearnedFitSettings(ask=AskSettings(jitter=4)))
    (estimate,) = backend.estimate([HandViews(tuple(views), None, 9.0)])
    assert estimate is not None
    assert np.linalg.norm(estimate.joints - hand.joints, axis=-1).max() < 0.004
    assert sum(map(len, network.batches)) == 15
    assert all(len(b) == 3 and len(set(b.group)) == 1 for b in network.batches)
    assert "no room for 15 crops" in caplog.text
    network._room = 0
    with pytest.raises(MemoryError, match="choose another device"):
        backend.estimate([HandViews(tuple(views), None, 9.0)])


def test_a_wrong_view_and_views_without_images_do_no_harm(
    scene: Any, rng: np.random.Generator
) -> None:
    hand = spread_hand(scene, rng, "right")
    views = painted(hand, cameras_of(scene, 4))
    other = painted(hand.at(scene.centre + [0.0, 0.05, 0.06]), cameras_of(scene, 4))
    mixed = (*views[:3], other[3])
    backend = LearnedFit(DotReader(hand, CropRule()), MODELS)
    (estimate,) = backend.estimate([HandViews(mixed, None, 9.0)])
    assert estimate is not None
    assert np.linalg.norm(estimate.joints - hand.joints, axis=-1).max() < 0.006
    blind = tuple(replace(v, frame=None) for v in views)
    (estimate,) = backend.estimate([HandViews((*blind[:1], *views[1:]), None, 9.0)])
    assert estimate is not None and estimate.view_indices == (1, 2, 3)
    assert backend.estimate([]) == []


def test_landmarks_of_a_late_frame_stay_moved(scene: Any, rng: np.random.Generator) -> None:
    """The crop is cut where the image has the hand; the answer is told where the set has it."""
    hand = spread_hand(scene, rng, "right")
    cameras = cameras_of(scene, 3)
    late = painted(hand.at(scene.centre + [0.0, 0.02, 0.0]), cameras)[0]
    now = painted(hand, cameras)
    shift = (now[0].uv - late.uv).mean(0)
    views = (replace(late, uv=late.uv + shift), *now[1:])
    (estimate,) = LearnedFit(DotReader(hand, PUBLISHED), MODELS).estimate(
        [HandViews(views, None, 9.0)]
    )
    assert estimate is not None
    assert np.linalg.norm(estimate.joints - hand.joints, axis=-1).max() < 0.004


class Sighted(DotReader):
    """The same, but it tells which joints it sees, of each crop less than of the one before."""

    def __call__(self, batch: CropBatch) -> NetworkHands:
        visible = np.linspace(1, 0.2, 21) / (1 + np.arange(len(batch))[:, None])
        return replace(super().__call__(batch), visible=visible)


def test_visibility_is_what_the_network_tells(scene: Any, rng: np.random.Generator) -> None:
    """Its mean over crops and views that contribute; without, joints that the fit explains."""
    hand = spread_hand(scene, rng, "right")
    views = HandViews(tuple(painted(hand, cameras_of(scene, 2))), None, 9.0)
    settings = LearnedFitSettings(ask=AskSettings(jitter=1))
    for network, wanted in (
        (Sighted(hand, CropRule()), np.linspace(1, 0.2, 21) * np.mean([1, 1 / 2, 1 / 3, 1 / 4])),
        (DotReader(hand, CropRule()), np.ones(21)),
    ):
        (found,) = LearnedFit(network, MODELS, settings).estimate([views])
        assert found is not None
        np.testing.assert_allclose(found.visibility, wanted)


@pytest.mark.parametrize(("measured_on", "told"), [("renders-v1", "renders-v1"), ("none", "")])
def test_a_hand_names_what_its_network_was_calibrated_on(
    scene: Any, rng: np.random.Generator, measured_on: str, told: str
) -> None:
    hand = spread_hand(scene, rng, "right")
    network = DotReader(hand, CropRule())
    network.card = replace(network.card, sigma=replace(EXACT, calibration=measured_on))
    views = HandViews(tuple(painted(hand, cameras_of(scene, 2))), None, 9.0)
    (found,) = LearnedFit(network, MODELS).estimate([views])
    assert found is not None and found.calibration == told


class Untrained(DotReader):
    """The same, but all its hands are in a corner of the crop."""

    def __call__(self, batch: CropBatch) -> NetworkHands:
        said = super().__call__(batch)
        return replace(said, uv=0.2 * said.uv - 0.7)


def test_answers_that_the_landmarks_contradict_are_not_believed(
    scene: Any, rng: np.random.Generator, caplog: pytest.LogCaptureFixture
) -> None:
    """Such hands, and those of views without images, are as the landmark backend has them."""
    hand = scene.hand(rng, "left")
    cameras = cameras_of(scene, 2)
    images = [view.frame for view in painted(hand, cameras)]
    views = tuple(
        replace(scene.view(hand, i, camera, rng), frame=image)
        for i, (camera, image) in enumerate(zip(cameras, images, strict=True))
    )
    seen, blind = HandViews(views), HandViews(tuple(replace(v, frame=None) for v in views))
    plain, with_shape = LandmarkFit(MODELS), LandmarkFit(MODELS, shape=known_shape())
    backend = LearnedFit(Untrained(hand, CropRule()), MODELS)
    for _ in range(16):
        answers = backend.estimate([seen, blind, seen])
    assert "are its weights trained?" in caplog.text and caplog.text.count("trained?") == 1
    backend.use_shape(known_shape())
    for fit, found in ((plain, answers), (with_shape, backend.estimate([seen, blind]))):
        (wanted,) = fit.estimate([seen])
        assert wanted is not None
        for estimate in found:
            assert estimate is not None
            np.testing.assert_array_equal(estimate.joints, wanted.joints)
            assert estimate.calibration == wanted.calibration
        worn = "+shape" if fit is with_shape else ""
        assert wanted.calibration == landmark_noise_id() + worn
