"""Frames for robots: the documented rules, both hands, and the formats of consumers."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest

from hand_mesh_ros.geometry.rotations import exp_so3, quaternion_to_matrix, rigid, transform_points
from hand_mesh_ros.hand import robot_frames
from hand_mesh_ros.hand.kinematics import joints_and_jacobian
from hand_mesh_ros.hand.layout import JOINT_NAMES, OPENXR_NAMES
from hand_mesh_ros.hand.limits import comfortable_pose
from hand_mesh_ros.hand.mirror import mirror_params
from hand_mesh_ros.hand.model import Side, load_hand_model

NAME = {name: i for i, name in enumerate(JOINT_NAMES)}
MIRROR = np.diag([-1.0, 1.0, 1.0])


class Posed(NamedTuple):
    joints: np.ndarray
    wrist: np.ndarray
    side: Side


def posed(side: Side, pose: np.ndarray | None = None, orient: Any = (0.4, -1.1, 0.8)) -> Posed:
    """A hand somewhere; the left one is the right one in a mirror."""
    params = np.zeros((1, 61))
    params[0, :3] = orient
    params[0, 3:48] = comfortable_pose() if pose is None else pose
    params[0, 58:] = 0.2, -0.1, 0.7
    if side == "left":
        params = mirror_params(params)
    joints = joints_and_jacobian(load_hand_model(side=side), params)[0][0]
    return Posed(joints, robot_frames.wrist_frame(joints, side), side)


def fist() -> np.ndarray:
    """Thumb and fingers closed until the tips nearly touch."""
    pose = comfortable_pose().copy()
    pose[[2, 11, 20, 29]] += 0.6
    pose[36:45:3] += 0.4
    return pose


@pytest.fixture(params=["right", "left"])
def hand(request: pytest.FixtureRequest) -> Posed:
    return posed(request.param)


def is_rotation(R: np.ndarray) -> None:
    np.testing.assert_allclose(R @ R.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(R) > 0


@pytest.mark.parametrize("side", ["right", "left"])
def test_wrist_axes_in_the_canonical_placement(side: Side) -> None:
    """A flat hand, palm down: fingers along -x (right) or +x (left), back along +y, thumb +z."""
    flat = posed(side, np.zeros(45), np.zeros(3))
    x, y, z = flat.wrist[:3, :3].T
    forward = -1.0 if side == "right" else 1.0
    assert x @ [forward, 0, 0] > 0.98 and z @ [0, 1, 0] > 0.98
    thumb = 1.0 if side == "right" else -1.0  # y points to the thumb of a right hand
    assert y @ [0, 0, thumb] > 0.98
    is_rotation(flat.wrist[:3, :3])


def test_distances(hand: Posed) -> None:
    j = hand.joints
    tips = [NAME[f"{finger}_tip"] for finger in ("index", "middle", "ring", "little")]
    thumb = j[NAME["thumb_tip"]]
    assert robot_frames.pinch_distance(j) == pytest.approx(np.linalg.norm(thumb - j[tips[0]]))
    assert robot_frames.grip_aperture(j) == pytest.approx(np.linalg.norm(thumb - j[tips].mean(0)))
    both = np.stack([j, 2 * j])
    np.testing.assert_allclose(np.diff(np.log(robot_frames.grip_aperture(both))), np.log(2))


def test_palm_lies_between_wrist_and_middle_knuckle(hand: Posed) -> None:
    palm = robot_frames.palm_frame(hand.joints, hand.wrist)
    np.testing.assert_array_equal(palm[:3, :3], hand.wrist[:3, :3])
    middle = np.linalg.norm(hand.joints[9] - hand.joints[0])
    np.testing.assert_allclose(
        np.linalg.inv(hand.wrist) @ palm[:, 3], [middle / 2, 0, 0, 1], atol=1e-12
    )


@pytest.mark.parametrize("rule", ["grasp_frame", "pinch_frame"])
def test_gripper_frames(hand: Posed, rule: str) -> None:
    T = getattr(robot_frames, rule)(hand.joints, hand.wrist)
    is_rotation(T[:3, :3])
    tips = hand.joints[[8, 12, 16, 20]] if rule == "grasp_frame" else hand.joints[[8]]
    thumb, finger = hand.joints[4], tips.mean(0)
    np.testing.assert_allclose(T[:3, 3], (thumb + finger) / 2)
    local = (np.stack([thumb, finger]) - T[:3, 3]) @ T[:3, :3]
    opening = local[1, 1] - local[0, 1]  # along y, positive: from the thumb to the fingers
    assert opening > 0.99 * np.linalg.norm(finger - thumb)
    palm = robot_frames.palm_frame(hand.joints, hand.wrist)[:3, 3]
    assert ((palm - T[:3, 3]) @ T[:3, :3])[0] < -0.03  # x leads away from the palm


@pytest.mark.parametrize("rule", ["wrist_frame", "palm_frame", "grasp_frame", "pinch_frame"])
def test_frames_move_with_the_hand_and_mirror_with_it(rule: str) -> None:
    function = getattr(robot_frames, rule)

    def frame(h: Posed) -> np.ndarray:
        return np.asarray(function(h.joints, h.side if rule == "wrist_frame" else h.wrist))

    right, left = posed("right"), posed("left")
    T = rigid(exp_so3(np.array([0.3, 2.0, -0.5])), np.array([1.0, 2.0, 3.0]))
    moved = Posed(transform_points(T, right.joints), T @ right.wrist, "right")
    np.testing.assert_allclose(frame(moved), T @ frame(right), atol=1e-9)
    # In a mirror x and z of the wrist's rule (or x and y of the gripper's) stay, the third turns.
    a, b = frame(right), frame(left)
    kept = [0, 2] if rule in ("wrist_frame", "palm_frame") else [0, 1]
    third = 3 - sum(kept)
    np.testing.assert_allclose(b[:3, [*kept, 3]], MIRROR @ a[:3, [*kept, 3]], atol=1e-9)
    np.testing.assert_allclose(b[:3, third], -MIRROR @ a[:3, third], atol=1e-9)


@pytest.mark.parametrize("rule", ["grasp_frame", "pinch_frame"])
def test_closing_direction_survives_contact(rule: str, rng: np.random.Generator) -> None:
    """Tips that touch: noise of a millimetre does not turn the frame around."""
    closed = posed("right", fist())
    joints = closed.joints.copy()
    tips = joints[[8, 12, 16, 20]] if rule == "grasp_frame" else joints[[8]]
    joints[4] = tips.mean(0)
    y = []
    for _ in range(50):
        noisy = joints + rng.normal(0, 3e-4, joints.shape)
        T = getattr(robot_frames, rule)(noisy, closed.wrist)
        is_rotation(T[:3, :3])
        y.append(T[:3, 1])
    assert (np.array(y) @ np.mean(y, axis=0)).min() > 0.8


def test_batches(hand: Posed) -> None:
    joints, wrist = np.stack([hand.joints] * 3), np.stack([hand.wrist] * 3)
    for rule in (robot_frames.palm_frame, robot_frames.grasp_frame, robot_frames.pinch_frame):
        np.testing.assert_allclose(rule(joints, wrist)[2], rule(hand.joints, hand.wrist))
    np.testing.assert_allclose(robot_frames.wrist_frame(joints, hand.side)[1], hand.wrist)
    np.testing.assert_allclose(
        robot_frames.to_dex_retargeting(joints, wrist)[0],
        robot_frames.to_dex_retargeting(hand.joints, hand.wrist),
    )


def test_hands_without_extent_have_no_frame() -> None:
    nowhere = robot_frames.wrist_frame(np.zeros((21, 3)), "right")
    assert np.isnan(nowhere[:3, :3]).any()


# --- Consumers ------------------------------------------------------------------------------


def test_openxr(hand: Posed) -> None:
    positions, orientations, valid = robot_frames.to_openxr(hand.joints, hand.wrist)
    names = np.array(OPENXR_NAMES)
    missing = {"palm", *(f"{f}_metacarpal" for f in ("index", "middle", "ring", "little"))}
    assert set(names[~valid]) == missing
    assert np.isnan(positions[~valid]).all() and np.isnan(orientations[~valid]).all()
    at = {name: i for i, name in enumerate(OPENXR_NAMES)}
    np.testing.assert_array_equal(positions[at["thumb_metacarpal"]], hand.joints[1])
    np.testing.assert_array_equal(positions[at["index_proximal"]], hand.joints[5])
    np.testing.assert_array_equal(positions[at["little_tip"]], hand.joints[20])
    R = quaternion_to_matrix(orientations[valid])
    axes = dict(zip(names[valid], R, strict=True))
    x, y, z = hand.wrist[:3, :3].T
    np.testing.assert_allclose(axes["wrist"], np.stack([-y, z, -x], -1), atol=1e-9)
    for finger in ("index", "middle", "ring", "little"):
        chain = [f"{finger}_{part}" for part in ("proximal", "intermediate", "distal", "tip")]
        for this, following in zip(chain, chain[1:], strict=False):
            bone = positions[at[following]] - positions[at[this]]
            np.testing.assert_allclose(
                axes[this][:, 2], -bone / np.linalg.norm(bone), atol=1e-9, err_msg=this
            )
            assert axes[this][:, 1] @ z > -0.2  # out of the back of the finger, however bent
        np.testing.assert_allclose(axes[chain[3]][:, 2], axes[chain[2]][:, 2], atol=1e-9)


def test_openxr_of_a_hand_not_seen_is_invalid(hand: Posed) -> None:
    joints = hand.joints.copy()
    joints[7] = np.nan
    _, orientations, valid = robot_frames.to_openxr(joints, hand.wrist)
    assert not valid.any() and np.isnan(orientations).all()


def dex_estimate(joints: np.ndarray, side: Side) -> np.ndarray:
    """dex-retargeting's own rule, from its documentation: keypoints @ R_wrist @ OPERATOR2MANO.

    R_wrist from points 0, 5, 9: x from the middle knuckle to the wrist (made perpendicular to the
    palm's normal), y the normal of the palm, z from the little to the index side.
    """
    centred = joints - joints[0]
    x = joints[0] - joints[9]
    x /= np.linalg.norm(x)
    normal = np.cross(joints[5] - joints[0], joints[9] - joints[0])
    normal /= np.linalg.norm(normal)
    z = np.cross(x, normal)
    if z @ (joints[5] - joints[9]) < 0:
        normal, z = -normal, -z
    R_wrist = np.stack([x, normal, z], axis=1)
    matrices = {
        "right": [[0, 0, -1], [-1, 0, 0], [0, 1, 0]],
        "left": [[0, 0, -1], [1, 0, 0], [0, -1, 0]],
    }
    return np.asarray(centred @ R_wrist @ np.array(matrices[side], dtype=float))


def test_dex_retargeting_frame_by_its_published_matrices(hand: Posed) -> None:
    ours = robot_frames.to_dex_retargeting(hand.joints, hand.wrist)
    np.testing.assert_allclose(ours[0], 0, atol=1e-12)
    theirs = dex_estimate(hand.joints, hand.side)
    # Their palm passes through the wrist, index and middle knuckles, ours is parallel to the line
    # of the knuckles: a few degrees apart, about the axis to the middle knuckle alone.
    np.testing.assert_allclose(ours[:, 2], theirs[:, 2], atol=1e-9)
    angle = np.abs(ours - theirs).max() / np.abs(ours).max()
    assert angle < 0.25
    # The exact statement: their matrices on our wrist frame's axes give our result.
    x, y, z = hand.wrist[:3, :3].T
    operator2mano = {
        "right": np.array([[0, 0, -1], [-1, 0, 0], [0, 1, 0.0]]),
        "left": np.array([[0, 0, -1], [1, 0, 0], [0, -1, 0.0]]),
    }[hand.side]
    dex_wrist = np.stack([-x, z, y] if hand.side == "right" else [-x, -z, -y], axis=1)
    is_rotation(dex_wrist)
    expected = (hand.joints - hand.joints[0]) @ dex_wrist @ operator2mano
    np.testing.assert_allclose(ours, expected, atol=1e-12)


def test_operator_frame_says_where_things_are(hand: Posed) -> None:
    """x out of the palm, z to the fingertips, y to the thumb of a right hand, from it of a left."""
    points = robot_frames.to_dex_retargeting(hand.joints, hand.wrist)
    assert (points[[8, 12, 16, 20], 0] > 0).all()  # relaxed fingers bend to the palm's side
    assert (points[[5, 9, 13, 17], 2] > 0.05).all()
    across = points[5, 1] - points[17, 1]
    assert across > 0.02 if hand.side == "right" else across < -0.02
