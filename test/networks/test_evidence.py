"""Evidence: the landmark network's own answers, and maps that both runtimes agree on."""

from __future__ import annotations

import numpy as np
import pytest

from hand_mesh_ros.networks.assets import AssetError, landmark_network_path
from hand_mesh_ros.networks.evidence import CROP, EvidenceNetwork
from hand_mesh_ros.networks.runtime import load_network
from hand_mesh_ros.networks.tflite_maps import with_maps


@pytest.fixture(scope="module")
def crops() -> np.ndarray:
    try:
        landmark_network_path("hand_landmark_full")
    except AssetError as error:
        pytest.skip(str(error))
    return np.random.default_rng(1).integers(0, 255, (3, CROP, CROP, 3), dtype=np.uint8)


def test_the_answers_are_the_plain_networks_own(crops: np.ndarray) -> None:
    evidence = EvidenceNetwork()(crops)
    landmarks, presence, right, world = load_network("hand_landmark_full")(crops)
    pixels = (evidence.landmarks[..., :2] + 1) * CROP / 2 - 0.5
    np.testing.assert_allclose(pixels, landmarks.reshape(-1, 21, 3)[..., :2], atol=1e-3)
    np.testing.assert_allclose(evidence.world.reshape(3, 63), world, atol=1e-6)
    np.testing.assert_allclose(evidence.presence, presence[:, 0], atol=1e-6)
    np.testing.assert_allclose(evidence.right, right[:, 0], atol=1e-6)


def test_both_runtimes_see_the_same_maps(crops: np.ndarray) -> None:
    lite, torch = EvidenceNetwork()(crops), EvidenceNetwork("torch")(crops)
    assert lite.fine.shape == (3, 28, 28, 40)
    assert lite.middle.shape == (3, 14, 14, 112)
    assert lite.coarse.shape == (3, 7, 7, 192)
    for one, other in zip(lite, torch, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)
    assert np.abs(lite.coarse[0] - lite.coarse[1]).max() > 0.1


def test_a_size_without_maps_is_named(crops: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"\[13\]"):
        with_maps(landmark_network_path("hand_landmark_full"), [13])


def test_several_threads_give_what_one_gives(crops: np.ndarray) -> None:
    alone, shared = EvidenceNetwork()(crops), EvidenceNetwork(num_threads=2)(crops)
    for one, other in zip(alone, shared, strict=True):
        np.testing.assert_array_equal(one, other)
