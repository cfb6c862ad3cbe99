"""SiMA-Hand's networks: sizes, composition, where gradients go, views in any number and order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hand_mesh_ros.hand.carry import carrying
from hand_mesh_ros.hand.mesh_hierarchy import mesh_hierarchy
from hand_mesh_ros.hand.model import HandModel, load_hand_model
from hand_mesh_ros.networks.sima import Sima, SimaHands, SimaSettings, published, turned
from hand_mesh_ros.networks.sima_decoder import Carry, JointsOfVertices, SpiralConv
from hand_mesh_ros.networks.sima_views import halved, palm_axes
from hand_mesh_ros.networks.sima_weights import hierarchy_cache

VIEWS = 4


@pytest.fixture(scope="module")
def hand() -> HandModel:
    return load_hand_model()


@pytest.fixture(scope="module")
def seen() -> dict[str, Tensor]:
    """Two hands in four views each, as the landmark network might see them."""
    random = torch.Generator().manual_seed(0)

    def noise(*shape: int) -> Tensor:
        return torch.randn(2, VIEWS, *shape, generator=random)

    return {
        "middle": noise(14, 14, 112), "coarse": noise(7, 7, 192),
        "landmarks": 0.4 * noise(21, 3), "world": 0.05 * noise(21, 3),
    }  # fmt: skip


@pytest.fixture(scope="module")
def axes() -> Tensor:
    random = torch.Generator().manual_seed(1)
    q, _ = torch.linalg.qr(torch.randn(2, VIEWS, 3, 3, generator=random))
    return q * torch.linalg.det(q)[..., None, None]


@pytest.fixture(scope="module")
def make(hand: HandModel) -> Callable[[SimaSettings], Sima]:
    def made(settings: SimaSettings) -> Sima:
        torch.manual_seed(3)
        network = Sima(hand, settings, hierarchy_cache())
        for parameter in network.parameters():  # what begins with zeros does something here
            if not parameter.any():
                nn.init.normal_(parameter, std=0.1)
        return network.eval()

    return made


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def mano_sized(hand: HandModel) -> HandModel:
    """A model with the first 778 of the free hand's vertices, for its sizes alone."""
    from hand_mesh_ros.hand.decimate import collapsed

    ((kept, faces),) = collapsed(hand.v_template, hand.faces, [778])
    regressor = np.random.default_rng(0).dirichlet(np.ones(778), 16)
    return replace(
        hand, v_template=hand.v_template[kept], shapedirs=hand.shapedirs[kept],
        posedirs=hand.posedirs.reshape(135, -1, 3)[:, kept].reshape(135, -1),
        J_regressor=regressor, lbs_weights=hand.lbs_weights[kept], faces=faces,
        tips=np.arange(5), uv=None, uv_faces=None, albedo=None,
    )  # fmt: skip


def test_published_sizes(hand: HandModel) -> None:
    network = Sima(mano_sized(hand), published()).eval()
    assert count(network.regressor) == pytest.approx(62.18e6, rel=1e-3)
    assert count(network.decoder) == pytest.approx(0.978e6, rel=1e-3)
    # the published code has a squeeze-and-excite in each stack that it never uses; its figure for
    # the trunk leaves out the last layer of the joints' features
    unused = 1024 * 256 * 2 + 2 * 256 + 2 * 1024
    trunk = count(network.trunk) - count(network.trunk.joint)  # type: ignore[arg-type]
    assert trunk + 2 * unused == pytest.approx(8.58e6, rel=1e-3)
    assert count(network) + 3 * unused == pytest.approx(79e6, rel=0.01)
    assert count(network.map_encoder) + unused == pytest.approx(3.94e6, rel=2e-3)
    with torch.no_grad():
        hands = network({"image": torch.randint(0, 255, (2, 112, 112, 3), dtype=torch.uint8)})
    assert hands.vertices.shape == (2, 778, 3)
    assert [level.shape[1:] for level in hands.features.levels] == [
        (98, 256), (195, 128), (389, 64), (778, 32)
    ]  # fmt: skip
    assert hands.features.lifted.shape == (2, 49, 256)
    assert hands.features.map.shape == (2, 128, 32, 32)
    assert hands.features.latent.shape == hands.features.mixed.shape == (2, 16, 1024)


def test_the_small_ones_are_small(make: Callable[[SimaSettings], Sima]) -> None:
    for settings in (SimaSettings(), SimaSettings(multi=True)):
        assert count(make(settings)) < 1e6


def test_a_turned_hand_is_the_unturned_one_about_its_wrist(
    make: Callable[[SimaSettings], Sima], seen: dict[str, Tensor], hand: HandModel
) -> None:
    hands = make(SimaSettings()).together(seen, torch.ones(2, VIEWS, dtype=torch.bool))
    assert hands.vertices.shape == (8, hand.num_vertices, 3)
    R = hands.rotation
    assert torch.allclose(R @ R.mT, torch.eye(3).expand_as(R), atol=1e-5)
    assert (torch.linalg.det(R) > 0.99).all()
    root = hands.joints0[:, :1]
    wanted = torch.einsum("nij,nvj->nvi", R, hands.vertices0 - root) + root
    assert torch.allclose(hands.vertices, wanted, atol=1e-6)
    again = JointsOfVertices(hand)(hands.vertices)
    assert torch.allclose(again, hands.joints, atol=1e-6)


def _reached(network: Sima, loss: Tensor) -> set[str]:
    network.zero_grad()
    loss.backward(retain_graph=True)
    return {
        name.split(".")[0]
        for name, p in network.named_parameters()
        if p.grad is not None and p.grad.abs().max() > 0
    }


def test_losses_of_orientation_and_shape_keep_to_their_branches(
    make: Callable[[SimaSettings], Sima], seen: dict[str, Tensor], axes: Tensor
) -> None:
    shape = {"trunk", "lifting", "decoder", "joint_fusion", "vertex_fusion"}
    orientation = {
        "geometry", "map_encoder", "regressor", "map_fusion", "latent_fusion", "relative",
    }  # fmt: skip
    network = make(SimaSettings(multi=True))
    hands = network.together(seen, torch.ones(2, VIEWS, dtype=torch.bool), axes)
    root = hands.joints[:, :1]
    assert _reached(network, (hands.vertices - root).square().sum()) == orientation
    assert _reached(network, hands.rotation.square().sum() + hands.rotation.sum()) == orientation
    assert _reached(network, hands.vertices0.square().sum()) == shape
    assert _reached(network, root.square().sum()) == shape


def test_the_wrists_place_alone_carries_gradient_of_turned_points() -> None:
    vertices0 = torch.randn(2, 30, 3, requires_grad=True)
    joints0 = vertices0[:, :21]
    R = torch.linalg.qr(torch.randn(2, 3, 3))[0].requires_grad_()
    vertices, _ = turned(vertices0, joints0, R)
    vertices.sum().backward()
    assert vertices0.grad is not None and R.grad is not None and R.grad.abs().sum() > 0
    # every turned point moves with the wrist, and with nothing else
    assert torch.allclose(vertices0.grad[:, 0], torch.full((2, 3), 30.0))
    assert not vertices0.grad[:, 1:].any()


def _of(hands: SimaHands) -> tuple[Tensor, ...]:
    return (hands.vertices0, hands.rotation, hands.joints, hands.uv)


@pytest.mark.parametrize("pool", ["weighted", "set"])
@pytest.mark.parametrize("cameras", ["relative", "none"])
def test_views_in_any_order_and_number(
    make: Callable[[SimaSettings], Sima], seen: dict[str, Tensor], axes: Tensor,
    pool: str, cameras: str,
) -> None:  # fmt: skip
    network = make(SimaSettings(multi=True, pool=pool, cameras=cameras))  # type: ignore[arg-type]
    mask = torch.ones(2, VIEWS, dtype=torch.bool)
    with torch.no_grad():
        straight = network.together(seen, mask, axes)
        order = torch.tensor([2, 0, 3, 1])
        mixed = network.together({k: v[:, order] for k, v in seen.items()}, mask, axes[:, order])
        for a, b in zip(_of(straight), _of(mixed), strict=True):
            a = a.unflatten(0, (2, VIEWS))[:, order].flatten(0, 1)
            assert torch.allclose(a, b, atol=2e-5)
        # one view is missing: as if it had not been given at all
        mask[:, 1] = False
        torn = {k: v.clone() for k, v in seen.items()}
        for value in torn.values():
            value[:, 1] = torch.nan
        masked = network.together(torn, mask, axes)
        rest = torch.tensor([0, 2, 3])
        without = network.together(
            {k: v[:, rest] for k, v in seen.items()}, mask[:, rest], axes[:, rest]
        )
        for a, b in zip(_of(masked), _of(without), strict=True):
            assert torch.allclose(a, b, atol=2e-5)
        assert not torch.allclose(masked.vertices0[0], straight.vertices0[0], atol=1e-4)
        for views in range(1, 9):
            many = {k: v[:1, :1].repeat_interleave(views, 1) for k, v in seen.items()}
            told = axes[:1, :1].repeat_interleave(views, 1)
            hands = network.together(many, torch.ones(1, views, dtype=torch.bool), told)
            assert torch.isfinite(hands.vertices).all() and len(hands.vertices) == views


def test_each_fusion_is_a_switch(
    make: Callable[[SimaSettings], Sima], seen: dict[str, Tensor], axes: Tensor
) -> None:
    mask = torch.ones(2, VIEWS, dtype=torch.bool)
    alone = torch.eye(VIEWS, dtype=torch.bool)

    def depends(settings: SimaSettings) -> tuple[bool, bool]:
        """Whether a view's shape and rotation depend on the other views."""
        network = make(settings)
        with torch.no_grad():
            together = network.together(seen, mask, axes)
            shape, rotation = [], []
            for view in range(VIEWS):
                hands = network.together(seen, alone[view].expand(2, -1), axes)
                rows = torch.tensor([view, VIEWS + view])
                shape.append(hands.vertices0 - together.vertices0[rows])
                rotation.append(hands.rotation - together.rotation[rows])
        return bool(torch.stack(shape).abs().max() > 1e-5), bool(
            torch.stack(rotation).abs().max() > 1e-5
        )

    none = SimaSettings(multi=True, image=False, joint=False, vertex=False)
    assert depends(none) == (False, False)
    assert depends(replace(none, image=True)) == (False, True)
    assert depends(replace(none, joint=True)) == (True, False)
    assert depends(replace(none, vertex=True)) == (True, False)
    assert depends(replace(none, image=True, vertex=True)) == (True, True)


def test_concatenation_is_for_its_number_of_views(
    make: Callable[[SimaSettings], Sima], seen: dict[str, Tensor], axes: Tensor
) -> None:
    network = make(SimaSettings(multi=True, pool="concatenated", views=VIEWS))
    mask = torch.ones(2, VIEWS, dtype=torch.bool)
    assert len(network.together(seen, mask, axes).vertices) == 8
    with pytest.raises(ValueError, match="made for 4 views in their order, not 3"):
        network.together({k: v[:, :3] for k, v in seen.items()}, mask[:, :3], axes[:, :3])


def test_cameras_are_asked_for_and_a_common_turn_of_the_world_is_nothing(
    make: Callable[[SimaSettings], Sima], seen: dict[str, Tensor], axes: Tensor
) -> None:
    network = make(SimaSettings(multi=True))
    mask = torch.ones(2, VIEWS, dtype=torch.bool)
    with pytest.raises(ValueError, match="axes"):
        network.together(seen, mask)
    with torch.no_grad():
        turn = torch.linalg.qr(torch.randn(3, 3))[0]
        here, there = (network.together(seen, mask, a) for a in (axes, axes @ turn))
    for a, b in zip(_of(here), _of(there), strict=True):
        assert torch.allclose(a, b, atol=2e-5)


def test_the_start_lays_the_palm_on_the_models(
    make: Callable[[SimaSettings], Sima], seen: dict[str, Tensor], axes: Tensor
) -> None:
    network = make(SimaSettings())
    palm = palm_axes(torch.randn(3, 21, 3))
    assert torch.allclose(palm.mT @ palm, torch.eye(3).expand(3, 3, 3), atol=1e-5)
    flat = {k: v.flatten(0, 1) for k, v in seen.items()}
    with torch.no_grad():
        R = axes.flatten(0, 1)
        turned_views = flat | {"world": flat["world"] @ R.mT}
        before, after = network.trunk(flat).start, network.trunk(turned_views).start
    assert torch.allclose(after, R @ before, atol=1e-5)


@pytest.mark.parametrize(
    "wrong", [{"channels": 0}, {"pool": "mean"}, {"joint_channels": 7}, {"cameras": "all"}]
)
def test_wrong_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong)).removeprefix("joint_")):
        SimaSettings(**wrong)  # type: ignore[arg-type]


def test_weights_go_to_a_file_and_come_back(
    make: Callable[[SimaSettings], Sima], seen: dict[str, Tensor], axes: Tensor, hand: HandModel,
    tmp_path: Path,
) -> None:  # fmt: skip
    from safetensors.torch import save_file

    from hand_mesh_ros.networks.assets import AssetError
    from hand_mesh_ros.networks.sima_weights import open_sima, trained_with

    network = make(SimaSettings(multi=True, vertex=False))
    path = tmp_path / "weights.safetensors"
    recipe = "task: sima-mvr\nmodel: {vertex: false}\ndata: {hand_model: null}\n"
    weights = {k: v.contiguous() for k, v in network.weights().items()}
    save_file(weights, path, metadata={"recipe": recipe})
    assert trained_with(path).model_id == hand.model_id
    again = open_sima("sima_mvr", hand, path)
    mask = torch.ones(2, VIEWS, dtype=torch.bool)
    with torch.no_grad():
        a, b = (n.together(seen, mask, axes) for n in (network, again))
    assert torch.equal(a.vertices, b.vertices)
    with pytest.raises(AssetError, match="sima_svr"):
        open_sima("sima_svr", hand, path)
    save_file(weights, path, metadata={"recipe": recipe.replace("false", "true")})
    with pytest.raises(AssetError, match="vertex_fusion"):
        open_sima("sima_mvr", hand, path)
    save_file(weights, path)
    with pytest.raises(AssetError, match="recipe"):
        open_sima("sima_mvr", hand, path)


def test_displacements_are_carried_to_all_vertices(hand: HandModel) -> None:
    """By the weights of `hand.carry`, for several hands at once, and gradients come back."""
    level = mesh_hierarchy(hand.v_template, hand.faces, 5, 9, hierarchy_cache()).levels[-2]
    torch.manual_seed(0)
    offsets = torch.randn(3, len(level), 3, requires_grad=True)
    near, weights = carrying(hand, level.vertices, 10)
    wanted = np.einsum("vk,nvkc->nvc", weights, offsets.detach().numpy()[:, near])
    carried = Carry(hand, level)(offsets)
    np.testing.assert_allclose(carried.detach().numpy(), wanted, atol=1e-5)
    carried.sum().backward()
    share = np.bincount(near.ravel(), weights.ravel(), len(level))
    assert offsets.grad is not None
    np.testing.assert_allclose(offsets.grad[0, :, 1].numpy(), share, rtol=1e-4, atol=1e-4)


def test_a_spiral_is_read_in_its_order(hand: HandModel) -> None:
    """Features of a vertex's spiral, one after another, through one layer."""
    level = mesh_hierarchy(hand.v_template, hand.faces, 5, 9, hierarchy_cache()).levels[-1]
    torch.manual_seed(0)
    conv, x = SpiralConv(level, 4, 3), torch.randn(2, len(level), 4)
    around = torch.stack([x[:, k].flatten(1) for k in torch.tensor(np.array(level.spirals))], 1)
    wanted = around @ conv.layer.weight.T + conv.layer.bias
    torch.testing.assert_close(conv(x), wanted)


def test_maps_are_halved_by_means_of_four() -> None:
    torch.manual_seed(0)
    maps = torch.randn(2, 4, 6, 3)
    wanted = (maps[:, ::2, ::2] + maps[:, ::2, 1::2] + maps[:, 1::2, ::2] + maps[:, 1::2, 1::2]) / 4
    torch.testing.assert_close(halved(maps), wanted)
