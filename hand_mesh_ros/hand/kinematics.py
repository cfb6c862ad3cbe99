"""Forward kinematics in plain NumPy, batched, with an analytic Jacobian of the 21 joints.

MANO's semantics: axis-angle rotations are total and local to the parent, joint frames are
parallel to the model's axes in the zero pose, and the global rotation turns about the wrist
J0(betas). Then `point = scale * model_point + transl`, so the wrist is at
`scale * J0(betas) + transl`.

Stacked parameters are ordered global_orient 3, hand_pose 45, betas 10, transl 3 and,
optionally, scale: 61 or 62 numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np

from hand_mesh_ros.geometry.rotations import exp_so3, left_jacobian, skew
from hand_mesh_ros.hand.layout import MANO_TO_OPENPOSE, NUM_JOINTS, PARENTS
from hand_mesh_ros.hand.model import FloatArray, HandModel

GLOBAL_ORIENT: Final = slice(0, 3)
HAND_POSE: Final = slice(3, 48)
POSE: Final = slice(0, 48)
BETAS: Final = slice(48, 58)
TRANSL: Final = slice(58, 61)
SCALE: Final = 61
NUM_PARAMS: Final = 61

# Joints of equal depth, each level computed at once from the one before: wrist, then 5, 5, 5.
_LEVELS: Final = tuple(np.arange(depth, NUM_JOINTS, 3) for depth in (1, 2, 3))
_PARENTS: Final = np.array(PARENTS)


def _moved_by() -> FloatArray:
    """(a, k) is 1 where turning joint a moves what is skinned to joint k (a included)."""
    moved = np.eye(NUM_JOINTS)
    for k in range(1, NUM_JOINTS):
        moved[:, k] = np.maximum(moved[:, k], moved[:, PARENTS[k]])
    return moved


_MOVED_BY: Final = _moved_by()


@dataclass(frozen=True, eq=False)
class HandPosed:
    """A posed batch: `joints` (B, 21, 3) in OpenPose order, `vertices` (B, V, 3) or None."""

    joints: FloatArray
    vertices: FloatArray | None = None


class _Landmarks(NamedTuple):
    """Rest joints and tips of a model as linear functions of betas and pose feature."""

    joints: FloatArray  # (16, 3)
    joint_dirs: FloatArray  # (16, 3, 10)
    tips: FloatArray  # (5, 3)
    tip_dirs: FloatArray  # (5, 3, 10)
    tip_weights: FloatArray  # (5, 16)
    tip_posedirs: FloatArray | None  # (15, 3, 3, 5, 3); None where all are zero


class _Chain(NamedTuple):
    rotations: FloatArray  # (B, 16, 3, 3) local to the parent
    world: FloatArray  # (B, 16, 3, 3) accumulated along the tree
    rest: FloatArray  # (B, 16, 3) joints of the shape in the zero pose
    posed: FloatArray  # (B, 16, 3)


def forward(
    model: HandModel,
    global_orient: FloatArray,
    hand_pose: FloatArray,
    betas: FloatArray,
    transl: FloatArray,
    scale: FloatArray | None = None,
    *,
    with_vertices: bool = True,
) -> HandPosed:
    """Pose a batch of hands.

    global_orient (B, 3), hand_pose (B, 45), betas (B, 10), transl (B, 3) in metres, scale (B,)
    or None for 1. `with_vertices=False` leaves the mesh out, which is far cheaper.
    Raises ValueError where the shapes do not fit together.
    """
    parts = [global_orient, hand_pose, betas, transl]
    if scale is not None:
        parts.append(np.asarray(scale)[:, None])
    params = _checked(np.concatenate(parts, axis=1))
    landmarks = _landmarks(model)
    chain = _chain(landmarks, params)
    if not with_vertices:
        tips = _blend(landmarks.tip_weights, _carried_tips(landmarks, chain, params))
        return HandPosed(_place(_openpose(chain.posed, tips), params))
    shaped = model.v_template + np.einsum("vds,bs->bvd", model.shapedirs, params[:, BETAS])
    if landmarks.tip_posedirs is not None:
        feature = _pose_feature(chain).reshape(len(params), -1)
        shaped += (feature @ model.posedirs).reshape(shaped.shape)
    # Each joint's motion as a 3x4 matrix acting on rest points, then blended per vertex.
    shift = chain.posed - (chain.world @ chain.rest[..., None])[..., 0]
    motions = np.concatenate([chain.world, shift[..., None]], axis=-1)
    blended = np.einsum("vk,bkij->bvij", model.lbs_weights, motions, optimize=True)
    vertices = (blended[..., :3] @ shaped[..., None])[..., 0] + blended[..., 3]
    joints = _openpose(chain.posed, vertices[:, model.tips])
    return HandPosed(_place(joints, params), _place(vertices, params))


def joints_and_jacobian(model: HandModel, params: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The 21 joints (B, 21, 3), OpenPose order, and their Jacobian (B, 21, 3, P).

    params is (B, P), P = 61 or, with scale, 62, in this module's order.
    Method: turning joint a by a small world vector w moves a point skinned to the joints k by
    `w x sum_k weight_k (x_k - p_a)` over the k that hang on a, where x_k is the point carried
    rigidly by k. The left Jacobian of SO(3) turns a change of axis-angle into w.
    """
    params = _checked(params)
    landmarks = _landmarks(model)
    chain = _chain(landmarks, params)
    carried = _carried_tips(landmarks, chain, params)
    points = _openpose(chain.posed, _blend(landmarks.tip_weights, carried))
    jacobian = np.zeros((len(params), 21, 3, params.shape[1]))
    jacobian[..., POSE] = _pose_jacobian(landmarks, chain, carried, params)
    jacobian[..., BETAS] = _shape_jacobian(landmarks, chain)
    if params.shape[1] > NUM_PARAMS:
        jacobian *= params[:, SCALE, None, None, None]
        jacobian[..., SCALE] = points
    jacobian[..., TRANSL] = np.eye(3)
    return _place(points, params), jacobian


def _pose_jacobian(
    landmarks: _Landmarks, chain: _Chain, carried: FloatArray, params: FloatArray
) -> FloatArray:
    """Derivatives (B, 21, 3, 48) of the unplaced points by the 48 rotation numbers."""
    jl = left_jacobian(params[:, POSE].reshape(-1, NUM_JOINTS, 3))
    turn = jl.copy()
    turn[:, 1:] = chain.world[:, _PARENTS[1:]] @ jl[:, 1:]

    pivots = chain.posed[:, None]
    joint_levers = _MOVED_BY.T[..., None] * (chain.posed[:, :, None] - pivots)
    moved_weights = landmarks.tip_weights[:, None] * _MOVED_BY  # (5, 16 a, 16 k)
    tip_levers = moved_weights @ carried - moved_weights.sum(-1)[..., None] * pivots
    joints = -skew(joint_levers) @ turn[:, None]
    tips = -skew(tip_levers) @ turn[:, None]  # (B, 5, 16 a, 3, 3 m)
    if landmarks.tip_posedirs is not None:
        # The pose feature displaces the tips at rest, and skinning carries the displacement.
        axes = skew(np.swapaxes(jl[:, 1:], -1, -2))  # (B, 15 a, 3 m, 3, 3)
        d_rotation = axes @ chain.rotations[:, 1:, None]
        d_rest = np.einsum("bamrc,arcpd->bpadm", d_rotation, landmarks.tip_posedirs, optimize=True)
        tips[:, :, 1:] += _tip_rotations(landmarks, chain)[:, :, None] @ d_rest
    by_joint = _openpose(joints, tips)
    return np.moveaxis(by_joint, 2, 3).reshape(len(params), 21, 3, -1)


def _shape_jacobian(landmarks: _Landmarks, chain: _Chain) -> FloatArray:
    """Derivatives (B, 21, 3, 10) of the unplaced points by betas."""
    d_joints = np.empty((*chain.posed.shape, landmarks.joint_dirs.shape[-1]))
    d_joints[:, 0] = landmarks.joint_dirs[0]
    for level in _LEVELS:
        parents = _PARENTS[level]
        d_bone = landmarks.joint_dirs[level] - landmarks.joint_dirs[parents]
        d_joints[:, level] = d_joints[:, parents] + chain.world[:, parents] @ d_bone
    d_offset = landmarks.tip_dirs[:, None] - landmarks.joint_dirs  # (5, 16, 3, 10)
    d_carried = chain.world[:, None] @ d_offset + d_joints[:, None]
    return _openpose(d_joints, np.einsum("pk,bpkis->bpis", landmarks.tip_weights, d_carried))


@lru_cache(maxsize=16)
def _landmarks(model: HandModel) -> _Landmarks:
    posedirs = model.posedirs.reshape(NUM_JOINTS - 1, 3, 3, -1, 3)
    return _Landmarks(
        joints=model.J_regressor @ model.v_template,
        joint_dirs=np.einsum("jv,vds->jds", model.J_regressor, model.shapedirs),
        tips=model.v_template[model.tips],
        tip_dirs=model.shapedirs[model.tips],
        tip_weights=model.lbs_weights[model.tips],
        tip_posedirs=posedirs[..., model.tips, :] if np.any(posedirs) else None,
    )


def _chain(landmarks: _Landmarks, params: FloatArray) -> _Chain:
    rotations = exp_so3(params[:, POSE].reshape(-1, NUM_JOINTS, 3))
    rest = landmarks.joints + np.einsum("jds,bs->bjd", landmarks.joint_dirs, params[:, BETAS])
    world, posed = rotations.copy(), rest.copy()
    for level in _LEVELS:
        parents = _PARENTS[level]
        world[:, level] = world[:, parents] @ rotations[:, level]
        bones = (rest[:, level] - rest[:, parents])[..., None]
        posed[:, level] = posed[:, parents] + (world[:, parents] @ bones)[..., 0]
    return _Chain(rotations, world, rest, posed)


def _pose_feature(chain: _Chain) -> FloatArray:
    return chain.rotations[:, 1:] - np.eye(3)


def _carried_tips(landmarks: _Landmarks, chain: _Chain, params: FloatArray) -> FloatArray:
    """(B, 5, 16, 3): each tip as if it were fixed to each one of the joints."""
    tips = landmarks.tips + np.einsum("pds,bs->bpd", landmarks.tip_dirs, params[:, BETAS])
    if landmarks.tip_posedirs is not None:
        feature = _pose_feature(chain)
        tips += np.einsum("barc,arcpd->bpd", feature, landmarks.tip_posedirs, optimize=True)
    offsets = tips[:, :, None] - chain.rest[:, None]
    return (chain.world[:, None] @ offsets[..., None])[..., 0] + chain.posed[:, None]


def _blend(weights: FloatArray, carried: FloatArray) -> FloatArray:
    return np.einsum("pk,bpkd->bpd", weights, carried)


def _tip_rotations(landmarks: _Landmarks, chain: _Chain) -> FloatArray:
    """(B, 5, 3, 3): blended rotations at the tips."""
    return np.einsum("pk,bkij->bpij", landmarks.tip_weights, chain.world)


def _openpose(joints: FloatArray, tips: FloatArray) -> FloatArray:
    """16 joints and five tips (B, n, ...) in MANO order to 21 points in OpenPose order."""
    return np.concatenate([joints, tips], axis=1)[:, MANO_TO_OPENPOSE]


def _place(points: FloatArray, params: FloatArray) -> FloatArray:
    scale = params[:, SCALE, None, None] if params.shape[1] > NUM_PARAMS else 1.0
    return scale * points + params[:, None, TRANSL]


def _checked(params: FloatArray) -> FloatArray:
    params = np.asarray(params, dtype=np.float64)
    if params.ndim != 2 or params.shape[1] not in (NUM_PARAMS, NUM_PARAMS + 1):
        raise ValueError(
            f"hand parameters have shape {params.shape}, expected (B, 61): global_orient 3, "
            "hand_pose 45, betas 10, transl 3; or (B, 62) with scale"
        )
    return params
