"""A hand's configuration: joints, tangent space, and what an estimate's covariances say of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hand_mesh_ros.geometry.rotations import exp_so3, rigid, transform_points
from hand_mesh_ros.hand.kinematics import joints_and_jacobian
from hand_mesh_ros.hand.limits import pose_prior
from hand_mesh_ros.hand.mirror import mirror_params
from hand_mesh_ros.hand.model import HandModel, load_hand_model
from hand_mesh_ros.hand.robot_frames import wrist_frame
from hand_mesh_ros.perception.pose import (
    SIZE,
    HandPose,
    described,
    knowledge,
    posed_to,
)
from hand_mesh_ros.types import SIDES, HandEstimate, ManoParameters, Side

MODELS: dict[Side, HandModel] = {side: load_hand_model(side=side) for side in SIDES}


def some_pose(rng: np.random.Generator, side: Side = "right") -> HandPose:
    mean, sigma = pose_prior(side)
    return HandPose(
        MODELS[side],
        rng.normal(0, 0.3, 3),
        exp_so3(rng.normal(0, 1, 3)),
        rng.normal(mean, 0.5 * sigma),
        rng.normal(0, 0.7, 10),
        1.1,
    )


def estimate_of(pose: HandPose, mano: ManoParameters | None = None) -> HandEstimate:
    side = pose.model.side
    zeros = (np.zeros(n) for n in (3, 45, 10, 3))
    joints = pose.joints()
    return HandEstimate(
        side=side,
        joints=joints,
        covariance=np.tile(np.diag([1e-5, 2e-5, 6e-5]), (21, 1, 1)),
        wrist=wrist_frame(joints, side),
        wrist_covariance=np.diag([1e-5, 2e-5, 6e-5, 1e-3, 2e-3, 1e-3]),
        mano=mano or pose.mano(ManoParameters(pose.model.model_id, side, *zeros)),
        confidence=0.9,
        side_confidence=0.9,
        joint_confidence=np.ones(21),
        visibility=np.ones(21),
        residual_px=np.ones((2, 21)),
        view_indices=(0, 1),
        scale_source="multi_view",
    )


@pytest.mark.parametrize("side", SIDES)
def test_mano_parameters_and_back(side: Side, rng: np.random.Generator) -> None:
    pose = some_pose(rng, side)
    estimate = estimate_of(pose)
    again = HandPose.of(estimate, MODELS)
    np.testing.assert_allclose(again.minus(pose), np.zeros(SIZE), atol=1e-9)
    mano = estimate.mano
    params = np.concatenate(
        [mano.global_orient, mano.hand_pose, mano.betas, mano.transl, [mano.scale]]
    )
    joints = joints_and_jacobian(MODELS[side], params[None])[0][0]
    np.testing.assert_allclose(joints, pose.joints(), atol=1e-9)


def test_mirrored_parameters_mean_the_hand_of_its_own_side(rng: np.random.Generator) -> None:
    """A left hand told in numbers of the right model, as HaMeR's are."""
    pose = some_pose(rng, "left")
    own = estimate_of(pose).mano
    numbers = mirror_params(
        np.concatenate([own.global_orient, own.hand_pose, own.betas, own.transl])
    )
    mirrored = ManoParameters(
        "right",
        "left",
        numbers[:3],
        numbers[3:48],
        numbers[48:58],
        numbers[58:61],
        own.scale,
        mirrored=True,
    )
    again = HandPose.of(estimate_of(pose, mirrored), MODELS)
    np.testing.assert_allclose(again.joints(), pose.joints(), atol=1e-9)
    back = again.mano(mirrored)
    np.testing.assert_allclose(back.hand_pose, mirrored.hand_pose, atol=1e-9)
    np.testing.assert_allclose(back.transl, mirrored.transl, atol=1e-9)


def test_the_jacobian_is_the_derivative(rng: np.random.Generator) -> None:
    pose, step = some_pose(rng), 1e-6
    _, J, by_betas = pose.linearised()
    for k in range(SIZE):
        delta = np.zeros(SIZE)
        delta[k] = step
        slope = (pose.plus(delta).joints() - pose.plus(-delta).joints()) / (2 * step)
        np.testing.assert_allclose(J[..., k], slope, atol=1e-7)
    assert np.abs(by_betas[0]).max() == 0  # the wrist stays where it is


def test_minus_undoes_plus(rng: np.random.Generator) -> None:
    pose, delta = some_pose(rng), rng.normal(0, 0.3, SIZE)
    np.testing.assert_allclose(pose.plus(delta).minus(pose), delta, atol=1e-9)


def test_covariances_come_out_as_large_as_they_went_in(rng: np.random.Generator) -> None:
    pose = some_pose(rng)
    estimate = estimate_of(pose)
    covariance, _ = knowledge(estimate, pose)
    again = described(estimate, pose, covariance)
    np.testing.assert_allclose(again.wrist_covariance, estimate.wrist_covariance, rtol=1e-6)
    np.testing.assert_allclose(again.wrist, estimate.wrist, atol=1e-9)
    ratio = np.trace(again.covariance, axis1=1, axis2=2) / np.trace(
        estimate.covariance, axis1=1, axis2=2
    )
    assert 0.7 < np.median(ratio) < 1.5
    assert ratio.min() > 0.4 and ratio.max() < 3
    assert np.linalg.eigvalsh(covariance).min() > 0


def test_another_shape_is_made_up_for_by_the_pose(rng: np.random.Generator) -> None:
    pose = some_pose(rng)
    _, slope = knowledge(estimate_of(pose), pose)
    change = rng.normal(0, 0.2, 10)
    other = HandPose(
        pose.model, pose.place, pose.rotation, pose.angles, pose.betas + change, pose.scale
    )
    moved = np.linalg.norm(other.joints() - pose.joints(), axis=-1).mean()
    left = np.linalg.norm(other.plus(slope @ change).joints() - pose.joints(), axis=-1).mean()
    assert left < 0.7 * moved


def test_a_mesh_that_came_with_it_moves_along(rng: np.random.Generator) -> None:
    pose = some_pose(rng)
    before = estimate_of(pose)
    vertices = rng.normal(0, 0.1, (7, 3))
    delta = np.zeros(SIZE)
    delta[:6] = [0.1, -0.2, 0.3, 0.2, 0.4, -0.1]
    after = described(replace(before, vertices=vertices), pose.plus(delta), np.eye(SIZE))
    turn = exp_so3(delta[3:6])
    motion = rigid(turn, pose.place + delta[:3] - turn @ pose.place)
    np.testing.assert_allclose(after.vertices, transform_points(motion, vertices), atol=1e-9)


def test_the_pose_that_joints_belong_to(rng: np.random.Generator) -> None:
    pose = some_pose(rng)
    away = pose.plus(rng.normal(0, 0.1, SIZE))
    found = posed_to(away, pose.joints(), np.tile(1e-7 * np.eye(3), (21, 1, 1)), rounds=20)
    assert np.linalg.norm(found.joints() - pose.joints(), axis=-1).max() < 5e-4
