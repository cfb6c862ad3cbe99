"""Markers: what rviz takes without complaint, as messages and as bytes alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from rclpy.serialization import deserialize_message, serialize_message
from visualization_msgs.msg import Marker, MarkerArray

from hand_mesh_ros.hand.layout import BONES
from hand_mesh_ros.hand.model import load_hand_model
from hand_mesh_ros.ros.images import nanoseconds
from hand_mesh_ros.ros.markers import HandMarkers, marker_array
from hand_mesh_ros.types import SIDES, HandSet, Side, TrackedHand

MakeHand = Callable[..., TrackedHand]
MakeSet = Callable[..., HandSet]
PARTS = ("mesh", "bones", "joints")


@pytest.fixture
def markers() -> HandMarkers:
    return HandMarkers({side: load_hand_model(side=side).faces for side in SIDES}, pytest.fail)


def sent(array: MarkerArray | bytes) -> dict[str, Marker]:
    """The markers by namespace, as rviz gets them."""
    data = array if isinstance(array, bytes) else serialize_message(array)
    received = deserialize_message(data, MarkerArray)
    assert len({(m.ns, m.id) for m in received.markers}) == len(received.markers)
    return {m.ns: m for m in received.markers}


def points(marker: Marker) -> np.ndarray:
    return np.array([(p.x, p.y, p.z) for p in marker.points])


def test_two_hands_have_mesh_bones_and_joints(
    markers: HandMarkers, make_hand: MakeHand, make_set: MakeSet
) -> None:
    hands = make_set(make_hand("right", 1), make_hand("left", 2, seed=1))
    found = sent(markers.build(hands, "world", 0.4))
    assert set(found) == {f"{side}_hand/{part}" for side in SIDES for part in PARTS}
    for hand in hands.hands:
        e, name = hand.estimate, f"{hand.estimate.side}_hand"
        assert e.vertices is not None
        corners = e.vertices[load_hand_model(side=e.side).faces].reshape(-1, 3)
        np.testing.assert_allclose(points(found[f"{name}/mesh"]), corners, atol=1e-12)
        np.testing.assert_allclose(points(found[f"{name}/joints"]), e.joints, atol=1e-12)
        bones = e.joints[np.array(BONES)].reshape(-1, 3)
        np.testing.assert_allclose(points(found[f"{name}/bones"]), bones, atol=1e-12)


def test_rviz_has_nothing_to_complain_of(
    markers: HandMarkers, make_hand: MakeHand, make_set: MakeSet, stamp: int
) -> None:
    found = sent(markers.build(make_set(make_hand()), "world", 0.4))
    kinds = {"mesh": Marker.TRIANGLE_LIST, "bones": Marker.LINE_LIST, "joints": Marker.SPHERE_LIST}
    for part, kind in kinds.items():
        marker = found[f"right_hand/{part}"]
        assert (marker.type, marker.action) == (kind, Marker.ADD)
        assert nanoseconds(marker.header.stamp) == stamp
        assert marker.header.frame_id == "world"
        assert marker.scale.x > 0
        q = marker.pose.orientation
        assert (q.x, q.y, q.z, q.w) == (0, 0, 0, 1)
        assert marker.color.a > 0
        assert marker.colors == []  # colours a corner would switch the light off
        assert marker.points
    assert len(found["right_hand/mesh"].points) % 3 == 0
    assert len(found["right_hand/bones"].points) % 2 == 0
    spheres = found["right_hand/joints"].scale
    assert min(spheres.x, spheres.y, spheres.z) > 0


@pytest.mark.parametrize(("lifetime", "sec", "nanosec"), [(0.4, 0, 4e8), (2.5, 2, 5e8), (0, 0, 0)])
def test_lifetime(
    markers: HandMarkers,
    make_hand: MakeHand,
    make_set: MakeSet,
    lifetime: float,
    sec: int,
    nanosec: float,
) -> None:
    (marker, *_) = sent(markers.build(make_set(make_hand()), "world", lifetime)).values()
    assert marker.lifetime.sec == sec
    assert marker.lifetime.nanosec == pytest.approx(nanosec, abs=10)


def test_a_lost_hand_is_deleted_once(
    markers: HandMarkers, make_hand: MakeHand, make_set: MakeSet
) -> None:
    right, left = make_hand("right", 1), make_hand("left", 2)
    markers.build(make_set(right, left), "world", 0.4)
    found = sent(markers.build(make_set(right), "world", 0.4))
    for part in PARTS:
        assert found[f"left_hand/{part}"].action == Marker.DELETE
        assert found[f"right_hand/{part}"].action == Marker.ADD
    again = sent(markers.build(make_set(right), "world", 0.4))
    assert set(again) == {f"right_hand/{part}" for part in PARTS}
    gone = sent(markers.build(make_set(), "world", 0.4))
    assert {m.action for m in gone.values()} == {Marker.DELETE}
    assert sent(markers.build(make_set(), "world", 0.4)) == {}


def test_the_markers_follow_the_hand(
    markers: HandMarkers, make_hand: MakeHand, make_set: MakeSet, stamp: int
) -> None:
    """The second set is written over the first one: every number of it must be its own."""
    first = make_set(make_hand("right", 1, seed=1), make_hand("left", 2, seed=2))
    second = make_set(make_hand("right", 7, seed=3), make_hand("left", 9, seed=4))
    second = replace(second, stamp_ns=stamp + 33_333_333)
    assert isinstance(markers.build(first, "world", 0.4), bytes)
    found = sent(markers.build(second, "world", 1.25))
    faces = {side: load_hand_model(side=side).faces for side in SIDES}
    assert found == sent(marker_array(second, faces, "world", 1.25))
    assert found["right_hand/mesh"].lifetime.nanosec == 250_000_000


@pytest.mark.parametrize("side", SIDES)
def test_another_frame_or_number_of_hands_is_another_message(
    markers: HandMarkers, make_hand: MakeHand, make_set: MakeSet, side: Side
) -> None:
    faces = {s: load_hand_model(side=s).faces for s in SIDES}
    sets = [
        make_set(make_hand("right", 1)),
        make_set(make_hand("right", 1, seed=1), make_hand("left", 2, seed=2)),
        make_set(make_hand(side, 3, seed=3), make_hand(side, 4, seed=4)),
        make_set(make_hand(side, 3, vertices=None)),
    ]
    for _ in range(2):
        for frame in ("w", "world", "a_long/frame.name"):
            for hands in sets:
                found = sent(markers.build(hands, frame, 0.4))
                alive = {ns: m for ns, m in found.items() if m.action == Marker.ADD}
                assert alive == sent(marker_array(hands, faces, frame, 0.4))


def test_a_model_of_another_size_gets_a_message_of_its_own(
    make_hand: MakeHand, make_set: MakeSet
) -> None:
    markers = HandMarkers({"right": np.array([[0, 1, 2]])}, pytest.fail)
    hand = make_hand()
    small = replace(hand.estimate, vertices=np.eye(3))
    found = sent(markers.build(make_set(replace(hand, estimate=small)), "w", 0.4))
    np.testing.assert_array_equal(points(found["right_hand/mesh"]), np.eye(3))
    vertices = np.arange(12.0).reshape(4, 3)
    large = replace(hand.estimate, vertices=vertices)
    found = sent(markers.build(make_set(replace(hand, estimate=large)), "w", 0.4))
    np.testing.assert_array_equal(points(found["right_hand/mesh"]), vertices[:3])


def test_without_vertices_the_skeleton_is_shown(
    markers: HandMarkers, make_hand: MakeHand, make_set: MakeSet
) -> None:
    found = sent(markers.build(make_set(make_hand(vertices=None)), "world", 0.4))
    assert set(found) == {"right_hand/bones", "right_hand/joints"}


def test_hands_of_one_side_have_markers_of_their_own(
    markers: HandMarkers, make_hand: MakeHand, make_set: MakeSet
) -> None:
    hands = make_set(make_hand("right", 4, age=9), make_hand("right", 7, seed=1))
    found = sent(markers.build(hands, "world", 0.4))
    assert {ns.partition("/")[0] for ns in found} == {"right_hand", "right_hand_7"}
