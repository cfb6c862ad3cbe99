"""WiLoR: keys as published, the published forward, and where its refinement looks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from hand_mesh_ros.hand.model import load_hand_model
from hand_mesh_ros.networks.checkpoints import open_reconstructor
from hand_mesh_ros.networks.refine_net import RefineNet
from hand_mesh_ros.networks.vit import ViTConfig
from hand_mesh_ros.networks.wilor import QUESTIONS, Wilor, WilorConfig

TINY = WilorConfig(ViTConfig(width=16, depth=1, heads=2, image=(64, 48)))


def test_keys_shapes_and_types_are_the_published_ones(shared_data: Path) -> None:
    with torch.device("meta"):
        network = Wilor(training_parts=True)
    ours = {
        key: f"{tuple(value.shape)}\t{str(value.dtype).removeprefix('torch.')}"
        for key, value in network.state_dict().items()
    }
    published = (shared_data / "parity" / "wilor_state_dict.txt").read_text().splitlines()
    assert ours == dict(line.split("\t", 1) for line in published if line[0] != "#")
    assert len(ours) == 490


def test_published_sizes() -> None:
    with torch.device("meta"):
        network = Wilor()
    parts = (network.backbone, network.refine_net)
    counts = [sum(p.numel() for p in part.parameters()) for part in parts]
    assert counts == [630_964_499, 8_316_429]


@pytest.mark.parametrize("inrange", [False, True])
def test_forward_is_that_of_the_published_network(shared_data: Path, inrange: bool) -> None:
    """The second fixture has a camera with which refinement sees something, see the reference."""
    network = open_reconstructor(shared_data / "parity" / "wilor_tiny.pt")
    assert isinstance(network, Wilor)
    name = "wilor_tiny_inrange_io.npz" if inrange else "wilor_tiny_io.npz"
    fixture = np.load(shared_data / "parity" / name)
    override = {k: fixture[k] for k in fixture.files if k.startswith("override.")}
    assert bool(override) == inrange
    network.load_state_dict(
        {k.removeprefix("override."): torch.tensor(v) for k, v in override.items()}, strict=False
    )
    with torch.no_grad():
        hands = network(torch.tensor(fixture["img"]))
    for part, name in (
        (hands.cam, "pred_cam"),
        (hands.cam_t, "pred_cam_t"),
        (hands.joints, "pred_keypoints_3d"),
        (hands.vertices, "pred_vertices"),
        (hands.joints_2d, "pred_keypoints_2d"),
    ):
        np.testing.assert_allclose(part, fixture[name], rtol=1e-5, atol=1e-5, err_msg=name)


def test_published_refinement_sees_one_corner_and_an_aligned_one_the_hand() -> None:
    torch.manual_seed(0)
    cam = torch.tensor([[5.0, 0, 0]])
    vertices = 0.05 * torch.randn(1, 50, 3)
    maps = torch.randn(1, 4, 16, 12)
    other = torch.randn_like(maps)
    other[..., :2, :2] = maps[..., :2, :2]
    published, aligned = RefineNet(16, "published"), RefineNet(16, "aligned")
    assert torch.equal(
        published.sample([maps], vertices, cam), published.sample([other], vertices, cam)
    )
    assert not torch.equal(
        aligned.sample([maps], vertices, cam), aligned.sample([other], vertices, cam)
    )


def test_aligned_refinement_looks_where_the_vertex_is_seen() -> None:
    """A map of its own pixels' places gives the place: in a 192 x 256 cut of a square crop."""
    rows, columns = 16, 12
    v, u = torch.meshgrid(torch.arange(16.0), torch.arange(12.0), indexing="ij")
    # far in front of the crop's camera, perspective is weak: x_n = s / 2 (X + tx)
    cam = torch.tensor([[5.0, 0.02, -0.03]])
    vertex = torch.tensor([[[0.06, 0.09, 0.0]]])
    sample = RefineNet(16, "aligned").sample([torch.stack([u, v])[None]], vertex, cam)
    x, y = 2.5 * 0.08, 2.5 * 0.06
    expected = [(x * 256 / 192 + 0.5) * columns - 0.5, (y + 0.5) * rows - 0.5]
    np.testing.assert_allclose(sample[0], expected, atol=1e-4)


def test_what_is_refined_starts_from_the_coarse_estimate() -> None:
    torch.manual_seed(0)
    network = Wilor(TINY, load_hand_model()).eval()
    crops = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        for layer in (n for n in network.refine_net.children() if isinstance(n, torch.nn.Linear)):
            layer.weight.zero_()
            layer.bias.zero_()
        coarse = network.coarse(crops)
        assert coarse.features.shape == (2, 16, 4, 3)
        assert QUESTIONS == 18 and network.backbone.questions().shape == (1, 18, 16)
        hands = network(crops)
        torch.testing.assert_close(hands.cam, coarse.raw.cam, rtol=0, atol=0)
        network.refine_net.dec_cam.bias.copy_(torch.tensor([0.5, 1, 2]))
        torch.testing.assert_close(network(crops).cam - hands.cam, torch.tensor([[0.5, 1, 2]] * 2))


def test_the_mean_is_what_is_asked_and_added_to() -> None:
    torch.manual_seed(0)
    backbone = Wilor(TINY).backbone
    tokens = torch.zeros(1, 18, 16)
    with torch.no_grad():
        answers = backbone.answers(tokens)
        torch.testing.assert_close(answers.cam - backbone.deccam.bias, backbone.init_cam)
        backbone.init_hand_pose[0, 6:12] += 1  # of the second joint only
        raised = backbone.answers(tokens)
        asked = backbone.questions()
        backbone.init_hand_pose[0, 6:12] -= 1
        changed = (backbone.questions() != asked).any(-1)[0].nonzero().flatten()
    assert (raised.pose6d != answers.pose6d).any(-1)[0].nonzero().flatten().tolist() == [1]
    assert changed.tolist() == [1]


def test_bad_widths_are_told() -> None:
    with pytest.raises(ValueError, match="multiple of 8, not 12"):
        RefineNet(12)
