"""From a mesh to parameters: what a network that regresses vertices must publish besides.

The mesh has the model's vertices in the model's order. Each part of the hand is first laid onto
the mesh as a rigid body (Procrustes, weighted by skinning); from there damped Gauss-Newton over
all rotations, shape and translation, with the analytic Jacobian of skinned vertices, finds the
least squared distance. Hands are solved side by side in NumPy.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np

from hand_mesh_ros.geometry.rotations import exp_so3, log_so3, project_to_so3, skew
from hand_mesh_ros.hand.kinematics import (
    BETAS,
    GLOBAL_ORIENT,
    HAND_POSE,
    NUM_PARAMS,
    TRANSL,
    forward,
)
from hand_mesh_ros.hand.layout import NUM_BETAS, NUM_JOINTS, PARENTS
from hand_mesh_ros.hand.model import FloatArray, HandModel, IntArray

_BATCH: Final = 64  # hands at a time, which bounds the memory
_VERTICES: Final = 400  # as many of the mesh are fitted, evenly over its parts
_ITERATIONS: Final = 30
_SMALL: Final = 1e-8  # m: a change of the root mean square distance that ends the iteration
# m, rms of the mesh that one sigma of shape weighs as much as: the prior of a mesh with 0.4 mm of
# noise a coordinate. It settles components that hardly move a vertex, and nothing else.
_SHAPE_WEIGHT: Final = 2e-5

_ANCESTORS: Final = np.array(PARENTS[1:])
_LEVELS: Final = tuple(np.arange(depth, NUM_JOINTS, 3) for depth in (1, 2, 3))
_TURNS: Final = slice(0, 3 * NUM_JOINTS)
_SHAPE: Final = slice(_TURNS.stop, _TURNS.stop + NUM_BETAS)
_SHIFT: Final = slice(_SHAPE.stop, _SHAPE.stop + 3)


def fit_to_mesh(model: HandModel, vertices: FloatArray) -> FloatArray:
    """Parameters (B, 61), in the order of `kinematics`, of hands with vertices (B, V, 3), metres.

    The model's side is the hand's. A hand with a vertex that is not finite gets NaN. How well the
    model can take the mesh's form is for `mesh_distance` to say; betas beyond 5 sigma are a mesh
    that is no hand.
    Raises ValueError where the mesh is not the model's.
    """
    vertices = np.asarray(vertices, dtype=np.float64)
    if vertices.ndim != 3 or vertices.shape[1:] != (model.num_vertices, 3):
        raise ValueError(
            f"vertices have shape {vertices.shape}, expected (B, {model.num_vertices}, 3): the "
            f"mesh of hand model '{model.model_id}', vertex by vertex"
        )
    params = np.full((len(vertices), NUM_PARAMS), np.nan)
    finite = np.flatnonzero(np.isfinite(vertices).all((1, 2)))
    for start in range(0, len(finite), _BATCH):
        some = finite[start : start + _BATCH]
        params[some] = _fit(_surface(model), vertices[some])
    return params


def mesh_distance(model: HandModel, params: FloatArray, vertices: FloatArray) -> FloatArray:
    """Root mean square distance (B,), m, of the hands of params (B, 61) from vertices (B, V, 3)."""
    parts = (params[:, part] for part in (GLOBAL_ORIENT, HAND_POSE, BETAS, TRANSL))
    posed = forward(model, *parts).vertices
    assert posed is not None  # `forward` makes the mesh unless told not to
    return np.asarray(np.sqrt(((posed - vertices) ** 2).sum(-1).mean(-1)))


class _Surface(NamedTuple):
    """A model's rest joints and some n of its vertices, as functions of shape and pose."""

    template: FloatArray  # (V, 3) all vertices
    part_weights: FloatArray  # (V, 16)
    chosen: IntArray  # (n,)
    points: FloatArray  # (n, 3)
    point_dirs: FloatArray  # (n, 3, 10)
    joints: FloatArray  # (16, 3)
    joint_dirs: FloatArray  # (16, 3, 10)
    weights: FloatArray  # (n, 16)
    posedirs: FloatArray | None  # (15, 9, n * 3); None where all are zero


class _State(NamedTuple):
    rotations: FloatArray  # (B, 16, 3, 3) local to the parent
    betas: FloatArray  # (B, 10)
    transl: FloatArray  # (B, 3)


class _Linear(NamedTuple):
    """The problem near a state, for steps of 16 world turns, shape and translation."""

    world: FloatArray  # (B, 16, 3, 3)
    cost: FloatArray  # (B,) m^2 a vertex
    normal: FloatArray  # (B, 61, 61)
    gradient: FloatArray  # (B, 61)


@lru_cache(maxsize=4)
def _surface(model: HandModel) -> _Surface:
    chosen = _spread(model)
    posedirs = model.posedirs.reshape(NUM_JOINTS - 1, 9, -1, 3)[:, :, chosen]
    return _Surface(
        template=model.v_template,
        part_weights=model.lbs_weights**2,
        chosen=chosen,
        points=model.v_template[chosen],
        point_dirs=model.shapedirs[chosen],
        joints=model.J_regressor @ model.v_template,
        joint_dirs=np.einsum("jv,vds->jds", model.J_regressor, model.shapedirs),
        weights=model.lbs_weights[chosen],
        posedirs=posedirs.reshape(NUM_JOINTS - 1, 9, -1) if posedirs.any() else None,
    )


def _spread(model: HandModel) -> IntArray:
    """Vertices of every part alike: each part's are ranked at random, and the first ones win."""
    part = model.lbs_weights.argmax(1)
    shuffled = np.random.default_rng(0).permutation(model.num_vertices)
    by_part = shuffled[np.argsort(part[shuffled], kind="stable")]
    sorted_parts = part[by_part]
    rank = np.arange(len(by_part)) - np.searchsorted(sorted_parts, sorted_parts)
    return np.sort(by_part[np.argsort(rank, kind="stable")[:_VERTICES]])


def _fit(surface: _Surface, vertices: FloatArray) -> FloatArray:
    target = vertices[:, surface.chosen]
    state = _start(surface, vertices)
    best = _linearise(surface, state, target)
    damping = np.full(len(vertices), 1e-3)
    active = np.arange(len(vertices))
    for _ in range(_ITERATIONS):
        here, near = _take(state, active), _take_linear(best, active)
        trial = _stepped(here, near, damping[active])
        there = _linearise(surface, trial, target[active])
        better = there.cost <= near.cost
        won = active[better]
        for whole, part in zip((*state, *best), (*trial, *there), strict=True):
            whole[won] = part[better]
        damping[active] *= np.where(better, 0.1, 10.0)
        gained = np.sqrt(near.cost) - np.sqrt(there.cost)
        going = np.where(better, gained > _SMALL, damping[active] < 1e3)
        active = active[going]
        if not len(active):
            break
    rotations = log_so3(state.rotations).reshape(len(vertices), -1)
    return np.concatenate([rotations, state.betas, state.transl], axis=1)


def _take(state: _State, index: IntArray) -> _State:
    return _State(*(array[index] for array in state))


def _take_linear(linear: _Linear, index: IntArray) -> _Linear:
    return _Linear(*(array[index] for array in linear))


def _start(surface: _Surface, vertices: FloatArray) -> _State:
    """Each part of the mean hand laid onto the mesh by itself, then hung together."""
    weights = surface.part_weights / surface.part_weights.sum(0)
    rest_centre = weights.T @ surface.template
    centre = weights.T @ vertices
    moments = (weights[:, :, None] * surface.template[:, None]).reshape(len(weights), -1)
    cross = (np.swapaxes(vertices, 1, 2) @ moments).reshape(-1, 3, NUM_JOINTS, 3)
    cross = np.moveaxis(cross, 1, 2) - centre[..., None] * rest_centre[:, None]
    world = project_to_so3(cross)
    local = world.copy()
    local[:, 1:] = np.swapaxes(world[:, _ANCESTORS], -1, -2) @ world[:, 1:]
    wrist = centre[:, 0] + (world[:, 0] @ (surface.joints[0] - rest_centre[0]))
    betas = np.zeros((len(vertices), NUM_BETAS))
    return _State(local, betas, wrist - surface.joints[0])


def _stepped(state: _State, linear: _Linear, damping: FloatArray) -> _State:
    index = np.arange(NUM_PARAMS)
    damped = linear.normal.copy()
    damped[:, index, index] *= 1 + damping[:, None]
    step = -np.linalg.solve(damped, linear.gradient[..., None])[..., 0]
    # A turn in world axes, seen from the parent, goes in front of the local rotation.
    turns = step[:, _TURNS].reshape(-1, NUM_JOINTS, 3)
    parents = linear.world[:, _ANCESTORS]
    turns[:, 1:] = (np.swapaxes(parents, -1, -2) @ turns[:, 1:, :, None])[..., 0]
    return _State(
        exp_so3(turns) @ state.rotations,
        state.betas + step[:, _SHAPE],
        state.transl + step[:, _SHIFT],
    )


def _linearise(surface: _Surface, state: _State, target: FloatArray) -> _Linear:
    """Cost, normal matrix and gradient; the derivation is that of `kinematics`' Jacobian.

    A small world turn w of joint a moves a vertex by `w x sum_k weight_k (x_k - p_a)` over the
    joints k that hang on a, x_k being the vertex carried rigidly by k.
    """
    count, n = target.shape[:2]
    rest_joints = surface.joints + np.einsum("jds,bs->bjd", surface.joint_dirs, state.betas)
    rest = surface.points + np.einsum("vds,bs->bvd", surface.point_dirs, state.betas)
    if surface.posedirs is not None:
        feature = (state.rotations[:, 1:] - np.eye(3)).reshape(count, -1)
        rest = rest + (feature @ surface.posedirs.reshape(-1, 3 * n)).reshape(rest.shape)

    world, posed = state.rotations.copy(), rest_joints.copy()
    d_posed = np.broadcast_to(surface.joint_dirs, (count, *surface.joint_dirs.shape)).copy()
    for level in _LEVELS:
        parent = _ANCESTORS[level - 1]
        above = world[:, parent]
        world[:, level] = above @ state.rotations[:, level]
        bones = (rest_joints[:, level] - rest_joints[:, parent])[..., None]
        posed[:, level] = posed[:, parent] + (above @ bones)[..., 0]
        d_bones = surface.joint_dirs[level] - surface.joint_dirs[parent]
        d_posed[:, level] = d_posed[:, parent] + above @ d_bones

    # (B, n, 16, 3): weight_k x_k, then summed over what hangs on each joint.
    offset = posed - (world @ rest_joints[..., None])[..., 0]
    carried = np.einsum("bkij,bvj->bvki", world, rest, optimize=True) + offset[:, None]
    carried *= surface.weights[..., None]
    points = carried.sum(2)
    levers = _hanging(carried) - _hanging(surface.weights[..., None]) * posed[:, None]

    jacobian = np.empty((count, n, 3, NUM_PARAMS))
    by_turn = -np.swapaxes(skew(levers), 2, 3).reshape(count, n, 3, -1)
    blended = (surface.weights @ world.reshape(count, NUM_JOINTS, 9)).reshape(count, n, 3, 3)
    if surface.posedirs is not None:
        by_turn[..., 3:] += blended @ _rest_by_turn(surface.posedirs, world)
    jacobian[..., _TURNS] = by_turn
    d_offset = (d_posed - world @ surface.joint_dirs).reshape(count, NUM_JOINTS, -1)
    jacobian[..., _SHAPE] = blended @ surface.point_dirs
    jacobian[..., _SHAPE] += (surface.weights @ d_offset).reshape(count, n, 3, -1)
    jacobian[..., _SHIFT] = np.eye(3)

    residual = points + state.transl[:, None] - target
    rows = jacobian.reshape(count, 3 * n, NUM_PARAMS)
    transposed = np.swapaxes(rows, 1, 2)
    normal = transposed @ rows / n
    gradient = (transposed @ residual.reshape(count, -1, 1))[..., 0] / n
    index = np.arange(_SHAPE.start, _SHAPE.stop)
    normal[:, index, index] += _SHAPE_WEIGHT**2
    gradient[:, _SHAPE] += _SHAPE_WEIGHT**2 * state.betas
    prior = _SHAPE_WEIGHT**2 * (state.betas**2).sum(-1)
    return _Linear(world, (residual**2).sum((1, 2)) / n + prior, normal, gradient)


def _rest_by_turn(posedirs: FloatArray, world: FloatArray) -> FloatArray:
    """What the correctives do: derivatives (B, n, 3, 45) of vertices at rest by world turns."""
    below, above = world[:, 1:, None], world[:, _ANCESTORS, None]
    d_rotations = np.swapaxes(above, -1, -2) @ skew(np.eye(3)) @ below  # (B, 15, 3 m, 3, 3)
    by_joint = np.moveaxis(d_rotations, 0, 1).reshape(NUM_JOINTS - 1, -1, 9) @ posedirs
    d_rest = by_joint.reshape(NUM_JOINTS - 1, len(world), 3, -1, 3)
    moved = np.transpose(d_rest, (1, 3, 4, 0, 2))
    return moved.reshape(*moved.shape[:3], -1)


def _hanging(values: FloatArray) -> FloatArray:
    """Sums (..., 16, d) of (..., 16, d) over each joint and all that hang on it."""
    out = values.copy()
    for level in _LEVELS[:0:-1]:
        out[..., level - 1, :] += out[..., level, :]
    out[..., 0, :] = values.sum(-2)
    return out
