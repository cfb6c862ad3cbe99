"""Results to messages and back: lengths, units, stamps, frames."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from rclpy.serialization import deserialize_message, serialize_message

from hand_mesh_ros.geometry.frames import joint_frames
from hand_mesh_ros.hand.layout import JOINT_NAMES
from hand_mesh_ros.hand.model import load_hand_model
from hand_mesh_ros.msg import Hand, HandObservations, ManoParameters
from hand_mesh_ros.ros import builders, readers
from hand_mesh_ros.ros.images import header, nanoseconds
from hand_mesh_ros.types import SIDES, Camera, HandSet, Side, TrackedHand, View

MakeHand = Callable[..., TrackedHand]
MakeSet = Callable[..., HandSet]


def sent(message: Any) -> Any:
    """The message as another process gets it."""
    return deserialize_message(serialize_message(message), type(message))


def quaternion(q: Any) -> np.ndarray:
    return np.array([q.x, q.y, q.z, q.w])


# Hands --------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", SIDES)
def test_a_hand_fills_every_array(make_hand: MakeHand, side: Side) -> None:
    hand = make_hand(side, track_id=2**32 - 1)
    message = sent(builders.hand_message(hand, view_mask=0b101))
    assert message.track_id == 2**32 - 1
    assert message.side == {"right": Hand.RIGHT, "left": Hand.LEFT}[side]
    assert len(message.joints) == len(message.joint_confidence) == len(message.visibility) == 21
    assert len(message.joint_covariance) == 126
    assert len(message.wrist.covariance) == 36
    mano = message.mano
    lengths = [len(getattr(mano, f)) for f in ("global_orient", "hand_pose", "betas", "transl")]
    assert lengths == [3, 45, 10, 3]
    assert mano.model == {"right": ManoParameters.RIGHT, "left": ManoParameters.LEFT}[side]
    assert mano.model_id == hand.estimate.mano.model_id
    assert mano.scale == 1
    assert message.scale_source == Hand.SCALE_MULTI_VIEW
    assert not message.extrapolated


def test_joints_are_metres_in_openpose_order(make_hand: MakeHand) -> None:
    hand = make_hand()
    message = builders.hand_message(hand, 1)
    for i, point in enumerate(message.joints):
        np.testing.assert_array_equal([point.x, point.y, point.z], hand.estimate.joints[i])
    thumb, index = hand.estimate.joints[[Hand.THUMB_TIP, Hand.INDEX_TIP]]
    assert message.pinch_distance == pytest.approx(np.linalg.norm(thumb - index), rel=1e-6)
    tips = [Hand.INDEX_TIP, Hand.MIDDLE_TIP, Hand.RING_TIP, Hand.LITTLE_TIP]
    aperture = np.linalg.norm(thumb - hand.estimate.joints[tips].mean(0))
    assert message.grip_aperture == pytest.approx(aperture, rel=1e-6)


def test_covariances_are_upper_triangles_row_by_row(make_hand: MakeHand) -> None:
    covariance = np.arange(21 * 9, dtype=float).reshape(21, 3, 3)
    covariance = covariance + np.swapaxes(covariance, 1, 2)
    message = builders.hand_message(make_hand(covariance=covariance), 1)
    for i in (0, 7, 20):
        C = covariance[i]
        expected = [C[0, 0], C[0, 1], C[0, 2], C[1, 1], C[1, 2], C[2, 2]]
        np.testing.assert_array_equal(message.joint_covariance[6 * i : 6 * i + 6], expected)


def test_a_robot_is_told_how_far_to_keep_away_and_what_is_seen(make_hand: MakeHand) -> None:
    visibility = np.zeros(21)
    visibility[[5, 6, 7, 8, 17, 18]] = 1
    hand = make_hand(visibility=visibility)
    message = sent(builders.hand_message(hand, 1))
    longest = np.linalg.eigvalsh(hand.estimate.covariance)[:, -1]
    np.testing.assert_allclose(message.r95, np.sqrt(7.815 * longest), rtol=1e-4)
    np.testing.assert_allclose(message.finger_visibility, [0, 1, 0, 0, 0.5])
    assert message.calibration == "held-out hands"
    assert readers.tracked_hand(message).estimate.calibration == "held-out hands"
    assert builders.hand_message(make_hand(calibration=""), 1).calibration == ""


def test_the_unknown_stays_nan(make_hand: MakeHand, make_set: MakeSet) -> None:
    hand = make_hand(
        covariance=np.full((21, 3, 3), np.nan),
        wrist_covariance=np.full((6, 6), np.nan),
        visibility=np.full(21, np.nan),
    )
    message = sent(builders.hand_array(make_set(hand), "world", 0.0)).hands[0]
    assert np.isnan(message.joint_covariance).all()
    assert np.isnan(message.r95).all()
    assert np.isnan(message.finger_visibility).all()
    assert np.isnan(message.wrist.covariance).all()
    assert np.isnan(message.visibility).all()
    estimate = readers.tracked_hand(message).estimate
    assert np.isnan(estimate.covariance).all()


@pytest.mark.parametrize("indices", [(0,), (0, 2), (31,), tuple(range(32))])
def test_view_mask_has_a_bit_a_view(
    make_hand: MakeHand, make_set: MakeSet, indices: tuple[int, ...]
) -> None:
    hand = make_hand(view_indices=indices)
    (message,) = sent(builders.hand_array(make_set(hand), "world", 0.0)).hands
    assert [i for i in range(32) if message.view_mask >> i & 1] == list(indices)


def test_a_coasting_hand_was_seen_by_no_view(make_hand: MakeHand, make_set: MakeSet) -> None:
    hand = make_hand(extrapolated=True, view_indices=(), residual_px=np.zeros((0, 21)))
    (message,) = builders.hand_array(make_set(hand), "world", 0.0).hands
    assert message.extrapolated
    assert message.view_mask == 0
    assert message.ahead == 0


def test_a_predicted_hand_tells_how_far_and_who_saw_it(
    make_hand: MakeHand, make_set: MakeSet
) -> None:
    hand = replace(make_hand(extrapolated=True), ahead=0.25)
    (message,) = builders.hand_array(make_set(hand), "world", 0.0).hands
    assert message.extrapolated
    assert message.ahead == 0.25
    assert message.view_mask == 0b101


def test_a_mirrored_model_says_so(make_hand: MakeHand) -> None:
    estimate = make_hand("left").estimate
    mirrored = replace(estimate.mano, mirrored=True, scale=1.25)
    message = builders.mano_message(mirrored)
    assert message.model == ManoParameters.RIGHT_MIRRORED
    assert message.scale == 1.25


@pytest.mark.parametrize("source", sorted(builders.SCALE_CODES))
def test_scale_sources(make_hand: MakeHand, source: str) -> None:
    message = builders.hand_message(make_hand(scale_source=source), 1)
    assert message.scale_source == getattr(Hand, f"SCALE_{source.upper()}")


def test_a_hand_survives_the_way_there_and_back(make_hand: MakeHand, make_set: MakeSet) -> None:
    hands = make_set(make_hand("right", 3, seed=1), make_hand("left", 4, seed=2))
    vertices = {h.track_id: h.estimate.vertices for h in hands.hands}
    back = readers.hand_set(sent(builders.hand_array(hands, "world", 0.1)), vertices)
    assert (back.stamp_ns, back.views) == (hands.stamp_ns, hands.views)
    assert back.spread == pytest.approx(hands.spread, rel=1e-6)
    for there, here in zip(back.hands, hands.hands, strict=True):
        a, b = there.estimate, here.estimate
        assert (there.track_id, there.extrapolated) == (here.track_id, here.extrapolated)
        assert (a.side, a.view_indices, a.scale_source) == (b.side, b.view_indices, b.scale_source)
        np.testing.assert_array_equal(a.joints, b.joints)
        np.testing.assert_allclose(a.wrist, b.wrist, atol=1e-12)
        np.testing.assert_array_equal(a.wrist_covariance, b.wrist_covariance)
        np.testing.assert_allclose(a.covariance, b.covariance, rtol=1e-6)
        np.testing.assert_allclose(a.joint_confidence, b.joint_confidence, rtol=1e-6)
        for name in ("global_orient", "hand_pose", "betas", "transl"):
            x, y = getattr(a.mano, name), getattr(b.mano, name)
            np.testing.assert_allclose(x, y, rtol=1e-6)
        assert a.vertices is b.vertices


def test_a_hand_without_a_side_is_refused() -> None:
    with pytest.raises(ValueError, match="hand 7 has no side"):
        readers.tracked_hand(Hand(track_id=7))


# Stamps, frames, poses ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "stamp_ns",
    [1, 999_999_999, 1_000_000_000, 1_763_700_000_123_456_789, (2**31 - 1) * 10**9 + 999_999_999],
)
def test_stamps_are_exact_to_the_nanosecond(
    make_hand: MakeHand, make_set: MakeSet, stamp_ns: int
) -> None:
    hand = make_hand()
    hands = replace(make_set(hand), stamp_ns=stamp_ns)
    e = hand.estimate
    headers = [
        header(stamp_ns, "world"),
        builders.hand_array(hands, "world", 0.0).header,
        builders.wrist_pose(e, "world", stamp_ns).header,
        builders.wrist_pose_stamped(e, "world", stamp_ns).header,
        builders.joint_poses(e, "world", stamp_ns).header,
        builders.hand_mesh(hand, "id", "world", stamp_ns).header,
        builders.observations("front", (4, 3), [], "world", stamp_ns).header,
        *(t.header for t in builders.transforms(hands, "world", "", with_joints=False)),
    ]
    for sent_header in headers:
        assert nanoseconds(sent(sent_header).stamp) == stamp_ns
        assert sent_header.frame_id == "world"


@pytest.mark.parametrize("seed", range(8))
def test_poses_are_unit_quaternions_of_the_wrist(make_hand: MakeHand, seed: int) -> None:
    hand = make_hand(seed=seed)
    message = builders.pose(hand.estimate.wrist)
    assert np.linalg.norm(quaternion(message.orientation)) == pytest.approx(1, abs=1e-12)
    np.testing.assert_allclose(readers.matrix(message), hand.estimate.wrist, atol=1e-12)
    joints = builders.joint_poses(hand.estimate, "world", 1).poses
    assert len(joints) == 21
    norms = [np.linalg.norm(quaternion(p.orientation)) for p in joints]
    np.testing.assert_allclose(norms, 1, atol=1e-12)
    places = [(p.position.x, p.position.y, p.position.z) for p in joints]
    np.testing.assert_allclose(places, hand.estimate.joints, atol=1e-12)


def test_wrist_poses_agree(make_hand: MakeHand) -> None:
    e = make_hand().estimate
    covariant, plain = (
        builders.wrist_pose(e, "world", 5).pose,
        builders.wrist_pose_stamped(e, "world", 5).pose,
    )
    assert covariant.pose == plain == builders.hand_message(make_hand(), 1).wrist.pose
    np.testing.assert_array_equal(
        np.array(covariant.covariance).reshape(6, 6), e.wrist_covariance
    )


# TF -----------------------------------------------------------------------------------------


def placed(transforms: list[Any], root: str) -> dict[str, np.ndarray]:
    """Where every frame is in ``root``, by composing along the tree."""
    edges = {t.child_frame_id: t for t in transforms}

    def place(frame: str) -> np.ndarray:
        if frame == root:
            return np.eye(4)
        edge = edges[frame]
        return np.asarray(place(edge.header.frame_id) @ readers.matrix_of_transform(edge))

    return {frame: place(frame) for frame in edges}


def test_frames_form_a_tree_that_gives_the_joints_back(
    make_hand: MakeHand, make_set: MakeSet
) -> None:
    hands = make_set(make_hand("right", 1, seed=1), make_hand("left", 2, seed=2))
    transforms = builders.transforms(hands, "world", "", with_joints=True)
    children = [t.child_frame_id for t in transforms]
    assert len(children) == len(set(children)) == 42
    places = placed(transforms, "world")
    for hand in hands.hands:
        name = f"{hand.estimate.side}_hand"
        expected = joint_frames(hand.estimate.joints, hand.estimate.wrist)
        for i, joint in enumerate(JOINT_NAMES):
            np.testing.assert_allclose(places[f"{name}/{joint}"], expected[i], atol=1e-9)
    parents = {t.child_frame_id: t.header.frame_id for t in transforms}
    assert parents["right_hand/wrist"] == parents["left_hand/wrist"] == "world"
    assert parents["right_hand/index_tip"] == "right_hand/wrist"


def test_wrists_only_and_prefix(make_hand: MakeHand, make_set: MakeSet) -> None:
    hands = make_set(make_hand("right"), make_hand("left", 2))
    transforms = builders.transforms(hands, "world", "cell/", with_joints=False)
    wrists = ["cell/right_hand/wrist", "cell/left_hand/wrist"]
    assert [t.child_frame_id for t in transforms] == wrists
    joints = builders.transforms(hands, "world", "cell/", with_joints=True)
    assert all(t.child_frame_id.startswith("cell/") for t in joints)
    assert {t.header.frame_id for t in joints} == {"world", *wrists}


def test_two_hands_of_one_side_have_different_frames(
    make_hand: MakeHand, make_set: MakeSet
) -> None:
    new, old = make_hand("right", 9, age=2), make_hand("right", 4, seed=1, age=30)
    hands = make_set(new, old)
    transforms = builders.transforms(hands, "world", "", with_joints=True)
    children = [t.child_frame_id for t in transforms]
    assert len(children) == len(set(children)) == 42
    assert {c.partition("/")[0] for c in children} == {"right_hand", "right_hand_9"}
    assert builders.best_of_side(hands.hands, "right") is old
    assert builders.best_of_side(hands.hands, "left") is None


def test_no_hands_no_frames(make_set: MakeSet) -> None:
    assert builders.transforms(make_set(), "world", "", with_joints=True) == []
    message = builders.hand_array(make_set(), "world", 0.25)
    assert message.hands == [] and message.latency == 0.25
    assert list(message.views) == ["front", "left", "top"]


def test_joint_names() -> None:
    assert len(set(JOINT_NAMES)) == 21
    assert JOINT_NAMES[Hand.WRIST] == "wrist"
    assert all(getattr(Hand, name.upper()) == i for i, name in enumerate(JOINT_NAMES))


# Mesh and observations ----------------------------------------------------------------------


@pytest.mark.parametrize("side", SIDES)
def test_mesh_and_topology_make_the_surface(make_hand: MakeHand, side: Side) -> None:
    hand, model = make_hand(side, 5), load_hand_model(side=side)
    mesh = sent(builders.hand_mesh(hand, model.model_id, "world", 7))
    topology = sent(builders.mesh_topology(model))
    assert mesh.topology_id == topology.id == hand.estimate.mano.model_id
    assert (mesh.track_id, mesh.side, topology.side) == (5, *2 * (builders.SIDE_CODES[side],))
    vertices = np.array(mesh.vertices).reshape(-1, 3)
    np.testing.assert_allclose(vertices, hand.estimate.vertices, atol=1e-6)
    faces = np.array(topology.faces).reshape(-1, 3)
    np.testing.assert_array_equal(faces, model.faces)
    assert list(topology.joint_names) == list(JOINT_NAMES)


def test_a_hand_without_a_surface_has_no_mesh(make_hand: MakeHand) -> None:
    with pytest.raises(ValueError, match="track 3 has no vertices"):
        builders.hand_mesh(make_hand(track_id=3, vertices=None), "id", "world", 1)


def some_view(rng: np.random.Generator) -> View:
    camera = Camera("front", 640, 480, np.eye(3))
    return View(
        index=0,
        camera=camera,
        uv=rng.uniform(-50, 700, (21, 2)),
        sigma=rng.uniform(1, 5, 21),
        world=rng.normal(0, 0.05, (21, 3)),
        presence=0.75,
        right=0.125,
        roi=np.zeros(4),
    )


@pytest.mark.parametrize("count", [0, 1, 3])
def test_observations_hold_every_view(rng: np.random.Generator, count: int) -> None:
    views = [(some_view(rng), 10 + i) for i in range(count)]
    message = sent(builders.observations("front", (640, 480), views, "lens", 9))
    assert isinstance(message, HandObservations)
    assert (message.camera, message.width, message.height) == ("front", 640, 480)
    assert list(message.track_id) == [10 + i for i in range(count)]
    assert list(message.presence) == [0.75] * count
    assert list(message.right_probability) == [0.125] * count
    assert len(message.landmark_stddev) == 21 * count
    assert len(message.relative_landmarks) == 63 * count
    for (track, uv), (view, _) in zip(readers.landmarks(message), views, strict=True):
        assert track >= 10
        np.testing.assert_allclose(uv, view.uv, rtol=1e-6)
    world = np.array(message.relative_landmarks).reshape(-1, 21, 3)
    for row, (view, _) in zip(world, views, strict=True):
        np.testing.assert_allclose(row, view.world, rtol=1e-6)
