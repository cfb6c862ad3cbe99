"""AMVUR's objectives: likelihoods and divergences, what they do to sigmas, one step of each."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from hand_mesh_ros.evaluation.metrics.uncertainty import correlation
from hand_mesh_ros.geometry.rotations import exp_so3
from hand_mesh_ros.hand.limits import pose_limits, pose_prior
from hand_mesh_ros.networks.amvur_prior import PriorHands, place_jacobian
from hand_mesh_ros.training import amvur_losses as terms
from hand_mesh_ros.training.amvur_module import AmvurModule
from hand_mesh_ros.training.recipes import Recipe, read_recipe
from hand_mesh_ros.training.settings import RecipeError

RECIPES = ("amvur-renders", "amvur-weak-renders", "amvur-published-objective")


def random_covariance(*shape: int, size: int = 3) -> Tensor:
    root = torch.randn(*shape, size, size, dtype=torch.float64)
    return root @ root.transpose(-1, -2) + 0.1 * torch.eye(size, dtype=torch.float64)


def test_likelihoods_are_those_of_torch_distributions() -> None:
    torch.manual_seed(0)
    error, covariance = torch.randn(7, 3, dtype=torch.float64), random_covariance(7)
    expected = -MultivariateNormal(torch.zeros_like(error), covariance).log_prob(error).mean() / 3
    found = terms.gaussian_nll(error, covariance, beta=0.0) + 0.5 * math.log(2 * math.pi)
    torch.testing.assert_close(found, expected)
    log_sigma = torch.randn(7, 3, dtype=torch.float64)
    expected = -Normal(0.0, log_sigma.exp()).log_prob(error).mean()
    found = terms.beta_nll(error, log_sigma, beta=0.0) + 0.5 * math.log(2 * math.pi)
    torch.testing.assert_close(found, expected)


def test_beta_weighs_by_sigma_without_a_gradient() -> None:
    log_sigma = torch.tensor([[0.7]], requires_grad=True)
    error = torch.tensor([[2.0]])
    (plain,) = torch.autograd.grad(terms.beta_nll(error, log_sigma, 0.0), log_sigma)
    (weighted,) = torch.autograd.grad(terms.beta_nll(error, log_sigma, 0.5), log_sigma)
    torch.testing.assert_close(weighted, plain * math.exp(0.7))


def test_divergences_are_those_of_torch_distributions() -> None:
    torch.manual_seed(1)
    gap = torch.randn(5, 3, dtype=torch.float64)
    own, other = random_covariance(5), random_covariance(5)
    nothing = torch.zeros_like(gap)
    expected = kl_divergence(MultivariateNormal(gap, own), MultivariateNormal(nothing, other))
    torch.testing.assert_close(terms.gaussian_kl(gap, own, other), expected.mean() / 3)
    a, b = torch.randn(5, 3, dtype=torch.float64), torch.randn(5, 3, dtype=torch.float64)
    expected = kl_divergence(Normal(gap, a.exp()), Normal(nothing, b.exp()))
    torch.testing.assert_close(terms.diagonal_kl(gap, a, b), expected.mean())


def test_expected_place_is_the_samples_mean() -> None:
    """Of a linear place it is exact: here where the camera is so far away that it is linear."""
    torch.manual_seed(2)
    points = 0.05 * torch.randn(1, 21, 3, dtype=torch.float64)
    camera, focal = torch.zeros(1, 3, dtype=torch.float64), torch.tensor([1e6]).double()
    jacobian = place_jacobian(points, camera, focal)
    covariance = 1e-4 * random_covariance(1, 21)
    error = 0.05 * torch.randn(1, 21, 2, dtype=torch.float64)
    sigma = torch.full((1, 21), 0.06, dtype=torch.float64)
    drawn = MultivariateNormal(torch.zeros(1, 21, 3).double(), covariance).sample((40_000,))
    moved = error + torch.einsum("npij,snpj->snpi", jacobian, drawn)
    expected = 0.25 * (moved.square().sum(-1) / sigma.square()).mean()
    found = terms.expected_place_nll(error, sigma, jacobian, covariance)
    torch.testing.assert_close(found, expected, rtol=0.02, atol=0)


def test_far_landmarks_pull_but_linearly() -> None:
    sigma = torch.full((1, 1), 0.1)
    sizes = [
        float(terms.robust(torch.tensor([[[d, 0.0]]]), sigma).square().sum())
        for d in (0.2, 1.0, 2.0, 3.0)
    ]
    assert sizes[0] == pytest.approx(0.04)
    assert sizes[3] - sizes[2] == pytest.approx(sizes[2] - sizes[1], rel=1e-4)


def test_axis_angle_is_the_exponentials_reverse() -> None:
    vectors = 0.7 * np.random.default_rng(0).normal(size=(50, 3))
    vectors[0] = 0
    found = terms.axis_angle(torch.tensor(exp_so3(vectors)))
    np.testing.assert_allclose(found.numpy(), vectors, atol=1e-6)


def test_limits_hold_within_and_pull_beyond() -> None:
    lower, upper = pose_limits()
    pose = pose_prior()[0].copy()

    def excess(pose: np.ndarray) -> float:
        turns = np.concatenate([np.zeros((1, 3)), pose.reshape(15, 3)])
        return float(terms.limits_excess(torch.tensor(exp_so3(turns))[None]))

    assert excess(pose) == 0
    pose[2] = upper[2] + 0.3
    assert excess(pose) == pytest.approx(0.3 / 45, rel=1e-3)


def test_bound_is_least_for_the_prior_itself() -> None:
    mean, spread = pose_prior()
    turns = np.concatenate([np.zeros((1, 3)), mean.reshape(15, 3)])
    rotations = torch.tensor(exp_so3(turns))[None]
    sigma = torch.tensor(np.concatenate([np.full(3, 2.0), spread, np.ones(10)]))

    def of(scale: float, beta: float) -> float:
        betas = torch.full((1, 10), beta, dtype=torch.float64)
        factor = torch.diag_embed(scale * sigma)[None]
        return float(terms.pose_kl(PriorHands(rotations, betas, factor, betas, betas)))

    assert of(1.0, 0.0) == pytest.approx(0.0, abs=1e-9)
    assert min(of(0.5, 0.0), of(2.0, 0.0), of(1.0, 0.5)) > 0


# --- reference finding 1: likelihood calibrates, the released objective does not -----------------

_Objective = Callable[[nn.Module, Tensor, Tensor, Tensor], Tensor]


def toy(count: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs (N, 5), targets (N, 1) in cm, and their true sigma (N, 1)."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, (count, 5))
    x[:, 4] = rng.uniform(size=count) < 0.3
    sigma = 0.4 + 1.6 * x[:, 4] + np.abs(x[:, 1])
    clean = 5 * np.sin(3 * x[:, 0]) + 3 * x[:, 2] * x[:, 3]
    seen = clean + sigma * rng.normal(size=count)
    return tuple(torch.tensor(v, dtype=torch.float32).reshape(count, -1) for v in (x, seen, sigma))  # type: ignore[return-value]


def fitted(objective: _Objective, size: nn.Parameter | None = None) -> tuple[np.ndarray, ...]:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(5, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(),
                            nn.Linear(64, 2))  # fmt: skip
    x, y, _ = toy(20_000, 0)
    learnt = [*network.parameters(), *([size] if size is not None else [])]
    optimiser = torch.optim.Adam(learnt, 2e-3)
    for _ in range(700):
        rows = torch.randint(len(x), (256,))
        mean, log_sigma = network(x[rows]).split(1, dim=1)
        loss = objective(network, mean, log_sigma, y[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    x, y, _ = toy(5_000, 1)
    with torch.no_grad():
        mean, log_sigma = network(x).split(1, dim=1)
    return (y - mean).abs().numpy()[:, 0], log_sigma.exp().numpy()[:, 0]


def test_likelihood_calibrates_and_the_released_objective_does_not() -> None:
    error, sigma = fitted(lambda n, mean, log_sigma, y: terms.beta_nll(y - mean, log_sigma))
    assert 0.64 < (error < sigma).mean() < 0.73
    assert correlation(error, sigma, ranks=True) > 0.35
    size = nn.Parameter(torch.tensor(1.0))

    def released(network: nn.Module, mean: Tensor, log_sigma: Tensor, y: Tensor) -> Tensor:
        # in metres, as released: error of a sample whose size is learnt, log-variance pulled to 0
        metres = 0.01 * mean + torch.randn_like(mean) * log_sigma.exp() * size
        pull = terms.diagonal_kl(torch.zeros_like(mean), log_sigma, torch.zeros_like(mean))
        return nn.functional.mse_loss(metres, 0.01 * y) + 0.1 * pull

    error, sigma = fitted(released, size)
    drawn = 100 * sigma * abs(float(size.detach()))
    assert not 0.5 < (error < drawn).mean() < 0.85
    assert correlation(error, sigma, ranks=True) < 0.2


# --- the task --------------------------------------------------------------------------------


def batch_of(count: int, seed: int = 0) -> dict[str, Tensor]:
    """What a store would give of hands that move at random."""
    rng = np.random.default_rng(seed)

    def single(*shape: int) -> Tensor:
        return torch.tensor(rng.normal(size=(count, *shape)), dtype=torch.float32)

    rotations = torch.tensor(exp_so3(0.2 * rng.normal(size=(count, 16, 3))), dtype=torch.float32)
    K = torch.tensor([[300.0, 0, 128], [0, 300, 128], [0, 0, 1]]).repeat(count, 1, 1)
    crop = torch.tensor([[0.7, 0, 10], [0, 0.7, 20]]).repeat(count, 1, 1)
    visibility = single(21).gt(0).float()
    visibility[0, :5] = float("nan")
    return {
        "middle": single(14, 14, 112), "coarse": single(7, 7, 192),
        "landmarks": 0.3 * single(21, 3), "world": 0.03 * single(21, 3),
        "joints": 0.03 * single(21, 3), "uv": 0.3 * single(21, 2),
        "rotations": rotations, "betas": single(10), "visibility": visibility,
        "presence": single().sigmoid(), "K": K, "crop_matrix": crop,
    }  # fmt: skip


def small(name: str) -> Recipe:
    return read_recipe(name, ["model.vertices=16", "model.prior_hidden=32"])


@pytest.mark.parametrize("name", RECIPES)
def test_every_objective_has_finite_gradients(name: str) -> None:
    module = AmvurModule(small(name))
    parts = module.losses(batch_of(4))
    assert all(part.isfinite() for part in parts.values()), parts
    torch.stack(list(parts.values())).sum().backward()
    gradients = {n: p.grad for n, p in module.named_parameters() if p.grad is not None}
    assert all(g.isfinite().all() for g in gradients.values())
    assert any(n.startswith("network.prior.") for n in gradients)
    assert any(n.startswith("network.spread.") for n in gradients)


def test_likelihoods_wait_until_the_means_are_there() -> None:
    module = AmvurModule(small("amvur-renders"))
    parts = module.losses(batch_of(4), ramp=0.0)
    assert parts["nll"] == 0 and parts["kl"] == 0 and parts["joints"] > 0


def test_the_weak_objective_never_sees_three_dimensions() -> None:
    module = AmvurModule(small("amvur-weak-renders"))
    batch = batch_of(4)
    torch.manual_seed(0)
    before = module.losses(batch)
    for name in ("joints", "uv", "rotations", "betas", "visibility"):
        batch[name] = torch.full_like(batch[name], float("nan"))
    torch.manual_seed(0)
    after = module.losses(batch)
    for name, value in before.items():
        torch.testing.assert_close(after[name], value)


def test_the_published_objective_needs_its_samples() -> None:
    recipe = read_recipe("amvur-published-objective", ["model.covariance=diagonal"])
    with pytest.raises(RecipeError, match="sampled"):
        AmvurModule(recipe)
