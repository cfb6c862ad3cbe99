"""Textures of tracked hands, by the real networks on a rendered instant with a thing in the way."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hand_mesh_ros.data.samples import HandSample
from hand_mesh_ros.geometry.crops import crop_matrix, transform_points, warp
from hand_mesh_ros.hand.model import load_hand_model
from hand_mesh_ros.networks.assets import AssetError, landmark_network_path
from hand_mesh_ros.networks.landmarks import rois_from_landmarks
from hand_mesh_ros.perception.hand_texture import HandTextures, SkinMasks, view_colours
from hand_mesh_ros.training.instant_sources import benchmark
from hand_mesh_ros.types import (
    SIDES,
    Frame,
    HandEstimate,
    HandSet,
    TrackedHand,
    View,
)

LEFT_BEHIND_A_BALL = 16  # of renders-v1's test part: a left hand


@pytest.fixture(scope="module")
def masks() -> SkinMasks:
    try:
        landmark_network_path("hand_landmark_full")
    except AssetError as error:
        pytest.skip(str(error))
    return SkinMasks()


@pytest.fixture(scope="module")
def samples() -> list[HandSample]:
    return benchmark(4)(LEFT_BEHIND_A_BALL)


@pytest.fixture(scope="module")
def hands(samples: list[HandSample]) -> HandSet:
    """One tracked hand as it truly is, with its four views."""
    first = samples[0]
    assert first.side is not None and first.mano is not None
    nothing = np.full((21, 3, 3), np.nan)
    estimate = HandEstimate(
        first.side, first.joints, nothing, np.eye(4), np.eye(6), first.mano, 1.0, 1.0,
        np.ones(21), np.ones(21), np.zeros((4, 21)), (0, 1, 2, 3), "multi_view",
        # samples tell vertices in their camera's axes
        vertices=in_world(first),
    )  # fmt: skip
    views = tuple(view_of(i, s) for i, s in enumerate(samples))
    return HandSet(5, 0.0, tuple("abcd"), (TrackedHand(7, estimate),), (views,))


def in_world(sample: HandSample) -> np.ndarray:
    T = np.linalg.inv(sample.camera.T_camera_world)
    return sample.vertices @ T[:3, :3].T + T[:3, 3]


def view_of(index: int, sample: HandSample) -> View:
    roi = rois_from_landmarks(sample.uv)[0]
    zero = np.zeros((21, 3))
    frame = Frame(sample.camera, 5, sample.image)
    return View(index, sample.camera, sample.uv, np.ones(21), zero, 1.0, 0.0, roi, frame)


def test_the_mask_of_a_left_hand_is_the_truth_nearly(
    masks: SkinMasks, samples: list[HandSample]
) -> None:
    for sample in samples:
        matrix = crop_matrix(rois_from_landmarks(sample.uv), 224)
        crop = warp(np.ascontiguousarray(sample.image), matrix, 224)
        found = masks(crop, np.array([True]))[0] > 0.5
        steps = 4 * np.stack(np.meshgrid(np.arange(56), np.arange(56)), -1) + 1.5
        places = np.rint(transform_points(matrix[0], steps.reshape(-1, 2))).astype(int)
        owner = sample.extras["load_numbered"]()
        u, v = np.clip(places, 0, np.array(owner.shape[::-1]) - 1).T
        true = (owner[v, u] % 128 == 1).reshape(56, 56)
        assert (found & true).sum() > 0.75 * (found | true).sum()


def test_a_track_is_told_of_its_hand(masks: SkinMasks, hands: HandSet) -> None:
    models = {side: load_hand_model(side=side) for side in SIDES}
    textures = HandTextures(models, keep=3, masks=masks)
    assert textures.add(hands, views=1) == (7,)
    first = textures.textured(7)
    assert (first.track_id, first.side, first.stamp_ns, first.pictures) == (7, "left", 5, 1)
    assert textures.add(hands) == (7,)
    all_of_them = textures.textured(7)
    assert all_of_them.pictures == 3 and textures.track_ids == (7,)
    assert 0.05 < first.texture.observed.mean() < 0.9 * all_of_them.texture.observed.mean()
    assert textures.textured(7).texture is all_of_them.texture  # nothing new, nothing computed


def test_the_albedo_is_the_renders_and_the_thing_has_no_weight(
    masks: SkinMasks, hands: HandSet, samples: list[HandSample]
) -> None:
    models = {side: load_hand_model(side=side) for side in SIDES}
    textures = HandTextures(models, masks=masks)
    textures.add(hands)
    texture = textures.textured(7).texture
    true = samples[0].extras["albedo"]()
    prior = models["left"].albedo
    assert np.abs(texture.albedo - true).mean() < 0.85 * np.abs(prior - true).mean()
    vertices, faces = hands.hands[0].estimate.vertices, models["left"].faces
    masked, bare = (
        [view_colours(v, vertices, faces, "left", m).weight for v in hands.observed[0]]
        for m in (masks, None)
    )
    hidden = [
        (b > 0.3) & ~s.extras["vertex_visibility"] for b, s in zip(bare, samples, strict=True)
    ]
    assert sum(h.sum() for h in hidden) > 40
    kept = sum(m[h].sum() for m, h in zip(masked, hidden, strict=True))
    assert kept < 0.35 * sum(b[h].sum() for b, h in zip(bare, hidden, strict=True))


def test_hands_without_pictures_teach_nothing(hands: HandSet) -> None:
    """Nor do they open a network."""

    class Refusing(SkinMasks):
        def __call__(self, *_: object) -> np.ndarray:
            pytest.fail("a network was asked")

    models = {side: load_hand_model(side=side) for side in SIDES}
    textures = HandTextures(models, masks=Refusing())
    blind = tuple(replace(v, frame=None) for v in hands.observed[0])
    empty = np.zeros((0, 0, 3), np.uint8)
    told = tuple(replace(v, frame=replace(v.frame, image=empty)) for v in hands.observed[0])
    for seen in (blind, told, ()):
        assert textures.add(replace(hands, observed=(seen,))) == ()
    with pytest.raises(KeyError):
        textures.textured(7)
    with pytest.raises(ValueError, match="keep is 0"):
        HandTextures(models, keep=0)


def test_old_tracks_are_forgotten(masks: SkinMasks, hands: HandSet) -> None:
    models = {side: load_hand_model(side=side) for side in SIDES}
    textures = HandTextures(models, masks=masks)
    for track in range(10):
        textures.add(replace(hands, hands=(replace(hands.hands[0], track_id=track),)), views=1)
    assert textures.track_ids == tuple(range(2, 10))
