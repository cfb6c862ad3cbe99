"""Between this package's conventions and other people's: one function for each way they differ.

Here: OpenPose-21 joints; total rotations in axis-angle; the wrist at `scale * J0(betas) + transl`;
optical (OpenCV) camera axes; quaternions xyzw. Tables of orders are in `layout`, rotations in
`geometry.rotations`, mirroring in `mirror`; what is often wanted together is named here again.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.geometry.rotations import exp_so3, log_so3
from hand_mesh_ros.hand.layout import (
    INTERHAND_TO_OPENPOSE,
    MANO_TO_OPENPOSE,
    OPENPOSE_TO_INTERHAND,
    OPENPOSE_TO_MANO,
    OPENPOSE_TO_RHD,
    OPENXR_OF_OPENPOSE,
    RHD_TO_OPENPOSE,
    TIP_SETS,
)
from hand_mesh_ros.hand.mirror import (
    mirror_axis_angle,
    mirror_faces,
    mirror_matrices,
    mirror_model,
    mirror_params,
    mirror_points,
)
from hand_mesh_ros.hand.model import FloatArray, HandModel, IntArray

__all__ = [
    "CAMERA_AXES", "JOINT_ORDERS", "TIP_SETS", "MovedHand", "change_axes", "convert_hand",
    "convert_points", "convert_rotations", "from_openpose", "from_openxr", "mirror_axis_angle",
    "mirror_faces", "mirror_matrices", "mirror_model", "mirror_params", "mirror_points",
    "move_hand", "pose_from_pca", "pose_with_mean", "pose_without_mean", "to_openpose",
    "to_openxr_order", "transl_from_wrist", "wrist_from_transl",
]  # fmt: skip

JointOrder = Literal["openpose", "mediapipe", "freihand", "mano", "ho3d", "rhd", "interhand"]
Axes = Literal["opencv", "opengl", "pytorch3d"]

_SAME: Final = np.arange(21)
JOINT_ORDERS: Final[Mapping[str, tuple[IntArray, IntArray]]] = MappingProxyType(
    {
        "openpose": (_SAME, _SAME),
        "mediapipe": (_SAME, _SAME),
        "freihand": (_SAME, _SAME),
        "mano": (MANO_TO_OPENPOSE, OPENPOSE_TO_MANO),
        "ho3d": (MANO_TO_OPENPOSE, OPENPOSE_TO_MANO),
        "rhd": (RHD_TO_OPENPOSE, OPENPOSE_TO_RHD),
        "interhand": (INTERHAND_TO_OPENPOSE, OPENPOSE_TO_INTERHAND),
    }
)
"""By name of an order of 21 joints: the gather to OpenPose's order, and the one back."""

CAMERA_AXES: Final[Mapping[str, FloatArray]] = MappingProxyType(
    {
        "opencv": np.diag([1.0, 1.0, 1.0]),
        "opengl": np.diag([1.0, -1.0, -1.0]),
        "pytorch3d": np.diag([-1.0, -1.0, 1.0]),
    }
)
"""Rotations (3, 3) from optical camera axes (x right, y down, z forward) to those of OpenGL
(x right, y up, z backward; HO3D's files) and of PyTorch3D (x left, y up, z forward)."""


# --- Joint orders ---------------------------------------------------------------------------


def to_openpose(joints: FloatArray, order: JointOrder) -> FloatArray:
    """Joints (..., 21, d) of another order in OpenPose's; ValueError for an unknown order."""
    return np.asarray(joints)[..., _order(order)[0], :]


def from_openpose(joints: FloatArray, order: JointOrder) -> FloatArray:
    """Joints (..., 21, d) in OpenPose's order in another; ValueError for an unknown order."""
    return np.asarray(joints)[..., _order(order)[1], :]


def _order(name: str) -> tuple[IntArray, IntArray]:
    if name not in JOINT_ORDERS:
        raise ValueError(
            f"joint order '{name}' is unknown; choose one of {', '.join(JOINT_ORDERS)}"
        )
    return JOINT_ORDERS[name]


def to_openxr_order(joints: FloatArray) -> tuple[FloatArray, NDArray[np.bool_]]:
    """OpenXR's 26 joints (..., 26, d) and which of them are known (..., 26), from the 21.

    Known is a joint that has a counterpart which is finite; the others are NaN: palm and the four
    fingers' metacarpals.
    """
    joints = np.asarray(joints, dtype=np.float64)
    out = np.full((*joints.shape[:-2], 26, joints.shape[-1]), np.nan)
    out[..., OPENXR_OF_OPENPOSE, :] = joints
    return out, np.asarray(np.isfinite(out).all(-1))


def from_openxr(joints: FloatArray) -> FloatArray:
    """The 21 joints (..., 21, d) in OpenPose's order, from OpenXR's 26."""
    return np.asarray(joints)[..., OPENXR_OF_OPENPOSE, :]


# --- Pose: mean pose and flat hand ----------------------------------------------------------


def pose_with_mean(model: HandModel, offsets: FloatArray) -> FloatArray:
    """Total hand pose (..., 45) from one relative to MANO's mean pose (flat_hand_mean=False).

    FreiHAND's and InterHand's files hold relative poses, HO3D's and HaMeR's total ones.
    Raises ValueError where the model has no mean pose.
    """
    return np.asarray(offsets, dtype=np.float64) + _mean(model)


def pose_without_mean(model: HandModel, total: FloatArray) -> FloatArray:
    """The pose (..., 45) relative to MANO's mean pose; the inverse of `pose_with_mean`."""
    return np.asarray(total, dtype=np.float64) - _mean(model)


def pose_from_pca(model: HandModel, coefficients: FloatArray) -> FloatArray:
    """Total hand pose (..., 45) from coefficients (..., n) of MANO's first n pose components."""
    coefficients = np.asarray(coefficients, dtype=np.float64)
    components, wanted = model.hands_components, coefficients.shape[-1]
    if components is None or len(components) < wanted:
        have = 0 if components is None else len(components)
        raise ValueError(f"hand model '{model.model_id}' has {have} pose components, not {wanted}")
    return pose_with_mean(model, coefficients @ components[:wanted])


def _mean(model: HandModel) -> FloatArray:
    if model.hands_mean is None:
        raise ValueError(
            f"hand model '{model.model_id}' has no mean pose; poses relative to MANO's mean need "
            "the model of MANO's own file (hand_model: path of MANO_RIGHT.pkl)"
        )
    return model.hands_mean


# --- Place: transl and wrist ----------------------------------------------------------------


def wrist_from_transl(
    model: HandModel, betas: FloatArray, transl: FloatArray, scale: FloatArray | float = 1.0
) -> FloatArray:
    """Wrist positions (..., 3): `scale * J0(betas) + transl`; betas (..., 10), transl (..., 3)."""
    return np.asarray(transl, dtype=np.float64) + _scaled(scale) * _root(model, betas)


def transl_from_wrist(
    model: HandModel, betas: FloatArray, wrist: FloatArray, scale: FloatArray | float = 1.0
) -> FloatArray:
    """The translation (..., 3) that puts the wrist there; the inverse of `wrist_from_transl`."""
    return np.asarray(wrist, dtype=np.float64) - _scaled(scale) * _root(model, betas)


def _root(model: HandModel, betas: FloatArray) -> FloatArray:
    """J0 (..., 3) of shapes (..., 10) in the model's own frame."""
    row = model.J_regressor[0]
    directions = np.einsum("v,vds->ds", row, model.shapedirs)
    return row @ model.v_template + np.asarray(betas, dtype=np.float64) @ directions.T


def _scaled(scale: FloatArray | float) -> FloatArray:
    return np.asarray(scale, dtype=np.float64)[..., None]


# --- Axes -----------------------------------------------------------------------------------


class MovedHand(NamedTuple):
    """The parameters of MANO that change when a hand moves as a whole."""

    global_orient: FloatArray  # (..., 3)
    transl: FloatArray  # (..., 3)


def change_axes(source: Axes, target: Axes) -> FloatArray:
    """The rotation (3, 3) that takes points in one kind of camera axes to another."""
    for name in (source, target):
        if name not in CAMERA_AXES:
            known = ", ".join(CAMERA_AXES)
            raise ValueError(f"camera axes '{name}' are unknown; choose one of {known}")
    return np.asarray(CAMERA_AXES[target] @ CAMERA_AXES[source].T)


def convert_points(points: FloatArray, source: Axes, target: Axes) -> FloatArray:
    """Points (..., 3) of a camera in other axes of the same camera."""
    return np.asarray(points @ change_axes(source, target).T)


def convert_rotations(rotations: FloatArray, source: Axes, target: Axes) -> FloatArray:
    """Orientations (..., 3, 3) of objects in a camera: `C R`, the object's own axes stay."""
    return np.asarray(change_axes(source, target) @ rotations)


def convert_hand(
    model: HandModel,
    global_orient: FloatArray,
    betas: FloatArray,
    transl: FloatArray,
    source: Axes,
    target: Axes,
    scale: FloatArray | float = 1.0,
) -> MovedHand:
    """MANO's parameters (..., 3), (..., 10), (..., 3) of a hand in other axes of the camera."""
    axes = change_axes(source, target)
    return move_hand(model, axes, np.zeros(3), global_orient, betas, transl, scale)


def move_hand(
    model: HandModel,
    R: FloatArray,
    t: FloatArray,
    global_orient: FloatArray,
    betas: FloatArray,
    transl: FloatArray,
    scale: FloatArray | float = 1.0,
) -> MovedHand:
    """Parameters of the hand whose every point p is moved to `R p + t`; R (3, 3), t (3,).

    The global rotation turns about the wrist, which is not the model's origin. So it is the wrist
    that moves as a point does, and the translation is what is left: `R (J0 + transl) + t - J0`,
    not `R transl + t`.
    """
    wrist = wrist_from_transl(model, betas, transl, scale) @ np.asarray(R).T + t
    turned = log_so3(R @ exp_so3(np.asarray(global_orient, dtype=np.float64)))
    return MovedHand(turned, transl_from_wrist(model, betas, wrist, scale))
