"""ResNets: sizes, keys, and their blocks against slow ones in NumPy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from hand_mesh_ros.networks.assets import AssetError
from hand_mesh_ros.networks.backbones import create_backbone, standardise
from hand_mesh_ros.networks.resnet import BasicBlock, Bottleneck, ResNet

KINDS = {18: (BasicBlock, (2, 2, 2, 2)), 34: (BasicBlock, (3, 4, 6, 3))}
KINDS[50] = (Bottleneck, (3, 4, 6, 3))  # type: ignore[assignment]


def _tiny(block: type[BasicBlock] | type[Bottleneck] = Bottleneck) -> ResNet:
    torch.manual_seed(0)
    return ResNet(block, (1, 2, 1, 1), width=4)


@pytest.mark.parametrize(
    ("depth", "parameters", "channels"),
    # torchvision's published counts, less those of the classifier of 1000 classes
    [
        (18, 11_689_512 - 513_000, 512),
        (34, 21_797_672 - 513_000, 512),
        (50, 25_557_032 - 2_049_000, 2048),
    ],
)
def test_published_sizes(depth: int, parameters: int, channels: int) -> None:
    with torch.device("meta"):
        network = ResNet(*KINDS[depth])
        maps = network.maps(torch.rand(2, 3, 256, 256))
    assert sum(p.numel() for p in network.parameters()) == parameters
    assert network.channels == channels
    assert [tuple(m.shape) for m in maps] == [
        (2, channels // (8 >> k), 64 >> k, 64 >> k) for k in range(4)
    ]


def test_keys_are_torchvisions() -> None:
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    expected = {"conv1.weight", *(f"bn1.{n}" for n in norm)}
    for layer, count in enumerate((3, 4, 6, 3), 1):
        for block in range(count):
            at = f"layer{layer}.{block}"
            for k in (1, 2, 3):
                expected |= {f"{at}.conv{k}.weight", *(f"{at}.bn{k}.{n}" for n in norm)}
            if block == 0:
                expected |= {f"{at}.downsample.0.weight", *(f"{at}.downsample.1.{n}" for n in norm)}
    with torch.device("meta"):
        state = ResNet(*KINDS[50]).state_dict()
    assert set(state) == expected
    # strides in the 3 x 3 convolution; the first block of layer1 widens without a stride
    assert state["layer2.0.conv2.weight"].shape == (128, 128, 3, 3)
    assert state["layer1.0.downsample.0.weight"].shape == (256, 64, 1, 1)


def _slow_conv(x: np.ndarray, weight: np.ndarray, stride: int) -> np.ndarray:
    pad = weight.shape[-1] // 2
    x = np.pad(x, ((0, 0), (pad, pad), (pad, pad)))
    windows = np.lib.stride_tricks.sliding_window_view(x, weight.shape[2:], (1, 2))
    return np.einsum("chwij,ocij->ohw", windows[:, ::stride, ::stride], weight)


def _slow_norm(x: np.ndarray, state: dict[str, np.ndarray], name: str) -> np.ndarray:
    weight, bias, mean, variance = (
        state[f"{name}.{n}"][:, None, None]
        for n in ("weight", "bias", "running_mean", "running_var")
    )
    return (x - mean) / np.sqrt(variance + 1e-5) * weight + bias


@pytest.mark.parametrize("kind", [BasicBlock, Bottleneck])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("before", [4, 16])
def test_blocks_are_those_of_the_paper(
    kind: type[BasicBlock] | type[Bottleneck], stride: int, before: int, rng: np.random.Generator
) -> None:
    block = kind(before, 4, stride).double().eval()
    for norm in block.modules():
        if isinstance(norm, nn.BatchNorm2d):
            for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
                tensor.data = torch.tensor(rng.uniform(0.5, 2, len(tensor)))
    state = {k: v.numpy() for k, v in block.state_dict().items()}
    x = rng.normal(size=(before, 7, 6))

    count = 3 if kind is Bottleneck else 2
    strides = {2: (stride, 1), 3: (1, stride, 1)}[count]
    y = x
    for k in range(1, count + 1):
        y = _slow_norm(_slow_conv(y, state[f"conv{k}.weight"], strides[k - 1]), state, f"bn{k}")
        y = np.maximum(y, 0) if k < count else y
    straight = stride == 1 and before == 4 * kind.expansion
    assert ("downsample.0.weight" in state) != straight
    if not straight:
        x_short = _slow_conv(x, state["downsample.0.weight"], stride)
        x_short = _slow_norm(x_short, state, "downsample.1")
    expected = np.maximum(y + (x if straight else x_short), 0)

    with torch.no_grad():
        result = block(torch.tensor(x)[None])[0].numpy()
    np.testing.assert_allclose(result, expected, atol=1e-12)
    assert (result > 0).any() and (result == 0).any()


def test_images_are_standardised_as_imagenet_is() -> None:
    mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    deviation = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    images = torch.rand(2, 3, 4, 5)
    torch.testing.assert_close(standardise(images), (images - mean) / deviation)


@pytest.mark.parametrize("block", [BasicBlock, Bottleneck])
def test_shapes_gradients_and_determinism(block: type[BasicBlock] | type[Bottleneck]) -> None:
    network, again = _tiny(block), _tiny(block)
    images = torch.rand(2, 3, 96, 64)
    features = network(images)
    assert features.shape == (2, network.channels, 3, 2)
    torch.testing.assert_close(features, again(images), rtol=0, atol=0)
    features.square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())
    # evaluated, an image's features do not depend on its neighbours in the batch
    network.eval()
    torch.testing.assert_close(network(images)[:1], network(images[:1]))


@pytest.fixture(scope="module")
def resnet18_weights() -> dict[str, Tensor]:
    torch.manual_seed(1)
    network = ResNet(BasicBlock, (2, 2, 2, 2))
    network(torch.rand(2, 3, 32, 32))  # so that statistics are not what they start from
    return dict(network.state_dict())


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_weights_come_from_the_cache(
    suffix: str,
    resnet18_weights: dict[str, Tensor],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HAND_MESH_HOME", str(tmp_path))
    with pytest.raises(AssetError, match=r"resnet18.* is missing: .*pytorch.org.*BSD-3-Clause"):
        create_backbone("resnet18")
    path = tmp_path / "backbones" / f"resnet18{suffix}"
    path.parent.mkdir()
    # torchvision's files have a classifier, and the older ones no counts of batches
    file = {k: v for k, v in resnet18_weights.items() if not k.endswith("num_batches_tracked")}
    file |= {"fc.weight": torch.rand(1000, 512), "fc.bias": torch.rand(1000)}
    save_file(file, path) if suffix == ".safetensors" else torch.save(file, path)

    network = create_backbone("resnet18")
    state = network.state_dict()
    assert state.keys() == resnet18_weights.keys()
    assert all(torch.equal(state[k], file[k]) for k in state if k in file)
    assert all(p.requires_grad and p.device.type == "cpu" for p in network.parameters())
    network(torch.rand(2, 3, 64, 64)).mean().backward()
    assert network.bn1.num_batches_tracked == 1  # type: ignore[union-attr]


def test_files_that_do_not_fit_are_told_in_full(
    resnet18_weights: dict[str, Tensor], tmp_path: Path
) -> None:
    path = tmp_path / "mine.pth"
    file = resnet18_weights | {"layer5.weight": torch.zeros(1), "head": torch.zeros(1)}
    torch.save(file, path)
    with pytest.raises(AssetError, match="does not hold the weights of resnet50") as told:
        create_backbone("resnet50", weights=path)
    with torch.device("meta"):
        ours = ResNet(*KINDS[50]).state_dict()
    missing, unexpected, other = str(told.value).splitlines()[1:]
    # ours that the file lacks, and the file's that are not ours
    lacking = {k for k in ours if k not in resnet18_weights and "num_batches" not in k}
    assert missing == f"missing ({len(lacking)}): " + ", ".join(k for k in ours if k in lacking)
    assert unexpected == "unexpected (2): layer5.weight, head"
    assert "layer1.0.conv1.weight (64, 64, 3, 3) instead of (64, 64, 1, 1)" in other
