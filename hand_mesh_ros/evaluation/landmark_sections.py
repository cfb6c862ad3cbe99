"""Where people mark joints in photographs: the middle of the flesh, from the model's geometry.

An annotator sees no bone. What is marked as a joint is the middle of the limb's outline at the
place where it bends, and as a tip the outline's middle just before its end. Seen from all around,
that is the middle of the limb's cross-section: for each direction across the bone half way between
the outline's two edges, averaged. This is the landmark model `hint` (HInt's 21 points are marked by
hand, in the image, on whatever is seen); `mano` has none of it, its points are the model's joints.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.hand.kinematics import BONE_OF_POINT, joints_and_jacobian
from hand_mesh_ros.hand.landmarks import LandmarkModel
from hand_mesh_ros.hand.layout import BONES, MANO_TO_OPENPOSE, NUM_JOINTS
from hand_mesh_ros.hand.model import HandModel

Array = NDArray[np.float64]

HINT: Final = "hint"
# Half the thickness of a cross-section, m; the distance from a finger's end at which its tip lies.
_SLAB, _BEFORE_END = 0.004, 0.003
# Half the width, m, of the column of the palm that a knuckle is the middle of.
_COLUMN: Final = 0.008
_KNUCKLES: Final = (5, 9, 13, 17)
# Skinning weight from which on a vertex belongs to a joint's limb.
_BELONGS = 0.2
_DIRECTIONS: Final = 24


def measure_sections(model: HandModel) -> LandmarkModel:
    """The landmark model `hint` of a right hand model in its zero pose and mean shape."""
    joints = joints_and_jacobian(model, np.zeros((1, 61)))[0][0]
    starts = dict((end, start) for start, end in BONES)
    offsets = np.zeros((21, 3))
    for point in range(21):
        # The wrist is cut across the forearm, which lies along the model's x axis.
        bone = joints[point] - joints[starts[point]] if point else np.array([1.0, 0.0, 0.0])
        axis = bone / np.linalg.norm(bone)
        place = joints[point]
        limb = model.v_template[_limb(model, point, place)]
        if _own_joint(point) is None:
            end = float(((limb - place) @ axis).max())
            place = place + (end - _BEFORE_END) * axis
        near = limb[np.abs((limb - place) @ axis) < _SLAB]
        offsets[point] = _middle(near, place, axis) - joints[point]
    return LandmarkModel(HINT, model.model_id, offsets, np.ones(21))


def _own_joint(point: int) -> int | None:
    """MANO's number of an OpenPose point's joint; None for a tip."""
    joint = MANO_TO_OPENPOSE[point]
    return joint if joint < NUM_JOINTS else None


def _limb(model: HandModel, point: int, place: Array) -> NDArray[np.bool_]:
    """The vertices that hang on a point's joint, or for a tip on its bone's other end, (V,).

    Knuckles lie within the palm, which hangs on the wrist: theirs is a column of it.
    """
    if point in _KNUCKLES:
        return np.asarray(np.abs(model.v_template[:, 2] - place[2]) < _COLUMN)
    joint = _own_joint(point)
    if joint is None:
        joint = int(BONE_OF_POINT[point])
    return np.asarray(model.lbs_weights[:, joint] > _BELONGS)


def _middle(section: Array, place: Array, axis: Array) -> Array:
    """The middle of points (N, 3) about ``axis`` through ``place``, between their outline's edges.

    A direction u sees the middle m(u) = (max + min) / 2 of the points' coordinates along u; the
    point c whose u.c is nearest to all m(u) is the mean of 2 m(u) u.
    """
    helper = np.eye(3)[np.argmin(np.abs(axis))]
    first = np.cross(axis, helper)
    first /= np.linalg.norm(first)
    second = np.cross(axis, first)
    angles = np.pi * np.arange(_DIRECTIONS) / _DIRECTIONS
    across = np.cos(angles)[:, None] * first + np.sin(angles)[:, None] * second
    along = (section - place) @ across.T
    middles = (along.max(axis=0) + along.min(axis=0)) / 2
    return np.asarray(place + (2 * middles[:, None] * across).mean(axis=0))
