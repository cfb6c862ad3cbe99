"""The one definition of the solver's residuals and normal equations; NumPy or torch.

Everything observed acts on the 21 landmarks. So the residuals are first gathered at each landmark,
as a 3x3 information matrix and a 3-vector, over all views, depths and points; only then the chain
rule takes them to the parameters. The cost does not grow with the number of views.

A point of D whitened residuals r weighs as an inlier of a mixture with a flat outlier class,

    rho(r) = -log(exp(-|r|^2 / 2) + exp(-c^2 / 2)),    weight = 1 / (1 + exp((|r|^2 - c^2) / 2)),

so that inliers count in full (their covariance stays honest) and points beyond c sigmas not at
all.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import numpy as np

from hand_mesh_ros.geometry.arrays import AnyArray, eye, namespace, zeros
from hand_mesh_ros.geometry.projection import CameraArrays, project_arrays
from hand_mesh_ros.hand import compiled
from hand_mesh_ros.hand.kinematics import HAND_POSE, Points
from hand_mesh_ros.hand.landmarks import landmark_points
from hand_mesh_ros.hand.model import FloatArray, HandModel
from hand_mesh_ros.hand.observations import Problem

# Joint limits yield like springs: one unit of cost at this excess, radians.
LIMIT_SIGMA = 0.06
_POSE_INDEX = np.arange(HAND_POSE.start, HAND_POSE.stop)


class Whitened(NamedTuple):
    """Residuals in units of sigma, with their derivative by the landmark's position.

    ``residual`` (B, ..., 21, D), ``jacobian`` (B, ..., 21, D, 3), ``seen`` (B, ..., 21) in {0, 1}.
    """

    residual: AnyArray
    jacobian: AnyArray
    seen: AnyArray


class Residuals(NamedTuple):
    """Everything at one set of parameters (B, P), P = 61 or, with scale, 62."""

    params: AnyArray
    landmarks: Points
    uv: AnyArray  # (B, V, 21, 2) or None: where the landmarks project to
    absolute: tuple[Whitened, ...]
    relative: AnyArray  # (B, M, 21, 3) or None: landmarks minus relative points, metres


class Normal(NamedTuple):
    """Normal equations: H (B, P, P), g (B, P), and the cost (B,)."""

    H: AnyArray
    g: AnyArray
    cost: AnyArray


def residuals(model: HandModel, problem: Problem, params: AnyArray) -> Residuals:
    """Landmarks, and how far they are from what was observed."""
    xp = namespace(params)
    found = landmark_points(model, params)
    landmarks = found.points
    absolute: list[Whitened] = []
    uv = None
    if problem.cameras is not None:
        kernels = compiled.kernels(landmarks)
        see = _see if kernels is None else partial(_compiled_see, kernels)
        uv, pixels, depth = see(problem.cameras, problem, landmarks)
        absolute.append(pixels)
        if problem.depth is not None:
            weight = problem.depth_weight
            axis = problem.cameras.R[..., 2:3, :]  # of the optical axis, (B, V, 1, 3)
            absolute.append(
                Whitened(
                    ((depth - problem.depth) * weight)[..., None],
                    weight[..., None, None] * axis[:, :, None],
                    xp.astype(weight > 0, params.dtype),
                )
            )
    if problem.points is not None:
        whiten = problem.points_whiten
        residual = (whiten @ (landmarks - problem.points)[..., None])[..., 0]
        absolute.append(
            Whitened(
                residual,
                xp.asarray(whiten, copy=True),
                xp.astype(whiten[..., 0, 0] > 0, params.dtype),
            )
        )
    relative = None if problem.relative is None else landmarks[:, None] - problem.relative
    return Residuals(params, found, uv, tuple(absolute), relative)


def _see(
    cameras: CameraArrays, problem: Problem, landmarks: AnyArray
) -> tuple[AnyArray, Whitened, AnyArray]:
    """Pixels (B, V, 21, 2) of landmarks, how they differ from those seen, depths (B, V, 21)."""
    xp = namespace(landmarks)
    projected = project_arrays(cameras, landmarks[:, None])
    whiten = problem.whiten
    residual = (whiten @ (projected.uv - problem.uv)[..., None])[..., 0]
    seen = xp.astype((whiten[..., 0, 0] > 0) & projected.valid, landmarks.dtype)
    pixels = Whitened(residual, whiten @ projected.jacobian, seen)
    return projected.uv, pixels, projected.depth


def _compiled_see(
    kernels: Any, cameras: CameraArrays, problem: Problem, landmarks: FloatArray
) -> tuple[FloatArray, Whitened, FloatArray]:
    lead = (*cameras.limit.shape, 21)
    uv, residual, jacobian = (np.empty((*lead, *end)) for end in ((2,), (2,), (2, 3)))
    seen, depth = np.empty(lead), np.empty(lead)
    kernels.view(
        *compiled_cameras(cameras), *compiled.contiguous(landmarks, problem.uv, problem.whiten),
        uv, residual, jacobian, seen, depth,
    )  # fmt: skip
    return uv, Whitened(residual, jacobian, seen), depth


def compiled_cameras(cameras: CameraArrays) -> list[FloatArray]:
    """What `compiled_views.view` reads of cameras (B, V)."""
    fisheye = np.zeros(cameras.limit.shape) if cameras.fisheye is None else cameras.fisheye
    k = np.moveaxis(cameras.k, 0, -1)
    return compiled.contiguous(*cameras[:4], k, cameras.limit, fisheye)


def no_cameras(batch: int) -> CameraArrays:
    """Cameras (B, 0): of hands that no camera sees."""
    shapes = ((3, 3), (3,), (2, 2), (2,))
    R, t, A, c = (np.zeros((batch, 0, *shape)) for shape in shapes)
    return CameraArrays(R, t, A, c, np.zeros((5, batch, 0)), np.zeros((batch, 0)), None)


def normal_equations(
    problem: Problem, r: Residuals, cutoff: AnyArray, scale: AnyArray
) -> Normal:
    """Gauss-Newton's H, g and the cost, with outliers beyond ``cutoff`` (B,) sigmas let go.

    ``scale`` (B,) multiplies every sigma: above 1 while a hand is far from what was seen, when
    neither outliers can be told nor fine details are worth leaving the prior for.
    """
    kernels = compiled.kernels(r.params)
    if kernels is not None:
        return _compiled_normal_equations(kernels, problem, r, cutoff, scale)
    xp = namespace(r.params)
    batch = len(r.params)
    information = zeros((batch, 21, 3, 3), r.params)  # at the landmarks
    pull = zeros((batch, 21, 3), r.params)
    away = r.params - problem.prior_mean
    H, g = problem.prior_precision, _times(problem.prior_precision, away)
    cost = 0.5 * xp.sum(g * away, axis=-1)
    for part in r.absolute:
        weight, loss = _mixture(part, cutoff, scale)
        J = xp.reshape(part.jacobian, (batch, -1, 21, *part.jacobian.shape[-2:]))
        e = xp.reshape(part.residual, (batch, -1, 21, part.residual.shape[-1]))
        Jt = xp.matrix_transpose(J) * xp.reshape(weight, (batch, -1, 21))[..., None, None]
        information = information + xp.sum(Jt @ J, axis=1)
        pull = pull + xp.sum(Jt @ e[..., None], axis=1)[..., 0]
        cost = cost + loss
    if r.relative is not None:
        precision, force, common, loss = _relative(problem, r, cutoff, scale)
        information = information + precision
        pull = pull + force
        cost = cost + loss
        H = H - xp.matrix_transpose(common) @ common
    J = r.landmarks.jacobian
    rows = xp.reshape(J, (batch, 63, -1))
    H = H + xp.matrix_transpose(rows) @ xp.reshape(information @ J, rows.shape)
    g = g + (xp.reshape(pull, (batch, 1, 63)) @ rows)[:, 0]
    return _with_limits(problem, r.params, H, g, cost)


def _compiled_normal_equations(
    kernels: Any, problem: Problem, r: Residuals, cutoff: FloatArray, scale: FloatArray
) -> Normal:
    batch, size = r.params.shape
    sets = 0 if r.relative is None else r.relative.shape[1]
    information, pull = np.zeros((batch, 21, 3, 3)), np.zeros((batch, 21, 3))
    common, cost = np.zeros((batch, sets, 3, size)), np.zeros(batch)
    H, g = np.empty((batch, size, size)), np.empty((batch, size))
    robust = compiled.contiguous(cutoff, scale)
    for part in r.absolute:
        lead = (batch, -1, 21)
        residual = part.residual.reshape(*lead, part.residual.shape[-1])
        jacobian = part.jacobian.reshape(*lead, *part.jacobian.shape[-2:])
        told = compiled.contiguous(residual, jacobian, part.seen.reshape(lead))
        kernels.gather(*told, *robust, information, pull, cost)
    (J,) = compiled.contiguous(r.landmarks.jacobian)
    if r.relative is not None:
        told = compiled.contiguous(r.relative, problem.relative_whiten)
        kernels.gather_relative(*told, J, *robust, information, pull, cost, common)
    prior = problem.prior_mean, problem.prior_precision, problem.lower, problem.upper
    kernels.assemble(
        J, information, pull, common, *compiled.contiguous(r.params, *prior), LIMIT_SIGMA,
        H, g, cost,
    )  # fmt: skip
    return Normal(H, g, cost)


def _mixture(part: Whitened, cutoff: AnyArray, scale: AnyArray) -> tuple[AnyArray, AnyArray]:
    """Weights (B, ..., 21), over the scale squared, and summed losses (B,) of the mixture."""
    xp = namespace(scale)
    square = xp.sum(part.residual * part.residual, axis=-1)
    each = (-1,) + (1,) * (square.ndim - 1)
    precision = xp.reshape(1 / (scale * scale), each)
    square = square * precision
    limit = xp.reshape(cutoff * cutoff, each)
    # Held, so that no exponent overflows.
    excess = xp.clip(0.5 * (square - limit), -40.0, 40.0)
    weight = part.seen * precision / (1 + xp.exp(excess))
    loss = 0.5 * limit - _softplus(-0.5 * (square - limit))
    return weight, xp.sum(xp.reshape(part.seen * loss, (len(square), -1)), axis=-1)


def _softplus(x: AnyArray) -> AnyArray:
    xp = namespace(x)
    return xp.maximum(x, 0 * x) + xp.log1p(xp.exp(-xp.abs(x)))


def _relative(
    problem: Problem, r: Residuals, cutoff: AnyArray, scale: AnyArray
) -> tuple[AnyArray, AnyArray, AnyArray, AnyArray]:
    """Of the sets of points that are known up to a common shift: what to add to the landmarks'

    information (B, 21, 3, 3) and pull (B, 21, 3), what to take from H, and the cost (B,). The best
    shift is the weighted mean of the differences; eliminating it (Schur complement) takes
    a^T N^-1 a, a = sum(P J) and N = sum(P) over a set's points of information P, from what the
    points would have told; it is returned as rows c with c^T c.
    """
    xp = namespace(r.params)
    batch, sets = r.relative.shape[:2]
    whiten = problem.relative_whiten
    precision = xp.matrix_transpose(whiten) @ whiten
    away = r.relative - _mean(r.relative, precision)[:, :, None]
    first = Whitened(
        _times(whiten, away), None, xp.astype(whiten[..., 0, 0] > 0, r.params.dtype)
    )
    weight, loss = _mixture(first, cutoff, scale)
    precision = precision * weight[..., None, None]
    force = _times(precision, r.relative - _mean(r.relative, precision)[:, :, None])
    a = xp.sum(precision @ r.landmarks.jacobian[:, None], axis=2)
    root = xp.linalg.cholesky(_total(precision))
    common = xp.reshape(xp.linalg.inv(root) @ a, (batch, 3 * sets, -1))
    return xp.sum(precision, axis=1), xp.sum(force, axis=1), common, loss


def _mean(differences: AnyArray, precision: AnyArray) -> AnyArray:
    """Weighted mean (B, M, 3) over the points of a set; zero where nothing weighs."""
    xp = namespace(differences)
    pulled = xp.sum(_times(precision, differences), axis=2)
    return xp.linalg.solve(_total(precision), pulled[..., None])[..., 0]


def _total(precision: AnyArray) -> AnyArray:
    """Information (B, M, 3, 3) of a set's points together; the identity where nothing weighs."""
    xp = namespace(precision)
    total = xp.sum(precision, axis=2)
    return xp.where((total[..., 0, 0] > 0)[..., None, None], total, eye(3, precision))


def _with_limits(
    problem: Problem, params: AnyArray, H: AnyArray, g: AnyArray, cost: AnyArray
) -> Normal:
    xp = namespace(params)
    pose = params[:, HAND_POSE]
    excess = pose - xp.clip(pose, problem.lower, problem.upper)
    stiff = xp.astype(excess != 0, params.dtype) / LIMIT_SIGMA**2
    force = stiff * excess
    # H and g are fresh.
    H[:, _POSE_INDEX, _POSE_INDEX] += stiff
    g[:, HAND_POSE] += force
    return Normal(H, g, cost + 0.5 * xp.sum(force * excess, axis=-1))


def _times(matrix: AnyArray, vector: AnyArray) -> AnyArray:
    return (matrix @ vector[..., None])[..., 0]
