"""Forward kinematics, batched, with an analytic Jacobian of the 21 joints; NumPy or torch.

MANO's semantics: axis-angle rotations are total and local to the parent, joint frames are
parallel to the model's axes in the zero pose, and the global rotation turns about the wrist
J0(betas). Then `point = scale * model_point + transl`, so the wrist is at
`scale * J0(betas) + transl`.

Stacked parameters are ordered global_orient 3, hand_pose 45, betas 10, transl 3 and,
optionally, scale: 61 or 62 numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from hand_mesh_ros.geometry.arrays import AnyArray, eye, like, namespace
from hand_mesh_ros.geometry.rotations import exp_and_left_jacobian, skew
from hand_mesh_ros.hand import compiled
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
_LEVELS: Final = tuple(slice(depth, NUM_JOINTS, 3) for depth in (1, 2, 3))
_TIPS: Final = np.array([4, 8, 12, 16, 20])  # of the 21 points in OpenPose order
_ORDER: Final = np.array(MANO_TO_OPENPOSE)  # a writable copy: torch warns of read-only indices
# The bone that ends in each of the 21 points, by the joint it turns with, in MANO's order: a
# joint's parent, and for a tip the last joint of its finger.
_BONES: Final = np.array([max(parent, 0) for parent in PARENTS] + [15, 3, 6, 12, 9])
BONE_OF_POINT: Final = _BONES[_ORDER]
"""(21,) the MANO joint that each OpenPose point's bone turns with."""
_BONE_NUMBERS: Final = BONE_OF_POINT.astype(np.float64)
_NO_OFFSETS: Final = np.zeros((21, 3))
_NO_POSEDIRS: Final = np.zeros((0, 3, 3, 5, 3))


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

    joints: AnyArray
    vertices: AnyArray | None = None


class _Landmarks(NamedTuple):
    """Rest joints and tips of a model as linear functions of betas and pose feature."""

    joints: AnyArray  # (16, 3)
    joint_dirs: AnyArray  # (16, 3, 10)
    tips: AnyArray  # (5, 3)
    tip_dirs: AnyArray  # (5, 3, 10)
    tip_weights: AnyArray  # (5, 16)
    moved_by: AnyArray  # (16, 16), see _MOVED_BY
    moved_weights: AnyArray  # (5, 16 a, 16 k) weights of the joints k that hang on a
    moved_bones: AnyArray  # (21, 16 a) 1 where turning joint a moves a point's bone, OpenPose
    bone_dirs: AnyArray  # (16, 3, 10) joint_dirs less the parent's
    tip_posedirs: AnyArray | None  # (15, 3, 3, 5, 3); None where all are zero


class _Surface(NamedTuple):
    """What the mesh needs besides."""

    v_template: AnyArray
    shapedirs: AnyArray
    posedirs: AnyArray
    lbs_weights: AnyArray


class _Chain(NamedTuple):
    rotations: AnyArray  # (B, 16, 3, 3) local to the parent
    turns: AnyArray  # (B, 16, 3, 3) left Jacobians, in the parent's frame
    world: AnyArray  # (B, 16, 3, 3) accumulated along the tree
    rest: AnyArray  # (B, 16, 3) joints of the shape in the zero pose
    posed: AnyArray  # (B, 16, 3)


def forward(
    model: HandModel,
    global_orient: AnyArray,
    hand_pose: AnyArray,
    betas: AnyArray,
    transl: AnyArray,
    scale: AnyArray | None = None,
    *,
    with_vertices: bool = True,
) -> HandPosed:
    """Pose a batch of hands. NumPy or torch.

    global_orient (B, 3), hand_pose (B, 45), betas (B, 10), transl (B, 3) in metres, scale (B,)
    or None for 1. `with_vertices=False` leaves the mesh out, which is far cheaper.
    Raises ValueError where the shapes do not fit together.
    """
    parts = [global_orient, hand_pose, betas, transl]
    if scale is not None:
        parts.append(scale[:, None])
    xp = namespace(global_orient)
    params = _checked(xp.concat(parts, axis=1))
    landmarks = _landmarks(model, params)
    chain = _chain(landmarks, params)
    if not with_vertices:
        tips = _skinned_tips(landmarks, _carried_tips(landmarks, chain, params))
        return HandPosed(_place(_openpose(chain.posed, tips), params))
    surface = _surface(model, params)
    shaped = surface.v_template + xp.einsum("vds,bs->bvd", surface.shapedirs, params[:, BETAS])
    if landmarks.tip_posedirs is not None:
        feature = xp.reshape(_pose_feature(chain), (len(params), -1))
        shaped = shaped + xp.reshape(feature @ surface.posedirs, shaped.shape)
    # Each joint's motion as a 3x4 matrix acting on rest points, then blended per vertex.
    shift = chain.posed - (chain.world @ chain.rest[..., None])[..., 0]
    motions = xp.concat([chain.world, shift[..., None]], axis=-1)
    blended = surface.lbs_weights @ xp.reshape(motions, (-1, NUM_JOINTS, 12))
    blended = xp.reshape(blended, (*shaped.shape[:2], 3, 4))
    vertices = (blended[..., :3] @ shaped[..., None])[..., 0] + blended[..., 3]
    joints = _openpose(chain.posed, vertices[:, model.tips])
    return HandPosed(_place(joints, params), _place(vertices, params))


class Points(NamedTuple):
    """21 points of B hands with their Jacobian; see `points_and_jacobian`."""

    points: AnyArray  # (B, 21, 3)
    jacobian: AnyArray  # (B, 21, 3, P)
    shift: AnyArray  # (B, 21, 3) from the joints, or None
    turn: AnyArray  # (B, 16, 3, 3) world rotation vectors by each joint's numbers
    scale: AnyArray  # (B,), or None where it is not among the parameters

    def joints(self) -> tuple[AnyArray, AnyArray]:
        """The joints themselves and their Jacobian, without the shift."""
        if self.shift is None:
            return self.points, self.jacobian
        xp = namespace(self.points)
        moved = like(_MOVED_BY.T[BONE_OF_POINT], self.points)
        jacobian = xp.asarray(self.jacobian, copy=True)
        jacobian[..., POSE] -= _turned(moved[..., None] * self.shift[:, :, None], self.turn)
        if self.scale is not None:
            jacobian[..., SCALE] -= self.shift / self.scale[:, None, None]
        return self.points - self.shift, jacobian


def joints_and_jacobian(model: HandModel, params: AnyArray) -> tuple[AnyArray, AnyArray]:
    """The 21 joints (B, 21, 3), OpenPose order, and their Jacobian (B, 21, 3, P).

    params is (B, P), P = 61 or, with scale, 62, in this module's order. NumPy or torch.
    """
    found = points_and_jacobian(model, params)
    return found.points, found.jacobian


def points_and_jacobian(
    model: HandModel, params: AnyArray, offsets: AnyArray | None = None
) -> Points:
    """The 21 joints, or points beside them, with their Jacobian; see `joints_and_jacobian`.

    ``offsets`` (21, 3), OpenPose order, metres in the zero pose: points that lie so far from the
    joints instead, each carried by the bone that ends in its joint (`BONE_OF_POINT`).
    Method: turning joint a by a small world vector w moves a point skinned to the joints k by
    `w x sum_k weight_k (x_k - p_a)` over the k that hang on a, where x_k is the point carried
    rigidly by k. The left Jacobian of SO(3) turns a change of axis-angle into w.
    """
    params = _checked(params)
    kernels = compiled.kernels(params)
    if kernels is not None:
        return _compiled_points(kernels, model, params, offsets)
    xp = namespace(params)
    landmarks = _landmarks(model, params)
    chain = _chain(landmarks, params)
    carried = _carried_tips(landmarks, chain, params)
    points = _openpose(chain.posed, _skinned_tips(landmarks, carried))
    turn = _turns(chain)
    shift = None
    if offsets is not None:
        shift = (chain.world[:, BONE_OF_POINT] @ like(offsets, params)[..., None])[..., 0]
        points = points + shift
    by_pose = _pose_jacobian(landmarks, chain, carried, turn, shift)
    by_shape = _shape_jacobian(landmarks, chain)
    by_transl = xp.broadcast_to(eye(3, params), (len(params), 21, 3, 3))
    if params.shape[1] == NUM_PARAMS:
        jacobian = xp.concat([by_pose, by_shape, by_transl], axis=-1)
    else:
        scale = params[:, SCALE, None, None]
        parts = [scale[..., None] * by_pose, scale[..., None] * by_shape, by_transl]
        jacobian = xp.concat([*parts, points[..., None]], axis=-1)
        shift = None if shift is None else shift * scale
    return Points(_place(points, params), jacobian, shift, turn, _scale(params))


def compiled_model(
    model: HandModel, reference: FloatArray, offsets: FloatArray | None = None
) -> list[FloatArray]:
    """What `compiled_points.pose` reads of a model, with ``offsets`` as `points_and_jacobian`."""
    landmarks = _landmarks(model, reference)
    posedirs = _NO_POSEDIRS if landmarks.tip_posedirs is None else landmarks.tip_posedirs
    offsets = _NO_OFFSETS if offsets is None else offsets
    return compiled.contiguous(*landmarks[:5], posedirs, offsets, _BONE_NUMBERS)


def _compiled_points(
    kernels: Any, model: HandModel, params: FloatArray, offsets: FloatArray | None
) -> Points:
    batch, size = params.shape
    points, shift = np.empty((batch, 21, 3)), np.zeros((batch, 21, 3))
    jacobian, turn = np.zeros((batch, 21, 3, size)), np.empty((batch, NUM_JOINTS, 3, 3))
    kernels.pose(
        *compiled.contiguous(params), *compiled_model(model, params, offsets),
        points, jacobian, shift, turn,
    )  # fmt: skip
    return Points(points, jacobian, None if offsets is None else shift, turn, _scale(params))


def _turns(chain: _Chain) -> AnyArray:
    """(B, 16, 3, 3): world rotation vectors by each joint's axis-angle numbers."""
    xp, world = namespace(chain.world), chain.world
    above = [xp.broadcast_to(world[:, :1], world[:, 1::3].shape), world[:, 1::3], world[:, 2::3]]
    parents = xp.reshape(xp.stack(above, axis=2), (-1, NUM_JOINTS - 1, 3, 3))
    return xp.concat([chain.turns[:, :1], parents @ chain.turns[:, 1:]], axis=1)


def _turned(levers: AnyArray, turn: AnyArray) -> AnyArray:
    """`w x lever` for each number's world vector w: (B, N, 3, 48).

    ``levers`` (B, N, 16, 3) of N points about the 16 joints, ``turn`` (B, 16, 3, 3 numbers).
    Written out, because 3x3 products by the thousand cost more than the arithmetic in them.
    """
    xp = namespace(levers)
    lx, ly, lz = (levers[..., i : i + 1] for i in range(3))
    tx, ty, tz = (turn[:, None, :, i] for i in range(3))
    moved = xp.stack([lz * ty - ly * tz, lx * tz - lz * tx, ly * tx - lx * ty], axis=2)
    return xp.reshape(moved, (*levers.shape[:2], 3, -1))


def _pose_jacobian(
    landmarks: _Landmarks,
    chain: _Chain,
    carried: AnyArray,
    turn: AnyArray,
    shift: AnyArray | None,
) -> AnyArray:
    """Derivatives (B, 21, 3, 48) of the unplaced points by the 48 rotation numbers."""
    xp = namespace(carried)
    pivots = chain.posed[:, None]
    joint_levers = landmarks.moved_by.T[..., None] * (chain.posed[:, :, None] - pivots)
    weights = landmarks.moved_weights
    tip_levers = weights @ carried - xp.sum(weights, axis=-1)[..., None] * pivots
    levers = _openpose(joint_levers, tip_levers)
    if shift is not None:
        levers = levers + landmarks.moved_bones[..., None] * shift[:, :, None]
    moved = _turned(levers, turn)
    if landmarks.tip_posedirs is not None:
        # The pose feature displaces the tips at rest, and skinning carries the displacement.
        axes = skew(xp.matrix_transpose(chain.turns[:, 1:]))  # (B, 15 a, 3 m, 3, 3)
        d_rotation = axes @ chain.rotations[:, 1:, None]
        d_rest = xp.einsum("bamrc,arcpd->bpadm", d_rotation, landmarks.tip_posedirs)
        blended = _blend(landmarks.tip_weights, chain.world)
        carried_on = xp.moveaxis(blended[:, :, None] @ d_rest, 2, 3)
        moved[:, _TIPS, :, 3:] += xp.reshape(carried_on, (len(carried), 5, 3, -1))
    return moved


def _shape_jacobian(landmarks: _Landmarks, chain: _Chain) -> AnyArray:
    """Derivatives (B, 21, 3, 10) of the unplaced points by betas."""
    xp = namespace(chain.posed)
    dirs = landmarks.joint_dirs
    d_joints = _along_fingers(
        xp.broadcast_to(dirs[:1], (len(chain.posed), 1, *dirs.shape[1:])),
        lambda level, above: above + _above(chain.world, level) @ landmarks.bone_dirs[level],
    )
    blended = _blend(landmarks.tip_weights, chain.world)
    d_shift = _blend(landmarks.tip_weights, d_joints - chain.world @ dirs)
    return _openpose(d_joints, blended @ landmarks.tip_dirs + d_shift)


def _along_fingers(wrist: AnyArray, step: Callable[[slice, AnyArray], AnyArray]) -> AnyArray:
    """Values (B, 16, ...) of the joints from the wrist's (B, 1, ...) and those one joint up.

    ``step`` gives a level's (B, 5, ...) from its parents' (B, 1 or 5, ...).
    """
    xp = namespace(wrist)
    levels = []
    above = wrist
    for level in _LEVELS:
        above = step(level, above)
        levels.append(above)
    fingers = xp.reshape(xp.stack(levels, axis=2), (len(wrist), NUM_JOINTS - 1, *wrist.shape[2:]))
    return xp.concat([wrist, fingers], axis=1)


def _above(values: AnyArray, level: slice) -> AnyArray:
    """Of values (B, 16, ...) those of a level's parents, (B, 1 or 5, ...)."""
    return values[:, :1] if level.start == 1 else values[:, level.start - 1 : -1 : 3]


def _kind(reference: AnyArray) -> tuple[Any, Any]:
    """Namespace, precision and device of an array, as a key for caches."""
    return reference.dtype, None if isinstance(reference, np.ndarray) else reference.device


class _Constants:
    """Model constants as arrays of one kind, made once a model and kind."""

    def __init__(self) -> None:
        self._made: WeakKeyDictionary[HandModel, dict[Any, Any]] = WeakKeyDictionary()

    def get(self, model: HandModel, name: str, make: Any, reference: AnyArray) -> Any:
        made = self._made.setdefault(model, {})
        key = name, _kind(reference)
        if key not in made:
            values = make(model)
            made[key] = type(values)(
                *(None if value is None else like(value, reference) for value in values)
            )
        return made[key]


_CONSTANTS: Final = _Constants()


def _landmarks(model: HandModel, reference: AnyArray) -> _Landmarks:
    constants: _Landmarks = _CONSTANTS.get(model, "landmarks", _landmark_constants, reference)
    return constants


def _surface(model: HandModel, reference: AnyArray) -> _Surface:
    constants: _Surface = _CONSTANTS.get(model, "surface", _surface_constants, reference)
    return constants


def _landmark_constants(model: HandModel) -> _Landmarks:
    posedirs = model.posedirs.reshape(NUM_JOINTS - 1, 3, 3, -1, 3)
    tip_weights = model.lbs_weights[model.tips]
    joint_dirs = np.einsum("jv,vds->jds", model.J_regressor, model.shapedirs)
    return _Landmarks(
        joints=model.J_regressor @ model.v_template,
        joint_dirs=joint_dirs,
        tips=model.v_template[model.tips],
        tip_dirs=model.shapedirs[model.tips],
        tip_weights=tip_weights,
        moved_by=_MOVED_BY,
        moved_weights=tip_weights[:, None] * _MOVED_BY,
        moved_bones=_MOVED_BY.T[BONE_OF_POINT],
        bone_dirs=joint_dirs - joint_dirs[np.maximum(PARENTS, 0)],
        tip_posedirs=posedirs[..., model.tips, :] if np.any(posedirs) else None,
    )


def _surface_constants(model: HandModel) -> _Surface:
    return _Surface(model.v_template, model.shapedirs, model.posedirs, model.lbs_weights)


def _chain(landmarks: _Landmarks, params: AnyArray) -> _Chain:
    xp = namespace(params)
    rotations, turns = exp_and_left_jacobian(xp.reshape(params[:, POSE], (-1, NUM_JOINTS, 3)))
    rest = landmarks.joints + _shaped(landmarks.joint_dirs, params)
    world = _along_fingers(rotations[:, :1], lambda level, above: above @ rotations[:, level])
    posed = _along_fingers(
        rest[:, :1],
        lambda level, above: above
        + _times(_above(world, level), rest[:, level] - _above(rest, level)),
    )
    return _Chain(rotations, turns, world, rest, posed)


def _shaped(dirs: AnyArray, params: AnyArray) -> AnyArray:
    """Displacements (B, n, 3) of points with ``dirs`` (n, 3, 10) by the betas."""
    xp = namespace(params)
    rows = xp.reshape(dirs, (-1, dirs.shape[-1]))
    return xp.reshape(params[:, BETAS] @ rows.T, (len(params), -1, 3))


def _times(matrices: AnyArray, vectors: AnyArray) -> AnyArray:
    return (matrices @ vectors[..., None])[..., 0]


def _pose_feature(chain: _Chain) -> AnyArray:
    return chain.rotations[:, 1:] - eye(3, chain.rotations)


def _carried_tips(landmarks: _Landmarks, chain: _Chain, params: AnyArray) -> AnyArray:
    """(B, 5, 16, 3): each tip as if it were fixed to each one of the joints."""
    xp = namespace(params)
    tips = landmarks.tips + _shaped(landmarks.tip_dirs, params)
    if landmarks.tip_posedirs is not None:
        feature = _pose_feature(chain)
        tips = tips + xp.einsum("barc,arcpd->bpd", feature, landmarks.tip_posedirs)
    shift = chain.posed - _times(chain.world, chain.rest)
    turned = xp.reshape(chain.world, (len(tips), -1, 3)) @ xp.matrix_transpose(tips)
    turned = xp.reshape(turned, (len(tips), NUM_JOINTS, 3, -1))
    return xp.permute_dims(turned, (0, 3, 1, 2)) + shift[:, None]


def _skinned_tips(landmarks: _Landmarks, carried: AnyArray) -> AnyArray:
    xp = namespace(carried)
    return xp.sum(landmarks.tip_weights[..., None] * carried, axis=2)


def _blend(weights: AnyArray, values: AnyArray) -> AnyArray:
    """Weighted sums (B, n, ...) of the joints' values (B, 16, ...), weights (n, 16)."""
    xp = namespace(values)
    rows = weights @ xp.reshape(values, (*values.shape[:2], -1))
    return xp.reshape(rows, (len(values), len(weights), *values.shape[2:]))


def _openpose(joints: AnyArray, tips: AnyArray) -> AnyArray:
    """16 joints and five tips (B, n, ...) in MANO order to 21 points in OpenPose order."""
    return namespace(joints).concat([joints, tips], axis=1)[:, _ORDER]


def _place(points: AnyArray, params: AnyArray) -> AnyArray:
    if params.shape[1] > NUM_PARAMS:
        points = params[:, SCALE, None, None] * points
    return points + params[:, None, TRANSL]


def _scale(params: AnyArray) -> AnyArray:
    return params[:, SCALE] if params.shape[1] > NUM_PARAMS else None


def _checked(params: AnyArray) -> AnyArray:
    if params.ndim != 2 or params.shape[1] not in (NUM_PARAMS, NUM_PARAMS + 1):
        raise ValueError(
            f"hand parameters have shape {tuple(params.shape)}, expected (B, 61): global_orient "
            "3, hand_pose 45, betas 10, transl 3; or (B, 62) with scale"
        )
    return params
