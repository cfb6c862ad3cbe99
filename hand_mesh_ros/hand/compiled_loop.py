"""The solver's iteration, a hand at a time, as plain loops; see `compiled`.

Does what `descent._State` does for batches, with the same numbers. Importing this compiles it.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from hand_mesh_ros.hand.compiled import jit
from hand_mesh_ros.hand.compiled_normal import assemble, gather, gather_relative, solve_spd
from hand_mesh_ros.hand.compiled_points import pose
from hand_mesh_ros.hand.compiled_views import view

Array = NDArray[np.float64]
# Of one hand: pixels, depths and points as (residual, jacobian, seen), relative differences, and
# the landmarks' Jacobian with what else `pose` and `view` fill.
Place = tuple[tuple[Array, ...], tuple[Array, ...], tuple[Array, ...], Array, tuple[Array, ...]]


@njit(inline="never", error_model="numpy")
def _room(views: int, depths: int, points: int, sets: int, size: int) -> Place:
    """Arrays for everything at one set of parameters."""
    return (
        (np.empty((1, views, 21, 2)), np.empty((1, views, 21, 2, 3)), np.empty((1, views, 21))),
        (np.empty((1, depths, 21, 1)), np.empty((1, depths, 21, 1, 3)), np.empty((1, depths, 21))),
        (np.empty((1, points, 21, 3)), np.empty((1, points, 21, 3, 3)), np.empty((1, points, 21))),
        np.empty((1, sets, 21, 3)),
        (
            np.empty((1, 21, 3, size)), np.empty((1, 21, 3)), np.empty((1, 21, 3)),
            np.empty((1, 16, 3, 3)), np.empty((1, views, 21, 2)), np.empty((1, views, 21)),
        ),
    )  # fmt: skip


@njit(inline="never", error_model="numpy")
def _look(
    x: Array,
    model: tuple[Array, ...],
    cameras: tuple[Array, ...],
    told: tuple[Array, ...],
    place: Place,
) -> None:
    """Fill a place with the landmarks at x (1, P) and their residuals; see `residuals`."""
    pixels, depths, points, relative, (J, landmarks, shift, turn, uv, depth) = place
    J[:], shift[:] = 0.0, 0.0
    pose(x, *model, landmarks, J, shift, turn)
    seen_at, whiten, depth_told, depth_weight, points_told, points_whiten, relative_told = told
    view(*cameras, landmarks, seen_at, whiten, uv, *pixels, depth)
    R = cameras[0]
    for v in range(depths[2].shape[1]):
        for p in range(21):
            weight = depth_weight[0, v, p]
            depths[0][0, v, p, 0] = (depth[0, v, p] - depth_told[0, v, p]) * weight
            depths[2][0, v, p] = 1.0 if weight > 0 else 0.0
            for j in range(3):
                depths[1][0, v, p, 0, j] = weight * R[0, v, 2, j]
    for n in range(points[2].shape[1]):
        for p in range(21):
            points[2][0, n, p] = 1.0 if points_whiten[0, n, p, 0, 0] > 0 else 0.0
            for i in range(3):
                points[0][0, n, p, i] = 0.0
                for j in range(3):
                    W = points_whiten[0, n, p, i, j]
                    points[1][0, n, p, i, j] = W
                    points[0][0, n, p, i] += W * (landmarks[0, p, j] - points_told[0, n, p, j])
    for m in range(relative.shape[1]):
        for p in range(21):
            for i in range(3):
                relative[0, m, p, i] = landmarks[0, p, i] - relative_told[0, m, p, i]


@njit(inline="never", error_model="numpy")
def _normal(
    x: Array,
    place: Place,
    relative_whiten: Array,
    prior: tuple[Array, ...],
    limit_sigma: float,
    robust: Array,  # (2, 1) cutoff and scale
    at: tuple[Array, ...],
) -> None:
    """Fill H, g and cost at a place; see `residuals.normal_equations`."""
    H, g, cost, information, pull, common = at
    cost[:], information[:], pull[:], common[:] = 0.0, 0.0, 0.0, 0.0
    pixels, depths, points, relative, more = place
    for part in (pixels, depths, points):
        gather(*part, robust[0], robust[1], information, pull, cost)
    gather_relative(
        relative, relative_whiten, more[0], robust[0], robust[1], information, pull, cost, common
    )
    assemble(more[0], information, pull, common, x, *prior, limit_sigma, H, g, cost)


@njit(inline="never", error_model="numpy")
def _near_cutoff(place: Place, cutoff: float) -> float:
    """`descent._near_cutoff` of one hand."""
    size = 1
    for part in place[:3]:
        size += part[2].size
    lengths = np.zeros(size)
    count = 0
    for residual, _, seen in place[:3]:
        for v in range(seen.shape[1]):
            for p in range(21):
                if seen[0, v, p] > 0:
                    count += 1
                    for d in range(residual.shape[3]):
                        lengths[count] += residual[0, v, p, d] ** 2
    median = math.sqrt(np.sort(lengths[: count + 1])[count // 2])
    return cutoff if median < 0.5 * cutoff else 3 * median


@njit(inline="never", error_model="numpy")
def _far_scale(place: Place, cutoff: float) -> float:
    """`descent._far_scale` of one hand."""
    chi2, count = 0.0, 0.0
    for residual, _, seen in place[:3]:
        for v in range(seen.shape[1]):
            for p in range(21):
                if seen[0, v, p] > 0:
                    count += residual.shape[3]
                    for d in range(residual.shape[3]):
                        chi2 += residual[0, v, p, d] ** 2
    return max(1.0, 3 * math.sqrt(2 * chi2 / max(count, 1.0)) / cutoff)


@njit(inline="never", error_model="numpy")
def _stepped(x: Array, step: Array, out: Array) -> None:
    """Fill out (1, P) with x - step; see `descent._stepped`."""
    square = 0.0
    for i in range(x.shape[1]):
        out[0, i] = x[0, i] - step[0, i]
        if i < 3:
            square += out[0, i] ** 2
    angle = math.sqrt(square)
    if angle > math.pi:
        for i in range(3):
            out[0, i] *= 1 - 2 * math.pi / angle
    if x.shape[1] > 61:
        out[0, 61] = max(out[0, 61], 0.5 * x[0, 61])


_CAMERA, _TOLD, _PRIOR = (4, 3, 4, 3, 3, 2, 2), (4, 5, 3, 3, 4, 5, 4, 5), (2, 3, 1, 1, 0)


@jit(
    reads=(2, 2, 3, 2, 3, 2, 5, 2, 1, *_CAMERA, *_TOLD, *_PRIOR, 0, 0, 0, 0, 0, 0),
    writes=(2, 1, 1),
)
def iterate(
    starts: Array,  # (B, P)
    joints: Array,  # the model, as in `pose`
    joint_dirs: Array,
    tips: Array,
    tip_dirs: Array,
    tip_weights: Array,
    tip_posedirs: Array,
    offsets: Array,
    bones: Array,
    R: Array,  # the cameras, as in `view`
    t: Array,
    A: Array,
    c: Array,
    k: Array,
    limit: Array,
    fisheye: Array,
    uv: Array,  # the problem; no views, depths (B, 0, 21), points (B, 0, 21, 3)... where none is
    whiten: Array,
    depth: Array,
    depth_weight: Array,
    points: Array,  # (B, 1, 21, 3)
    points_whiten: Array,  # (B, 1, 21, 3, 3)
    relative: Array,  # (B, M, 21, 3)
    relative_whiten: Array,  # (B, M, 21, 3, 3)
    prior_mean: Array,
    prior_precision: Array,
    lower: Array,
    upper: Array,
    limit_sigma: float,
    max_iterations: float,
    tolerance: float,
    cutoff: float,
    far_start: float,
    first_damping: float,
    last_damping: float,
    params: Array,  # (B, P)
    converged: Array,  # (B,) 1 or 0
    iterations: Array,  # (B,)
) -> bool:
    """Fill in where each hand's iteration ends. False where an H is not positive definite."""
    batch, size = starts.shape
    views, depths, sets = R.shape[1], depth.shape[1], relative.shape[1]
    model = (joints, joint_dirs, tips, tip_dirs, tip_weights, tip_posedirs, offsets, bones)
    here = _room(views, depths, points.shape[1], sets, size)
    there = _room(views, depths, points.shape[1], sets, size)
    x, trial, step = np.empty((1, size)), np.empty((1, size)), np.empty((1, size))
    robust, damping = np.empty((2, 1)), np.empty(1)
    common = np.empty((1, sets, 3, size))
    information, pull = np.empty((1, 21, 3, 3)), np.empty((1, 21, 3))
    at = (np.empty((1, size, size)), np.empty((1, size)), np.empty(1), information, pull, common)
    ahead = (np.empty((1, size, size)), np.empty((1, size)), np.empty(1), information, pull, common)
    for b in range(batch):
        one = slice(b, b + 1)
        cameras = (R[one], t[one], A[one], c[one], k[one], limit[one], fisheye[one])
        told = (
            uv[one], whiten[one], depth[one], depth_weight[one], points[one], points_whiten[one],
            relative[one],
        )  # fmt: skip
        sharp = relative_whiten[one]
        prior = (prior_mean[one], prior_precision[one], lower, upper)
        x[:], damping[0], converged[b] = starts[one], first_damping, 0.0
        _look(x, model, cameras, told, here)
        robust[0], robust[1] = cutoff, 1.0
        if far_start > 0:
            robust[1] = _far_scale(here, cutoff)
        else:
            robust[0] = _near_cutoff(here, cutoff)
        _normal(x, here, sharp, prior, limit_sigma, robust, at)
        for iteration in range(1, int(max_iterations) + 1):
            iterations[b] = iteration
            if not solve_spd(at[0], at[1], damping, step):
                return False
            gain = 0.0
            for i in range(size):
                gain += 0.5 * step[0, i] * at[1][0, i]
            cost = at[2][0]
            tight = robust[1, 0] <= 1 and robust[0, 0] <= cutoff
            enough = tolerance * (1 + cost)
            if tight and gain <= enough:
                converged[b] = 1.0
                break
            _stepped(x, step, trial)
            _look(trial, model, cameras, told, there)
            _normal(trial, there, sharp, prior, limit_sigma, robust, ahead)
            there_cost = ahead[2][0]
            decrease = cost - there_cost
            better = decrease >= 0
            if better:
                x, trial, here, there, at, ahead = trial, x, there, here, ahead, at
            if tight and ((better and decrease <= enough) or damping[0] > last_damping):
                converged[b] = 1.0
                break
            if not tight:
                if far_start > 0:
                    if better and decrease <= 0.05 * there_cost and damping[0] < 1e-2:
                        robust[1] = max(robust[1, 0] / 3, 1.0)
                else:
                    robust[0] = min(robust[0, 0], _near_cutoff(here, cutoff))
                _normal(x, here, sharp, prior, limit_sigma, robust, at)
            damping[0] = max(damping[0] / 10, 1e-7) if better else damping[0] * 8
        params[b] = x[0]
    return True
