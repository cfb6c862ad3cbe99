"""AMVUR as a backend's network: crops in, calibrated answers out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hand_mesh_ros.hand.model import load_hand_model
from hand_mesh_ros.networks.amvur import AmvurNetwork, AmvurSettings
from hand_mesh_ros.networks.assets import AssetError, landmark_network_path
from hand_mesh_ros.perception.amvur_network import SHIPPED, AmvurHandNetwork, own_rule
from hand_mesh_ros.perception.estimate import NetworkOptions, create_backend
from hand_mesh_ros.perception.learned import CropBatch, HandNetwork
from hand_mesh_ros.perception.learned_fit import LearnedFit


@pytest.fixture(scope="module")
def network() -> AmvurHandNetwork:
    try:
        landmark_network_path("hand_landmark_full")
    except AssetError as error:
        pytest.skip(str(error))
    model = load_hand_model()
    torch.manual_seed(0)
    made = AmvurNetwork(model, AmvurSettings(vertices=16, prior_hidden=32))
    made.calibration.joints.fill_(2.0)
    return AmvurHandNetwork(made, model.model_id, "cpu", own_rule(made.calibration.id))


def batch_of(count: int) -> CropBatch:
    crops = torch.randint(0, 255, (count, 3, 224, 224), generator=torch.Generator().manual_seed(0))
    return CropBatch(
        crops.float(), np.arange(count), np.tile(np.eye(3), (count, 1, 1)), np.full(count, 0.25)
    )


def test_it_answers_as_a_hand_network(network: AmvurHandNetwork) -> None:
    assert isinstance(network, HandNetwork)
    said = network(batch_of(3))
    assert said.joints.shape == (3, 21, 3) and said.uv.shape == (3, 21, 2)
    np.testing.assert_array_equal(said.joints[:, 0], 0)
    assert said.rotations is not None and said.betas is not None
    np.testing.assert_allclose(np.linalg.det(said.rotations), 1, atol=1e-5)
    assert said.covariance is not None and said.visible is not None
    assert (np.linalg.eigvalsh(said.covariance.reshape(3, 63, 63)) > 0).all()
    assert ((said.visible >= 0) & (said.visible <= 1)).all()


def test_a_crop_is_answered_alone(network: AmvurHandNetwork) -> None:
    whole, first = network(batch_of(3)), network(batch_of(1))
    np.testing.assert_allclose(whole.joints[:1], first.joints, atol=1e-5)
    np.testing.assert_allclose(whole.covariance[:1], first.covariance, rtol=1e-3)  # type: ignore[index]


def test_the_card_names_the_calibration(network: AmvurHandNetwork) -> None:
    assert network.card.sigma.calibration.startswith("amvur-")
    assert network.card.model_id == load_hand_model().model_id


def test_the_backend_opens_what_ships() -> None:
    if not SHIPPED.is_file():
        pytest.skip("no weights ship yet")
    try:
        landmark_network_path("hand_landmark_full")
    except AssetError as error:
        pytest.skip(str(error))
    backend = create_backend("amvur", network=NetworkOptions())
    assert isinstance(backend, LearnedFit)
    assert backend.network.card.sigma.calibration != "none"


def test_covariances_of_all_joints_have_the_calibrated_ones_on_their_diagonal(
    network: AmvurHandNetwork,
) -> None:
    from hand_mesh_ros.networks.amvur_prior import evidence_cues

    inner = network._network
    found = network._evidence(batch_of(2).pictures())._asdict()
    seen = {name: torch.from_numpy(array) for name, array in found.items()}
    with torch.inference_mode():
        hands = inner(evidence_cues(seen, torch.full((2,), 4.0), inner.settings.maps))
        own, whole = inner.calibrated(hands).covariance, inner.together(hands)
    torch.testing.assert_close(torch.einsum("npipj->npij", whole), own)
