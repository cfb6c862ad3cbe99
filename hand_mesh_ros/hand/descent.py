"""The way down: damped Gauss-Newton from a start to the minimum, for batches of hands.

`_State` takes a batch forward, in NumPy or torch. Single hands in NumPy take the same steps in
compiled loops where there are any (`compiled_loop`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.geometry.arrays import AnyArray, like, namespace, solve_spd
from hand_mesh_ros.hand import compiled
from hand_mesh_ros.hand.kinematics import GLOBAL_ORIENT, NUM_PARAMS, SCALE, compiled_model
from hand_mesh_ros.hand.landmarks import offsets_of
from hand_mesh_ros.hand.model import HandModel
from hand_mesh_ros.hand.observations import Problem
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

_FIRST_DAMPING, _LAST_DAMPING = 1e-3, 1e6
_DIAGONAL = np.arange(NUM_PARAMS + 1)


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


WARM = SolverOptions(max_iterations=10, tolerance=1e-3, far_start=False)


class Found(NamedTuple):
    """Where the iteration ended, and what is known of that place already."""

    params: AnyArray  # (B, P), P = 61 or, with scale, 62
    converged: AnyArray  # (B,)
    iterations: int
    here: Residuals | None = None
    normal: Normal | None = None  # with the sigmas and the cutoff that were asked for


def descend(
    model: HandModel, problem: Problem, starts: AnyArray, options: SolverOptions
) -> Found:
    """Go down from starts (B, P); NumPy or torch."""
    kernels = compiled.kernels(starts)
    found = None if kernels is None else _compiled_loop(kernels, model, problem, starts, options)
    return _loop(model, problem, starts, options) if found is None else found


def _loop(
    model: HandModel, problem: Problem, starts: AnyArray, options: SolverOptions
) -> Found:
    state = _State(model, problem, starts, options)
    iteration = 0
    for iteration in range(1, options.max_iterations + 1):  # noqa: B007
        step = state.step()
        if not state.finished:
            state.advance(step)
        if state.finished:
            break
    return state.found(iteration)


def _compiled_loop(
    kernels: Any, model: HandModel, problem: Problem, starts: Array, options: SolverOptions
) -> Found | None:
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
            (problem.relative, (3,)), (problem.relative_whiten, (3, 3)),
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
    return Found(params, converged > 0, int(iterations.max())) if solved else None


class _State:
    """The hands that are still being worked on, and those that are done."""

    def __init__(
        self, model: HandModel, problem: Problem, starts: AnyArray, options: SolverOptions
    ) -> None:
        self._model, self._problem, self._options = model, problem, options
        xp = namespace(starts)
        one = xp.ones_like(starts[:, 0])
        self._rows = like(np.arange(len(one)), xp.astype(one, xp.int64))
        self._damping = _FIRST_DAMPING * one
        self._converged = one < 0
        self._here = residuals(model, problem, starts)
        self._scale, self._cutoff = one, options.cutoff * one
        if options.far_start:
            self._scale = _far_scale(self._here, options)
        else:
            self._cutoff = _near_cutoff(self._here, options)
        self._normal = normal_equations(problem, self._here, self._cutoff, self._scale)
        # Of all hands, once some are no longer worked on: here, normal, converged, tight.
        self._done: Any = None

    @property
    def finished(self) -> bool:
        """Whether all have converged."""
        return bool(namespace(self._converged).all(self._converged))

    def step(self) -> AnyArray:
        """The next step (B, P) of those who still need one."""
        step, gain = _step(self._normal, self._damping)
        enough = self._options.tolerance * (1 + self._normal.cost)
        self._converged = self._converged | (self._tight() & (gain <= enough))
        going = ~self._converged
        count = int(namespace(going).sum(going))
        if 0 < count <= len(going) // 2:
            # A few stragglers must not make the whole batch go on.
            self._keep(going)
            step = step[going]
        return step

    def advance(self, step: AnyArray) -> None:
        """Take a step, judge it, and narrow the sigmas where it is time."""
        options, problem = self._options, self._problem
        scale, cutoff, damping, tight = self._scale, self._cutoff, self._damping, self._tight()
        xp = namespace(scale)
        one = xp.ones_like(scale)
        trial = residuals(self._model, problem, _stepped(self._here.params, step))
        there = normal_equations(problem, trial, cutoff, scale)
        decrease = self._normal.cost - there.cost
        enough = options.tolerance * (1 + self._normal.cost)
        # What has converged stays: no hand's answer may depend on the others in its batch.
        better = (decrease >= 0) & ~self._converged
        if bool(xp.all(better)):
            self._here, self._normal = trial, there
        else:
            self._here = _choose(better, trial, self._here)
            self._normal = _choose(better, there, self._normal)
        self._converged = self._converged | (
            tight & ((better & (decrease <= enough)) | (damping > _LAST_DAMPING))
        )
        if not bool(xp.all(tight)):
            if options.far_start:
                # Only when the minimum at the present scale is near: a finger that is still on
                # its way must not be taken for an outlier.
                settled = better & (decrease <= 0.05 * there.cost) & (damping < 1e-2)
                self._scale = xp.where(settled, xp.maximum(scale / 3, one), scale)
            else:
                self._cutoff = xp.minimum(cutoff, _near_cutoff(self._here, options))
            self._normal = normal_equations(problem, self._here, self._cutoff, self._scale)
        self._damping = xp.where(better, xp.maximum(damping / 10, 1e-7 * one), damping * 8)

    def found(self, iterations: int) -> Found:
        """Where all hands are now."""
        here, normal, converged, tight = self._all()
        known = normal if bool(namespace(tight).all(tight)) else None
        return Found(here.params, converged, iterations, here, known)

    def _tight(self) -> AnyArray:
        return (self._scale <= 1) & (self._cutoff <= self._options.cutoff)

    def _all(self) -> Any:
        now = (self._here, self._normal, self._converged, self._tight())
        if self._done is None:
            return now
        _put(self._done, self._rows, now)
        return self._done

    def _keep(self, which: AnyArray) -> None:
        """Go on with some of the hands only."""
        self._done = self._all()
        self._problem = self._problem.select(which)
        self._here, self._normal, self._rows, self._scale, self._cutoff, self._damping = _select(
            (self._here, self._normal, self._rows, self._scale, self._cutoff, self._damping), which
        )
        self._converged = self._converged[which]


def _mapped(function: Any, *values: Any) -> Any:
    """Nested tuples of arrays (B, ...) or None, array by array."""
    if values[0] is None:
        return None
    if isinstance(values[0], tuple):
        mapped = [_mapped(function, *parts) for parts in zip(*values, strict=True)]
        return type(values[0])(*mapped) if hasattr(values[0], "_fields") else tuple(mapped)
    return function(*values)


def _select(values: Any, which: AnyArray) -> Any:
    """Some of the hands."""
    return _mapped(lambda array: array[which], values)


def _put(whole: Any, rows: AnyArray, values: Any) -> None:
    """Write some of the hands where they belong."""

    def put(all_of_them: AnyArray, some: AnyArray) -> None:
        all_of_them[rows] = some

    _mapped(put, whole, values)


def _choose(better: AnyArray, new: Any, old: Any) -> Any:
    """Per hand the new or the old."""

    def choose(a: AnyArray, b: AnyArray) -> AnyArray:
        return namespace(a).where(better.reshape((-1,) + (1,) * (a.ndim - 1)), a, b)

    return _mapped(choose, new, old)


def _far_scale(here: Residuals, options: SolverOptions) -> AnyArray:
    """Factor (B,) on the sigmas at which the points of a far start begin to be inliers."""
    xp = namespace(here.params)
    one = xp.ones_like(here.params[:, 0])
    chi2, count = inliers(here, np.inf)
    return xp.maximum(one, 3 * xp.sqrt(2 * chi2 / xp.maximum(count, one)) / options.cutoff)


def _near_cutoff(here: Residuals, options: SolverOptions) -> AnyArray:
    """Cutoff (B,), sigmas, that takes most points of a near start for inliers.

    Three medians; hands that fit have medians near one, which are not to widen it.
    """
    median = _median(here)
    xp = namespace(median)
    settled = median < 0.5 * options.cutoff
    return options.cutoff * xp.where(settled, xp.ones_like(median), 3 * median / options.cutoff)


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


def inliers(here: Residuals, cutoff: float) -> tuple[AnyArray, AnyArray]:
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


def _step(normal: Normal, damping: AnyArray) -> tuple[AnyArray, AnyArray]:
    """The damped step (B, P), and the decrease of the cost (B,) that it promises.

    Solved in double precision, after scaling the unknowns alike.
    """
    xp = namespace(damping)
    H, scale = scaled(normal.H)
    diagonal = _DIAGONAL[: H.shape[1]]
    H[:, diagonal, diagonal] += damping[:, None]
    step = -scale * xp.astype(solve_spd(H, xp.astype(scale * normal.g, xp.float64)), scale.dtype)
    return step, -0.5 * xp.sum(step * normal.g, axis=-1)


def scaled(H: AnyArray) -> tuple[AnyArray, AnyArray]:
    """H (B, P, P) in double precision with its unknowns scaled to ones, and the scale (B, P)."""
    xp = namespace(H)
    scale = 1 / xp.sqrt(xp.linalg.diagonal(H))
    return xp.astype(H * scale[:, :, None] * scale[:, None, :], xp.float64), scale


def _stepped(before: AnyArray, step: AnyArray) -> AnyArray:
    """Parameters (B, P) after a step that keeps them where they mean a hand.

    The root rotation stays inside the ball of radius pi, away from the 2 pi singularity; a scale
    at most halves, so that it stays positive.
    """
    xp = namespace(before)
    params = before + step
    omega = params[:, GLOBAL_ORIENT]
    angle = xp.sqrt(xp.sum(omega * omega, axis=-1))[:, None]
    safe = xp.maximum(angle, 0 * angle + 1e-12)
    omega = xp.where(angle > np.pi, omega * (1 - 2 * np.pi / safe), omega)
    parts = [omega, params[:, 3:SCALE]]
    if params.shape[1] > NUM_PARAMS:
        parts.append(xp.maximum(params[:, SCALE:], before[:, SCALE:] / 2))
    return xp.concat(parts, axis=1)
