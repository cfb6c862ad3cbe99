"""HaMeR's vision transformer: size, keys, positions, the padding, and the published forward."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from hand_mesh_ros.networks.assets import AssetError
from hand_mesh_ros.networks.backbones import Origin, create_backbone, pretrained, read_weights
from hand_mesh_ros.networks.vit import VIT_H_HAMER, Attention, ViT, ViTConfig, cut_to_shape

TINY = ViTConfig(width=24, depth=3, heads=3, image=(64, 48), drop_path=0.5)


def _tiny(config: ViTConfig = TINY) -> ViT:
    torch.manual_seed(0)
    return ViT(config)


def _huge() -> ViT:
    with torch.device("meta"):
        return ViT(VIT_H_HAMER)


def test_published_size_and_shapes() -> None:
    network = _huge()
    assert sum(p.numel() for p in network.parameters()) == 630_912_000
    assert len(network.state_dict()) == 389
    for width in (256, 192):
        images = torch.empty(2, 3, 256, width, device="meta")
        assert network(images).shape == (2, 1280, 16, 12)
    rates = [block.drop_path for block in network.blocks]
    np.testing.assert_allclose(rates, np.linspace(0, 0.55, 32))


def test_keys_are_hamers() -> None:
    parts = ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")
    modules = [f"blocks.{k}.{part}" for k in range(32) for part in parts]
    modules += ["patch_embed.proj", "last_norm"]
    expected = {"pos_embed", *(f"{m}.{n}" for m in modules for n in ("weight", "bias"))}
    assert set(_huge().state_dict()) == expected


def test_keys_and_shapes_are_those_of_the_published_list(shared_data: Path) -> None:
    published = {}
    for line in (shared_data / "parity" / "hamer_state_dict.txt").read_text().splitlines():
        if line.startswith("backbone."):
            key, shape, _ = line.split("\t")
            published[key.removeprefix("backbone.")] = shape
    assert published == {k: str(tuple(v.shape)) for k, v in _huge().state_dict().items()}


def test_forward_is_that_of_the_published_network(shared_data: Path) -> None:
    """Tiny weights and outputs made with the published classes; keys under "backbone."."""
    path = shared_data / "parity" / "hamer_tiny.pt"
    network = pretrained(
        lambda: ViT(ViTConfig(width=64, depth=2, heads=4)), "tiny", Origin("", ""), path
    ).eval()
    arrays = np.load(shared_data / "parity" / "hamer_tiny_io.npz")
    expected = torch.tensor(arrays["backbone_feat"])
    mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    deviation = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    normalised = torch.tensor(arrays["img"])
    with torch.no_grad():
        features = network(normalised * deviation + mean)
        torch.testing.assert_close(features, expected, atol=1e-5, rtol=1e-5)
        encoded = network.encode(normalised[..., 32:-32])
    torch.testing.assert_close(encoded, expected, atol=1e-5, rtol=1e-5)


def test_attention_is_that_of_the_paper(rng: np.random.Generator) -> None:
    attention = Attention(12, 3).double()
    x = rng.normal(size=(5, 12))
    w, b = attention.qkv.weight.detach().numpy(), attention.qkv.bias.detach().numpy()
    q, k, v = np.split(x @ w.T + b, 3, axis=1)
    heads = []
    for h in range(3):
        part = slice(4 * h, 4 * h + 4)
        scores = np.exp(q[:, part] @ k[:, part].T / 2)
        heads.append(scores / scores.sum(1, keepdims=True) @ v[:, part])
    w, b = attention.proj.weight.detach().numpy(), attention.proj.bias.detach().numpy()
    result = attention(torch.tensor(x)[None])[0].detach().numpy()
    np.testing.assert_allclose(result, np.concatenate(heads, 1) @ w.T + b, atol=1e-12)


def test_patches_lie_two_pixels_up_and_left() -> None:
    """The trap of the padding: the first patch has 14 x 14 pixels, the last two are never seen."""
    network = _tiny()
    images = torch.rand(1, 3, 64, 48, requires_grad=True)
    patches = network.patch_embed(images)
    assert patches.shape == (1, 24, 4, 3)
    (slope,) = torch.autograd.grad(patches[0, :, 1, 1].sum(), images, retain_graph=True)
    seen = slope.abs().sum((0, 1)).nonzero()
    assert seen.min(0).values.tolist() == [14, 14] and seen.max(0).values.tolist() == [29, 29]
    (slope,) = torch.autograd.grad(patches.sum(), images)
    seen = slope.abs().sum((0, 1)) > 0
    assert seen[:62, :46].all() and not seen[62:].any() and not seen[:, 46:].any()


def test_positions_get_the_class_tokens_and_are_resized_on_other_grids() -> None:
    network = _tiny()
    rows, columns = TINY.grid
    assert network.pos_embed.shape == (1, rows * columns + 1, 24)
    with torch.no_grad():
        positions = network.positions(rows, columns)
        torch.testing.assert_close(
            positions, network.pos_embed[:, 1:] + network.pos_embed[:, :1], rtol=0, atol=0
        )
        # a ramp down the rows stays one, away from the border, and rows stay rows
        ramp = torch.arange(rows, dtype=torch.float32).repeat_interleave(columns)
        network.pos_embed[0, 1:] = ramp[:, None]
        network.pos_embed[0, 0] = 100
        resized = network.positions(2 * rows, 2 * columns)[0, :, 0].view(2 * rows, 2 * columns)
    expected = 100 + (torch.arange(2 * rows) + 0.5) / 2 - 0.5
    # torch's cubic bends a straight line by up to 3/64
    torch.testing.assert_close(
        resized[3:-3], expected[3:-3, None].expand(-1, 2 * columns), atol=0.05, rtol=0
    )


def test_wide_crops_are_cut_at_both_sides() -> None:
    images = torch.arange(256.0).expand(1, 3, 256, 256)
    cut = cut_to_shape(images, 256, 192)
    torch.testing.assert_close(cut, images[..., 32:-32], rtol=0, atol=0)
    assert cut_to_shape(images[..., 32:-32], 256, 192).shape[3] == 192
    with pytest.raises(ValueError, match="256 x 191 pixels are too narrow .* 192 columns"):
        cut_to_shape(images[..., :191], 256, 192)


@pytest.mark.parametrize(("size", "grid"), [((64, 64), (4, 3)), ((96, 96), (6, 4))])
def test_shapes_and_gradients(size: tuple[int, int], grid: tuple[int, int]) -> None:
    network = _tiny().eval()  # while training, all four may skip a block
    features = network(torch.rand(4, 3, *size))
    assert features.shape == (4, network.channels, *grid)
    (features * torch.rand(features.shape)).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_the_last_norm_is_over_channels() -> None:
    features = _tiny()(torch.rand(2, 3, 64, 48)).detach()
    torch.testing.assert_close(features.mean(1), torch.zeros(2, 4, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(
        features.var(1, correction=0), torch.ones(2, 4, 3), rtol=1e-3, atol=0
    )


def test_samples_skip_blocks_only_while_training() -> None:
    network = _tiny()
    images = torch.rand(1, 3, 64, 48).expand(64, -1, -1, -1)
    with torch.no_grad():
        torch.manual_seed(3)
        trained = network(images)
        torch.manual_seed(3)
        torch.testing.assert_close(network(images), trained, rtol=0, atol=0)
        # 2 branches of each block that may be skipped; one block of rate 0, one .25, one .5
        assert 8 < len(trained.flatten(1).round(decimals=3).unique(dim=0)) <= 16
        network.eval()
        evaluated = network(images)
        torch.testing.assert_close(network(images), evaluated, rtol=0, atol=0)
        torch.testing.assert_close(evaluated, evaluated[:1].expand_as(evaluated))
        block = network.blocks[2].train()
        mean = block._drop(torch.ones(4000, 1, 1)).mean()
    assert abs(mean - 1) < 0.1  # what is left makes up for what is skipped


def test_bad_sizes_are_told() -> None:
    with pytest.raises(ValueError, match="width 10 is not a multiple of heads 3"):
        ViTConfig(width=10, heads=3)
    with pytest.raises(ValueError, match=r"image \(100, 64\) is not a multiple of patch 16"):
        ViTConfig(image=(100, 64))
    with pytest.raises(ValueError, match="drop_path 1 is not"):
        ViTConfig(drop_path=1)


def test_absent_weights_tell_where_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HAND_MESH_HOME", str(tmp_path))
    with pytest.raises(AssetError, match="vit_h_hamer.* is missing") as told:
        create_backbone("vit_h_hamer")
    for word in (str(tmp_path), "geopavlakos/hamer", "MIT", "Apache-2.0", "non-commercial"):
        assert word in str(told.value)


class _Malice:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("code in a file of weights was run",)


def test_nothing_in_a_file_is_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bad.ckpt"
    torch.save({"state_dict": _tiny().state_dict(), "hyper_parameters": _Malice()}, path)
    with pytest.raises(AssetError, match="bad.ckpt .* could run code"):
        read_weights(path)
    assert "was run" not in capsys.readouterr().out


def test_files_that_are_no_weights_are_told(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(b"not this")
    with pytest.raises(AssetError, match="w.safetensors cannot be read as weights"):
        read_weights(path)
    path = tmp_path / "w.pth"
    torch.save([1, 2], path)
    with pytest.raises(AssetError, match="w.pth holds no tensors by name"):
        read_weights(path)
    with pytest.raises(AssetError, match="nowhere.pth is missing"):
        create_backbone("vit_h_hamer", weights=tmp_path / "nowhere.pth")


def test_half_precision_files_are_read_as_float32(tmp_path: Path) -> None:
    state: dict[str, Tensor] = _tiny().half().state_dict()
    path = tmp_path / "half.pth"
    torch.save({"state_dict": state}, path)
    read = read_weights(path)
    assert read.keys() == state.keys()
    assert all(
        v.dtype == torch.float32 and torch.equal(v.half(), state[k]) for k, v in read.items()
    )
