"""Where the solver begins: the prior's hand laid onto what was seen."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.geometry.alignment import procrustes
from hand_mesh_ros.geometry.cameras import undistort
from hand_mesh_ros.geometry.rotations import log_so3
from hand_mesh_ros.hand.kinematics import (
    BETAS,
    GLOBAL_ORIENT,
    HAND_POSE,
    TRANSL,
    joints_and_jacobian,
)
from hand_mesh_ros.hand.landmarks import PALM, landmarks_and_jacobian
from hand_mesh_ros.hand.limits import pose_limits
from hand_mesh_ros.hand.mirror import mirror_axis_angle, mirror_points
from hand_mesh_ros.hand.model import HandModel
from hand_mesh_ros.types import Camera

Array = NDArray[np.float64]
# The palm is rigid; the fingers' weight only breaks ties.
_PALM_WEIGHT, _FINGER_WEIGHT = 1.0, 0.05
# Rows of the hand pose (5 fingers, 9) of index, middle, ring, little; see MANO_FINGERS.
_MANO_OF_FINGER = np.array([0, 1, 3, 2])


def start_from_points(model: HandModel, points: Array, shape_and_pose: Array) -> Array:
    """Parameters (61,) that lay a hand onto world points (21, 3) by its palm.

    ``shape_and_pose`` (61,) gives betas and finger angles (of the prior, or of a moment ago).
    Points may be NaN; with fewer than three palm points finite, ``ValueError``.
    """
    seen = np.asarray(np.isfinite(points).all(-1))
    if seen[PALM].sum() < 3:
        raise ValueError("fewer than three palm joints to start from")
    weight = np.where(seen, _FINGER_WEIGHT, 0.0)
    weight[PALM] = np.where(seen[PALM], _PALM_WEIGHT, 0.0)
    params = np.array(shape_and_pose, dtype=np.float64)
    params[GLOBAL_ORIENT] = params[TRANSL] = 0
    rest = landmarks_and_jacobian(model, params[None])[0][0]
    _, R, shift = procrustes(rest, np.where(seen[:, None], points, 0.0), weight)
    root = rest_wrist(model, params[BETAS])
    params[GLOBAL_ORIENT] = log_so3(R)
    # The model turns about its wrist, Procrustes about the origin.
    params[TRANSL] = R @ root + shift - root
    params[HAND_POSE] = _bent_fingers(model, (points - points[0]) @ R, params)
    return params


def _bent_fingers(model: HandModel, local: Array, params: Array) -> Array:
    """Hand pose (45,) with the four fingers bent as points (21, 3) in the model's axes show.

    Gauss-Newton finds its way from a hand that is nearly right, but not from a stretched finger to
    one that is bent back on itself. Flexion is read off each bone's direction in the plane across
    the hand, spread off the first bone's slope out of it, both against the model's straight
    finger; a finger that was not seen keeps its angles, and so does the thumb.
    """
    mirrored = model.side == "left"
    straight = _rest(model, params[BETAS])
    pose = params[HAND_POSE].copy()
    bones = []
    for points in (local, straight):
        points = mirror_points(points) if mirrored else points
        fingers = points[5:].reshape(4, 4, 3)
        bones.append(np.diff(fingers, axis=1))  # (4 fingers, 3 bones, 3)
    seen = np.isfinite(bones[0]).all((1, 2))
    flexion = _flexion(bones[0]) - _flexion(bones[1])
    bend = np.diff(flexion, axis=-1, prepend=0)
    spread = (_slope(bones[0]) - _slope(bones[1]))[:, 0]
    lower, upper = (limit.reshape(5, 3, 3) for limit in pose_limits("right"))
    angles = np.zeros((4, 3, 3))
    angles[:, :, 2] = (bend + np.pi) % (2 * np.pi) - np.pi
    angles[:, 0, 1] = np.where(np.abs(flexion[:, 0]) < 1.0, spread, 0.0)
    angles = np.clip(angles, lower[_MANO_OF_FINGER], upper[_MANO_OF_FINGER])
    by_finger = angles.reshape(4, 9)
    if mirrored:
        by_finger = mirror_axis_angle(by_finger)
    rows = pose.reshape(5, 9)
    rows[_MANO_OF_FINGER[seen]] = by_finger[seen]
    return rows.reshape(45)


def _flexion(bones: Array) -> Array:
    """Angle (4, 3) by which bones (4, 3, 3) of a right hand point from -x towards the palm, -y."""
    return np.asarray(np.arctan2(-bones[..., 1], -bones[..., 0]))


def _slope(bones: Array) -> Array:
    """Angle (4, 3) by which bones rise out of the x-y plane towards the thumb, +z."""
    return np.asarray(np.arctan2(bones[..., 2], np.hypot(bones[..., 0], bones[..., 1])))


def start_from_view(
    model: HandModel, camera: Camera, uv: Array, relative: Array, shape_and_pose: Array
) -> Array:
    """Parameters (61,) from one view: heading from relative 3D (21, 3, world axes), place from 2D.

    The position t makes ``q_j + t`` lie on the rays of the landmarks; linear least squares in t,
    with q the model's landmarks. Raises ``ValueError`` as `start_from_points`, and with fewer than
    four pixels.
    """
    params = start_from_points(model, relative, shape_and_pose)
    points = landmarks_and_jacobian(model, params[None])[0][0]
    R = camera.T_camera_world[:3, :3]
    local = (points - points[0]) @ R.T
    xy = undistort(camera, uv)
    seen = np.isfinite(xy).all(-1)
    if seen.sum() < 4:
        raise ValueError("fewer than four landmarks to place the hand by")
    A = np.zeros((seen.sum(), 2, 3))
    A[:, 0, 0] = A[:, 1, 1] = 1
    A[:, :, 2] = -xy[seen]
    b = xy[seen] * local[seen, 2:] - local[seen, :2]
    t = np.linalg.lstsq(A.reshape(-1, 3), b.reshape(-1), rcond=None)[0]
    if t[2] < 0.05:
        # Pixels and relative points disagree so much that the hand came out behind the camera.
        centre = xy[seen].mean(axis=0)
        t = 0.6 * np.array([centre[0], centre[1], 1.0])
    params[TRANSL] += R.T @ (t - camera.T_camera_world[:3, 3]) - points[0]
    return params


def rest_wrist(model: HandModel, betas: Array) -> Array:
    """J0(betas), (3,): where the wrist stands in the unposed model."""
    return np.asarray(_rest(model, betas)[0])


def _rest(model: HandModel, betas: Array) -> Array:
    zero = np.zeros((1, 61))
    zero[0, BETAS] = betas
    return np.asarray(joints_and_jacobian(model, zero)[0][0])
