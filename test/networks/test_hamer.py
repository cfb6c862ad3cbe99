"""HaMeR: keys and sizes as published, its decoder on any tokens, and the published forward."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from hand_mesh_ros.geometry.rotations import log_so3
from hand_mesh_ros.hand.kinematics import forward
from hand_mesh_ros.hand.model import load_hand_model
from hand_mesh_ros.networks.checkpoints import open_reconstructor
from hand_mesh_ros.networks.discriminator import VERDICTS, Discriminator
from hand_mesh_ros.networks.hamer import HAMER, Hamer, HamerConfig
from hand_mesh_ros.networks.mano_decoder import (
    DecoderConfig,
    HamerDecoder,
    ManoMean,
    ManoReadout,
    OneTokenDecoder,
)
from hand_mesh_ros.networks.vit import ViTConfig

SMALL = DecoderConfig(context_dim=20, dim=24, depth=2, heads=3, dim_head=4, mlp_dim=16)
TINY = HamerConfig(ViTConfig(width=20, depth=1, heads=2, image=(64, 48)), SMALL)


def _published(path: Path) -> dict[str, tuple[str, str]]:
    lines = [line.split("\t") for line in path.read_text().splitlines() if line[0] != "#"]
    return {key: (shape, dtype) for key, shape, dtype in lines}


def test_keys_shapes_and_types_are_the_published_ones(shared_data: Path) -> None:
    with torch.device("meta"):
        network = Hamer(training_parts=True)
    ours = {
        key: (str(tuple(value.shape)), str(value.dtype).removeprefix("torch."))
        for key, value in network.state_dict().items()
    }
    assert ours == _published(shared_data / "parity" / "hamer_state_dict.txt")
    assert len(ours) == 563


def test_published_sizes() -> None:
    with torch.device("meta"):
        network = Hamer()
        raw = network.regress(network.features(torch.empty(2, 3, 256, 256)))
    assert sum(p.numel() for p in network.mano_head.parameters()) == 39_497_837
    assert sum(p.numel() for p in Discriminator().parameters()) == 1_545_211
    assert not any(k.startswith(("discriminator", "initialized")) for k in network.state_dict())
    assert [tuple(part.shape) for part in raw] == [(2, 16, 6), (2, 10), (2, 3)]


def test_forward_is_that_of_the_published_network(shared_data: Path) -> None:
    network = open_reconstructor(shared_data / "parity" / "hamer_tiny.pt")
    fixture = np.load(shared_data / "parity" / "hamer_tiny_io.npz")
    with torch.no_grad():
        hands = network(torch.tensor(fixture["img"]))
        # cut already: the same
        again = network(torch.tensor(fixture["img"])[..., 32:-32])
    for part, name in (
        (hands.rotations[:, :1], "pred_mano_params.global_orient"),
        (hands.rotations[:, 1:], "pred_mano_params.hand_pose"),
        (hands.betas, "pred_mano_params.betas"),
        (hands.cam, "pred_cam"),
        (hands.cam_t, "pred_cam_t"),
        (hands.joints, "pred_keypoints_3d"),
        (hands.vertices, "pred_vertices"),
        (hands.joints_2d, "pred_keypoints_2d"),
    ):
        np.testing.assert_allclose(part, fixture[name], rtol=1e-5, atol=1e-5, err_msg=name)
    torch.testing.assert_close(again.vertices, hands.vertices)


def test_a_hand_is_that_of_the_hand_model() -> None:
    """Without a fixture: the pose that comes out makes the mesh that comes out."""
    torch.manual_seed(0)
    model = load_hand_model()
    network = Hamer(TINY, model).eval()
    with torch.no_grad():
        hands = network(torch.randn(3, 3, 64, 64))
    turns = log_so3(hands.rotations.double().numpy()).reshape(3, 48)
    posed = forward(
        model, turns[:, :3], turns[:, 3:], hands.betas.double().numpy(), np.zeros((3, 3))
    )
    np.testing.assert_allclose(hands.joints, posed.joints, atol=2e-6)
    np.testing.assert_allclose(hands.vertices, posed.vertices, atol=2e-6)
    moved = hands.joints + hands.cam_t[:, None]
    np.testing.assert_allclose(
        hands.joints_2d, 5000 / 256 * moved[..., :2] / moved[..., 2:], rtol=1e-5
    )


def test_the_decoder_takes_tokens_of_any_backbone() -> None:
    torch.manual_seed(0)
    decoder = OneTokenDecoder(**vars(SMALL))
    tokens = torch.randn(4, 7, 20)
    with torch.no_grad():
        answer = decoder(tokens)
        assert answer.shape == (4, 24)
        # a set: their order says nothing, their content does
        torch.testing.assert_close(decoder(tokens.flip(1)), answer)
        assert (decoder(tokens + 0.5) - answer).abs().max() > 1e-3
        # one by one as together
        torch.testing.assert_close(decoder(tokens[2:3])[0], answer[2])
    head = HamerDecoder(context_dim=20, dim=24, depth=2, heads=3, dim_head=4, mlp_dim=16)
    raw = head(tokens)
    assert [tuple(part.shape) for part in raw] == [(4, 16, 6), (4, 10), (4, 3)]
    sum(part.square().sum() for part in raw).backward()  # type: ignore[union-attr]
    # all is trained but what a zero is multiplied with
    idle = {k for k, p in head.named_parameters() if p.grad is None or not p.grad.any()}
    assert idle == {"transformer.to_token_embedding.weight"}


def test_readouts_add_to_a_mean() -> None:
    mean = ManoMean(torch.arange(96.0), torch.arange(10.0), torch.tensor([4.0, 1, 2]))
    readout = ManoReadout(5, mean)
    with torch.no_grad():
        for layer in (readout.decpose, readout.decshape, readout.deccam):
            layer.weight.zero_()
            layer.bias.fill_(0.5)
        raw = readout(torch.randn(2, 5))
    np.testing.assert_array_equal(raw.pose6d[1], np.arange(96.0).reshape(16, 6) + 0.5)
    np.testing.assert_array_equal(raw.betas[0], np.arange(10.0) + 0.5)
    np.testing.assert_array_equal(raw.cam[0], [4.5, 1.5, 2.5])
    flat = ManoReadout(5)
    np.testing.assert_array_equal(flat.init_hand_pose[0, :12], 2 * [1, 0, 0, 0, 1, 0])


def test_no_crops_are_no_hands() -> None:
    hands = Hamer(TINY, load_hand_model()).eval()(torch.zeros(0, 3, 64, 64))
    assert hands.joints.shape == (0, 21, 3) and hands.cam_t.shape == (0, 3)


def test_sizes_that_do_not_fit_are_told() -> None:
    with pytest.raises(ValueError, match="looks at tokens of width 1280, .* have 20"):
        HamerConfig(TINY.backbone)
    with pytest.raises(ValueError, match="depth of a decoder must be positive, not 0"):
        DecoderConfig(depth=0)
    assert HAMER.backbone.width == HAMER.decoder.context_dim == 1280


def test_verdicts_are_of_each_joint_the_shape_and_all_together() -> None:
    torch.manual_seed(0)
    network = Discriminator()
    rotations, betas = torch.randn(2, 15, 3, 3), torch.randn(2, 10)
    with torch.no_grad():
        before = network(rotations, betas)
        rotations[0, 4] += 1
        turned = network(rotations, betas)
        betas[1] += 1
        shaped = network(rotations, betas)
    assert before.shape == (2, VERDICTS)
    assert (turned != before)[0].nonzero().flatten().tolist() == [4, 16]
    assert not (turned != before)[1].any()
    assert (shaped != turned)[1].nonzero().flatten().tolist() == [15]
