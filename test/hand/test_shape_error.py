"""A calibrated person's hands are as wrong as they say, for all that the calibration left open."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from hand_mesh_ros.evaluation.bench_solver import cameras, draw_hand
from hand_mesh_ros.geometry.cameras import project
from hand_mesh_ros.hand.kinematics import BETAS, joints_and_jacobian
from hand_mesh_ros.hand.landmarks import landmarks_and_jacobian, marked_at, offsets_of
from hand_mesh_ros.hand.model import load_hand_model
from hand_mesh_ros.hand.observations import (
    Landmarks2D,
    Observation,
    Prior,
    Relative3D,
    default_prior,
    pack,
)
from hand_mesh_ros.hand.residuals import residuals
from hand_mesh_ros.hand.shape import HandShape
from hand_mesh_ros.hand.shape_error import with_shape_uncertainty
from hand_mesh_ros.hand.shape_evidence import normal_with_offsets
from hand_mesh_ros.hand.shape_fusion import Sighting, calibrate_shape
from hand_mesh_ros.hand.solver import Fit, SolverOptions, fit
from hand_mesh_ros.types import SIDES, Side

MODELS = {side: load_hand_model(side=side) for side in SIDES}
PIXELS, WORLD = 2.0, 0.02
INSIDE_68 = 1.8724**2  # squared radius of the ellipsoid that holds 68 % of a 3D Gaussian


@dataclass(frozen=True, eq=False)
class Person:
    """Betas, and landmarks 4 mm from where the network usually has them."""

    betas: np.ndarray
    offsets: np.ndarray

    def hand(
        self, rng: np.random.Generator, side: Side, views: int, noise: float = 1.0
    ) -> tuple[np.ndarray, Observation]:
        """Parameters (61,), and what the cameras see with noise; one view sees relative points."""
        truth = draw_hand(rng, MODELS[side])
        truth[BETAS] = self.betas
        pixels, world = noise * PIXELS, noise * WORLD
        worn = marked_at(MODELS[side], self.offsets)
        points = landmarks_and_jacobian(worn, truth[None])[0][0]
        seen = tuple(
            Landmarks2D(c, project(c, points) + rng.normal(0, pixels, (21, 2)), np.full(21, PIXELS))
            for c in cameras(views)
        )
        relative: tuple[Relative3D, ...] = ()
        if views == 1:
            relative = (Relative3D(points + rng.normal(0, world, (21, 3)), np.full(21, WORLD)),)
        return truth, Observation(seen, relative=relative)


def met(rng: np.random.Generator) -> tuple[Person, HandShape]:
    """Somebody, and what a calibration from 14 noisy sightings in three views knows of them."""
    offsets = offsets_of(MODELS["right"]) + rng.normal(0, 0.004, (21, 3))
    person = Person(rng.normal(0, 1, 10), offsets)
    sightings = []
    for k in range(14):
        truth, observation = person.hand(rng, SIDES[k % 2], 3)
        truth[BETAS] = 0
        sightings.append(Sighting(SIDES[k % 2], k * 10**8, observation, truth))
    return person, calibrate_shape(MODELS, sightings)


def held(
    shape: HandShape, side: Side, observation: Observation, near: np.ndarray
) -> tuple[Fit, Observation, Prior]:
    """A fit of this person's hand from a start near the truth."""
    model = shape.worn(MODELS[side])
    prior = shape.held(default_prior(model))
    observation = observation.with_noise(shape.noise)
    start = near.copy()
    start[BETAS] = shape.betas
    return fit(model, observation, prior, start), observation, prior


@pytest.mark.parametrize(("views", "betas_alone"), [(1, 0.55), (4, 0.4)])
def test_hands_of_a_calibrated_person_are_as_wrong_as_they_say(
    views: int, betas_alone: float
) -> None:
    """Of twenty persons; offsets taken for certain would be far too sure of the joints."""
    rng = np.random.default_rng(views)
    full, without = [], []
    for _ in range(20):
        person, shape = met(rng)
        only_betas = HandShape(
            shape.model_id, shape.betas, shape.covariance, 14, 10.0, "test", "2000-01-01"
        )
        for k in range(10):
            side = SIDES[k % 2]
            truth, observation = person.hand(rng, side, views)
            found, told, prior = held(shape, side, observation, truth)
            model = shape.worn(MODELS[side])
            problem = pack(model, [told], [prior])
            error = found.joints - joints_and_jacobian(model, truth[None])[0][0]
            for known, out in ((shape, full), (only_betas, without)):
                C = with_shape_uncertainty(model, found, known, problem).joint_covariance
                out.append((error * np.linalg.solve(C, error[..., None])[..., 0]).sum(-1))
    assert 0.55 < np.mean(np.array(full) < INSIDE_68) < 0.80
    assert 0.88 < np.mean(np.array(full) < 2.7955**2) < 0.99
    assert 0.7 < np.mean(full) / 3 < 1.4
    assert np.mean(np.array(without) < INSIDE_68) < betas_alone


@pytest.fixture(scope="module")
def somebody() -> tuple[Person, HandShape]:
    return met(np.random.default_rng(7))


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize(("views", "scale"), [(1, None), (3, None), (1, 0.8), (3, 1.3)])
def test_normal_equations_know_of_offsets(
    somebody: tuple[Person, HandShape], side: Side, views: int, scale: float | None
) -> None:
    """Where nothing is left of the residuals: differences of the gradient by the offsets."""
    _, shape = somebody
    rng = np.random.default_rng(3)
    assert shape.offsets is not None
    truth, seen = Person(shape.betas, shape.offsets).hand(rng, side, views, noise=0.0)
    prior = shape.held(default_prior(MODELS[side]))
    params = truth[None]
    if scale is not None:
        prior, params = prior.with_scale(1.0, 0.1), np.append(truth, scale)[None]
        # The same pixels of a hand of another size are far off: look at it where it is.
        worn = shape.worn(MODELS[side])
        points = landmarks_and_jacobian(worn, params)[0][0]
        views_of_it = tuple(replace(v, uv=project(v.camera, points)) for v in seen.views)
        relative = tuple(replace(r, points=points) for r in seen.relative)
        seen = Observation(views_of_it, relative=relative)
    models = [marked_at(MODELS[side], shape.offsets)]
    moved = rng.normal(0, 1e-6, (21, 3))
    models += [marked_at(MODELS[side], shape.offsets + sign * moved) for sign in (1, -1)]
    problem = pack(models[0], [seen], [prior])
    here, *beside = (
        normal_with_offsets(m, problem, residuals(m, problem, params), 3.5) for m in models
    )
    slope = (beside[0].g - beside[1].g)[0] / 2
    size = params.shape[1]
    expected = here.H[0, :, size:] @ moved.ravel()
    np.testing.assert_allclose(slope, expected, atol=1e-3 * np.abs(expected).max())
    assert np.abs(expected[:size]).max() > 0


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("views", [1, 3])
def test_fits_follow_the_offsets_as_the_slope_says(
    somebody: tuple[Person, HandShape], side: Side, views: int
) -> None:
    """Another fit with landmarks a little elsewhere: its joints move as predicted.

    As well as Gauss-Newton's normal matrix is the cost's: not exactly where priors pull.
    """
    _, shape = somebody
    rng = np.random.default_rng(3)
    assert shape.offsets is not None
    truth, seen = Person(shape.betas, shape.offsets).hand(rng, side, views, noise=0.0)
    offsets = shape.offsets + rng.normal(0, 2e-4, (21, 3))
    prior = shape.held(default_prior(MODELS[side]))
    start = truth.copy()
    start[BETAS] = shape.betas
    exact = SolverOptions(tolerance=1e-12, far_start=False)
    model = shape.worn(MODELS[side])
    here, there = (fit(m, seen, prior, start, exact) for m in (model, marked_at(model, offsets)))
    problem = pack(model, [seen], [prior])
    at = residuals(model, problem, here.params[None])
    H = normal_with_offsets(model, problem, at, exact.cutoff).H[0]
    step = -here.covariance @ H[:61, 61:] @ (offsets - shape.offsets).ravel()
    expected = joints_and_jacobian(model, here.params[None])[1][0] @ step
    found = there.joints - here.joints
    assert np.linalg.norm(found) > 2e-4
    assert np.linalg.norm(found - expected) < 0.25 * np.linalg.norm(found)


def test_errors_of_bones_and_landmarks_go_together(somebody: tuple[Person, HandShape]) -> None:
    """Taken for independent, they would make the hand wider than it is."""
    _, shape = somebody
    both = shape.uncertainty()
    assert both.shape == (73, 73) and np.linalg.eigvalsh(both).min() > 0
    np.testing.assert_allclose(both[:10, :10], shape.covariance, rtol=1e-9)
    independent = replace(shape, correlation=None).uncertainty()
    assert np.abs(both[:10, 10:]).max() > 0.1 * np.sqrt(both[0, 0]) * 0.002
    assert np.linalg.slogdet(both)[1] < np.linalg.slogdet(independent)[1]
