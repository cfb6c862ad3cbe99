"""HaMuCo's networks: sizes as published, and views as a set."""

from __future__ import annotations

import pytest
import torch

from hand_mesh_ros.hand.model import load_hand_model
from hand_mesh_ros.networks.hamuco import Hamuco
from hand_mesh_ros.networks.hamuco_cross import CrossSettings, CrossView
from hand_mesh_ros.networks.hamuco_single import RawHands, ResNetSingleView, place_hands
from hand_mesh_ros.networks.mano_head import rotations_from_6d
from hand_mesh_ros.networks.mano_layer import ManoLayer
from hand_mesh_ros.networks.mano_points import ManoPoints
from hand_mesh_ros.networks.view_rays import meeting_points

_SHAPES = {
    "middle": (14, 14, 112), "coarse": (7, 7, 192), "landmarks": (21, 3), "world": (21, 3),
    "presence": (), "right": (),
}  # fmt: skip


def _inputs(hands: int, views: int, seed: int = 0) -> dict[str, torch.Tensor]:
    made = torch.Generator().manual_seed(seed)
    return {
        name: 0.5 * torch.randn(hands, views, *shape, generator=made)
        for name, shape in _SHAPES.items()
    }


def _axes(hands: int, views: int) -> torch.Tensor:
    made = torch.Generator().manual_seed(5)
    return rotations_from_6d(torch.randn(hands, views, 6, generator=made))


def _cameras(hands: int, views: int, order: list[int] | None = None) -> dict[str, torch.Tensor]:
    """All that is known of calibrated cameras; the hand is before each of them."""
    axes = _axes(hands, views)
    centres = -0.5 * axes[..., 2, :]  # half a metre behind the world's origin
    made = {"axes": axes, "centres": centres, "field": torch.full((hands, views), 0.2)}
    return made if order is None else {name: value[:, order] for name, value in made.items()}


@pytest.fixture(scope="module")
def network() -> Hamuco:
    """A network whose parts all matter: nothing is left at the zeros that training begins with."""
    torch.manual_seed(1)
    made = Hamuco(load_hand_model(), surface=8).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.03 * torch.randn_like(parameter))
    return made


def _count(module: torch.nn.Module) -> float:
    return sum(p.numel() for p in module.parameters()) / 1e6


def test_the_published_configuration_has_the_published_sizes() -> None:
    single = ResNetSingleView(weights="")
    cross = CrossView(single, CrossSettings())
    assert cross.width == 1024
    assert _count(cross) == pytest.approx(20.52, abs=0.01)
    assert _count(single) == pytest.approx(12.0, abs=0.1)
    assert _count(cross.locate) == pytest.approx(2.02, abs=0.01)
    assert _count(cross.maps) == pytest.approx(0.09, abs=0.005)
    for block in cross.blocks:
        assert _count(block.attention) == pytest.approx(6.30, abs=0.01)  # type: ignore[arg-type]
        assert _count(block.shared) == pytest.approx(2.10, abs=0.01)  # type: ignore[arg-type]
    assert _count(cross.graph) == pytest.approx(1.09, abs=0.01)
    assert _count(cross.last) == pytest.approx(0.53, abs=0.01)


def test_eight_views_are_168_nodes_and_the_wide_network_answers_pictures() -> None:
    network = Hamuco(load_hand_model(), "resnet18", weights="").eval()
    seen: list[tuple[int, ...]] = []
    block = network.cross.blocks[0].attention
    assert isinstance(block, torch.nn.Module)
    block.qkv.register_forward_hook(lambda m, i, o: seen.append(tuple(i[0].shape)))  # type: ignore[union-attr]
    with torch.inference_mode():
        network({"image": torch.rand(1, 8, 3, 256, 256)}, torch.ones(1, 8, dtype=torch.bool))
    assert seen == [(1, 168, 1024)]


@pytest.mark.parametrize("calibrated", [True, False])
def test_the_order_of_views_means_nothing(network: Hamuco, calibrated: bool) -> None:
    inputs, mask = _inputs(2, 4), torch.ones(2, 4, dtype=torch.bool)
    mask[1, 2] = False
    order = [2, 0, 3, 1]
    with torch.inference_mode():
        _, plain = network(inputs, mask, **(_cameras(2, 4) if calibrated else {}))
        shuffled = {name: value[:, order] for name, value in inputs.items()}
        _, other = network(
            shuffled, mask[:, order], **(_cameras(2, 4, order) if calibrated else {})
        )
    keep = mask[:, order]
    assert torch.allclose(plain.uv[:, order][keep], other.uv[keep], atol=1e-3)
    difference = plain.points.joints[:, order] - other.points.joints
    assert difference[keep].abs().max() < 1e-4


@pytest.mark.parametrize("calibrated", [True, False])
def test_a_masked_view_is_one_that_is_not_there(network: Hamuco, calibrated: bool) -> None:
    inputs, mask = _inputs(2, 5), torch.ones(2, 5, dtype=torch.bool)
    mask[:, 3] = False
    rest = [0, 1, 2, 4]
    all_of, some = (_cameras(2, 5), _cameras(2, 5, rest)) if calibrated else ({}, {})
    with torch.inference_mode():
        _, masked = network(inputs, mask, **all_of)
        fewer = {name: value[:, rest] for name, value in inputs.items()}
        _, removed = network(fewer, mask[:, rest], **some)
        _, whole = network(inputs, torch.ones_like(mask), **all_of)
    assert torch.allclose(masked.uv[:, rest], removed.uv, atol=1e-3)
    assert (masked.points.joints[:, rest] - removed.points.joints).abs().max() < 1e-4
    # and it would have been heard
    assert (whole.points.joints[:, rest] - removed.points.joints).abs().max() > 1e-3


def test_any_number_of_views_runs(network: Hamuco) -> None:
    for views in range(1, 9):
        mask = torch.ones(1, views, dtype=torch.bool)
        with torch.inference_mode():
            single, cross = network(_inputs(1, views), mask, **_cameras(1, views))
        assert cross.uv.shape == single.uv.shape == (1, views, 21, 2)
        assert cross.points.joints.isfinite().all()


def test_views_may_be_kept_from_looking_at_each_other(network: Hamuco) -> None:
    mask = torch.ones(1, 3, dtype=torch.bool)
    blind = torch.eye(3, dtype=torch.bool)[None]
    with torch.inference_mode():
        _, seeing = network(_inputs(1, 3), mask, **_cameras(1, 3))
        _, unseeing = network(_inputs(1, 3), mask, **_cameras(1, 3), see=blind)
    assert (seeing.uv - unseeing.uv).abs().max() > 1e-3


def test_what_the_world_is_called_means_nothing(network: Hamuco) -> None:
    """Only where the cameras are to each other is known to the network."""
    mask, cameras = torch.ones(1, 3, dtype=torch.bool), _cameras(1, 3)
    turn = _axes(1, 1)
    moved = {
        "axes": cameras["axes"] @ turn,
        "centres": cameras["centres"] @ turn[:, 0] + torch.tensor([0.3, -1.0, 0.5]),
        "field": cameras["field"],
    }
    with torch.inference_mode():
        _, a = network(_inputs(1, 3), mask, **cameras)
        _, b = network(_inputs(1, 3), mask, **moved)
    torch.testing.assert_close(a.rotations, b.rotations, atol=1e-3, rtol=0)
    torch.testing.assert_close(a.uv, b.uv, atol=2e-3, rtol=0)


def test_rays_meet_where_the_points_are_and_one_wrong_view_is_outvoted() -> None:
    cameras, mask = _cameras(2, 4), torch.ones(2, 4, dtype=torch.bool)
    made = torch.Generator().manual_seed(3)
    world = 0.05 * torch.randn(2, 1, 21, 3, generator=made)
    local = (world - cameras["centres"][:, :, None]) @ cameras["axes"].transpose(-1, -2)
    uv = local[..., :2] / local[..., 2:] / cameras["field"][..., None, None]
    sure = torch.ones(2, 4, 21)
    met = meeting_points(uv, sure, mask, **cameras)
    assert met.known.all()
    assert (met.points - local).abs().max() < 1e-3
    wrong = uv.clone()
    wrong[:, 1] += 0.8
    outvoted = meeting_points(wrong, sure, mask, **cameras)
    assert (outvoted.points[:, 0] - local[:, 0]).norm(dim=-1).median() < 0.005
    mask[1, 1:] = False
    alone = meeting_points(uv, sure, mask, **cameras)
    assert alone.known.tolist() == [True, False] and not alone.points[1].any()


def test_gradients_go_where_they_are_published_to(network: Hamuco) -> None:
    """From the cross-view network into the single view by features and pose, not by betas or by

    the places where features are sampled.
    """
    torch.manual_seed(0)
    published = CrossView(network.single, CrossSettings(maps=1, located=7, sampled=8, blocks=1))
    mask = torch.ones(1, 2, dtype=torch.bool)
    raw = RawHands(*(torch.randn(1, 2, n, requires_grad=True) for n in (96, 10, 3)))
    uvd, deep = torch.randn(1, 2, 21, 3, requires_grad=True), torch.randn(1, 2, 192, 7, 7)
    at = torch.randn(1, 2, 21, 112, requires_grad=True)
    deep.requires_grad_()
    said = published(raw, uvd, uvd, torch.ones(1, 2, 21), deep, at, mask)
    torch.cat([said.pose6d, said.betas, said.camera], -1).square().sum().backward()
    for reached in (raw.pose6d, uvd, deep, at):
        assert reached.grad is not None and reached.grad.abs().sum() > 0
    assert raw.betas.grad is None and raw.camera.grad is None
    assert raw.pose6d.grad is not None and raw.pose6d.grad[..., :6].abs().sum() == 0


def test_points_are_the_hand_models() -> None:
    model = load_hand_model()
    torch.manual_seed(0)
    rotations, betas = rotations_from_6d(torch.randn(3, 16, 6)), torch.randn(3, 10)
    whole = ManoLayer(model)(rotations, betas)
    points = ManoPoints(model, vertices=[0, 7, 700])(rotations, betas)
    wrist = whole.joints[:, :1]
    torch.testing.assert_close(points.joints, whole.joints - wrist, atol=1e-6, rtol=0)
    chosen = whole.vertices[:, [0, 7, 700]] - wrist
    torch.testing.assert_close(points.surface, chosen, atol=1e-6, rtol=0)


def test_landmarks_are_the_solvers() -> None:
    import numpy as np

    from hand_mesh_ros.geometry.rotations import exp_so3
    from hand_mesh_ros.hand.kinematics import NUM_PARAMS
    from hand_mesh_ros.hand.landmarks import landmarks_and_jacobian

    model, params = load_hand_model(), np.zeros((1, NUM_PARAMS))
    params[0, :58] = np.random.default_rng(2).normal(size=58) * 0.4
    rotations = torch.tensor(exp_so3(params[:, :48].reshape(1, 16, 3)), dtype=torch.float32)
    points = ManoPoints(model)(rotations, torch.tensor(params[:, 48:58], dtype=torch.float32))
    true = landmarks_and_jacobian(model, params)[0]
    found = points.marks - points.marks[:, :1]
    np.testing.assert_allclose(found.numpy(), true - true[:, :1], atol=1e-6)


def test_places_are_those_of_a_pinhole_camera() -> None:
    joints = 0.08 * torch.randn(4, 21, 3)
    joints[:, 0] = 0
    focal, distance = 5.0, 0.5
    camera = torch.tensor([[focal / distance / 10, 0.1, -0.2]]).repeat(4, 1)
    camera[:, 0].log_()
    place = joints + torch.tensor([0.1, -0.2, 0]) * distance / focal
    place[..., 2] += distance
    true = focal * place[..., :2] / place[..., 2:]
    found = place_hands(joints, camera, torch.full((4,), 1 / focal))
    torch.testing.assert_close(found, true)
    weak = place_hands(joints, camera)
    torch.testing.assert_close(weak, place_hands(joints, camera, torch.zeros(4)))
