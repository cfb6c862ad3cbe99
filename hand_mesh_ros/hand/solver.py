"""From observations to MANO parameters: batched, damped Gauss-Newton with an analytic Jacobian.

The unknowns are ``[global_orient 3, hand_pose 45, betas 10, transl 3]``. `residuals` defines what
is minimised. One loop serves a single hand in NumPy and batches in torch. The inverse of the final
normal matrix is the posterior covariance (Laplace's approximation); joints and wrist get theirs
by ``J Sigma J^T``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.geometry.arrays import (
    AnyArray,
    eye,
    inverse_spd,
    like,
    namespace,
    solve_spd,
)
from hand_mesh_ros.hand import compiled
from hand_mesh_ros.hand.kinematics import (
    BETAS,
    GLOBAL_ORIENT,
    NUM_PARAMS,
    compiled_model,
    joints_and_jacobian,
)
from hand_mesh_ros.hand.landmarks import offsets_of
from hand_mesh_ros.hand.model import HandModel
from hand_mesh_ros.hand.observations import Observation, Prior, Problem, pack
from hand_mesh_ros.hand.residuals import (
    LIMIT_SIGMA,
    Normal,
    Residuals,
    compiled_cameras,
    no_cameras,
    normal_equations,
    residuals,
)

Array = NDArray[np.float64]

# A shape this far from the mean, in sigmas, is a sign of wrong observations, not of a hand.
PLAUSIBLE_BETAS = 5.0


@dataclass(frozen=True)
class SolverOptions:
    """When the solver stops, and what it takes for an outlier.

    ``cutoff``: sigmas at which a point counts as much as an outlier. ``far_start``: nothing may
    be an outlier of a start that is itself far off, so every sigma begins as large as the start's
    residuals and shrinks as the fit settles. Without, the start is near, and only the cutoff
    begins wider, by the median residual. ``tolerance``: relative decrease of the
    cost at which a hand has converged.
    """

    max_iterations: int = 50
    tolerance: float = 1e-4
    cutoff: float = 3.5
    far_start: bool = True


_FIRST_DAMPING, _LAST_DAMPING = 1e-3, 1e6
_COMPRESS_EVERY = 2
WARM = SolverOptions(max_iterations=10, tolerance=1e-3, far_start=False)


@dataclass(frozen=True, eq=False)
class Fits:
    """B solved hands; NumPy or torch as the problem was.

    ``params`` (B, 61); ``covariance`` (B, 61, 61); ``joints`` (B, 21, 3) in OpenPose order with
    ``joint_covariance`` (B, 21, 3, 3); ``wrist_covariance`` (B, 6, 6) position then rotation about
    fixed axes; ``residual_px`` (B, V, 21) distances of the landmarks from what was seen, NaN where
    nothing was; ``chi2`` (B,) squared whitened residuals of the inliers and ``dof`` (B,) their
    number; ``converged`` and ``plausible`` (B,): a hand that is not both must not be believed.
    """

    params: AnyArray
    covariance: AnyArray
    joints: AnyArray
    joint_covariance: AnyArray
    wrist_covariance: AnyArray
    residual_px: AnyArray
    cost: AnyArray
    chi2: AnyArray
    dof: AnyArray
    iterations: int
    converged: AnyArray
    plausible: AnyArray

    def __getitem__(self, index: int) -> Fit:
        """One hand as NumPy arrays."""
        values: dict[str, Any] = {
            name: value if name == "iterations" else np.asarray(value[index])
            for name, value in vars(self).items()
        }
        return Fit(**values)


@dataclass(frozen=True, eq=False)
class Fit:
    """One solved hand: the fields of `Fits` without their first axis, NumPy."""

    params: Array
    covariance: Array
    joints: Array
    joint_covariance: Array
    wrist_covariance: Array
    residual_px: Array
    cost: Array
    chi2: Array
    dof: Array
    iterations: int
    converged: Array
    plausible: Array


def fit(
    model: HandModel,
    observation: Observation,
    prior: Prior,
    start: Array,
    options: SolverOptions | None = None,
) -> Fit:
    """Fit one hand in NumPy. ``start`` (61,) must be near enough for Gauss-Newton.

    Raises ``ValueError`` if the start is not 61 finite numbers.
    """
    return solve(model, pack(model, [observation], [prior]), start[None], options)[0]


def fit_batch(
    model: HandModel,
    observations: Sequence[Observation],
    priors: Sequence[Prior],
    starts: Array,
    options: SolverOptions | None = None,
    reference: AnyArray | None = None,
) -> Fits:
    """Fit B hands of one side at once; ``starts`` (B, 61).

    ``reference``: an array of the kind to compute with, for instance a float32 torch tensor on a
    GPU; None for NumPy.
    """
    problem = pack(model, observations, priors)
    if reference is None:
        return solve(model, problem, starts, options)
    return solve(model, problem.to(reference), like(starts, reference), options)


def solve(
    model: HandModel, problem: Problem, starts: AnyArray, options: SolverOptions | None = None
) -> Fits:
    """Fit B packed hands from ``starts`` (B, 61); see `fit_batch`."""
    options = options or SolverOptions()
    xp = namespace(starts)
    if starts.ndim != 2 or starts.shape[1] != NUM_PARAMS:
        raise ValueError(f"starts have shape {tuple(starts.shape)}, expected (B, {NUM_PARAMS})")
    if not bool(xp.all(xp.isfinite(starts))):
        raise ValueError("starts are not finite")
    kernels = compiled.kernels(starts)
    found = None if kernels is None else _compiled_loop(kernels, model, problem, starts, options)
    if found is None:
        found = _loop(model, problem, starts, options)
    one = xp.ones_like(starts[:, 0])
    here = found.here or residuals(model, problem, found.params)
    normal = found.normal or normal_equations(problem, here, options.cutoff * one, one)
    return _finished(model, problem, here, normal, found, options)


class _Found(NamedTuple):
    """Where the iteration ended, and what is known of that place already."""

    params: AnyArray  # (B, 61)
    converged: AnyArray  # (B,)
    iterations: int
    here: Residuals | None = None
    normal: Normal | None = None


def _loop(
    model: HandModel, problem: Problem, starts: AnyArray, options: SolverOptions
) -> _Found:
    xp = namespace(starts)
    state = _State(model, problem, starts, options)
    params, converged = xp.zeros_like(starts), starts[:, 0] * 0 < 0
    iteration = 0
    for iteration in range(1, options.max_iterations + 1):  # noqa: B007
        state.advance()
        ready = state.converged
        if bool(xp.all(ready)):
            break
        if iteration % _COMPRESS_EVERY == 0 and len(ready) >= 4 * int(xp.sum(~ready)):
            # A few stragglers must not make the whole batch go on.
            state.leave(params, converged, ready)
            state.keep(~ready)
    if len(state.converged) == len(starts):
        return _Found(
            state.here.params, state.converged, iteration, state.here, state.settled_normal()
        )
    state.leave(params, converged, state.converged | ~state.converged)
    return _Found(params, converged, iteration)


def _compiled_loop(
    kernels: Any, model: HandModel, problem: Problem, starts: Array, options: SolverOptions
) -> _Found | None:
    """`_loop`, a hand at a time; None where it takes the more patient solution of `_step`."""
    batch = len(starts)
    cameras = compiled_cameras(problem.cameras or no_cameras(batch))
    seen_at = [
        np.zeros((batch, 0, 21, *end)) if value is None else value
        for value, end in (
            (problem.uv, (2,)), (problem.whiten, (2, 2)), (problem.depth, ()),
            (problem.depth_weight, ()),
            (None if problem.points is None else problem.points[:, None], (3,)),
            (None if problem.points is None else problem.points_whiten[:, None], (3, 3)),
            (problem.relative, (3,)), (problem.relative_weight, ()),
        )
    ]  # fmt: skip
    prior = problem.prior_mean, problem.prior_precision, problem.lower, problem.upper
    params, converged, iterations = np.empty_like(starts), np.empty(batch), np.empty(batch)
    solved = kernels.iterate(
        *compiled.contiguous(starts), *compiled_model(model, starts, offsets_of(model)), *cameras,
        *compiled.contiguous(*seen_at, *prior), LIMIT_SIGMA,
        options.max_iterations, options.tolerance, options.cutoff, options.far_start,
        _FIRST_DAMPING, _LAST_DAMPING, params, converged, iterations,
    )  # fmt: skip
    return _Found(params, converged > 0, int(iterations.max())) if solved else None


class _State:
    """The hands that are still being worked on."""

    def __init__(
        self, model: HandModel, problem: Problem, starts: AnyArray, options: SolverOptions
    ) -> None:
        self._model, self._problem, self._options = model, problem, options
        xp = namespace(starts)
        one = xp.ones_like(starts[:, 0])
        self._rows = like(np.arange(len(one)), xp.astype(one, xp.int64))
        self._damping = _FIRST_DAMPING * one
        self.converged = one < 0
        self.here = residuals(model, problem, starts)
        self._scale, self._cutoff = one, options.cutoff * one
        if options.far_start:
            self._scale = _far_scale(self.here, options)
        else:
            self._cutoff = _near_cutoff(self.here, options)
        self._normal = normal_equations(problem, self.here, self._cutoff, self._scale)

    def advance(self) -> None:
        """One iteration: a step, its judgement, and narrower sigmas where it is time."""
        options, problem = self._options, self._problem
        scale, cutoff = self._scale, self._cutoff
        xp = namespace(scale)
        one = xp.ones_like(scale)
        step, gain = _step(self._normal, self._damping)
        tight = (scale <= 1) & (cutoff <= options.cutoff)
        enough = options.tolerance * (1 + self._normal.cost)
        self.converged = self.converged | (tight & (gain <= enough))
        if bool(xp.all(self.converged)):
            return
        trial = residuals(self._model, problem, _wrapped(self.here.params + step))
        there = normal_equations(problem, trial, cutoff, scale)
        decrease = self._normal.cost - there.cost
        # What has converged stays: no hand's answer may depend on the others in its batch.
        better = (decrease >= 0) & ~self.converged
        self.here = _choose(better, trial, self.here)
        self._normal = _choose(better, there, self._normal)
        self.converged = self.converged | (
            tight & ((better & (decrease <= enough)) | (self._damping > _LAST_DAMPING))
        )
        if not bool(xp.all(tight)):
            if options.far_start:
                # Only when the minimum at the present scale is near: a finger that is still on
                # its way must not be taken for an outlier.
                settled = better & (decrease <= 0.05 * there.cost) & (self._damping < 1e-2)
                self._scale = xp.where(settled, xp.maximum(scale / 3, one), scale)
            else:
                self._cutoff = xp.minimum(cutoff, _near_cutoff(self.here, options))
            self._normal = normal_equations(problem, self.here, self._cutoff, self._scale)
        self._damping = xp.where(
            better, xp.maximum(self._damping / 10, 1e-7 * one), self._damping * 8
        )

    def settled_normal(self) -> Normal | None:
        """The normal equations here if they are those of the cutoff that was asked for."""
        tight = (self._scale == 1) & (self._cutoff == self._options.cutoff)
        return self._normal if bool(namespace(tight).all(tight)) else None

    def leave(self, params: AnyArray, converged: AnyArray, which: AnyArray) -> None:
        """Put some of the hands where they belong in params (B, 61) and converged (B,)."""
        rows = self._rows[which]
        params[rows], converged[rows] = self.here.params[which], self.converged[which]

    def keep(self, which: AnyArray) -> None:
        """Go on with some of the hands only."""
        self._problem = self._problem.select(which)
        self.here, self._normal = _select(self.here, which), _select(self._normal, which)
        self._rows, self._scale = self._rows[which], self._scale[which]
        self._cutoff = self._cutoff[which]
        self._damping, self.converged = self._damping[which], self.converged[which]


def _select(values: Any, which: AnyArray) -> Any:
    """Some of the hands of nested tuples of arrays (B, ...)."""
    if values is None:
        return None
    if isinstance(values, tuple):
        chosen = [_select(value, which) for value in values]
        return type(values)(*chosen) if hasattr(values, "_fields") else tuple(chosen)
    return values[which]


def _far_scale(here: Residuals, options: SolverOptions) -> AnyArray:
    """Factor (B,) on the sigmas at which the points of a far start begin to be inliers."""
    xp = namespace(here.params)
    one = xp.ones_like(here.params[:, 0])
    chi2, count = _inliers(here, np.inf)
    return xp.maximum(one, 3 * xp.sqrt(2 * chi2 / xp.maximum(count, one)) / options.cutoff)


def _near_cutoff(here: Residuals, options: SolverOptions) -> AnyArray:
    """Cutoff (B,), sigmas, that takes most points of a near start for inliers.

    Three medians; hands that fit have medians near one, which are not to widen it.
    """
    median = _median(here)
    xp = namespace(median)
    settled = median < 0.5 * options.cutoff
    return options.cutoff * xp.where(settled, xp.ones_like(median), 3 * median / options.cutoff)


def _step(normal: Normal, damping: AnyArray) -> tuple[AnyArray, AnyArray]:
    """The damped step (B, 61), and the decrease of the cost (B,) that it promises.

    Solved in double precision, after scaling the unknowns alike.
    """
    xp = namespace(damping)
    H, g = xp.astype(normal.H, xp.float64), xp.astype(normal.g, xp.float64)
    scale = 1 / xp.sqrt(xp.linalg.diagonal(H))
    scaled = H * scale[:, :, None] * scale[:, None, :]
    scaled = scaled + xp.astype(damping, xp.float64)[:, None, None] * eye(NUM_PARAMS, scaled)
    step = -scale * solve_spd(scaled, scale * g)
    gain = -0.5 * xp.sum(step * g, axis=-1)
    return xp.astype(step, damping.dtype), xp.astype(gain, damping.dtype)


def _covariance(normal: Normal) -> AnyArray:
    """The inverses (B, 61, 61) of the normal matrices, by way of double precision."""
    kernels = compiled.kernels(normal.H)
    if kernels is not None:
        inverse = np.empty_like(normal.H)
        if kernels.inverse_spd(normal.H, inverse):
            return inverse
    xp = namespace(normal.H)
    H = xp.astype(normal.H, xp.float64)
    scale = 1 / xp.sqrt(xp.linalg.diagonal(H))
    each = scale[:, :, None] * scale[:, None, :]
    return xp.astype(inverse_spd(H * each) * each, normal.H.dtype)


def _wrapped(params: AnyArray) -> AnyArray:
    """Keep the root rotation inside the ball of radius pi, away from the 2 pi singularity."""
    xp = namespace(params)
    omega = params[:, GLOBAL_ORIENT]
    angle = xp.sqrt(xp.sum(omega * omega, axis=-1))[:, None]
    safe = xp.maximum(angle, 0 * angle + 1e-12)
    omega = xp.where(angle > np.pi, omega * (1 - 2 * np.pi / safe), omega)
    return xp.concat([omega, params[:, 3:]], axis=1)


def _choose(better: AnyArray, new: AnyArray, old: AnyArray) -> AnyArray:
    """Per hand the new or the old of nested tuples of arrays (B, ...)."""
    if new is None:
        return None
    if isinstance(new, tuple):
        chosen = [_choose(better, n, o) for n, o in zip(new, old, strict=True)]
        return type(new)(*chosen) if hasattr(new, "_fields") else tuple(chosen)
    if len(better) == 1:
        return new if bool(better[0]) else old
    return namespace(new).where(better.reshape((-1,) + (1,) * (new.ndim - 1)), new, old)


def _finished(
    model: HandModel,
    problem: Problem,
    here: Residuals,
    normal: Normal,
    found: _Found,
    options: SolverOptions,
) -> Fits:
    xp = namespace(here.params)
    covariance = _covariance(normal)
    if compiled.kernels(here.params) is None:
        joints, J = here.landmarks.joints()
    else:
        joints, J = joints_and_jacobian(model, here.params)
    rows = xp.reshape(J, (len(J), -1, J.shape[-1]))
    propagated = xp.reshape(rows @ covariance, J.shape) @ xp.matrix_transpose(J)
    # Wrist pose: position is joint 0; a change of the axis-angle turns by the left Jacobian.
    turn = here.landmarks.turn[:, 0]
    none = 0 * J[:, 0, :, 3:]
    W = xp.concat([J[:, 0], xp.concat([turn, none], axis=-1)], axis=1)
    chi2, dof = _inliers(here, options.cutoff)
    told = _told(here)
    betas = here.params[:, BETAS]
    # A hand that explains less than half of what was seen is another hand, or none.
    plausible = xp.all(xp.isfinite(here.params), axis=-1) & (dof >= 0.5 * told)
    return Fits(
        params=here.params,
        covariance=covariance,
        joints=joints,
        joint_covariance=propagated,
        wrist_covariance=W @ covariance @ xp.matrix_transpose(W),
        residual_px=_pixel_errors(problem, here),
        cost=normal.cost,
        chi2=chi2,
        dof=dof,
        iterations=found.iterations,
        converged=found.converged,
        plausible=plausible & xp.all(xp.abs(betas) < PLAUSIBLE_BETAS, axis=-1),
    )


def _inliers(here: Residuals, cutoff: float) -> tuple[AnyArray, AnyArray]:
    """Squared whitened residuals within the cutoff, and how many numbers they are, (B,) each."""
    xp = namespace(here.params)
    chi2 = 0 * here.params[:, 0]
    count = 0 * chi2
    for part in here.absolute:
        square = xp.sum(part.residual * part.residual, axis=-1)
        inside = part.seen * xp.astype(square < cutoff**2, square.dtype)
        chi2 = chi2 + xp.sum(xp.reshape(inside * square, (len(chi2), -1)), axis=-1)
        size = part.residual.shape[-1]
        count = count + size * xp.sum(xp.reshape(inside, (len(chi2), -1)), axis=-1)
    return chi2, count


def _told(here: Residuals) -> AnyArray:
    """How many numbers (B,) were seen."""
    xp = namespace(here.params)
    count = 0 * here.params[:, 0]
    for part in here.absolute:
        seen = xp.sum(xp.reshape(part.seen, (len(count), -1)), axis=-1)
        count = count + part.residual.shape[-1] * seen
    return count


def _median(here: Residuals) -> AnyArray:
    """Median length (B,) of the whitened residuals of the points that were seen."""
    xp = namespace(here.params)
    batch = len(here.params)
    lengths, seen = [xp.zeros_like(here.params[:, :1])], [here.params[:, :0]]
    for part in here.absolute:
        length = xp.sqrt(xp.sum(part.residual * part.residual, axis=-1))
        # What was not seen goes to the end.
        lengths.append(xp.reshape(xp.where(part.seen > 0, length, 1e9 + 0 * length), (batch, -1)))
        seen.append(xp.reshape(part.seen, (batch, -1)))
    ordered = xp.sort(xp.concat(lengths, axis=1), axis=1)
    middle = xp.astype(xp.sum(xp.concat(seen, axis=1), axis=1) / 2, xp.int64)
    return xp.take_along_axis(ordered, middle[:, None], axis=1)[:, 0]


def _pixel_errors(problem: Problem, here: Residuals) -> AnyArray:
    xp = namespace(here.params)
    if here.uv is None or problem.uv is None:
        return xp.reshape(here.params[:, :0], (len(here.params), 0, 21))
    distance = xp.sqrt(xp.sum((here.uv - problem.uv) ** 2, axis=-1))
    return xp.where(problem.whiten[..., 0, 0] > 0, distance, np.nan * distance)


def inflated(fit_: Fit) -> float:
    """Factor on the covariance by which the residuals are larger than the noise that was told.

    Chi-squared per number, at least 1: a solver that was told too little noise must not be surer
    for it, and one that was told too much is not rewarded.
    """
    return max(1.0, float(fit_.chi2) / max(float(fit_.dof), 1.0))
