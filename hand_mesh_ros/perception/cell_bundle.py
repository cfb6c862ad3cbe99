"""Bundle adjustment of a cell: camera poses (and intrinsics) with every landmark a free point.

Unknown are C cameras of P parameters each and the landmarks of G hands, one hand at one instant
each. Points are eliminated (Schur complement; Triggs et al., Bundle Adjustment - A Modern
Synthesis, 1999, section 6.1), so that a step solves one dense system of C * P unknowns, whatever
the length of the recording. Landmark errors have heavy tails: they are taken to be Student's, by
iteratively reweighted least squares, with a common scale that the data tells.

A camera's parameters are a left perturbation of its pose in its own axes, ``T <- exp(xi) T`` with
xi = (rotation, translation), then ``log f`` (both focal lengths), ``cx``, ``cy`` and ``k1`` where
they are asked for. Nothing here fixes the gauge: damping does while it runs, `cell_gauge` after.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.geometry.projection import CameraArrays, project_arrays, stack_cameras
from hand_mesh_ros.geometry.rotations import exp_so3, rigid, skew
from hand_mesh_ros.types import Camera

Array = NDArray[np.float64]

POSE: Final = 6
INTRINSIC: Final = 4
_TAILS: Final = 4.0
"""Degrees of freedom of the Student distribution of landmark errors."""
_MEDIAN_RAYLEIGH: Final = 1.1774
_LOOSE: Final = 1e-2
"""Information, 1/m^2, that keeps a point at infinity from making a system singular."""


@dataclass(frozen=True)
class Intrinsics:
    """Which intrinsics are free, and one sigma of what was given: of log f, of cx and cy in pixels,

    and of k1. A hand fills a small part of a picture, so the prior is not a mere formality.
    """

    focal: bool = False
    centre: bool = False
    distortion: bool = False
    sigma_focal: float = 0.03
    sigma_centre: float = 15.0
    sigma_distortion: float = 0.05

    @property
    def free(self) -> NDArray[np.bool_]:
        """Mask over (log f, cx, cy, k1)."""
        return np.array([self.focal, self.centre, self.centre, self.distortion])

    @property
    def sigma(self) -> Array:
        return np.array(
            [self.sigma_focal, self.sigma_centre, self.sigma_centre, self.sigma_distortion]
        )


@dataclass(frozen=True)
class BundleSettings:
    """``rounds`` of at most ``iterations`` steps; the errors' scale is measured before each.

    ``correlation``: how many landmarks err as one. Pixels count as if independent, so it is the
    prior on the intrinsics that weighs as many times more.
    """

    rounds: int = 3
    iterations: int = 20
    tolerance: float = 1e-6
    correlation: float = 1.0
    intrinsics: Intrinsics = field(default_factory=Intrinsics)


@dataclass(frozen=True, eq=False)
class Bundle:
    """An adjusted cell.

    ``points`` (G, J, 3) m; ``error`` (G, C, J, 2) projected minus seen, px, NaN where not seen;
    ``weight`` (G, C, J), the robust weight, about 1 for a good landmark; ``information``
    (C*Q, C*Q) of the free parameters (Q a camera), points eliminated, in the unit of the errors'
    measured ``noise`` (a factor on the given sigmas); ``scores`` (G, C*Q), each hand's part of the
    gradient; ``pull`` (C, J, 2, C*Q), how the gradient follows one camera's one landmark, if it is
    always marked one metre (at the hand) to the right or below; ``cost`` is the mean robust cost a
    landmark.
    """

    cameras: tuple[Camera, ...]
    points: Array
    error: Array
    weight: Array
    information: Array
    scores: Array
    pull: Array
    noise: float
    cost: float
    steps: int


@dataclass(frozen=True, eq=False)
class _State:
    cameras: CameraArrays
    intrinsics: Array  # (C, 4) increments of log f, cx, cy, k1
    points: Array


def bundle_adjust(
    cameras: Sequence[Camera],
    uv: Array,
    sigma: Array,
    points: Array,
    settings: BundleSettings | None = None,
    held: Sequence[int] = (),
) -> Bundle:
    """Adjust cameras and ``points`` (G, J, 3) to pixels ``uv`` (G, C, J, 2) of ``sigma`` (G, C, J).

    Pixels are NaN where a camera did not see a hand; each landmark needs two cameras. Cameras whose
    indices are ``held`` keep pose and intrinsics.
    """
    settings = settings or BundleSettings()
    stacked = stack_cameras(tuple(cameras))
    seen: NDArray[np.bool_] = _seen(uv, sigma, points)
    seen &= seen.sum(1, keepdims=True) >= 2
    uv_seen = np.where(seen[..., None], uv, 0.0)
    precision = np.where(seen, 1 / np.where(seen, sigma, 1.0), 0.0)
    free = np.concatenate([np.ones(POSE, bool), settings.intrinsics.free])
    state = _State(stacked, np.zeros((len(cameras), INTRINSIC)), np.nan_to_num(points))
    problem = _Problem(uv_seen, precision, free, tuple(held), settings)
    steps = 0
    for _ in range(settings.rounds):
        problem = problem.with_noise(state)
        state, taken = _descend(problem, state, settings)
        steps += taken
    problem = problem.with_noise(state)
    system = problem.linearised(state, 0.0)
    cost, error, weight = problem.evaluate(state)
    return Bundle(
        cameras=_to_cameras(cameras, state),
        points=np.where(np.asarray(seen.any(1))[..., None], state.points, np.nan),
        error=np.where(seen[..., None], error, np.nan),
        weight=weight,
        information=system.reduced,
        scores=system.scores,
        pull=problem.pull(state, system),
        noise=problem.noise,
        cost=cost / max(int(seen.sum()), 1),
        steps=steps,
    )


def reduced_system(
    cameras: Sequence[Camera], uv: Array, sigma: Array, points: Array
) -> tuple[Array, Array, Array]:
    """Information (C*6, C*6) and gradient (C*6,) of the poses at given ``points`` (G, J, 3), which

    are eliminated, and the errors (G, C, J, 2) px, NaN where not seen. For what `bundle_adjust`
    would do, without doing it.
    """
    stacked = stack_cameras(tuple(cameras))
    seen: NDArray[np.bool_] = _seen(uv, sigma, points)
    precision = np.where(seen, 1 / np.where(seen, sigma, 1.0), 0.0)
    free = np.concatenate([np.ones(POSE, bool), np.zeros(INTRINSIC, bool)])
    problem = _Problem(np.where(seen[..., None], uv, 0.0), precision, free, (), BundleSettings())
    state = _State(stacked, np.zeros((len(cameras), INTRINSIC)), np.nan_to_num(points))
    system = problem.linearised(state, 0.0)
    error = problem.evaluate(state)[1]
    return system.reduced, system.gradient, np.where(seen[..., None], error, np.nan)


def _seen(uv: Array, sigma: Array, points: Array) -> NDArray[np.bool_]:
    good = np.isfinite(uv).all(-1) & np.isfinite(sigma)
    located = np.asarray(np.isfinite(points).all(-1))
    return np.asarray(good & located[:, None], dtype=bool)


def _descend(
    problem: _Problem, state: _State, settings: BundleSettings
) -> tuple[_State, int]:
    """Levenberg-Marquardt on the robust cost."""
    damping, cost = 1e-3, problem.evaluate(state)[0]
    for step in range(settings.iterations):
        while True:
            system = problem.linearised(state, damping)
            candidate = problem.moved(state, *system.solve())
            new = problem.evaluate(candidate)[0]
            if new < cost or damping > 1e8:
                break
            damping *= 8
        if not new < cost:
            return state, step
        state, gained, cost = candidate, cost - new, new
        damping = max(damping / 6, 1e-9)
        if gained < settings.tolerance * cost:
            return state, step + 1
    return state, settings.iterations


@dataclass(frozen=True, eq=False)
class _System:
    """The reduced camera system of one linearisation, and what gives the points back."""

    reduced: Array
    gradient: Array
    scores: Array
    coupling: Array  # (G, J, CQ, 3)
    inverse: Array  # (G, J, 3, 3)
    point_gradient: Array  # (G, J, 3)
    by_camera: Array  # (G, C, J, 2, Q), whitened
    by_point: Array  # (G, C, J, 2, 3), whitened
    root: Array  # (G, C, J), what whitened them but for the given precision
    held: NDArray[np.bool_]

    def solve(self) -> tuple[Array, Array]:
        """Steps of the free camera parameters (C*Q,) and of the points (G, J, 3)."""
        step = np.zeros(len(self.gradient))
        move = ~self.held
        step[move] = -np.linalg.solve(self.reduced[np.ix_(move, move)], self.gradient[move])
        right = self.point_gradient + np.einsum("gjak,a->gjk", self.coupling, step)
        return step, -np.einsum("gjkl,gjl->gjk", self.inverse, right)


@dataclass(frozen=True, eq=False)
class _Problem:
    uv: Array
    precision: Array
    free: NDArray[np.bool_]
    held: tuple[int, ...]
    settings: BundleSettings
    noise: float = 1.0

    def with_noise(self, state: _State) -> _Problem:
        """The same with the errors' scale as the median error has it.

        A point takes three of its pixels' 2 V degrees of freedom. Left out, this makes the scale
        too small, and then a point prefers to agree with two views and call the third an outlier.
        """
        seen = self.precision > 0
        views = np.maximum(seen.sum(1, keepdims=True), 2)
        free = np.sqrt(2 * views / (2 * views - 3))
        size = (np.linalg.norm(self._residual(state)[0], axis=-1) * free)[seen]
        return replace(self, noise=max(float(np.median(size)) / _MEDIAN_RAYLEIGH, 1e-6))

    def _residual(self, state: _State) -> tuple[Array, Array, Array, Array]:
        """Residuals over sigma, errors in pixels, derivative by camera points, camera points."""
        T = state.cameras
        local = state.points[:, None] @ np.swapaxes(T.R, -1, -2) + T.t[:, None]
        here = T._replace(R=np.broadcast_to(np.eye(3), T.R.shape), t=np.zeros_like(T.t))
        seen = project_arrays(_changed(here, state.intrinsics), local)
        error = seen.uv - self.uv
        # A point that went behind a camera errs as far as an outlier may.
        error = np.where(seen.valid[..., None], error, 1e3)
        jacobian = np.where(seen.valid[..., None, None], seen.jacobian, 0.0)
        return error * self.precision[..., None], error, jacobian, local

    def evaluate(self, state: _State) -> tuple[float, Array, Array]:
        """Robust cost, errors (G, C, J, 2) px, weights (G, C, J)."""
        residual, error, _, _ = self._residual(state)
        square = (residual**2).sum(-1) / self.noise**2
        mask = self.precision > 0
        cost = 0.5 * (_TAILS + 2) * np.log1p(square / _TAILS)[mask].sum()
        cost += 0.5 * (self._prior() * state.intrinsics[:, self.free[POSE:]] ** 2).sum()
        return float(cost), error, np.where(mask, (_TAILS + 2) / (_TAILS + square), 0.0)

    def linearised(self, state: _State, damping: float) -> _System:
        """Normal equations with the points eliminated."""
        residual, _, by_local, local = self._residual(state)
        G, C, J, _ = residual.shape
        square = (residual**2).sum(-1) / self.noise**2
        root = np.sqrt((_TAILS + 2) / (_TAILS + square)) / self.noise
        weighted = residual * root[..., None]
        by_local = by_local * (root * self.precision)[..., None, None]
        columns = [-by_local @ skew(local), by_local]
        if self.free[POSE:].any():
            extra = self._by_intrinsics(state, local) * (root * self.precision)[..., None, None]
            columns.append(extra[..., self.free[POSE:]])
        by_camera = np.concatenate(columns, -1)  # (G, C, J, 2, Q)
        by_point = by_local @ state.cameras.R[:, None]
        Q = by_camera.shape[-1]
        flat = by_camera.transpose(1, 0, 2, 3, 4).reshape(C, -1, Q)
        own = np.swapaxes(flat, -1, -2) @ flat  # (C, Q, Q)
        hand = np.einsum("gcjkq,gcjk->gcq", by_camera, weighted).reshape(G, C * Q)
        gradient = hand.sum(0)
        prior = np.concatenate([np.zeros(POSE), self._prior()])
        own = own + np.diag(prior)
        gradient = gradient + np.concatenate(
            [np.zeros((C, POSE)), state.intrinsics[:, self.free[POSE:]]], 1
        ).reshape(-1) * np.tile(prior, C)
        own = own + damping * own * np.eye(Q) + 1e-12 * np.eye(Q)
        points = np.einsum("gcjkm,gcjkn->gjmn", by_point, by_point)
        points = points + damping * points * np.eye(3) + _LOOSE * np.eye(3)
        point_gradient = np.einsum("gcjkm,gcjk->gjm", by_point, weighted)
        coupling = np.einsum("gcjkq,gcjkm->gjcqm", by_camera, by_point).reshape(G, J, C * Q, 3)
        inverse = np.linalg.inv(points)
        half = np.swapaxes(coupling @ inverse, -1, -2).reshape(-1, C * Q)
        blocks = np.zeros((C, Q, C, Q))
        blocks[np.arange(C), :, np.arange(C)] = own
        reduced = blocks.reshape(C * Q, C * Q)
        reduced = reduced - half.T @ np.swapaxes(coupling, -1, -2).reshape(-1, C * Q)
        through = np.einsum("gjam,gjmn,gjn->ga", coupling, inverse, point_gradient)
        held = np.zeros((C, Q), bool)
        held[list(self.held)] = True
        return _System(
            reduced=0.5 * (reduced + reduced.T),
            gradient=gradient - through.sum(0),
            scores=hand - through,
            coupling=coupling,
            inverse=inverse,
            point_gradient=point_gradient,
            by_camera=by_camera,
            by_point=by_point,
            root=root,
            held=held.reshape(-1),
        )

    def pull(self, state: _State, system: _System) -> Array:
        """See `Bundle`: derivative of the reduced gradient by lasting errors of landmarks."""
        T = state.cameras
        local = state.points[:, None] @ np.swapaxes(T.R, -1, -2) + T.t[:, None]
        focal = np.sqrt(np.abs(np.linalg.det(T.A)))[:, None]
        pixels = focal / np.maximum(local[..., 2], 0.05)  # of a metre at the hand
        weight = (system.root * self.precision * pixels)[..., None]
        G, C, J, _, Q = system.by_camera.shape
        own = (system.by_camera * weight[..., None]).sum(0)  # (C, J, 2, Q)
        out = np.zeros((C, J, 2, C, Q))
        out[np.arange(C), :, :, np.arange(C)] = own
        points = np.einsum("gcjkm,gjmn->gcjkn", system.by_point * weight[..., None], system.inverse)
        through = np.einsum("gjan,gcjkn->cjka", system.coupling, points, optimize=True)
        return out.reshape(C, J, 2, C * Q) - through

    def _prior(self) -> Array:
        """Information (Q - 6,) that the given intrinsics have; poses have none."""
        sigma = self.settings.intrinsics.sigma[self.free[POSE:]]
        return np.asarray(self.settings.correlation / sigma**2)

    def _by_intrinsics(self, state: _State, local: Array) -> Array:
        """Derivative (G, C, J, 2, 4) of the pixels by log f, cx, cy and k1."""
        T = state.cameras
        here = T._replace(R=np.broadcast_to(np.eye(3), T.R.shape), t=np.zeros_like(T.t))
        now = _changed(here, state.intrinsics)
        # Every model's pixels are linear in k1, so that a difference is the derivative.
        bent = now._replace(k=now.k + np.eye(len(now.k))[0][:, None])
        seen = project_arrays(now, local)
        out = np.zeros((*local.shape[:-1], 2, INTRINSIC))
        out[..., 0] = seen.uv - now.c[:, None]
        out[..., 0, 1] = out[..., 1, 2] = 1.0
        out[..., 3] = project_arrays(bent, local).uv - seen.uv
        return np.where(seen.valid[..., None, None], out, 0.0)

    def moved(self, state: _State, step: Array, points: Array) -> _State:
        T = state.cameras
        by_camera = step.reshape(len(T.t), -1)
        turn = exp_so3(by_camera[:, :3])
        intrinsics = state.intrinsics.copy()
        intrinsics[:, self.free[POSE:]] += by_camera[:, POSE:]
        return _State(
            T._replace(
                R=turn @ T.R, t=(turn @ T.t[..., None])[..., 0] + by_camera[:, 3:POSE]
            ),
            intrinsics,
            state.points + points,
        )


def _changed(cameras: CameraArrays, intrinsics: Array) -> CameraArrays:
    """Cameras with (log f, cx, cy, k1) increments (C, 4)."""
    return cameras._replace(
        A=cameras.A * np.exp(intrinsics[:, 0])[:, None, None],
        c=cameras.c + intrinsics[:, 1:3],
        k=cameras.k + np.eye(len(cameras.k))[0][:, None] * intrinsics[:, 3],
    )


def _to_cameras(cameras: Sequence[Camera], state: _State) -> tuple[Camera, ...]:
    now = _changed(state.cameras, state.intrinsics)
    out = []
    for i, camera in enumerate(cameras):
        K = camera.K.copy()
        K[:2, :2], K[:2, 2] = now.A[i], now.c[i]
        D = np.array(camera.D, dtype=np.float64)
        if D.size:
            D[0] += state.intrinsics[i, 3]
        placed = camera.placed(rigid(state.cameras.R[i], state.cameras.t[i]))
        out.append(replace(placed, K=K, D=D))
    return tuple(out)
