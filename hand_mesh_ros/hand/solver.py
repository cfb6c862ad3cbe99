"""From observations to MANO parameters: batched, damped Gauss-Newton with an analytic Jacobian.

The unknowns are ``[global_orient 3, hand_pose 45, betas 10, transl 3]`` and, where the priors ask
for it (`Prior.with_scale`), ``scale``: P = 61 or 62, in the order and with the meaning of
`kinematics`, in which ``points = scale * hand + transl``. `residuals` defines what is minimised,
`descent` is how. The inverse of the final normal matrix is the posterior covariance
(Laplace's approximation); joints and wrist get theirs by ``J Sigma J^T``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.geometry.arrays import (
    AnyArray,
    inverse_spd,
    like,
    namespace,
)
from hand_mesh_ros.hand import compiled
from hand_mesh_ros.hand.descent import (
    WARM,
    Found,
    SolverOptions,
    descend,
    inliers,
    scaled,
)
from hand_mesh_ros.hand.kinematics import (
    BETAS,
    NUM_PARAMS,
    SCALE,
    joints_and_jacobian,
)
from hand_mesh_ros.hand.model import HandModel
from hand_mesh_ros.hand.observations import Observation, Prior, Problem, pack
from hand_mesh_ros.hand.residuals import (
    Normal,
    Residuals,
    normal_equations,
    residuals,
)

__all__ = ["WARM", "Fit", "Fits", "SolverOptions", "fit", "fit_batch", "inflated", "solve"]

Array = NDArray[np.float64]

# A shape this far from the mean, in sigmas, is a sign of wrong observations, not of a hand.
PLAUSIBLE_BETAS = 5.0


class _Scaled:
    """What a solution says of the hand's scale."""

    params: AnyArray
    covariance: AnyArray

    @property
    def scale(self) -> AnyArray:
        """(B,), or a hand's number; 1 where it was not solved for."""
        if self.params.shape[-1] > NUM_PARAMS:
            return self.params[..., SCALE]
        return namespace(self.params).ones_like(self.params[..., 0])

    @property
    def scale_variance(self) -> AnyArray:
        """(B,), or a hand's number; 0 where it was not solved for."""
        if self.params.shape[-1] > NUM_PARAMS:
            return self.covariance[..., SCALE, SCALE]
        return namespace(self.params).zeros_like(self.params[..., 0])


@dataclass(frozen=True, eq=False)
class Fits(_Scaled):
    """B solved hands; NumPy or torch as the problem was.

    ``params`` (B, P); ``covariance`` (B, P, P), P = 61 or, with scale as the last, 62, so that
    the slices of the others are the same with it and without; ``joints`` (B, 21, 3) in OpenPose
    order with ``joint_covariance`` (B, 21, 3, 3); ``wrist_covariance`` (B, 6, 6) position then
    rotation about fixed axes; ``residual_px`` (B, V, 21) distances of the landmarks from what was
    seen, NaN where nothing was; ``chi2`` (B,) squared whitened residuals of the inliers and ``dof``
    (B,) their number; ``converged`` and ``plausible`` (B,): a hand that is not both must not be
    believed.
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
class Fit(_Scaled):
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

    Where the scale is unknown it begins at its prior's mean, or at the start's 62nd number.
    Raises ``ValueError`` if the start is not 61 or 62 finite numbers.
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
    """Fit B hands of one side at once; ``starts`` (B, 61), or (B, 62) with scales.

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
    """Fit B packed hands; see `fit_batch`."""
    options = options or SolverOptions()
    xp = namespace(starts)
    size = problem.prior_mean.shape[1]
    if starts.ndim == 2 and NUM_PARAMS == starts.shape[1] < size:
        starts = xp.concat([starts, problem.prior_mean[:, SCALE:]], axis=1)
    if starts.ndim != 2 or starts.shape[1] != size:
        raise ValueError(f"starts have shape {tuple(starts.shape)}, expected (B, {size})")
    if not bool(xp.all(xp.isfinite(starts))):
        raise ValueError("starts are not finite")
    if size > NUM_PARAMS and not bool(xp.all(starts[:, SCALE] > 0)):
        raise ValueError("the scales to start from are not positive")
    found = descend(model, problem, starts, options)
    one = xp.ones_like(starts[:, 0])
    here = found.here or residuals(model, problem, found.params)
    normal = found.normal or normal_equations(problem, here, options.cutoff * one, one)
    return _finished(model, problem, here, normal, found, options)


def _covariance(normal: Normal) -> AnyArray:
    """The inverses (B, P, P) of the normal matrices, by way of double precision."""
    kernels = compiled.kernels(normal.H)
    if kernels is not None:
        inverse = np.empty_like(normal.H)
        if kernels.inverse_spd(normal.H, inverse):
            return inverse
    xp = namespace(normal.H)
    H, scale = scaled(normal.H)
    return xp.astype(inverse_spd(H), scale.dtype) * scale[:, :, None] * scale[:, None, :]


def _finished(
    model: HandModel,
    problem: Problem,
    here: Residuals,
    normal: Normal,
    found: Found,
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
    chi2, dof = inliers(here, options.cutoff)
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


def _told(here: Residuals) -> AnyArray:
    """How many numbers (B,) were seen."""
    xp = namespace(here.params)
    count = 0 * here.params[:, 0]
    for part in here.absolute:
        seen = xp.sum(xp.reshape(part.seen, (len(count), -1)), axis=-1)
        count = count + part.residual.shape[-1] * seen
    return count


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
