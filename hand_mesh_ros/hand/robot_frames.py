"""What a robot grasps with: wrist, palm, grasp and pinch frames, and the formats of consumers.

All of it follows from the 21 joints (..., 21, 3), OpenPose order, metres, and the wrist frame
(..., 4, 4), in one and the same frame; the rules are the same for both hands.

* wrist: at the wrist; x to the middle knuckle, z out of the back of the hand, y = z cross x.
* palm: the wrist's axes, half-way from the wrist to the middle knuckle.
* grasp, for a gripper's tool frame: between the tip of the thumb and the mean of the four other
  tips; x is the approach direction, away from the palm to the object; y the closing direction,
  from the thumb to the fingers; z = x cross y.
* pinch: the same of thumb and index finger alone.

Tips that touch have no direction between them. Half a centimetre of the direction between the
last joints of thumb and fingers, which never touch, is therefore added: it settles the axis of a
closed hand and hardly turns that of an open one.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.geometry.frames import joint_frames
from hand_mesh_ros.geometry.rotations import matrix_to_quaternion
from hand_mesh_ros.hand.conventions import to_openxr_order
from hand_mesh_ros.hand.layout import JOINT_NAMES, OPENXR_OF_OPENPOSE
from hand_mesh_ros.hand.model import FloatArray, IntArray, Side

_WRIST: Final = JOINT_NAMES.index("wrist")
_INDEX: Final = JOINT_NAMES.index("index_mcp")
_MIDDLE: Final = JOINT_NAMES.index("middle_mcp")
_LITTLE: Final = JOINT_NAMES.index("little_mcp")
_TIPS: Final = np.array([i for i, name in enumerate(JOINT_NAMES) if name.endswith("_tip")])
_LAST: Final = _TIPS - 1  # the joints before the tips: thumb ip, the fingers' dip
_FINGERS: Final = np.arange(1, 5)  # among the five
_SETTLING: Final = 0.005  # m
_MIN_LENGTH: Final = 1e-9


def pinch_distance(joints: FloatArray) -> FloatArray:
    """Distance (...), m, of the tips of thumb and index finger."""
    tips = np.asarray(joints)[..., _TIPS, :]
    return np.asarray(np.linalg.norm(tips[..., 0, :] - tips[..., 1, :], axis=-1))


def grip_aperture(joints: FloatArray) -> FloatArray:
    """Distance (...), m, of the thumb's tip from the mean of the four other tips."""
    tips = np.asarray(joints)[..., _TIPS, :]
    return np.asarray(np.linalg.norm(tips[..., 0, :] - tips[..., 1:, :].mean(-2), axis=-1))


def wrist_frame(joints: FloatArray, side: Side) -> FloatArray:
    """The wrist frame `T_world_wrist` (..., 4, 4) from the joints alone, by the rule above.

    The back of the hand is told by the side: index to little knuckle turns about it one way on a
    right hand and the other way on a left one.
    """
    joints = np.asarray(joints, dtype=np.float64)
    x = _unit(joints[..., _MIDDLE, :] - joints[..., _WRIST, :])
    across = joints[..., _INDEX, :] - joints[..., _LITTLE, :]
    z = _unit(np.cross(x, across if side == "right" else -across))
    return _frame(joints[..., _WRIST, :], x, np.cross(z, x), z)


def palm_frame(joints: FloatArray, wrist: FloatArray) -> FloatArray:
    """The palm frame `T_world_palm` (..., 4, 4)."""
    joints = np.asarray(joints, dtype=np.float64)
    out = np.array(wrist, dtype=np.float64)
    out[..., :3, 3] = 0.5 * (joints[..., _WRIST, :] + joints[..., _MIDDLE, :])
    return out


def grasp_frame(joints: FloatArray, wrist: FloatArray) -> FloatArray:
    """The grasp frame `T_world_grasp` (..., 4, 4): thumb against all four fingers."""
    return _opposition(joints, wrist, _FINGERS)


def pinch_frame(joints: FloatArray, wrist: FloatArray) -> FloatArray:
    """The pinch frame `T_world_pinch` (..., 4, 4): thumb against index finger."""
    return _opposition(joints, wrist, _FINGERS[:1])


def _opposition(joints: FloatArray, wrist: FloatArray, fingers: IntArray) -> FloatArray:
    joints = np.asarray(joints, dtype=np.float64)
    tips, last = (joints[..., index, :] for index in (_TIPS, _LAST))
    thumb, finger = tips[..., 0, :], tips[..., fingers, :].mean(-2)
    between_last = last[..., fingers, :].mean(-2) - last[..., 0, :]
    y = _unit(finger - thumb + _SETTLING * _unit(between_last))
    centre = 0.5 * (thumb + finger)
    away = centre - palm_frame(joints, wrist)[..., :3, 3]
    x = _unit(away - (away * y).sum(-1, keepdims=True) * y)
    return _frame(centre, x, y, np.cross(x, y))


def to_openxr(
    joints: FloatArray, wrist: FloatArray
) -> tuple[FloatArray, FloatArray, NDArray[np.bool_]]:
    """One hand (21, 3), (4, 4) as OpenXR's 26 joints (`layout.OPENXR_NAMES`).

    Returns positions (26, 3), orientations (26, 4) xyzw and validity (26,), in the frame of the
    input. OpenXR's joint axes: -z along the bone to the tip, y out of the back of the hand, so
    x_xr = -y, y_xr = z, z_xr = -x of `joint_frames`. Palm and the fingers' metacarpals are not
    observed: invalid, NaN. A thumb's turn about its own bone is not observed either: it is the
    one that bends it least from the wrist.
    """
    joints, wrist = np.asarray(joints, dtype=np.float64), np.asarray(wrist, dtype=np.float64)
    positions, valid = to_openxr_order(joints)
    orientations = np.full((26, 4), np.nan)
    known = np.isfinite(joints).all() and np.isfinite(wrist).all()
    if known:
        R = joint_frames(joints, wrist)[:, :3, :3]
        axes = np.stack([-R[..., 1], R[..., 2], -R[..., 0]], axis=-1)
        orientations[OPENXR_OF_OPENPOSE] = matrix_to_quaternion(axes)
    return positions, orientations, valid & np.isfinite(orientations).all(-1)


def to_dex_retargeting(joints: FloatArray, wrist: FloatArray) -> FloatArray:
    """Joints (..., 21, 3) as dex-retargeting wants them: from the wrist, in its operator frame.

    Operator axes, of either hand: x out of the palm, y = the wrist's y (a right hand's from the
    little finger to the thumb, a left hand's from the thumb to the little finger), z from the
    wrist to the fingertips; so x = -z, y = y, z = x of the wrist frame. This is what that library
    makes of its own estimate, `keypoints @ R_wrist @ OPERATOR2MANO`.
    """
    joints = np.asarray(joints, dtype=np.float64)
    R = np.asarray(wrist, dtype=np.float64)[..., :3, :3]
    operator = np.stack([-R[..., 2], R[..., 1], R[..., 0]], axis=-1)
    return np.asarray((joints - joints[..., _WRIST : _WRIST + 1, :]) @ operator)


def _frame(origin: FloatArray, x: FloatArray, y: FloatArray, z: FloatArray) -> FloatArray:
    out = np.zeros((*origin.shape[:-1], 4, 4))
    out[..., :3, :] = np.stack([x, y, z, origin], axis=-1)
    out[..., 3, 3] = 1.0
    return out


def _unit(v: FloatArray) -> FloatArray:
    """Unit vectors (..., 3); NaN where there is no direction."""
    length = np.linalg.norm(v, axis=-1, keepdims=True)
    return np.where(length > _MIN_LENGTH, v / np.maximum(length, _MIN_LENGTH), np.nan)
