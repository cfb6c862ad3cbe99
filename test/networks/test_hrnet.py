"""HRNets: published sizes and keys, and how branches are exchanged and summed up."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from hand_mesh_ros.networks.assets import AssetError
from hand_mesh_ros.networks.backbones import create_backbone
from hand_mesh_ros.networks.hrnet import Exchange, HRNet

NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def _tiny() -> HRNet:
    torch.manual_seed(0)
    return HRNet(4, (1, 1, 1), blocks=1, stem=4, head=(2, 3, 4, 5), channels=24)


# millions, as the authors and timm publish them, with the classifier of 1000 classes
@pytest.mark.parametrize(("width", "millions"), [(18, 21.30), (32, 41.23), (64, 128.06)])
def test_published_sizes(width: int, millions: float) -> None:
    with torch.device("meta"):
        network = HRNet(width)
        vector, maps = network.vector_and_maps(torch.rand(2, 3, 224, 224))
        features = network(torch.rand(1, 3, 64, 96))
    count = sum(p.numel() for p in network.parameters()) + 2048 * 1000 + 1000
    assert round(count / 1e6, 2) == millions
    assert vector.shape == (2, 2048) and features.shape == (1, 2048, 2, 3)
    assert [m.shape[1:] for m in maps] == [(width << k, 56 >> k, 56 >> k) for k in range(3)]
    assert network.local_channels == tuple(m.shape[1] for m in maps)


def _published_keys() -> set[str]:
    """Of the W64-C file, from the paper's layout: 1, 4 and 3 modules of 2, 3 and 4 branches."""
    keys = {"conv1.weight", "conv2.weight", *(f"bn{k}.{n}" for k in (1, 2) for n in NORM)}

    def block(at: str, convs: int, shortcut: bool) -> None:
        for k in range(1, convs + 1):
            keys.add(f"{at}.conv{k}.weight")
            keys.update(f"{at}.bn{k}.{n}" for n in NORM)
        if shortcut:
            unit(f"{at}.downsample")

    def unit(at: str, bias: bool = False) -> None:
        keys.update({f"{at}.0.weight", *(f"{at}.1.{n}" for n in NORM)})
        keys.update({f"{at}.0.bias"} if bias else ())

    for k in range(4):
        block(f"layer1.{k}", 3, shortcut=k == 0)
        block(f"incre_modules.{k}.0", 3, shortcut=True)
    for at in ("transition1.0", "transition1.1.0", "transition2.2.0", "transition3.3.0"):
        unit(at)
    for stage, modules in ((2, 1), (3, 4), (4, 3)):
        for module in range(modules):
            at = f"stage{stage}.{module}"
            for i in range(stage):
                for k in range(4):
                    block(f"{at}.branches.{i}.{k}", 2, shortcut=False)
                for j in range(stage):
                    if j > i:
                        unit(f"{at}.fuse_layers.{i}.{j}")
                    for step in range(i - j):
                        unit(f"{at}.fuse_layers.{i}.{j}.{step}")
    for k in range(3):
        unit(f"downsamp_modules.{k}", bias=True)
    unit("final_layer", bias=True)
    return keys


def test_keys_are_those_of_the_published_files() -> None:
    with torch.device("meta"):
        state = HRNet(64).state_dict()
    assert set(state) == _published_keys()
    assert state["stage4.0.fuse_layers.3.0.1.0.weight"].shape == (64, 64, 3, 3)
    assert state["stage4.0.fuse_layers.3.0.2.0.weight"].shape == (512, 64, 3, 3)
    assert state["stage4.2.fuse_layers.0.3.0.weight"].shape == (64, 512, 1, 1)
    assert state["incre_modules.3.0.conv3.weight"].shape == (1024, 256, 1, 1)
    assert state["final_layer.0.weight"].shape == (2048, 1024, 1, 1)


def _settled(network: nn.Module) -> nn.Module:
    """Statistics that are not what batch norms start from."""
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.running_mean, -1, 1)
            nn.init.uniform_(norm.running_var, 0.5, 2)
    return network.eval()


def test_branches_are_exchanged_as_the_paper_says() -> None:
    torch.manual_seed(0)
    exchange = _settled(Exchange((4, 8, 16), 1))
    widths, sizes = (4, 8, 16), (8, 4, 2)
    x = [torch.randn(2, w, s, s) for w, s in zip(widths, sizes, strict=True)]
    assert isinstance(exchange, Exchange)
    own = [blocks(v) for blocks, v in zip(exchange.branches, x, strict=True)]
    ways = exchange.fuse_layers
    # to the middle: the fine one by one strided convolution without ReLU, the coarse one repeated
    fine = ways[1]["0"][0][1](ways[1]["0"][0][0](own[0]))  # type: ignore[index]
    coarse = ways[1]["2"][1](ways[1]["2"][0](own[2]))  # type: ignore[index]
    coarse = coarse.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert (fine < 0).any() and len(ways[1]["0"][0]) == 2  # type: ignore[index]
    result = exchange(x)
    torch.testing.assert_close(result[1], (own[1] + fine + coarse).relu())
    # from finest to coarsest: two steps, ReLU between them only
    first, second = ways[2]["0"]  # type: ignore[index]
    assert len(first) == 3 and len(second) == 2
    assert [tuple(r.shape) for r in result] == [tuple(v.shape) for v in x]


def test_the_head_sums_from_fine_to_coarse() -> None:
    network = _settled(_tiny())
    assert isinstance(network, HRNet)
    images = torch.rand(2, 3, 64, 64)
    maps = network.maps(images)
    wide = [f(m) for f, m in zip(network.incre_modules, maps, strict=True)]
    down = network.downsamp_modules
    last = wide[3] + down[2](wide[2] + down[1](wide[1] + down[0](wide[0])))
    expected = network.final_layer(last)
    torch.testing.assert_close(network(images), expected)
    vector, local = network.vector_and_maps(images)
    torch.testing.assert_close(vector, expected.mean((2, 3)))
    assert all(torch.equal(a, b) for a, b in zip(local, maps[:3], strict=True))


def test_every_weight_has_a_gradient() -> None:
    network = _tiny()
    network(torch.rand(3, 3, 64, 64)).square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_weights_are_read_with_their_classifier_left_out(tmp_path: Path) -> None:
    torch.manual_seed(1)
    state = dict(HRNet(18).state_dict())
    file = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    file |= {"classifier.weight": torch.rand(1000, 2048), "classifier.bias": torch.rand(1000)}
    save_file(file, tmp_path / "mine.safetensors")
    loaded = create_backbone("hrnet_w18", tmp_path / "mine.safetensors").state_dict()
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[k], file[k]) for k in loaded if k in file)
    with pytest.raises(AssetError, match="does not hold the weights of hrnet_w32"):
        create_backbone("hrnet_w32", tmp_path / "mine.safetensors")


def test_where_weights_are_had_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAND_MESH_HOME", str(tmp_path))
    with pytest.raises(AssetError, match=r"hrnet_w64.* is missing: .*timm/hrnet_w64.*MIT"):
        create_backbone("hrnet_w64")
