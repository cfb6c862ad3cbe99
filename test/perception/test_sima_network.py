"""SiMA-Hand's backends: crops of several hands in any order, and rendered hands in real cameras."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from hand_mesh_ros.geometry.rotations import invert_rigid, transform_points
from hand_mesh_ros.hand.kinematics import forward
from hand_mesh_ros.hand.model import load_hand_model
from hand_mesh_ros.networks.assets import AssetError, landmark_network_path
from hand_mesh_ros.networks.landmarks import rois_from_landmarks
from hand_mesh_ros.networks.sima import Sima, SimaSettings
from hand_mesh_ros.networks.sima_weights import hierarchy_cache
from hand_mesh_ros.perception.build import build_backend
from hand_mesh_ros.perception.estimate import BACKENDS, HandViews, NetworkOptions
from hand_mesh_ros.perception.learned import CropBatch
from hand_mesh_ros.perception.network_sigma import SigmaRule
from hand_mesh_ros.perception.sima_network import SimaNetwork
from hand_mesh_ros.types import Frame, View


@pytest.fixture(autouse=True)
def _landmarks() -> None:
    try:
        landmark_network_path("hand_landmark_full")
    except AssetError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def multi() -> SimaNetwork:
    torch.manual_seed(0)
    network = Sima(load_hand_model(), SimaSettings(multi=True), hierarchy_cache())
    for name, parameter in network.named_parameters():
        if "fusion.outer" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    return SimaNetwork(network, "sima-mvr", "cpu", SigmaRule())


def batch_of(group: list[int], rng: np.random.Generator) -> CropBatch:
    count = len(group)
    crops = torch.from_numpy(rng.integers(0, 255, (count, 3, 224, 224)).astype(np.float32))
    axes, _ = np.linalg.qr(rng.normal(size=(count, 3, 3)))
    axes *= np.linalg.det(axes)[:, None, None]
    return CropBatch(crops, np.array(group), axes, np.full(count, 0.1))


def test_hands_of_a_batch_keep_apart_in_any_order(
    multi: SimaNetwork, rng: np.random.Generator
) -> None:
    batch = batch_of([5, 2, 5, 9, 2, 5], rng)
    hands = multi.hands(batch)
    said = multi(batch)
    assert said.joints.shape == (6, 21, 3) and not said.joints[:, 0].any()
    np.testing.assert_allclose(said.uv, hands.uv, atol=1e-6)
    for group in (2, 5, 9):
        rows = np.flatnonzero(batch.group == group)
        alone = multi(
            CropBatch(batch.crops[rows], batch.group[rows], batch.axes[rows], batch.field[rows])
        )
        np.testing.assert_allclose(said.joints[rows], alone.joints, atol=1e-5)
        np.testing.assert_allclose(said.uv[rows], alone.uv, atol=1e-5)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    assert {"sima-mvr", "sima-svr"} <= set(BACKENDS)
    with pytest.raises(AssetError, match="none.safetensors"):
        build_backend("sima-svr", None, NetworkOptions(tmp_path / "none.safetensors"))


@pytest.mark.parametrize("name", ["sima-mvr", "sima-svr"])
def test_rendered_hands_come_out_in_their_cameras(name: str) -> None:
    """With the weights that ship: metric, in the world, with MANO's parameters of the same hand."""
    pytest.importorskip("warp", reason="the training renderer needs warp-lang")
    from hand_mesh_ros.training.instant_sources import benchmark

    backend, models = build_backend(name)
    samples = benchmark(4)(1)
    views = []
    for index, sample in enumerate(samples):
        assert sample.uv is not None
        views.append(
            View(
                index, sample.camera, sample.uv, np.full(21, 3.0), np.zeros((21, 3)), 0.9,
                0.95 if sample.side == "right" else 0.05, rois_from_landmarks(sample.uv)[0],
                Frame(sample.camera, 0, np.ascontiguousarray(sample.image)),
            )
        )  # fmt: skip
    votes = 9.0 if samples[0].side == "right" else -9.0
    assert samples[0].joints is not None
    true = transform_points(invert_rigid(samples[0].camera.T_camera_world), samples[0].joints)
    errors = {}
    for count in (4, 3, 2):  # one is missing, then two
        (hand,) = backend.estimate([HandViews(tuple(views[:count]), None, votes)])
        assert hand is not None and hand.scale_source == "multi_view"
        errors[count] = float(np.linalg.norm(hand.joints - true, axis=-1).mean())
        assert np.isfinite(hand.covariance).all()
        mano = hand.mano
        assert mano is not None and mano.model_id == models[hand.side].model_id
        again = forward(
            models[hand.side], mano.global_orient[None], mano.hand_pose[None], mano.betas[None],
            mano.transl[None],
        )  # fmt: skip
        np.testing.assert_allclose(again.joints[0], hand.joints, atol=1e-6)
    assert errors[4] < 0.015 and max(errors.values()) < 0.03
