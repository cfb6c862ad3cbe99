"""The compiled loops give what the definitions give."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("numba")

from hand_mesh_ros.evaluation.bench_solver import cameras, draw_hand
from hand_mesh_ros.geometry.cameras import project
from hand_mesh_ros.hand import compiled
from hand_mesh_ros.hand.kinematics import NUM_PARAMS, points_and_jacobian
from hand_mesh_ros.hand.landmarks import landmarks_and_jacobian, offsets_of
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
from hand_mesh_ros.hand.residuals import normal_equations, residuals
from hand_mesh_ros.hand.solver import WARM, SolverOptions, fit_batch
from hand_mesh_ros.types import SIDES, Camera

LENSES = {
    "none": (),
    "plumb_bob": (-0.1, 0.02, 1e-3, -2e-3, 0.01),
    "rational_polynomial": (0.3, -0.1, 1e-3, -2e-3, 0.02, 0.4, -0.05, 0.03),
    "thin_prism": (-0.1, 0.02, 1e-3, -2e-3, 0.01, 0.02, 0.01, 0.005, 2e-3, 1e-3, -2e-3, 3e-3),
    "equidistant": (0.05, -0.01, 4e-3, -1e-3),
}
seeds = st.integers(0, 2**32 - 1)
checks = settings(max_examples=40, deadline=None)


def both(compute: Callable[[], Any]) -> tuple[Any, Any]:
    """What the compiled loops give, and the definitions."""
    assert compiled.warm_up()
    fast = compute()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiled, "_loaded", lambda: None)
        return fast, compute()


def equal(fast: Any, slow: Any, atol: float) -> None:
    """Of nested tuples; each array to ``atol`` of its largest number, or of one."""
    assert type(fast) is type(slow)
    if isinstance(slow, tuple):
        assert len(fast) == len(slow)
        for a, b in zip(fast, slow, strict=True):
            equal(a, b, atol)
    elif slow is not None:
        size = max(1.0, float(np.abs(slow[np.isfinite(slow)]).max(initial=0)))
        np.testing.assert_allclose(fast, slow, rtol=0, atol=atol * size)


def with_correctives(model: HandModel) -> HandModel:
    rng = np.random.default_rng(5)
    return replace(model, posedirs=rng.normal(0, 2e-3, model.posedirs.shape))


MODELS = [load_hand_model(side=side) for side in SIDES]
MODELS.append(with_correctives(MODELS[0]))


def lens(camera: Camera, name: str) -> Camera:
    return replace(camera, distortion=name, D=np.array(LENSES[name]))


def covariances(rng: np.random.Generator, size: int, sigma: float) -> np.ndarray:
    roots = sigma * (np.eye(size) + 0.3 * rng.normal(size=(21, size, size)))
    return roots @ np.swapaxes(roots, -1, -2)


def drawn(
    rng: np.random.Generator,
    model: HandModel,
    lenses: list[str],
    near: bool,
    with_scale: bool = False,
) -> tuple[Observation, Prior, np.ndarray]:
    """A hand of which some mixture of everything was observed, and a start."""
    truth = draw_hand(rng, model)
    points = landmarks_and_jacobian(model, truth[None])[0][0]
    views = []
    for camera, name in zip(cameras(4), lenses, strict=False):
        camera = lens(camera, name)
        uv = project(camera, points) + rng.normal(0, 2, (21, 2))
        uv[rng.uniform(size=21) < 0.1] = np.nan
        uv[rng.uniform(size=21) < 0.1] += 50
        noise = np.full(21, 2.0) if rng.uniform() < 0.5 else covariances(rng, 2, 2.0)
        view = Landmarks2D(camera, uv, noise)
        if rng.uniform() < 0.5:
            depth = (points @ camera.T_camera_world[:3, :3].T + camera.T_camera_world[:3, 3])[:, 2]
            depth = np.where(rng.uniform(size=21) < 0.3, np.nan, depth + rng.normal(0, 5e-3, 21))
            view = replace(view, depth=depth, depth_sigma=rng.uniform(4e-3, 8e-3, 21))
        views.append(view)
    known = None
    if rng.uniform() < 0.5 or not views:
        noisy = points + rng.normal(0, 0.01, (21, 3))
        noisy[rng.uniform(size=21) < 0.1] = np.nan
        known = Points3D(noisy, covariances(rng, 3, 0.01))
    sets = []
    for _ in range(rng.integers(3)):
        guess = points + rng.normal(0, 0.01, (21, 3)) + rng.normal(0, 1, 3)
        guess[rng.uniform(size=21) < 0.1] = np.nan
        noise = rng.uniform(5e-3, 15e-3, 21) if rng.uniform() < 0.5 else covariances(rng, 3, 0.01)
        sets.append(Relative3D(guess, noise))
    # A prior whose unknowns depend on each other.
    prior = default_prior(model)
    if with_scale:
        prior = prior.with_scale(0.9, 0.2)
    spread = np.eye(len(prior.mean)) + 0.05 * rng.normal(size=prior.precision.shape)
    prior = Prior(prior.mean, spread.T @ prior.precision @ spread)
    start = truth + rng.normal(0, 0.03 if near else 0.15, NUM_PARAMS)
    start[58:] = truth[58:] + rng.normal(0, 0.01 if near else 0.05, 3)
    if with_scale:
        start = np.append(start, 1.1)
    return Observation(tuple(views), known, tuple(sets)), prior, start


def several(
    seed: int, near: bool = True
) -> tuple[HandModel, list[Observation], list[Prior], np.ndarray]:
    rng = np.random.default_rng(seed)
    model = MODELS[rng.integers(len(MODELS))]
    hands, with_scale = [], bool(rng.integers(2))
    for _ in range(rng.integers(1, 4)):
        lenses = [str(name) for name in rng.choice(list(LENSES), rng.integers(4))]
        hands.append(drawn(rng, model, lenses, near, with_scale))
    observations, priors, starts = zip(*hands, strict=True)
    return model, list(observations), list(priors), np.stack(starts)


@given(seeds, st.booleans(), st.booleans())
@checks
def test_points_and_jacobian(seed: int, with_scale: bool, with_offsets: bool) -> None:
    rng = np.random.default_rng(seed)
    model = MODELS[rng.integers(len(MODELS))]
    params = rng.normal(0, 0.7, (3, NUM_PARAMS + with_scale))
    params[0, :48] *= 10.0 ** -rng.integers(0, 9)  # across where the closed forms become series
    if with_scale:
        params[:, 61] = rng.uniform(0.7, 1.4, 3)
    offsets = offsets_of(model) if with_offsets else None
    fast, slow = both(lambda: points_and_jacobian(model, params, offsets))
    equal(fast, slow, 1e-12)
    equal(*both(lambda: points_and_jacobian(model, params, offsets).joints()), 1e-12)


@given(seeds, st.floats(1.0, 5.0), st.floats(1.0, 4.0))
@checks
def test_residuals_and_normal_equations(seed: int, cutoff: float, scale: float) -> None:
    model, observations, priors, starts = several(seed)
    problem = pack(model, observations, priors)
    here, slow = both(lambda: residuals(model, problem, starts))
    equal(here, slow, 1e-10)
    rng = np.random.default_rng(seed)
    wide, scales = cutoff * rng.uniform(0.5, 2, len(starts)), scale * np.ones(len(starts))
    equal(*both(lambda: normal_equations(problem, slow, wide, scales)), 1e-10)


@pytest.mark.parametrize("name", LENSES)
def test_points_that_no_camera_sees(name: str) -> None:
    """Behind the camera, in its plane, on its axis, beyond the fold of its lens."""
    model, rng = MODELS[0], np.random.default_rng(1)
    observation, prior, start = drawn(rng, model, [name, name], near=True)
    starts = np.tile(start, (6, 1))
    camera = observation.views[0].camera
    wrist = landmarks_and_jacobian(model, start[None])[0][0, 0]
    places = [(0, 0, -0.4), (0.01, 0, 0.0), (0, 0, 0.4), (0.5, 0, 0.02), (2, 1, 0.3), (0.3, 0, 0.2)]
    for row, place in zip(starts, places, strict=True):
        T = camera.T_camera_world
        row[58:] += T[:3, :3].T @ (np.array(place) - T[:3, 3]) - wrist
    problem = pack(model, [observation] * 6, [prior] * 6)
    fast, slow = both(lambda: residuals(model, problem, starts))
    equal(fast, slow, 1e-10)
    seen = slow.absolute[0].seen
    assert 0 < seen[:, 0].sum() < seen[:, 0].size


FAR = SolverOptions(max_iterations=30)


@given(seeds, st.booleans())
@settings(max_examples=25, deadline=None)
def test_fits(seed: int, near: bool) -> None:
    """The same path from start to end: as many iterations, the same hand and covariance."""
    model, observations, priors, starts = several(seed, near)
    options = WARM if near else FAR
    fast, slow = both(lambda: fit_batch(model, observations, priors, starts, options))
    assert fast.iterations == slow.iterations
    assert (fast.converged == slow.converged).all() and (fast.plausible == slow.plausible).all()
    for name in ("params", "joints", "covariance", "joint_covariance", "wrist_covariance"):
        np.testing.assert_allclose(getattr(fast, name), getattr(slow, name), atol=1e-7)
    for name in ("residual_px", "cost", "chi2", "dof"):
        np.testing.assert_allclose(getattr(fast, name), getattr(slow, name), rtol=1e-5, atol=1e-5)


def test_too_few_iterations_are_not_called_converged() -> None:
    model, observations, priors, starts = several(3, near=False)
    options = SolverOptions(max_iterations=2)
    fast, slow = both(lambda: fit_batch(model, observations, priors, starts, options))
    assert not fast.converged.any() and not slow.converged.any()
    np.testing.assert_allclose(fast.params, slow.params, atol=1e-9)


def test_single_precision_is_left_to_the_definition() -> None:
    import torch

    assert compiled.kernels(np.zeros(1, np.float32)) is None
    assert compiled.kernels(torch.zeros(1, dtype=torch.float64)) is None
    assert compiled.kernels(np.zeros(1)) is not None


def test_what_cannot_be_kept_on_disk_is_compiled_all_the_same(
    caplog: pytest.LogCaptureFixture,
) -> None:
    scope: dict[str, Any] = {}
    exec("def double(x, y):\n    y[:] = 2 * x\n    return True", scope)  # of no file
    double = compiled.jit(reads=(1,), writes=(1,))(scope["double"])
    out = np.zeros(3)
    assert double(np.arange(3.0), out) is True
    assert "cannot be kept" in caplog.text
    np.testing.assert_array_equal(out, [0, 2, 4])


def run(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


FIT = """
import sys
import numpy as np
from hand_mesh_ros.hand import compiled
from hand_mesh_ros.hand.model import load_hand_model
from hand_mesh_ros.hand.observations import Observation, Points3D, default_prior
from hand_mesh_ros.hand.solver import fit
assert "numba" not in sys.modules
model = load_hand_model()
prior = default_prior(model)
points = Points3D(np.linspace(0, 0.2, 63).reshape(21, 3), np.full(21, 0.01))
def solved():
    return fit(model, Observation(points=points), prior, prior.mean).joints
"""


def test_numba_is_neither_imported_early_nor_needed() -> None:
    code = FIT + "j = solved(); print(compiled.warm_up(), *j.ravel())"
    without_jit = run(code, NUMBA_DISABLE_JIT="1").split()
    blocked = run("import sys; sys.modules['numba'] = None\n" + code.replace("assert", "#")).split()
    compiled_loops = run(code).split()
    assert [without_jit[0], blocked[0], compiled_loops[0]] == ["False", "False", "True"]
    for other in (without_jit, blocked):
        np.testing.assert_allclose(
            np.array(other[1:], float), np.array(compiled_loops[1:], float), atol=1e-8
        )


def test_the_first_call_may_come_from_many_threads_at_once() -> None:
    code = FIT + (
        "from concurrent.futures import ThreadPoolExecutor\n"
        "with ThreadPoolExecutor(6) as pool:\n"
        "    found = [f.result() for f in [pool.submit(solved) for _ in range(24)]]\n"
        "print(max(abs(f - found[0]).max() for f in found), compiled.warm_up())"
    )
    assert run(code).split() == ["0.0", "True"]
