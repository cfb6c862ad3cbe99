"""Limits and prior: signs of the axes, and room for ordinary gestures."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import least_squares

from hand_mesh_ros.hand.kinematics import HAND_POSE, joints_and_jacobian
from hand_mesh_ros.hand.layout import MANO_FINGERS
from hand_mesh_ros.hand.limits import comfortable_pose, pose_limits, pose_prior
from hand_mesh_ros.hand.mirror import mirror_points
from hand_mesh_ros.hand.model import HandModel, load_hand_model

TIPS = {"thumb": 4, "index": 8, "middle": 12, "ring": 16, "little": 20}


@pytest.fixture(scope="module")
def model() -> HandModel:
    return load_hand_model()


def tips_of(model: HandModel, pose: np.ndarray) -> np.ndarray:
    params = np.zeros((1, 61))
    params[0, HAND_POSE] = pose
    return joints_and_jacobian(model, params)[0][0]


@pytest.mark.parametrize("finger", ["index", "middle", "ring", "little"])
@pytest.mark.parametrize("joint", [0, 1, 2])
def test_positive_z_flexes_fingers_to_the_palm(model: HandModel, finger: str, joint: int) -> None:
    pose = np.zeros(45)
    pose[9 * MANO_FINGERS.index(finger) + 3 * joint + 2] = 0.5
    moved = tips_of(model, pose) - tips_of(model, np.zeros(45))
    assert moved[TIPS[finger], 1] < -0.005
    others = [tip for name, tip in TIPS.items() if name != finger]
    assert np.abs(moved[others]).max() == 0


def test_positive_x_brings_the_thumb_before_the_palm(model: HandModel) -> None:
    pose = np.zeros(45)
    pose[36] = 0.8
    assert tips_of(model, pose)[4, 1] < tips_of(model, np.zeros(45))[4, 1] - 0.03


def test_positive_y_spreads_towards_the_thumb(model: HandModel) -> None:
    for finger in ("index", "little"):
        pose = np.zeros(45)
        pose[9 * MANO_FINGERS.index(finger) + 1] = 0.3
        moved = tips_of(model, pose)[TIPS[finger]] - tips_of(model, np.zeros(45))[TIPS[finger]]
        assert moved[2] > 0.015


@pytest.mark.parametrize("side", ["right", "left"])
def test_prior_lies_inside_the_limits(side: str) -> None:
    lower, upper = pose_limits(side)  # type: ignore[arg-type]
    mean, std = pose_prior(side)  # type: ignore[arg-type]
    assert lower.shape == upper.shape == mean.shape == std.shape == (45,)
    assert (lower < mean).all() and (mean < upper).all() and (std > 0).all()
    assert (np.maximum(upper - mean, mean - lower) > std).all()


def test_left_limits_allow_the_mirrored_gesture() -> None:
    left = load_hand_model(side="left")
    right_tips = tips_of(load_hand_model(), comfortable_pose("right"))
    left_tips = tips_of(left, comfortable_pose("left"))
    np.testing.assert_allclose(left_tips, mirror_points(right_tips), atol=1e-12)


@pytest.mark.parametrize("finger", ["index", "middle", "ring", "little"])
def test_thumb_meets_every_fingertip_within_limits(model: HandModel, finger: str) -> None:
    """Opposition, the gesture robots are taught with, must be inside the limits."""
    lower, upper = pose_limits()
    mean, std = pose_prior()

    def residual(pose: np.ndarray) -> np.ndarray:
        joints = tips_of(model, pose)
        gap = joints[4] - joints[TIPS[finger]]
        return np.concatenate([gap / 0.002, 0.3 * (pose - mean) / std])

    pose = least_squares(residual, mean, bounds=(lower, upper)).x
    joints = tips_of(model, pose)
    assert np.linalg.norm(joints[4] - joints[TIPS[finger]]) < 0.002
    assert np.abs((pose - mean) / std).max() < 3


def test_a_fist_is_inside_the_limits(model: HandModel) -> None:
    lower, upper = pose_limits()
    pose = np.zeros(45)
    pose[[9 * f + 3 * k + 2 for f in range(4) for k in range(3)]] = 1.4
    assert ((pose >= lower) & (pose <= upper)).all()
    joints = tips_of(model, pose)
    # Fingertips end in front of the palm, behind the knuckles and not inside the hand.
    for tip, knuckle in ((8, 5), (12, 9), (16, 13)):
        assert joints[tip, 0] > joints[knuckle, 0] and -0.06 < joints[tip, 1] < -0.01
