"""DenseStack: sizes as published, blocks against the formulas, gradients through every weight."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hand_mesh_ros.networks.assets import AssetError
from hand_mesh_ros.networks.backbones import create_backbone
from hand_mesh_ros.networks.densestack import (
    DenseBlock,
    DenseBlock2,
    DenseBlock2NoExpand,
    DenseStack,
    DenseStack2,
    DenseStack2Encoder,
    DenseStackEncoder,
    SeparableUnit,
    SqueezeExcite,
)


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_published_sizes() -> None:
    with torch.device("meta"):
        stack2, encoder = DenseStack2(128, 24), DenseStackEncoder()
        half, unused = DenseStack2Encoder(128), _count(SqueezeExcite(1024))
        shared = encoder(torch.rand(2, 3, 128, 128))
        features, latent = stack2(shared)
        points = nn.Sequential(nn.Conv2d(24, 21, 1), nn.Conv2d(1024, 256, 1))
        mlp = [nn.Linear(a, b, bias=False) for a, b in ((256, 128), (128, 64), (64, 2))]
        uv = nn.Sequential(*mlp, nn.BatchNorm1d(128), nn.BatchNorm1d(64))
    assert shared.shape == (2, 128, 32, 32)
    assert features.shape == (2, 24, 16, 16) and latent.shape == (2, 1024, 4, 4)
    # the papers' networks are made with one more squeeze-and-excite a stack, which they never use
    assert round((_count(half) + unused) / 1e6, 2) == 3.94
    whole = _count(encoder) + _count(stack2) + 2 * unused + _count(points) + _count(uv)
    assert round(whole / 1e6, 2) == 8.58


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("after", [6, 4])
def test_separable_units_are_convolutions(depth: int, after: int, rng: np.random.Generator) -> None:
    """Each step against a dense convolution whose kernel is zero across channels."""
    unit = SeparableUnit(6, after, depth).eval()
    x = torch.tensor(rng.normal(size=(2, 6, 5, 7)), dtype=torch.float32)
    y = x
    for conv, norm, _ in unit.depthwise:  # type: ignore[misc]
        dense = torch.zeros(6, 6, 3, 3)
        dense[range(6), range(6)] = conv.weight[:, 0].detach()
        y = norm(nn.functional.conv2d(y, dense, padding=1)).relu()
    conv, norm, _ = unit.pointwise
    y = norm(torch.einsum("oi,nihw->nohw", conv.weight[:, :, 0, 0], y)).relu()
    expected = x + y if after == 6 else y
    torch.testing.assert_close(unit(x), expected, atol=1e-5, rtol=1e-5)


def test_dense_blocks_keep_what_came_in() -> None:
    x = torch.rand(2, 8, 4, 4)
    for block in (DenseBlock(8), DenseBlock2(8)):
        y = block(x)
        assert y.shape == (2, 16, 4, 4)
        torch.testing.assert_close(y[:, :8], x, rtol=0, atol=0)
    assert len(DenseBlock(8).units) == 4 and len(DenseBlock2(8).units) == 2
    plain = DenseBlock2NoExpand(8).eval()
    first = plain.first(x)
    second = plain.second(torch.cat([x, first], 1))
    assert first.shape[1] == 6 and second.shape[1] == 2
    torch.testing.assert_close(plain(x), torch.cat([first, second], 1))


def test_squeeze_excite_clips_at_four_and_weights_by_means() -> None:
    module = SqueezeExcite(8).eval()
    linear, _ = module.squeeze
    assert isinstance(linear, nn.Linear) and linear.out_features == 4
    means = torch.rand(3, 8)
    x = means[:, :, None, None] + torch.tensor([-0.5, 0.5])
    hidden = (means @ linear.weight.T * 1e4 / (1 + 1e-5) ** 0.5).clip(0, 4)  # most are cut
    with torch.no_grad():
        linear.weight *= 1e4
    weights = torch.sigmoid(module.excite(hidden))
    torch.testing.assert_close(module(x), x * weights[:, :, None, None])
    assert (hidden == 4).any() and (hidden == 0).any()


def test_up_adds_what_down_gave() -> None:
    """Bilinear to the corners: the corners of the result are those of the half-sized one."""
    torch.manual_seed(0)
    stack, half = DenseStack(8, 4).eval(), DenseStack2(8, 4).eval()
    x = torch.rand(2, 8, 16, 16)
    first, second, third = stack.down(x)
    assert [t.shape[1:] for t in (first, second, third)] == [(16, 8, 8), (32, 4, 4), (64, 2, 2)]
    up = stack.up
    before = up.third(up.second(up.first(third) + second) + first)
    result = stack(x)
    assert result.shape == (2, 4, 16, 16)
    torch.testing.assert_close(result[..., ::15, ::15], before[..., ::7, ::7])
    features, latent = half(x)
    torch.testing.assert_close(latent, half.encoder(x))
    assert features.shape == (2, 4, 8, 8)


def _gradients(network: nn.Module, loss: Tensor) -> None:
    loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_every_weight_has_a_gradient() -> None:
    torch.manual_seed(0)
    encoder, stack = DenseStackEncoder(8, 4), DenseStack2(16, 4)
    features, latent = stack(encoder(torch.rand(3, 3, 128, 128)))
    assert encoder.channels == 16
    _gradients(nn.ModuleList([encoder, stack]), features.square().mean() + latent.square().mean())


def test_as_a_backbone_it_is_the_same_every_time_or_a_file(tmp_path: Path) -> None:
    one, two = create_backbone("densestack"), create_backbone("densestack")
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    state = {k: v + 1 for k, v in one.state_dict().items()}
    torch.save(state, tmp_path / "mine.pth")
    loaded = create_backbone("densestack", tmp_path / "mine.pth").state_dict()
    assert all(torch.equal(loaded[k], state[k]) for k in state)
    del state["join.0.weight"]
    torch.save(state, tmp_path / "mine.pth")
    with pytest.raises(AssetError, match=r"missing \(1\): join.0.weight"):
        create_backbone("densestack", tmp_path / "mine.pth")
