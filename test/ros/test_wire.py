"""Messages as bytes: byte for byte what rclpy's own serialiser writes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("rclpy", reason="ROS 2 is not installed")
pytest.importorskip("hand_mesh_ros.ros")  # gives tf2_msgs where ROS comes from wheels

from geometry_msgs.msg import PoseWithCovarianceStamped
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage
from visualization_msgs.msg import Marker, MarkerArray

from hand_mesh_ros.msg import HandArray, HandMesh, MeshTopology
from hand_mesh_ros.ros import builders
from hand_mesh_ros.ros.images import header
from hand_mesh_ros.ros.markers import HandMarkers, marker_array
from hand_mesh_ros.ros.packed import HandMeshes, HandTransforms
from hand_mesh_ros.ros.wire import Packer, Template, WireError, time_words
from hand_mesh_ros.types import SIDES, HandSet, TrackedHand

MakeHand = Callable[..., TrackedHand]
MakeSet = Callable[..., HandSet]

frame_ids = st.text(st.sampled_from("abz_/é"), max_size=9)
stamps = st.integers(0, 2**31 * 10**9 - 1)
finite = st.floats(-1e6, 1e6)


@st.composite
def arrays(draw: st.DrawFn, *shape: int) -> np.ndarray:
    """Numbers of many sizes, few of them unknown."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    values = rng.normal(size=shape) * 10.0 ** rng.integers(-12, 6, shape)
    values.flat[rng.integers(values.size)] = draw(finite | st.just(np.nan))
    return values


def canonical(message: Any) -> bytes:
    """What rclpy writes, with the bytes between numbers, which it leaves as they were, zero."""
    data, again = serialize_message(message), serialize_message(message)
    ours = Template(message).tobytes()
    assert len(ours) == len(data)
    # Wherever rclpy says the same twice but we differ from it, the byte must mean nothing.
    for index in np.flatnonzero(np.frombuffer(ours, "u1") != np.frombuffer(data, "u1")):
        changed = bytearray(again)
        changed[index] ^= 0xFF
        assert str(deserialize_message(bytes(changed), type(message))) == str(
            deserialize_message(data, type(message))
        )
    return ours


slow = settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
def hands_of(make_hand: MakeHand, make_set: MakeSet) -> Callable[..., HandSet]:
    """Hands with the numbers they are given: (side, track id, vertices, joints) each."""

    def make(stamp: int, parts: list[tuple[Any, int, np.ndarray, np.ndarray]]) -> HandSet:
        hands = [
            make_hand(side, track, track % 7, vertices=vertices, joints=joints)
            for side, track, vertices, joints in parts
        ]
        return replace(make_set(*hands), stamp_ns=stamp)

    return make


hand_parts = st.lists(
    st.tuples(st.sampled_from(SIDES), st.integers(0, 2**32 - 1), arrays(5, 3), arrays(21, 3)),
    min_size=1,
    max_size=3,
    unique_by=lambda part: part[1],
)
FACES = {side: np.array([[0, 1, 2], [2, 3, 4], [4, 1, 0]]) for side in SIDES}


@slow
@given(sets=st.lists(st.tuples(stamps, hand_parts), min_size=2, max_size=4), frame=frame_ids,
       lifetime=st.floats(0, 1000))  # fmt: skip
def test_markers(
    hands_of: Callable[..., HandSet], sets: list[Any], frame: str, lifetime: float
) -> None:
    packed = HandMarkers(FACES, pytest.fail)
    shown: set[str] = set()
    for stamp, parts in sets:
        hands = hands_of(stamp, parts)
        named = set(builders.hand_frames(hands))
        expected = marker_array(hands, FACES, frame, lifetime, sorted(shown - named))
        assert packed.build(hands, frame, lifetime) == Template(expected).tobytes()
        shown = named


@slow
@given(sets=st.lists(st.tuples(stamps, hand_parts), min_size=2, max_size=4), frame=frame_ids,
       prefix=frame_ids, joints=st.booleans())  # fmt: skip
def test_transforms(
    hands_of: Callable[..., HandSet], sets: list[Any], frame: str, prefix: str, joints: bool
) -> None:
    packed = HandTransforms(pytest.fail)
    for stamp, parts in sets:
        hands = hands_of(stamp, parts)
        data = packed.build(hands, frame, prefix, joints)
        expected = builders.transforms(hands, frame, prefix, joints)
        assert data == Template(TFMessage(transforms=expected)).tobytes()


@slow
@given(sets=st.lists(st.tuples(stamps, hand_parts), min_size=2, max_size=4), frame=frame_ids,
       topology=frame_ids)  # fmt: skip
def test_meshes(
    hands_of: Callable[..., HandSet], sets: list[Any], frame: str, topology: str
) -> None:
    packed = HandMeshes(pytest.fail)
    for stamp, parts in sets:
        for hand in hands_of(stamp, parts).hands:
            message = builders.hand_mesh(hand, topology, frame, stamp)
            data = packed.build(hand, topology, frame, stamp)
            assert data == Template(message).tobytes()
            back = deserialize_message(data, HandMesh).vertices
            assert back.tobytes() == message.vertices.tobytes()


@pytest.mark.parametrize("frame", ["", "w", "we", "wor", "worl", "world", "world_", "ünïcode"])
def test_a_template_is_what_rclpy_writes(
    frame: str, make_hand: MakeHand, make_set: MakeSet
) -> None:
    """Only bytes that carry nothing are other than rclpy's, whatever the strings' lengths."""
    hands = make_set(make_hand("right", 1), make_hand("left", 2, seed=1))
    small = replace(hands, hands=tuple(
        replace(h, estimate=replace(h.estimate, vertices=np.eye(5)[:, :3])) for h in hands.hands
    ))  # fmt: skip
    for message in (
        marker_array(small, FACES, frame, 0.5),
        TFMessage(transforms=builders.transforms(hands, frame, "", False)),
        builders.hand_mesh(small.hands[0], frame, frame, 7),
        builders.hand_array(hands, frame, 0.25),
        builders.wrist_pose(hands.hands[0].estimate, frame, 9),
        builders.observations(frame, (4, 3), [], frame, 5),
        CameraInfo(header=header(3, frame), distortion_model=frame, d=[1.0, 2.0]),
        MeshTopology(id=frame, faces=[1, 2, 3]),
        MarkerArray(),
        Marker(text=frame),
    ):
        canonical(message)


def test_numbers_have_names(make_hand: MakeHand, make_set: MakeSet) -> None:
    hands = make_set(make_hand("right", 4), make_hand("left", 5, seed=1))
    template = Template(builders.hand_array(hands, "world", 0.25))
    template["latency"] = 0.5
    template["hands.*.track_id"] = [[10], [11]]
    template["hands.1.joints"][3:6] = 7, 8, 9
    template["header.stamp"] = time_words(12_000_000_034)
    back = deserialize_message(template.tobytes(), HandArray)
    assert back.latency == 0.5
    assert [hand.track_id for hand in back.hands] == [10, 11]
    assert (back.hands[1].joints[1].x, back.hands[1].joints[1].z) == (7, 9)
    assert (back.header.stamp.sec, back.header.stamp.nanosec) == (12, 34)
    assert back.hands[0].joints == builders.hand_message(hands.hands[0], 0).joints


@given(st.integers(-(2**31) * 10**9, 2**31 * 10**9 - 1))
def test_time_words_are_those_of_a_stamp(nanoseconds: int) -> None:
    template = Template(Header(frame_id="x"))
    template["stamp"] = time_words(nanoseconds)
    assert deserialize_message(template.tobytes(), Header) == header(nanoseconds, "x")


def test_numbers_that_are_not_there_are_named() -> None:
    template = Template(PoseWithCovarianceStamped())
    for wrong in ("header.stamps", "*.covariance", "pose.pose.position"):
        with pytest.raises(WireError, match="PoseWithCovarianceStamped has no numbers"):
            template[wrong] = 1


@pytest.mark.parametrize("fault", ["forgets", "writes too much"])
def test_a_fill_that_does_not_fit_falls_back_to_messages_and_says_so_once(fault: str) -> None:
    """As would happen with a serialiser whose bytes lie elsewhere."""
    def fill(template: Template) -> None:
        template["header.stamp"] = (1, 2)
        if fault == "forgets":
            template["vertices"][:2] = 4.0
        else:
            template["vertices"] = 4.0

    complaints: list[str] = []
    packer = Packer(complaints.append)
    message = HandMesh(header=header(1_000_000_002, "w"), vertices=[4.0, 4.0, 5.0])
    for _ in range(3):
        assert packer.pack("a", lambda: message, fill) is message
    assert packer.pack("b", lambda: message, lambda template: None) is message
    assert len(complaints) == 1 and "HandMesh: " in complaints[0]


def test_a_serialiser_of_other_bytes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from hand_mesh_ros.ros import wire

    message = HandMesh(header=header(1, "world"), topology_id="id", vertices=[1.0, 2.0])
    data = serialize_message(message)
    for other, complaint in (
        (b"\x00\x00" + data[2:], "not little-endian CDR"),
        (data[:8] + b"\0\0\0\0" + data[8:], "length of header.frame_id"),
        (data + b"\0\0\0\0", "ends at byte"),
        (data[:-8], "ends at byte"),
        (data.replace(b"world", b"wurld"), "header.frame_id is not at byte"),
    ):
        monkeypatch.setattr(wire, "serialize_message", lambda _, other=other: other)
        with pytest.raises(WireError, match=complaint):
            Template(message)


def test_old_shapes_are_forgotten_and_made_again() -> None:
    packer, built = Packer(pytest.fail), []

    def pack(name: str) -> bytes:
        def build() -> Header:
            built.append(name)
            return header(1, name)

        return packer.pack(name, build, lambda t: t.__setitem__("stamp", time_words(1)))

    names = [f"frame{i}" for i in range(40)]
    for _ in range(2):
        for name in names:
            assert deserialize_message(pack(name), Header) == header(1, name)
    assert len(built) == 80
    assert pack(names[-1]) == pack(names[-1])
    assert len(built) == 80
