"""From observations to MANO parameters: damped Gauss-Newton with an analytic Jacobian.

The unknowns are ``[global_orient 3, hand_pose 45, betas 10, transl 3]``. Minimised is

    sum rho(|project(landmark) - uv| / sigma) + sum |relative 3D| + prior + joint limits,

with rho the Geman-McClure-like Cauchy loss (iteratively reweighted), a diagonal Gaussian prior on
the parameters (pose, shape, and time when a track gives one) and a one-sided quadratic beyond the
joint limits. The inverse of the final normal matrix is the posterior covariance (Laplace); joints
and wrist get theirs by ``J Sigma J^T``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from hand_mesh_ros.geometry.alignment import procrustes
from hand_mesh_ros.geometry.cameras import project_with_jacobian, undistort
from hand_mesh_ros.geometry.rotations import exp_so3, left_jacobian, log_so3
from hand_mesh_ros.hand.kinematics import (
    BETAS,
    GLOBAL_ORIENT,
    HAND_POSE,
    NUM_PARAMS,
    TRANSL,
    joints_and_jacobian,
)
from hand_mesh_ros.hand.landmarks import PALM, landmarks_and_jacobian
from hand_mesh_ros.hand.limits import pose_limits, pose_prior
from hand_mesh_ros.hand.model import HandModel
from hand_mesh_ros.types import Camera

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Landmarks2D:
    """One view: ``uv`` (21, 2) distorted pixels (NaN = not seen), ``sigma`` (21,) pixels."""

    camera: Camera
    uv: Array
    sigma: Array


@dataclass(frozen=True, eq=False)
class Relative3D:
    """Metric landmarks known up to their common position: ``points`` (21, 3) in world axes, m.

    ``sigma`` (21,) m, one standard deviation per axis of each point about the common centre.
    """

    points: Array
    sigma: Array


@dataclass(frozen=True)
class SolverOptions:
    """``robust_px``: residuals in units of sigma where the Cauchy loss starts to let go."""

    max_iterations: int = 40
    tolerance: float = 1e-5
    robust: float = 2.0
    limit_sigma: float = 0.06
    pose_weight: float = 1.0
    shape_sigma: float = 1.0


@dataclass(frozen=True, eq=False)
class Prior:
    """Diagonal Gaussian on the 61 parameters; ``sigma`` may be infinite."""

    mean: Array
    sigma: Array


@dataclass(frozen=True, eq=False)
class Fit:
    """The solver's answer. ``covariance`` (61, 61); joints (21, 3) with (21, 3, 3) blocks."""

    params: Array
    covariance: Array
    joints: Array
    joint_covariance: Array
    wrist_covariance: Array
    cost: float
    iterations: int
    converged: bool
    residual_px: Array = field(default_factory=lambda: np.zeros((0, 21)))


def default_prior(model: HandModel, options: SolverOptions) -> Prior:
    """Pose and shape prior of a hand nobody has seen before; position and heading free."""
    mean, sigma = np.zeros(NUM_PARAMS), np.full(NUM_PARAMS, np.inf)
    mean[HAND_POSE], pose_sigma = pose_prior(model.side)
    sigma[HAND_POSE] = pose_sigma / np.sqrt(options.pose_weight)
    sigma[BETAS] = options.shape_sigma
    return Prior(mean, sigma)


def start_from_points(model: HandModel, points: Array, prior: Prior) -> Array:
    """Parameters (61,) that lay the prior's hand onto world points (21, 3) by its palm.

    Points may be NaN; at least three of wrist and knuckles must be finite, else ``ValueError``.
    """
    seen = np.asarray(np.isfinite(points).all(-1))
    weight = np.where(seen, 0.05, 0.0)
    weight[PALM] *= 20
    if (seen[PALM]).sum() < 3:
        raise ValueError("fewer than three palm joints to start from")
    params = np.where(np.isfinite(prior.mean), prior.mean, 0.0)
    params[GLOBAL_ORIENT] = params[TRANSL] = 0
    rest = landmarks_and_jacobian(model, params[None])[0][0]
    target = np.where(seen[:, None], points, 0.0)
    _, R, shift = procrustes(rest, target, weight)
    root = rest_wrist(model, params[BETAS])
    params[GLOBAL_ORIENT] = log_so3(R)
    # The model turns about its wrist, Procrustes about the origin.
    params[TRANSL] = R @ root + shift - root
    return params


def rest_wrist(model: HandModel, betas: Array) -> Array:
    """J0(betas), (3,): where the wrist stands in the unposed model."""
    zero = np.zeros((1, NUM_PARAMS))
    zero[0, BETAS] = betas
    return np.asarray(joints_and_jacobian(model, zero)[0][0, 0])


def start_from_view(
    model: HandModel, camera: Camera, uv: Array, relative: Array, prior: Prior
) -> Array:
    """Parameters (61,) from one view: heading from relative 3D (21, 3, world axes), place from 2D.

    The position t makes ``q_j + t`` lie on the rays of the landmarks; linear least squares in t,
    with q the model's joints.
    """
    params = start_from_points(model, relative, prior)
    joints = landmarks_and_jacobian(model, params[None])[0][0]
    R = camera.T_camera_world[:3, :3]
    local = (joints - joints[0]) @ R.T
    xy = undistort(camera, uv)
    ok = np.isfinite(xy).all(-1)
    A = np.zeros((ok.sum(), 2, 3))
    A[:, 0, 0] = A[:, 1, 1] = 1
    A[:, :, 2] = -xy[ok]
    b = xy[ok] * local[ok, 2:] - local[ok, :2]
    t = np.linalg.lstsq(A.reshape(-1, 3), b.reshape(-1), rcond=None)[0]
    t[2] = max(t[2], 0.05)
    wrist = R.T @ (t - camera.T_camera_world[:3, 3])
    params[TRANSL] += wrist - joints[0]
    return params


def fit(
    model: HandModel,
    views: Sequence[Landmarks2D],
    start: Array,
    prior: Prior,
    relative: Sequence[Relative3D] = (),
    options: SolverOptions | None = None,
) -> Fit:
    """Fit one hand to what was observed; ``start`` (61,) must be near enough for Gauss-Newton."""
    options = options or SolverOptions()
    problem = _Problem(model, tuple(views), prior, tuple(relative), options)
    params = np.array(start, dtype=np.float64)
    state = problem.linearise(params)
    damping, converged, iteration = 1e-3, False, 0
    for iteration in range(1, options.max_iterations + 1):  # noqa: B007
        H, g, cost = state
        scale = np.diag(H)
        step = cho_solve(cho_factor(H + damping * np.diag(scale + 1e-9)), -g)
        trial = _wrapped(params + step)
        trial_state = problem.linearise(trial)
        if trial_state[2] <= cost:
            small = cost - trial_state[2] <= options.tolerance * (1 + cost)
            params, state = trial, trial_state
            damping = max(damping / 5, 1e-7)
            if small:
                converged = True
                break
        else:
            damping *= 8
            if damping > 1e8:
                converged = True
                break
    return problem.finish(params, state, iteration, converged)


def _wrapped(params: Array) -> Array:
    """Keep the root rotation inside the ball of radius pi, away from the 2 pi singularity."""
    angle = np.linalg.norm(params[GLOBAL_ORIENT])
    if angle > np.pi:
        params = params.copy()
        params[GLOBAL_ORIENT] *= 1 - 2 * np.pi / angle
    return params


State = tuple[Array, Array, float]


@dataclass(frozen=True, eq=False)
class _Problem:
    model: HandModel
    views: tuple[Landmarks2D, ...]
    prior: Prior
    relative: tuple[Relative3D, ...]
    options: SolverOptions

    def linearise(self, params: Array) -> State:
        """Normal matrix, gradient and cost (half the robust chi-square) at ``params``."""
        joints, J = landmarks_and_jacobian(self.model, params[None])
        joints, J = joints[0], J[0]
        H, g, cost = np.zeros((NUM_PARAMS, NUM_PARAMS)), np.zeros(NUM_PARAMS), 0.0
        for view in self.views:
            projected = project_with_jacobian(view.camera, joints)
            residual = (projected.uv - view.uv) / view.sigma[:, None]
            seen = np.isfinite(residual).all(-1) & projected.valid
            residual = np.where(seen[:, None], residual, 0.0)
            square = (residual**2).sum(-1) / self.options.robust**2
            weight = seen / (1 + square)
            cost += 0.5 * self.options.robust**2 * float(np.log1p(square[seen]).sum())
            # A point that the camera cannot see must not be a way to lower the cost.
            lost = ~projected.valid & np.isfinite(view.uv).all(-1)
            cost += 50.0 * float(lost.sum())
            inverse = np.where(seen, 1 / view.sigma, 0.0)[:, None, None]
            rows = (projected.jacobian @ J) * inverse
            weighted = rows * weight[:, None, None]
            flat = rows.reshape(-1, NUM_PARAMS)
            H += weighted.reshape(-1, NUM_PARAMS).T @ flat
            g += weighted.reshape(-1, NUM_PARAMS).T @ residual.reshape(-1)
        for relative in self.relative:
            precision = 1 / relative.sigma**2
            share = (precision / precision.sum())[:, None]
            offset = joints - relative.points
            residual = (offset - (share * offset).sum(0)) / relative.sigma[:, None]
            rows = (J - (share[..., None] * J).sum(0)) / relative.sigma[:, None, None]
            square = (residual**2).sum(-1) / self.options.robust**2
            weight = 1 / (1 + square)
            cost += 0.5 * self.options.robust**2 * float(np.log1p(square).sum())
            weighted = (rows * weight[:, None, None]).reshape(-1, NUM_PARAMS)
            H += weighted.T @ rows.reshape(-1, NUM_PARAMS)
            g += weighted.T @ residual.reshape(-1)
        information = 1 / self.prior.sigma**2
        deviation = params - self.prior.mean
        H[np.arange(NUM_PARAMS), np.arange(NUM_PARAMS)] += information
        g += information * deviation
        cost += 0.5 * float((information * deviation**2).sum())
        lower, upper = pose_limits(self.model.side)
        excess = np.minimum(params[HAND_POSE] - lower, 0) + np.maximum(params[HAND_POSE] - upper, 0)
        stiff = (excess != 0) / self.options.limit_sigma**2
        index = np.arange(HAND_POSE.start, HAND_POSE.stop)
        H[index, index] += stiff
        g[HAND_POSE] += stiff * excess
        return H, g, cost + 0.5 * float((stiff * excess**2).sum())

    def finish(self, params: Array, state: State, iterations: int, converged: bool) -> Fit:
        H, _, cost = state
        covariance = cho_solve(cho_factor(H), np.eye(NUM_PARAMS))
        joints, J = joints_and_jacobian(self.model, params[None])
        joints, J = joints[0], J[0]
        landmarks = landmarks_and_jacobian(self.model, params[None])[0][0]
        errors = [
            np.linalg.norm(project_with_jacobian(v.camera, landmarks).uv - v.uv, axis=-1)
            for v in self.views
        ]
        # Wrist pose: position is joint 0; a change of the axis-angle turns by left_jacobian.
        W = np.zeros((6, NUM_PARAMS))
        W[:3] = J[0]
        W[3:, GLOBAL_ORIENT] = left_jacobian(params[GLOBAL_ORIENT])
        return Fit(
            params=params,
            covariance=covariance,
            joints=joints,
            joint_covariance=J @ covariance @ np.swapaxes(J, -1, -2),
            wrist_covariance=W @ covariance @ W.T,
            cost=cost,
            iterations=iterations,
            converged=converged,
            residual_px=np.array(errors).reshape(len(self.views), 21),
        )


def wrist_frame(model: HandModel, params: Array) -> Array:
    """``T_world_wrist`` (4, 4): x to the middle knuckle, z out of the back of the hand.

    The rule is the same for both hands; the axes are fixed to the wrist because the knuckles hang
    on it rigidly (MANO folds the metacarpals into joint 0).
    """
    rest = np.zeros((1, NUM_PARAMS))
    rest[0, BETAS] = params[BETAS]
    joints = joints_and_jacobian(model, rest)[0][0]
    x = joints[9] - joints[0]
    x = x / np.linalg.norm(x)
    across = joints[5] - joints[17]  # from the little to the index knuckle
    z = np.cross(x, across) if model.side == "right" else np.cross(across, x)
    z = z / np.linalg.norm(z)
    moved = joints_and_jacobian(model, params[None])[0][0]
    T = np.eye(4)
    T[:3, :3] = exp_so3(params[GLOBAL_ORIENT]) @ np.stack([x, np.cross(z, x), z], -1)
    T[:3, 3] = moved[0]
    return T


def with_fixed_shape(prior: Prior, betas: Array, sigma: float = 0.02) -> Prior:
    """The same prior with a known shape (10,) that may move by ``sigma`` only."""
    mean, spread = prior.mean.copy(), prior.sigma.copy()
    mean[BETAS], spread[BETAS] = betas, sigma
    return replace(prior, mean=mean, sigma=spread)
