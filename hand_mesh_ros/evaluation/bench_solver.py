"""`hand-mesh bench solver`: how exact, how honest and how fast the solver is.

Hands are drawn from the solver's own prior (inside the joint limits), seen by synthetic cameras
with Gaussian noise of the size that the solver is told. Times are medians, each beside a baseline
measured in turn with it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.evaluation.metrics.alignment import root_relative
from hand_mesh_ros.evaluation.metrics.position import distances
from hand_mesh_ros.evaluation.metrics.uncertainty import coverage, nees
from hand_mesh_ros.geometry.cameras import look_at, project
from hand_mesh_ros.geometry.rotations import exp_so3, log_so3
from hand_mesh_ros.geometry.triangulation import triangulate
from hand_mesh_ros.hand.kinematics import (
    BETAS,
    GLOBAL_ORIENT,
    HAND_POSE,
    NUM_PARAMS,
    TRANSL,
    joints_and_jacobian,
)
from hand_mesh_ros.hand.landmarks import landmarks_and_jacobian
from hand_mesh_ros.hand.limits import pose_limits, pose_prior
from hand_mesh_ros.hand.model import HandModel, load_hand_model, smplx_max_difference
from hand_mesh_ros.hand.observations import (
    Landmarks2D,
    Observation,
    Prior,
    Relative3D,
    default_prior,
    pack,
)
from hand_mesh_ros.hand.residuals import LIMIT_SIGMA, Residuals, residuals
from hand_mesh_ros.hand.solver import WARM, Fit, Fits, SolverOptions, fit, fit_batch, solve
from hand_mesh_ros.hand.starts import rest_wrist, start_from_points, start_from_view
from hand_mesh_ros.types import Camera

Array = NDArray[np.float64]
Progress = Callable[[int, int, str], None]

_CENTRE = np.array([0.1, -0.2, 0.4])
_PIXELS = 2.0
# One sigma, m, of the relative landmarks that a single view comes with.
_RELATIVE = 0.006
# One sigma of the size of hands whose scale is solved for.
_SCALE_SIGMA = 0.15
_LEVELS = {"68": 0.68, "95": 0.95}
_BATCH = 64
# Timing: hands, runs of a batch, and rounds of them all.
_RACES, _BATCH_RUNS, _ROUNDS = 60, 7, 5
# Plain least squares, solved as well as SciPy does at ftol 1e-3.
_PLAIN = SolverOptions(max_iterations=10, tolerance=1e-5, cutoff=1e3, far_start=False)


@dataclass(frozen=True, eq=False)
class _Case:
    truth: Array
    observation: Observation
    prior: Prior
    start: Array


def bench_solver(hands: int, progress: Progress, gpu: bool = False) -> dict[str, Any]:
    """The synthetic figures of `out/bench/solver.json`, by its names."""
    model = load_hand_model()
    total = 6
    report: dict[str, Any] = {}
    progress(0, total, "accuracy")
    report |= _accuracy(model, hands // 4)
    progress(1, total, "covariance")
    report |= _honesty(model, hands, outliers=0.0, suffix="")
    progress(2, total, "covariance with outliers")
    report |= _honesty(model, hands // 4, outliers=0.1, suffix="_outliers")
    report |= _scale(model, hands // 4)
    progress(3, total, "speed of one hand")
    report |= _speed_of_one(model)
    progress(4, total, "speed of a batch")
    report |= _speed_of_batch(model, _BATCH, "cpu")
    if gpu:
        report |= _speed_of_batch(model, 1024, "cuda")
    progress(5, total, "smplx")
    left = load_hand_model(side="left")
    report["smplx_max_m"] = max(smplx_max_difference(m) for m in (model, left))
    progress(total, total, "done")
    return report


def cameras(count: int) -> list[Camera]:
    """Distorted 720p cameras 0.6 m from the hand, on an arc of 100 degrees, at two heights."""
    K = np.array([[900.0, 0, 640], [0, 905, 360], [0, 0, 1]])
    D = np.array([-0.1, 0.02, 1e-3, -1e-3, 0])
    angles = np.deg2rad(np.linspace(-50, 50, count) if count > 1 else [0.0])
    eyes = [
        _CENTRE + 0.6 * np.array([np.cos(a), np.sin(a), 0.2 + 0.3 * (i % 2)])
        for i, a in enumerate(angles)
    ]
    up = np.array([0.0, 0, 1])
    return [
        Camera(f"c{i}", 1280, 720, K, "plumb_bob", D, look_at(eye, _CENTRE, up))
        for i, eye in enumerate(eyes)
    ]


def draw_hand(rng: np.random.Generator, model: HandModel) -> Array:
    """Parameters (61,) from the solver's prior, inside the joint limits, before the cameras."""
    lower, upper = pose_limits(model.side)
    mean, sigma = pose_prior(model.side)
    pose = rng.normal(mean, sigma)
    while (outside := (pose < lower) | (pose > upper)).any():
        pose = np.where(outside, rng.normal(mean, sigma), pose)
    params = np.zeros(NUM_PARAMS)
    params[HAND_POSE] = pose
    params[BETAS] = rng.normal(0, 1, 10)
    params[GLOBAL_ORIENT] = log_so3(exp_so3(rng.normal(0, 2, 3)))
    middle = joints_and_jacobian(model, params[None])[0][0].mean(0)
    params[TRANSL] = _CENTRE + rng.normal(0, 0.03, 3) - middle
    return params


def _case(
    rng: np.random.Generator,
    model: HandModel,
    views: int,
    outliers: float = 0.0,
    known_shape: bool = False,
    scale: float | None = None,
) -> _Case:
    """A hand in some views; ``scale``: of that size, which is to be solved for."""
    truth = draw_hand(rng, model)
    if scale is not None:
        truth[TRANSL] += (1 - scale) * rest_wrist(model, truth[BETAS])
        truth = np.append(truth, scale)
    points = landmarks_and_jacobian(model, truth[None])[0][0]
    seen = []
    for camera in cameras(views):
        uv = project(camera, points) + rng.normal(0, _PIXELS, (21, 2))
        wrong = rng.uniform(size=21) < outliers
        uv = np.where(wrong[:, None], uv + rng.normal(0, 60, (21, 2)), uv)
        seen.append(Landmarks2D(camera, uv, np.full(21, _PIXELS)))
    prior = default_prior(model)
    if known_shape:
        prior = prior.with_shape(truth[BETAS], 0.02**2 * np.eye(10))
    begin_as = prior.mean
    if scale is not None:
        prior = prior.with_scale(1.0, _SCALE_SIGMA)
    relative: tuple[Relative3D, ...] = ()
    if views == 1:
        guess = points - points.mean(0) + rng.normal(0, _RELATIVE, points.shape)
        relative = (Relative3D(guess, np.full(21, _RELATIVE)),)
        start = start_from_view(model, seen[0].camera, seen[0].uv, guess, begin_as)
    else:
        uv, sigma = np.stack([v.uv for v in seen]), np.stack([v.noise for v in seen])
        rough = triangulate([v.camera for v in seen], uv, sigma)
        start = start_from_points(model, rough, begin_as)
    return _Case(truth, Observation(tuple(seen), relative=relative), prior, start)


def _solved(
    model: HandModel, cases: Sequence[_Case], options: SolverOptions | None = None
) -> Iterator[tuple[Fits, Array]]:
    """Fits and true joints (B, 21, 3), a batch at a time."""
    for begin in range(0, len(cases), _BATCH):
        part = cases[begin : begin + _BATCH]
        fits = fit_batch(
            model,
            [c.observation for c in part],
            [c.prior for c in part],
            np.stack([c.start for c in part]),
            options,
        )
        yield fits, joints_and_jacobian(model, np.stack([c.truth for c in part]))[0]


def _accuracy(model: HandModel, count: int) -> dict[str, float]:
    rng = np.random.default_rng(1)
    out = {}
    for name, views, known in (("4view", 4, False), ("1view", 1, True)):
        cases = [_case(rng, model, views, known_shape=known) for _ in range(count)]
        found = [(np.asarray(f.joints), truth) for f, truth in _solved(model, cases)]
        joints, truth = (np.concatenate(part) for part in zip(*found, strict=True))
        error = distances(joints, truth)
        out[f"joint_mm_{name}"] = round(1e3 * float(np.median(error)), 3)
        if views == 1:
            relative = distances(root_relative(joints, joints), root_relative(truth, truth))
            median = np.median(relative[:, 1:])
            out["joint_mm_1view_relative"] = round(1e3 * float(median), 3)
    return out


def _honesty(model: HandModel, hands: int, outliers: float, suffix: str) -> dict[str, Any]:
    """Coverage of the joints' ellipsoids and mean NEES / 3 over hands at 1, 2 and 4 views."""
    rng = np.random.default_rng(2)
    out: dict[str, Any] = {}
    errors, covariances = [], []
    for views in (1, 2, 4):
        cases = [_case(rng, model, views, outliers) for _ in range(hands // 3)]
        solved = list(_solved(model, cases))
        errors.append(np.concatenate([np.asarray(f.joints) - truth for f, truth in solved]))
        covariances.append(np.concatenate([np.asarray(f.joint_covariance) for f, _ in solved]))
        mean = nees(errors[-1], covariances[-1]).mean() / 3
        out[f"nees_{views}view{suffix}"] = round(float(mean), 3)
    error, covariance = np.concatenate(errors), np.concatenate(covariances)
    shares = coverage(error, covariance, tuple(_LEVELS.values()))
    for name, share in zip(_LEVELS, shares, strict=True):
        out[f"coverage_{name}{suffix}"] = round(float(share), 4)
    out[f"nees{suffix}"] = round(float(nees(error, covariance).mean() / 3), 3)
    out[f"covariance_hands{suffix}"] = len(error)
    return out


def _scale(model: HandModel, count: int) -> dict[str, float]:
    """A known hand of unknown size in four views: the scale's error, and how honest its sigma is.

    Scales are drawn from the prior they are solved with, 15 % wide.
    """
    rng = np.random.default_rng(5)
    scales = rng.normal(1, _SCALE_SIGMA, count)
    cases = [_case(rng, model, 4, known_shape=True, scale=float(s)) for s in scales]
    fits = [f for f, _ in _solved(model, cases)]
    error = np.concatenate([np.asarray(f.scale) for f in fits]) - scales
    sigma = np.sqrt(np.concatenate([np.asarray(f.scale_variance) for f in fits]))
    return {
        "scale_percent_4view": round(100 * float(np.median(np.abs(error / scales))), 3),
        "scale_coverage_68": round(float((np.abs(error) < 0.9945 * sigma).mean()), 4),
    }


def _speed_of_one(model: HandModel) -> dict[str, float]:
    """A tracked hand seen by four cameras, and the same problem through SciPy.

    ``solve_ms`` is all of it: packing the observations, the solution, its covariance.
    ``speedup_vs_scipy`` is a race of the solution alone, both from packed observations and the
    same start, with the same residuals and Jacobian (compiled where ours are), as plain least
    squares, since SciPy has no such robust loss. Ours still includes the covariance. SciPy stops
    at ftol 1e-3, ours at a tolerance at which its minimum is at least as good: ``cost_excess``
    and ``scipy_cost_excess`` are how far the cost remains above the least there is, relatively.
    Times are medians over the hands of the least disturbed of some rounds.
    """
    from scipy.optimize import least_squares

    rng = np.random.default_rng(3)
    hands = [_tracked(rng, model) for _ in range(_RACES)]
    rows = [_Rows(model, case) for case, _ in hands]

    def through_scipy(i: int, **tolerances: float) -> Any:
        r = rows[i]
        return least_squares(
            r.residual, hands[i][1], r.jacobian, method="trf", x_scale="jac", **tolerances
        )

    def everything(i: int) -> Fit:
        return fit(model, hands[i][0].observation, hands[i][0].prior, hands[i][1], WARM)

    def ours(i: int) -> Fits:
        return solve(model, rows[i].problem, hands[i][1][None], _PLAIN)

    def scipys(i: int) -> Any:
        return through_scipy(i, ftol=WARM.tolerance)

    took = _race([everything, ours, scipys], _RACES)
    excess, scipy_excess, difference = [], [], []
    for i in range(_RACES):
        mine, other = np.asarray(ours(i).params[0]), scipys(i).x
        least = through_scipy(i, ftol=1e-15, xtol=1e-15, gtol=1e-15).cost
        excess.append(rows[i].cost(mine) / least - 1)
        scipy_excess.append(rows[i].cost(other) / least - 1)
        moved = joints_and_jacobian(model, np.stack([mine, other]))[0]
        difference.append(float(distances(moved[:1], moved[1:]).mean()))
    return {
        "solve_ms": round(1e3 * took[0], 3),
        "race_ms": round(1e3 * took[1], 3),
        "scipy_ms": round(1e3 * took[2], 3),
        "speedup_vs_scipy": round(took[2] / took[1], 2),
        "cost_excess": float(f"{np.median(excess):.1e}"),
        "scipy_cost_excess": float(f"{np.median(scipy_excess):.1e}"),
        "scipy_difference_mm": round(1e3 * float(np.median(difference)), 3),
    }


def _tracked(rng: np.random.Generator, model: HandModel) -> tuple[_Case, Array]:
    """A hand seen by four cameras, and a start (61,): a frame ago, a few degrees and 1 cm off."""
    case = _case(rng, model, 4)
    start = case.truth + rng.normal(0, 0.03, NUM_PARAMS)
    start[TRANSL] = case.truth[TRANSL] + rng.normal(0, 0.01, 3)
    return case, start


def _race(runners: Sequence[Callable[[int], Any]], cases: int) -> list[float]:
    """Seconds each: of some rounds, in which all take turns, the least median over the cases."""
    medians = []
    for _ in range(_ROUNDS):
        took = np.zeros((len(runners), cases))
        for i in range(cases):
            for j, run in enumerate(runners):
                begin = time.perf_counter()
                run(i)
                took[j, i] = time.perf_counter() - begin
        medians.append(np.median(took, axis=1))
    return [float(t) for t in np.min(medians, axis=0)]


class _Rows:
    """The same problem as one tall vector of whitened residuals with its Jacobian, for SciPy."""

    def __init__(self, model: HandModel, case: _Case) -> None:
        self._model = model
        self.problem = pack(model, [case.observation], [case.prior])
        self._root = np.linalg.cholesky(case.prior.precision).T
        self._mean = case.prior.mean
        self._lower, self._upper = pose_limits(model.side)

        self._last: Residuals | None = None

    def cost(self, params: Array) -> float:
        """Half the sum of squares at params (61,)."""
        return 0.5 * float((self.residual(params) ** 2).sum())

    def residual(self, params: Array) -> Array:
        r = self._at(params)
        pose = params[HAND_POSE]
        excess = np.minimum(pose - self._lower, 0) + np.maximum(pose - self._upper, 0)
        parts = [p.residual.reshape(-1) for p in r.absolute]
        return np.concatenate([*parts, self._root @ (params - self._mean), excess / LIMIT_SIGMA])

    def jacobian(self, params: Array) -> Array:
        r = self._at(params)
        parts = [
            (p.jacobian @ r.landmarks.jacobian[:, None]).reshape(-1, NUM_PARAMS) for p in r.absolute
        ]
        pose = params[HAND_POSE]
        limits = np.zeros((45, NUM_PARAMS))
        limits[np.arange(45), np.arange(45) + HAND_POSE.start] = (
            (pose < self._lower) | (pose > self._upper)
        ) / LIMIT_SIGMA
        return np.concatenate([*parts, self._root, limits])

    def _at(self, params: Array) -> Residuals:
        """SciPy asks for residuals and Jacobian at the same place: one evaluation is for both."""
        if self._last is None or not np.array_equal(self._last.params[0], params):
            self._last = residuals(self._model, self.problem, params[None].copy())
        return self._last


def _speed_of_batch(model: HandModel, size: int, device: str) -> dict[str, float]:
    import torch

    rng = np.random.default_rng(4)
    tracked = [_tracked(rng, model) for _ in range(size)]
    cases, starts = [case for case, _ in tracked], np.stack([start for _, start in tracked])
    truth = np.stack([c.truth for c in cases])
    reference = torch.zeros(1, device=device)
    problem = pack(model, [c.observation for c in cases], [c.prior for c in cases]).to(reference)
    begin_at = torch.as_tensor(starts, dtype=torch.float32, device=device)

    def run(_: int) -> Fits:
        fits = solve(model, problem, begin_at, WARM)
        if device == "cuda":
            torch.cuda.synchronize()
        return fits

    fits = run(0)
    (took,) = _race([run], _BATCH_RUNS)
    joints = joints_and_jacobian(model, truth)[0]
    error = distances(fits.joints.cpu().numpy(), joints)
    name = f"batch{size}" + ("_gpu" if device == "cuda" else "")
    return {
        f"{name}_ms": round(1e3 * took, 2),
        f"{name}_joint_mm": round(1e3 * float(np.median(error)), 3),
    }
