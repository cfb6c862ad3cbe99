"""AMVUR's network: the tangent's Jacobian, places, who sees whom, covariance forms, sizes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from hand_mesh_ros.geometry.rotations import exp_so3
from hand_mesh_ros.hand.mesh_subset import mesh_subset
from hand_mesh_ros.hand.model import HandModel, load_hand_model
from hand_mesh_ros.networks.amvur import PUBLISHED, AmvurNetwork, AmvurSettings, BackboneCues
from hand_mesh_ros.networks.amvur_covariance import block_diagonal
from hand_mesh_ros.networks.amvur_points import TANGENT, TangentPoints, propagated
from hand_mesh_ros.networks.amvur_prior import (
    Cues,
    PixelSampler,
    palm_frame,
    place,
    place_jacobian,
)
from hand_mesh_ros.networks.amvur_transformer import AmvurTransformer
from hand_mesh_ros.networks.mano_layer import ManoLayer

FORMS = ("diagonal", "propagated", "mixing", "full", "sampled")


@pytest.fixture(scope="module")
def model() -> HandModel:
    return load_hand_model()


@pytest.fixture(scope="module")
def corrected(model: HandModel) -> HandModel:
    """The free hand with pose correctives, which MANO has."""
    rng = np.random.default_rng(0)
    return dataclasses.replace(model, posedirs=1e-3 * rng.normal(size=model.posedirs.shape))


def random_pose(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    rotations = exp_so3(0.5 * rng.normal(size=(count, 16, 3)))
    return torch.tensor(rotations, dtype=torch.float32), torch.tensor(
        rng.normal(size=(count, 10)), dtype=torch.float32
    )


def random_cues(count: int, seed: int = 0) -> Cues:
    made = torch.Generator().manual_seed(seed)
    rest = torch.tensor(load_hand_model().v_template[:21], dtype=torch.float32)
    world = rest + 0.02 * torch.randn(count, 21, 3, generator=made)
    landmarks = torch.cat([8 * world[..., :2], world[..., 2:]], dim=-1)
    maps = tuple(
        torch.randn(count, size, size, channels, generator=made)
        for size, channels in ((14, 112), (7, 192))
    )
    return Cues(maps[1].mean((1, 2)), maps, torch.full((count,), 4.0), landmarks, world)


def test_points_are_the_hand_models_own(corrected: HandModel) -> None:
    subset = mesh_subset(corrected, 30)
    rotations, betas = random_pose(3)
    found = TangentPoints(corrected, subset.chosen)(rotations, betas).points
    posed = ManoLayer(corrected)(rotations, betas)
    expected = torch.cat([posed.joints, posed.vertices[:, subset.chosen]], dim=1)
    torch.testing.assert_close(found, expected - expected[:, :1], atol=1e-6, rtol=0)


def test_jacobian_is_that_of_turns_in_the_joints_own_axes(corrected: HandModel) -> None:
    points = TangentPoints(corrected, mesh_subset(corrected, 24).chosen).double()
    rotations, betas = (x.double() for x in random_pose(1))
    found = points(rotations, betas, 30).jacobian[0]
    step = 1e-5

    def moved(number: int, by: float) -> torch.Tensor:
        d = np.zeros(TANGENT)
        d[number] = by
        turned = rotations @ torch.tensor(exp_so3(d[:48].reshape(1, 16, 3)))
        return points(turned, betas + torch.tensor(d[48:])).points[0, :30]

    for number in range(TANGENT):
        expected = (moved(number, step) - moved(number, -step)) / (2 * step)
        torch.testing.assert_close(found[..., number], expected, atol=1e-7, rtol=1e-4)


def test_propagated_covariance_is_monte_carlos(model: HandModel) -> None:
    """Reference finding 4: J S J^T within 1 % of samples (Frobenius), with correlated numbers."""
    points = TangentPoints(model, mesh_subset(model, 16).chosen)
    rotations, betas = random_pose(1, seed=3)
    rng = np.random.default_rng(1)
    factor = 0.004 * rng.normal(size=(TANGENT, 5))
    factor[48:] *= 10
    factor = np.concatenate([np.diag(np.r_[np.full(48, 0.008), np.full(10, 0.1)]), factor], axis=1)
    known = points(rotations, betas, 21)
    L = torch.tensor(factor[None], dtype=torch.float32)
    spread = propagated(known.jacobian, L)[0].flatten(0, 1).double()
    told = (spread @ spread.T).numpy()
    count = 60_000
    d = rng.normal(size=(count, factor.shape[1])) @ factor.T
    turned = rotations @ torch.tensor(exp_so3(d[:, :48].reshape(-1, 16, 3)), dtype=torch.float32)
    drawn = points(turned, betas + torch.tensor(d[:, 48:], dtype=torch.float32)).points[:, :21]
    measured = np.cov(drawn.flatten(1).double().numpy().T)
    assert np.linalg.norm(told - measured) < 0.01 * np.linalg.norm(measured)
    diagonal = np.diag(np.diag(measured))
    assert np.linalg.norm(diagonal - measured) > 0.5 * np.linalg.norm(measured)


def test_subset_stands_for_the_surface(model: HandModel) -> None:
    subset = mesh_subset(model, 98)
    assert len(set(subset.chosen.tolist())) == 98
    np.testing.assert_allclose(subset.weights.sum(1), 1)
    # a chosen vertex is itself
    np.testing.assert_array_equal(subset.nearest[subset.chosen, 0], np.arange(98))
    made = (model.v_template[subset.chosen][subset.nearest] * subset.weights[..., None]).sum(1)
    assert np.linalg.norm(made - model.v_template, axis=1).max() < 0.02
    with pytest.raises(ValueError, match="choose from 4"):
        mesh_subset(model, model.num_vertices + 1)


def test_sampler_reads_a_ramp_where_it_is_asked() -> None:
    """Against the published sampler's fault: maps of coordinates give the coordinates back."""
    size = 14
    centres = (2 * torch.arange(size) + 1) / size - 1
    v, u = torch.meshgrid(centres, centres, indexing="ij")
    sampler = PixelSampler((2,), 0)
    uv = 0.9 * (2 * torch.rand(1, 50, 2) - 1)
    found = sampler(sampler.narrowed((torch.stack([u, v], -1)[None],)), uv)
    torch.testing.assert_close(found, uv, atol=1e-5, rtol=0)


def test_place_is_perspective_with_its_jacobian() -> None:
    points = 0.05 * torch.randn(2, 6, 3, dtype=torch.float64)
    camera = torch.tensor([[0.1, 0.2, -0.1], [-0.2, 0.0, 0.3]], dtype=torch.float64)
    focal = torch.tensor([4.0, 2.0], dtype=torch.float64)
    depth = focal / (10 * camera[:, 0].exp())
    at = torch.cat([camera[:, 1:] * (depth / focal)[:, None], depth[:, None]], dim=1)
    whole = points + at[:, None]
    expected = focal[:, None, None] * whole[..., :2] / whole[..., 2:]
    torch.testing.assert_close(place(points, camera, focal), expected)
    jacobian = torch.autograd.functional.jacobian(lambda p: place(p, camera, focal), points)
    own = torch.stack([
        torch.stack([jacobian[n, p, :, n, p] for p in range(6)]) for n in range(2)
    ])  # fmt: skip
    torch.testing.assert_close(place_jacobian(points, camera, focal), own)


def test_palm_frame_turns_with_the_palm() -> None:
    rotation = torch.tensor(exp_so3(np.array([0.3, -1.0, 2.0])), dtype=torch.float32)
    points = torch.randn(1, 21, 3)
    frame, turned = palm_frame(points), palm_frame(points @ rotation.T)
    torch.testing.assert_close(turned, rotation @ frame)
    torch.testing.assert_close(torch.linalg.det(frame), torch.ones(1))


@pytest.mark.parametrize("form", FORMS)
def test_answers_and_gradients_are_finite(model: HandModel, form: str) -> None:
    network = AmvurNetwork(model, AmvurSettings(vertices=20, covariance=form))  # type: ignore[arg-type]
    hands = network(random_cues(3))
    assert hands.joints.shape == (3, 21, 3) and hands.vertices.shape == (3, 20, 3)
    known = network.calibrated(hands)
    assert (torch.linalg.eigvalsh(known.covariance) > 0).all()
    full = hands.covariance.full()
    assert (torch.linalg.eigvalsh(full.double()) > 0).all()
    marginal = full.view(3, 20, 3, 20, 3).diagonal(dim1=1, dim2=3).permute(0, 3, 1, 2)
    torch.testing.assert_close(marginal, hands.covariance.marginal())
    sum(x.square().sum() for x in (hands.joints, hands.uv, known.covariance * 1e4)).backward()
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    assert all(g.isfinite().all() for g in gradients)
    assert sum(float(g.abs().sum()) for g in gradients) > 0


def test_forms_tie_joints_or_leave_them_apart(model: HandModel) -> None:
    torch.manual_seed(0)
    tied = {}
    for form in ("diagonal", "propagated", "full"):
        network = AmvurNetwork(model, AmvurSettings(vertices=16, covariance=form))  # type: ignore[arg-type]
        full = network(random_cues(1)).covariance.full()
        apart = full - block_diagonal(full.view(1, 20, 3, 20, 3).diagonal(dim1=1, dim2=3).permute(0, 3, 1, 2))  # noqa: E501
        tied[form] = float(apart.detach().abs().max())
    assert tied["diagonal"] == 0
    assert min(tied["propagated"], tied["full"]) > 0


@pytest.mark.parametrize(("cross", "reaches"), [("none", False), ("one_way", True)])
def test_vertices_see_joints_and_joints_see_vertices_only_two_way(
    cross: str, reaches: bool
) -> None:
    torch.manual_seed(0)
    made = AmvurTransformer(8, (16,), (8,), 21 + 5, 1, 2, 2, cross, 0.0)  # type: ignore[arg-type]
    tokens = torch.randn(1, 26, 8, requires_grad=True)
    (to_joint,) = torch.autograd.grad(made(tokens)[0, 21:].sum(), tokens, retain_graph=True)
    assert bool(to_joint[0, :21].abs().sum() > 0) == reaches
    (to_vertex,) = torch.autograd.grad(made(tokens)[0, :21].sum(), tokens)
    assert to_vertex[0, 21:].abs().sum() == 0
    both = AmvurTransformer(8, (16,), (8,), 26, 1, 2, 2, "two_way", 0.0)
    (to_vertex,) = torch.autograd.grad(both(tokens)[0, :21].sum(), tokens)
    assert to_vertex[0, 21:].abs().sum() > 0


def test_order_of_vertices_is_of_no_account() -> None:
    torch.manual_seed(0)
    made = AmvurTransformer(8, (16,), (8,), 26, 1, 2, 2, "two_way", 0.0)
    order = torch.cat([torch.arange(21), 21 + torch.randperm(5)])
    tokens = torch.randn(2, 26, 8)
    before = made(tokens)
    for stage in made.stages:
        stage.position.data = stage.position.data[order]  # type: ignore[union-attr, operator]
    torch.testing.assert_close(made(tokens[:, order]), before[:, order])


def test_untrained_mesh_is_the_priors(model: HandModel) -> None:
    network = AmvurNetwork(model, AmvurSettings(vertices=24))
    torch.nn.init.zeros_(network.of_vertex.weight)
    hands = network(random_cues(2))
    posed = ManoLayer(model)(hands.prior.rotations, hands.prior.betas)
    whole = posed.vertices - posed.joints[:, :1]
    torch.testing.assert_close(network.whole_mesh(hands, whole), whole)


def test_weights_go_round_without_the_hand_model(model: HandModel) -> None:
    network = AmvurNetwork(model, AmvurSettings(vertices=16))
    weights = {name: value.clone() for name, value in network.weights().items()}
    assert max(value.numel() for value in weights.values()) < 384 * 700
    other = AmvurNetwork(model, AmvurSettings(vertices=16))
    other.load_weights(weights)
    torch.testing.assert_close(other(random_cues(1)).joints, network(random_cues(1)).joints)
    weights.pop("calibration.common")
    with pytest.raises(KeyError, match=r"calibration\.common"):
        other.load_weights(weights)


def test_sizes_of_the_published_and_the_shipped_network(model: HandModel) -> None:
    """62 M of the published transformer's 64.2 M are used; what ships is below 5 M."""
    made = AmvurTransformer(
        2051, PUBLISHED.hidden, PUBLISHED.outputs, 21 + PUBLISHED.vertices, PUBLISHED.depth,
        PUBLISHED.heads, PUBLISHED.ffn, PUBLISHED.cross,
    )  # fmt: skip
    assert sum(p.numel() for p in made.parameters()) == pytest.approx(62e6, rel=0.04)
    network = AmvurNetwork(model)
    assert sum(p.numel() for p in network.parameters()) < 5e6


def test_a_backbone_takes_the_evidences_place(model: HandModel) -> None:
    class Tiny(torch.nn.Module):
        def vector_and_maps(self, images: torch.Tensor) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:  # noqa: E501
            maps = tuple(images[:, :, ::k, ::k] for k in (4, 8, 16))
            return images.mean((2, 3)), maps

    crops = torch.randint(0, 255, (2, 3, 64, 64), dtype=torch.uint8)
    cues = BackboneCues(Tiny())(crops, torch.tensor([3.0, 4.0]))
    assert [tuple(m.shape) for m in cues.maps] == [(2, 16, 16, 3), (2, 8, 8, 3), (2, 4, 4, 3)]
    assert cues.landmarks is None
