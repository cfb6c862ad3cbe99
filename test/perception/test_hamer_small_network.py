"""The backend `hamer-small`, with the weights that come along."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from hand_mesh_ros.evaluation.metrics.alignment import similarity_aligned
from hand_mesh_ros.evaluation.predict import PredictSettings, predict
from hand_mesh_ros.evaluation.renders_v1 import renders_v1
from hand_mesh_ros.networks.assets import AssetError, landmark_network_path
from hand_mesh_ros.perception.build import build_backend, build_observer
from hand_mesh_ros.perception.estimate import NetworkOptions
from hand_mesh_ros.perception.hamer_small_network import SHIPPED
from hand_mesh_ros.perception.learned import CropBatch
from hand_mesh_ros.perception.learned_fit import LearnedFit


@pytest.fixture(scope="module")
def backend() -> LearnedFit:
    try:
        landmark_network_path("hand_landmark_full")
    except AssetError as error:
        pytest.skip(str(error))
    made, _ = build_backend("hamer-small")
    assert isinstance(made, LearnedFit)
    return made


def test_the_weights_that_come_along_are_calibrated(backend: LearnedFit) -> None:
    assert SHIPPED.stat().st_size < 20e6
    assert SHIPPED.with_suffix(".md").is_file()
    assert "renders-v1 validation" in backend.network.card.sigma.calibration
    same, _ = build_backend("hamer-small", None, NetworkOptions(SHIPPED))
    assert isinstance(same, LearnedFit)
    assert same.network.card == backend.network.card


def test_a_crop_is_answered_alone_and_its_camera_counts(backend: LearnedFit) -> None:
    rng = np.random.default_rng(0)
    crops = torch.from_numpy(rng.integers(0, 255, (3, 3, 224, 224)).astype(np.float32))
    axes, group = np.tile(np.eye(3), (3, 1, 1)), np.arange(3)
    field = np.array([0.1, 0.2, 0.3])
    whole = backend.network(CropBatch(crops, group, axes, field))
    part = backend.network(CropBatch(crops[1:2], group[:1], axes[:1], field[1:2]))
    np.testing.assert_allclose(part.joints, whole.joints[1:2], atol=1e-5)
    np.testing.assert_allclose(part.uv, whole.uv[1:2], atol=1e-4)
    other = backend.network(CropBatch(crops[1:2], group[:1], axes[:1], field[:1]))
    assert np.abs(other.joints - part.joints).max() > 1e-5
    np.testing.assert_array_equal(whole.joints[:, 0], 0)
    assert whole.rotations is not None
    np.testing.assert_allclose(
        whole.rotations @ np.swapaxes(whole.rotations, -1, -2), np.tile(np.eye(3), (3, 16, 1, 1)),
        atol=1e-5,
    )  # fmt: skip


def test_it_beats_the_landmarks_on_persons_it_never_saw(backend: LearnedFit) -> None:
    """Every 25th picture of renders-v1's single part for tests, and the same hands found."""
    samples = renders_v1(split="test").samples
    few = [samples[number] for number in range(0, 400, 25)]
    observer, settings = build_observer(), PredictSettings()
    errors = {}
    for name in ("landmarks", "hamer-small"):
        made, models = build_backend(name)
        found = predict(few, made, observer, models, settings, lambda *_: None)
        true = np.stack([sample.joints for sample in few])
        aligned = similarity_aligned(found.joints, true, proper=True)
        errors[name] = np.linalg.norm(aligned - true, axis=-1).mean(1)
    both = np.isfinite(errors["landmarks"]) & np.isfinite(errors["hamer-small"])
    assert both.sum() >= 10
    means = {name: error[both].mean() for name, error in errors.items()}
    assert means["hamer-small"] < 0.9 * means["landmarks"] and means["hamer-small"] < 0.014


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(AssetError, match="no such file"):
        build_backend("hamer-small", None, NetworkOptions(tmp_path / "nothing.safetensors"))
