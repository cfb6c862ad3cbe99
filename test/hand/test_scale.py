"""A hand's scale as an unknown: found, as sure as it is, the same by every path, off by default."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from hand_mesh_ros.evaluation.bench_solver import cameras, draw_hand
from hand_mesh_ros.geometry.cameras import project
from hand_mesh_ros.geometry.rotations import exp_so3, log_so3
from hand_mesh_ros.hand.kinematics import (
    BETAS,
    GLOBAL_ORIENT,
    NUM_PARAMS,
    SCALE,
    TRANSL,
    joints_and_jacobian,
)
from hand_mesh_ros.hand.landmarks import landmark_points, landmarks_and_jacobian
from hand_mesh_ros.hand.model import HandModel, load_hand_model
from hand_mesh_ros.hand.observations import (
    Landmarks2D,
    Observation,
    Points3D,
    Prior,
    Relative3D,
    default_prior,
    pack,
)
from hand_mesh_ros.hand.solver import Fits, fit, fit_batch
from hand_mesh_ros.hand.starts import rest_wrist
from hand_mesh_ros.types import SIDES, Side

MODEL = load_hand_model()
SIGMA = 0.15
VIEWS, RELATIVE = "4 views", "relative"


def scaled(rng: np.random.Generator, model: HandModel, scale: float) -> np.ndarray:
    """A hand (62,) before the cameras."""
    params = np.append(draw_hand(rng, model), scale)
    params[TRANSL] += (1 - scale) * rest_wrist(model, params[BETAS])
    return params


def observed(
    rng: np.random.Generator, model: HandModel, truth: np.ndarray, kind: str, noise: float = 1.0
) -> Observation:
    """Four views with 2 px of noise, or points known up to their common place to 4 mm."""
    points = landmarks_and_jacobian(model, truth[None])[0][0]
    if kind == RELATIVE:
        guess = points + noise * rng.normal(0, 0.004, (21, 3)) + rng.normal(0, 1, 3)
        return Observation(relative=(Relative3D(guess, np.full(21, 0.004)),))
    views = [
        Landmarks2D(c, project(c, points) + noise * rng.normal(0, 2, (21, 2)), np.full(21, 2.0))
        for c in cameras(4)
    ]
    return Observation(tuple(views))


def prior_of(model: HandModel, truth: np.ndarray, known_shape: bool) -> Prior:
    prior = default_prior(model)
    if known_shape:
        prior = prior.with_shape(truth[BETAS], 0.01**2 * np.eye(10))
    return prior.with_scale(1.0, SIGMA)


def several(count: int, seed: int, kind: str, known_shape: bool = True) -> tuple[np.ndarray, Fits]:
    """Hands whose scale is drawn from its prior, and their fits from a start at its mean."""
    rng = np.random.default_rng(seed)
    truth = np.stack([scaled(rng, MODEL, rng.normal(1, SIGMA)) for _ in range(count)])
    seen = [observed(rng, MODEL, t, kind) for t in truth]
    priors = [prior_of(MODEL, t, known_shape) for t in truth]
    starts = truth[:, :NUM_PARAMS] + rng.normal(0, 0.02, (count, NUM_PARAMS))
    return truth, fit_batch(MODEL, seen, priors, starts)


@pytest.mark.parametrize("kind", [VIEWS, RELATIVE])
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("scale", [0.6, 1.3])
def test_a_known_scale_is_recovered(kind: str, side: Side, scale: float) -> None:
    model, rng = load_hand_model(side=side), np.random.default_rng(5)
    truth = scaled(rng, model, scale)
    exact = observed(rng, model, truth, kind, noise=0.0)
    wide = default_prior(model).with_shape(truth[BETAS], 1e-3**2 * np.eye(10)).with_scale(1, 10)
    found = fit(model, exact, wide, truth[:NUM_PARAMS])
    assert found.converged and found.plausible
    assert found.scale == pytest.approx(scale, rel=6e-3)
    assert abs(found.scale - scale) < np.sqrt(found.scale_variance) < 0.03
    spread = np.linalg.norm(found.joints - found.joints[0], axis=-1)
    joints = joints_and_jacobian(model, truth[None])[0][0]
    error = np.abs(spread - np.linalg.norm(joints - joints[0], axis=-1))
    assert np.median(error) < 0.002


@pytest.mark.parametrize("known_shape", [True, False])
@pytest.mark.parametrize("kind", [VIEWS, RELATIVE])
def test_scale_joints_and_wrist_are_as_wrong_as_they_say(kind: str, known_shape: bool) -> None:
    """Four hundred hands: without a known shape, betas and scale share what says how large."""
    truth, fits = several(400, 11, kind, known_shape)
    assert fits.converged.all()
    sigma = np.sqrt(fits.scale_variance)
    z = (fits.scale - truth[:, SCALE]) / sigma
    assert 0.61 < (np.abs(z) < 1).mean() < 0.75
    assert 0.92 < (np.abs(z) < 2).mean() < 0.98
    assert 0.85 < np.mean(z**2) < 1.25
    # It was learned from what was seen, and is plainer where the shape is known.
    assert np.median(sigma) < (0.025 if known_shape else 0.08)
    error = fits.joints - joints_and_jacobian(MODEL, truth)[0]
    if kind == RELATIVE:  # whose place nobody knows
        return
    nees = (error * np.linalg.solve(fits.joint_covariance, error[..., None])[..., 0]).sum(-1)
    assert 0.85 < nees.mean() / 3 < 1.2
    found = fits.params[:, GLOBAL_ORIENT]
    turned = [
        log_so3(exp_so3(t) @ exp_so3(f).T)
        for t, f in zip(truth[:, GLOBAL_ORIENT], found, strict=True)
    ]
    pose = np.concatenate([-error[:, 0], np.array(turned)], axis=-1)
    wrist = (pose * np.linalg.solve(fits.wrist_covariance, pose[..., None])[..., 0]).sum(-1)
    assert 0.8 < wrist.mean() / 6 < 1.25


@pytest.mark.parametrize("kind", [VIEWS, RELATIVE])
def test_torch_gives_what_numpy_gives(kind: str) -> None:
    """The compiled loops: `test_compiled`."""
    import torch

    rng = np.random.default_rng(3)
    truth = np.stack([scaled(rng, MODEL, s) for s in (0.8, 1.0, 1.25)])
    hands = [(observed(rng, MODEL, t, kind), prior_of(MODEL, t, True)) for t in truth]
    seen, priors = zip(*hands, strict=True)
    starts = truth[:, :NUM_PARAMS]
    numpy = fit_batch(MODEL, seen, priors, starts)
    precisions = [(torch.zeros(1).double(), 1e-7)]
    if kind == VIEWS:  # a place known to 10 m is too much for single precision
        precisions.append((torch.zeros(1), 2e-3))
    for reference, atol in precisions:
        other = fit_batch(MODEL, seen, priors, starts, reference=reference)
        for name in ("scale", "params", "covariance", "joint_covariance"):
            want = getattr(numpy, name)
            np.testing.assert_allclose(getattr(other, name), want, rtol=1e-6, atol=atol)
        assert other.scale_variance.shape == (3,)


@pytest.mark.parametrize("side", SIDES)
def test_joints_beside_landmarks_know_of_the_scale(side: Side) -> None:
    """The Jacobian of joints by way of the landmarks, against differences and directly."""
    model = load_hand_model(side=side)
    params = scaled(np.random.default_rng(1), model, 0.7)[None]
    joints, jacobian = landmark_points(model, params).joints()
    there, direct = joints_and_jacobian(model, params)
    np.testing.assert_allclose(joints, there, atol=1e-12)
    np.testing.assert_allclose(jacobian, direct, atol=1e-12)
    step = np.zeros_like(params)
    step[0, SCALE] = 1e-6
    slope = joints_and_jacobian(model, params + step)[0] - joints_and_jacobian(model, params)[0]
    np.testing.assert_allclose(jacobian[..., SCALE], slope / 1e-6, atol=1e-6)


def test_without_it_nothing_changes() -> None:
    """Off: 61 unknowns, scale one for sure. A scale that is held at one gives the same hand."""
    rng = np.random.default_rng(8)
    truth = [draw_hand(rng, MODEL) for _ in range(4)]
    seen = [observed(rng, MODEL, np.append(t, 1.0), VIEWS) for t in truth]
    starts = np.stack(truth) + rng.normal(0, 0.02, (4, NUM_PARAMS))
    prior = default_prior(MODEL)
    off = fit_batch(MODEL, seen, [prior] * 4, starts)
    assert off.params.shape == (4, 61) and off.covariance.shape == (4, 61, 61)
    np.testing.assert_array_equal(off.scale, 1.0)
    np.testing.assert_array_equal(off.scale_variance, 0.0)
    assert off[0].scale == 1.0 and off[0].scale_variance == 0.0
    held = fit_batch(MODEL, seen, [prior.with_scale(1.0, 1e-7)] * 4, starts)
    assert held.iterations == off.iterations
    for field in fields(Fits):
        name = field.name
        want, got = (np.asarray(getattr(f, name), dtype=float) for f in (off, held))
        if name in ("params", "covariance"):
            got = got[:, :61] if name == "params" else got[:, :61, :61]
        np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-8, err_msg=name)


def test_a_scale_stays_positive() -> None:
    """Landmarks that all lie at one place: the smallest hand of all, and no exception."""
    dot = Points3D(np.tile([0.1, 0.0, 0.5], (21, 1)), np.full(21, 0.002))
    prior = default_prior(MODEL).with_scale(1.0, 1.0)
    found = fit(MODEL, Observation(points=dot), prior, prior.mean)
    assert 0 < found.scale < 0.1
    assert np.isfinite(found.covariance).all()


@pytest.mark.parametrize(("mean", "sigma"), [(0.0, 1.0), (-1.0, 1.0), (1.0, 0.0), (np.nan, 1.0)])
def test_a_prior_that_is_none_is_refused(mean: float, sigma: float) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        default_prior(MODEL).with_scale(mean, sigma)


def test_bad_starts_and_mixed_batches_are_refused() -> None:
    prior = default_prior(MODEL)
    with_scale = prior.with_scale(1.0, 0.1)
    with pytest.raises(ValueError, match="unknown of some hands only"):
        pack(MODEL, [Observation()] * 2, [prior, with_scale])
    with pytest.raises(ValueError, match=r"expected \(B, 61\)"):
        fit(MODEL, Observation(), prior, with_scale.mean)
    with pytest.raises(ValueError, match="not positive"):
        fit(MODEL, Observation(), with_scale, np.append(prior.mean, -1.0))


def test_the_prior_keeps_what_it_knew() -> None:
    prior = default_prior(MODEL).with_scale(1.2, 0.1)
    again = prior.loosened(BETAS, 2.0).times(BETAS, np.ones(10), np.full(10, 0.5))
    assert again.mean.shape == (62,) and again.mean[SCALE] == 1.2
    assert again.precision[SCALE, SCALE] == pytest.approx(100)
    assert prior.with_scale(0.9, 0.2).mean[SCALE] == 0.9
