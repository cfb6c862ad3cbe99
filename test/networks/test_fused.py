"""The fused path is the plain network: at any size, in any precision, in any batch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from hand_mesh_ros.hand.model import load_hand_model
from hand_mesh_ros.networks.fused import FusedNetwork, fused
from hand_mesh_ros.networks.fused_graph import ahead
from hand_mesh_ros.networks.fused_linear import Precision, fastest, has_bfloat16, has_int8, linear
from hand_mesh_ros.networks.hamer import Hamer, HamerConfig
from hand_mesh_ros.networks.mano_decoder import DecoderConfig
from hand_mesh_ros.networks.reconstruction import Reconstruction
from hand_mesh_ros.networks.vit import ViTConfig
from hand_mesh_ros.networks.wilor import Wilor, WilorConfig

VIT = ViTConfig(width=64, depth=3, heads=4, image=(64, 48))
DECODER = DecoderConfig(context_dim=64, dim=32, depth=3, heads=2, dim_head=8, mlp_dim=48)
CROP = 64


def _tiny(kind: str) -> Hamer | Wilor:
    """Nothing in it is zero or one, as biases, norms and means of fresh networks are."""
    torch.manual_seed(3)
    model = load_hand_model(side="right")
    network: Hamer | Wilor = (
        Hamer(HamerConfig(VIT, DECODER), model)
        if kind == "hamer"
        else Wilor(WilorConfig(VIT, sampling="aligned"), model)
    )
    for name, value in network.state_dict().items():
        if not name.startswith("mano.") and value.is_floating_point():
            value.add_(0.03 * torch.randn_like(value))
    return network.eval()


@pytest.fixture(scope="module", params=["hamer", "wilor"])
def network(request: pytest.FixtureRequest) -> Hamer | Wilor:
    return _tiny(request.param)


def _crops(count: int) -> Tensor:
    return torch.randn(count, 3, CROP, CROP, generator=torch.Generator().manual_seed(count))


@torch.no_grad()
def _plain(network: nn.Module, crops: Tensor) -> Reconstruction:
    answer = network(crops)
    assert isinstance(answer, Reconstruction)
    return answer


def _largest_relative(fast: Reconstruction, plain: Reconstruction) -> float:
    pairs = zip(fast, plain, strict=True)
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in pairs)


@pytest.mark.parametrize("count", [1, 3])
def test_single_precision_is_the_plain_network(network: Hamer | Wilor, count: int) -> None:
    plain = _plain(network, _crops(count))
    fast = fused(network, dtype=torch.float32)(_crops(count))
    assert [v.shape for v in fast] == [v.shape for v in plain]
    assert _largest_relative(fast, plain) < 1e-4
    other = _plain(network, _crops(count) + 1)
    assert _largest_relative(other, plain) > 1e-2  # the picture matters


@pytest.mark.parametrize("precision", [torch.bfloat16, "int8"])
def test_less_precision_is_nearly_the_plain_network(
    network: Hamer | Wilor, precision: Precision
) -> None:
    if precision == "int8" and not has_int8():
        pytest.skip("this build has no int8 products")
    crops = _crops(2)
    fast = fused(network, dtype=precision)
    plain, found = _plain(network, crops), fast(crops)
    assert fast.precision == precision
    assert all(value.dtype == torch.float32 for value in found)
    limit = 5e-4 if precision == torch.bfloat16 else 2e-3  # m
    assert 0 < float((found.joints - plain.joints).norm(dim=2).max()) < limit


def test_weights_that_change_afterwards_are_not_seen(network: Hamer | Wilor) -> None:
    fast = fused(network, dtype=torch.float32)
    before = fast(_crops(1))
    state = {key: value.clone() for key, value in network.state_dict().items()}
    for value in network.state_dict().values():
        value.zero_()
    after = fast(_crops(1))
    network.load_state_dict(state)
    assert all(torch.equal(a, b) for a, b in zip(after, before, strict=True))


def test_any_batch_is_filled_up_or_split(network: Hamer | Wilor) -> None:
    whole = fused(network, dtype=torch.float32)
    parts = fused(network, dtype=torch.float32, buckets=(1, 2, 4))
    seen: list[int] = []
    run = parts._run

    def counted(crops: Tensor) -> tuple[Tensor, ...]:
        seen.append(len(crops))
        return run(crops)

    parts._run = counted  # type: ignore[assignment]
    for count in (1, 3, 5, 11):
        a, b = parts(_crops(count)), whole(_crops(count))
        assert len(a.joints) == count
        assert _largest_relative(a, b) < 1e-4
    assert seen == [1, 4, 4, 1, 4, 4, 4]


def test_of_no_crops_there_are_no_hands(network: Hamer | Wilor) -> None:
    none = fused(network)(torch.empty(0, 3, CROP, CROP))
    assert none.joints.shape == (0, 21, 3) and none.rotations.shape == (0, 16, 3, 3)


def test_warm_up_runs_the_batches(network: Hamer | Wilor) -> None:
    fast = fused(network, buckets=(1, 2))
    fast.warm_up((1, 2, 2))
    assert fast.buckets == (1, 2)


def test_too_little_memory_leaves_the_smaller_batches(
    network: Hamer | Wilor, caplog: pytest.LogCaptureFixture
) -> None:
    fast = fused(network, dtype=torch.float32, buckets=(1, 2, 4))
    run = fast._run

    def small(crops: Tensor) -> tuple[Tensor, ...]:
        if len(crops) > 1:
            raise torch.cuda.OutOfMemoryError("no room")
        return run(crops)

    fast._run = small  # type: ignore[assignment]
    fast.warm_up((1, 2, 4))
    assert fast.buckets == (1,)
    assert "split into 1" in caplog.text
    assert len(fast(_crops(3)).joints) == 3


def test_what_cannot_be_fused_is_told(network: Hamer | Wilor) -> None:
    with pytest.raises(TypeError, match="not Linear"):
        fused(nn.Linear(1, 1))
    with pytest.raises(ValueError, match="for the CPU"):
        fused(network, "cuda:0", dtype="int8")
    with pytest.raises(ValueError, match=r"fused for images of \(64, 48\)"):
        fused(network)(torch.zeros(1, 3, 128, 128))


def test_the_device_chooses_the_precision() -> None:
    assert fastest("cuda") == torch.float16
    assert fastest("cpu") == (torch.bfloat16 if has_bfloat16() else torch.float32)
    assert fused(_tiny("hamer")).precision == fastest("cpu")


@pytest.mark.parametrize("gelu", [False, True])
@pytest.mark.parametrize("biased", [False, True])
def test_linear_is_linear(gelu: bool, biased: bool) -> None:
    weight, bias, x = torch.randn(7, 5), torch.randn(7) if biased else None, torch.randn(3, 5)
    wanted = nn.functional.linear(x, weight, bias)
    wanted = nn.functional.gelu(wanted) if gelu else wanted
    for rows in (1, 3, 64):
        torch.testing.assert_close(linear(weight, bias, torch.float32, rows, gelu)(x), wanted)


def test_parts_arrive_in_their_order() -> None:
    parts, there = torch.arange(7).split(3), torch.device("cpu")
    assert [part.tolist() for part in ahead(parts, there)] == [[0, 1, 2], [3, 4, 5], [6]]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", [torch.float32, torch.float16, torch.bfloat16])
def test_graphs_are_the_plain_network(network: Hamer | Wilor, precision: torch.dtype) -> None:
    fast: FusedNetwork = fused(network, "cuda", dtype=precision)
    fast.warm_up((1, 2, 4))
    for count in (1, 3, 4, 21):  # the last one is split, and copied while computing
        plain, found = _plain(network, _crops(count)), fast(_crops(count))
        assert float((found.joints.cpu() - plain.joints).norm(dim=2).max()) < 5e-4
