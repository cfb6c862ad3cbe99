"""Trees of static transforms, and the frames of a hand's joints."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hand_mesh_ros.geometry.frames import TransformTree, joint_frames
from hand_mesh_ros.geometry.rotations import exp_so3, rigid, transform_points
from hand_mesh_ros.hand.kinematics import HAND_POSE, NUM_PARAMS, joints_and_jacobian
from hand_mesh_ros.hand.limits import pose_limits
from hand_mesh_ros.hand.model import load_hand_model
from hand_mesh_ros.hand.robot_frames import wrist_frame
from hand_mesh_ros.types import SIDES, Side


def random_rigid(rng: np.random.Generator) -> np.ndarray:
    return rigid(exp_so3(rng.normal(0, 1.5, 3)), rng.normal(0, 2, 3))


@given(parents=st.lists(st.integers(0, 100), min_size=1, max_size=12), seed=st.integers(0, 2**32))
@settings(max_examples=50, deadline=None)
def test_lookups_agree_with_where_the_frames_are(parents: list[int], seed: int) -> None:
    """Frame i hangs on an earlier one; each has a known place, whatever the order of arrival."""
    rng = np.random.default_rng(seed)
    places = [random_rigid(rng) for _ in range(len(parents) + 1)]
    edges = [(parent % (i + 1), i + 1) for i, parent in enumerate(parents)]
    tree = TransformTree()
    for parent, child in rng.permutation(edges):
        tree.set(f"f{parent}", f"f{child}", np.linalg.inv(places[parent]) @ places[child])
    assert tree.frames() == {f"f{i}" for i in range(len(places))}
    a, b = rng.integers(0, len(places), 2)
    found = tree.lookup(f"f{a}", f"f{b}")
    assert found is not None
    np.testing.assert_allclose(found, np.linalg.inv(places[a]) @ places[b], atol=1e-9)


def test_frames_that_nothing_joins() -> None:
    tree = TransformTree()
    tree.set("world", "a", np.eye(4))
    tree.set("map", "b", np.eye(4))
    assert tree.lookup("a", "b") is None
    assert tree.lookup("world", "nowhere") is None
    np.testing.assert_array_equal(tree.lookup("nowhere", "nowhere"), np.eye(4))


@pytest.mark.parametrize("loop", [("a", "a"), ("c", "a"), ("c", "world")])
def test_loops_are_refused_by_name(loop: tuple[str, str]) -> None:
    tree = TransformTree()
    for parent, child in (("world", "a"), ("a", "b"), ("b", "c")):
        tree.set(parent, child, np.eye(4))
    with pytest.raises(ValueError, match=f"{loop[0]} -> {loop[1]} closes a loop"):
        tree.set(*loop, np.eye(4))
    assert tree.lookup("world", "c") is not None


def test_an_edge_may_be_replaced(rng: np.random.Generator) -> None:
    tree, T = TransformTree(), random_rigid(rng)
    tree.set("world", "a", np.eye(4))
    tree.set("world", "a", T)
    np.testing.assert_allclose(tree.lookup("world", "a"), T, atol=1e-12)


def hand(side: Side, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Joints (21, 3) and wrist (4, 4) of a hand with fingers anywhere in their limits."""
    rng, model = np.random.default_rng(seed), load_hand_model(side=side)
    params = rng.normal(0, 1, NUM_PARAMS)
    params[HAND_POSE] = rng.uniform(*pose_limits(side))
    joints = joints_and_jacobian(model, params[None])[0][0]
    return joints, wrist_frame(joints, side)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("seed", range(5))
def test_joint_frames_stand_on_the_joints_and_look_along_the_bones(side: Side, seed: int) -> None:
    joints, wrist = hand(side, seed)
    frames = joint_frames(joints, wrist)
    R = frames[:, :3, :3]
    np.testing.assert_allclose(frames[:, :3, 3], joints)
    np.testing.assert_allclose(frames[0], wrist)
    np.testing.assert_allclose(R @ np.swapaxes(R, 1, 2), np.tile(np.eye(3), (21, 1, 1)), atol=1e-9)
    np.testing.assert_allclose(np.linalg.det(R), 1, atol=1e-9)
    np.testing.assert_allclose(frames[:, 3], np.tile([0, 0, 0, 1], (21, 1)))
    for finger in range(5):
        chain = 1 + 4 * finger + np.arange(4)
        bones = np.diff(joints[chain], axis=0)
        bones = bones / np.linalg.norm(bones, axis=-1, keepdims=True)
        np.testing.assert_allclose(R[chain[:3], :, 0], bones, atol=1e-9)
        np.testing.assert_allclose(R[chain[3]], R[chain[2]], atol=1e-12)  # the tip's


def test_joint_frames_move_with_the_hand(rng: np.random.Generator) -> None:
    joints, wrist = hand("right", 1)
    T = random_rigid(rng)
    moved = joint_frames(transform_points(T, joints), T @ wrist)
    np.testing.assert_allclose(moved, T @ joint_frames(joints, wrist), atol=1e-9)


def test_no_axis_flips_while_a_finger_closes() -> None:
    """Frames of neighbouring instants are neighbours, right angles included."""
    model = load_hand_model()
    params = np.zeros((200, NUM_PARAMS))
    flexion = np.arange(HAND_POSE.start + 2, HAND_POSE.start + 36, 3)  # z of the four fingers
    params[:, flexion] = np.linspace(-0.2, 1.7, 200)[:, None]
    joints = joints_and_jacobian(model, params)[0]
    wrists = wrist_frame(joints, "right")
    frames = np.stack([joint_frames(*pair) for pair in zip(joints, wrists, strict=True)])
    step = np.abs(np.diff(frames[:, :, :3, :3], axis=0)).max()
    assert step < 0.05


def test_joints_in_one_place_keep_their_parents_axes() -> None:
    joints, wrist = np.zeros((21, 3)), np.eye(4)
    np.testing.assert_allclose(joint_frames(joints, wrist), np.tile(np.eye(4), (21, 1, 1)))
