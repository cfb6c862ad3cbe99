"""Edge nodes beside the cameras and a node that fuses, on one machine: hands as of the images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.qos import qos_profile_sensor_data
from rclpy.serialization import serialize_message

from hand_mesh_ros.msg import HandArray, HandObservations
from hand_mesh_ros.ros.images import encode_compressed, encode_image, nanoseconds
from hand_mesh_ros.ros.readers import hand_set

COMMON = {"num_threads": 1, "sync": {"max_wait": 0.5}}
LOCAL = {
    **COMMON,
    "cameras": ["camera_0", "camera_1"],
    "camera": {"camera_1": {"compressed": True}},
}
OBSERVATIONS = [f"/edge_{i}/hand_edge_node/observations/camera_{i}" for i in range(2)]
ECHOED = [f"/hand_mesh_node/observations/camera_{i}" for i in range(2)]


def edge(number: int) -> dict[str, Any]:
    """Parameters of the node beside one camera; the second one's images are compressed."""
    camera = {"image_topic": f"/camera_{number}/image_raw", "compressed": number == 1}
    return {
        "cameras": [f"camera_{number}"],
        "num_threads": 1,
        "max_hands": 1,
        "camera": {f"camera_{number}": camera},
    }


def fusion(topics: list[str]) -> dict[str, Any]:
    """Parameters of a node whose cameras are these observations."""
    camera = {
        f"camera_{i}": {"observations_topic": topic, "info_topic": f"/camera_{i}/camera_info"}
        for i, topic in enumerate(topics)
    }
    return {**COMMON, "cameras": ["camera_0", "camera_1"], "camera": camera}


@pytest.fixture(scope="module")
def nodes(start: Callable[..., Any], peer: Any, cell: Any) -> dict[str, Any]:
    """A node that sees the images itself, edge nodes beside the cameras, one that fuses what these

    see ("fusion") and one that fuses what the first one saw ("echo"); all at work.
    """
    made = {
        "local": start("hand_mesh_node", LOCAL),
        "edge_0": start("edge_node", edge(0), "-r", "__ns:=/edge_0"),
        "edge_1": start("edge_node", edge(1), "-r", "__ns:=/edge_1"),
        "fusion": start("hand_mesh_node", fusion(OBSERVATIONS), "-r", "__node:=fusion"),
        "echo": start("hand_mesh_node", fusion(ECHOED), "-r", "__node:=echo"),
    }
    heard = [peer.listen(topic, HandArray) for topic in ("/fusion/hands", "/echo/hands")]
    seen = [peer.listen(t, HandObservations, qos_profile_sensor_data) for t in OBSERVATIONS]
    peer.listen("/diagnostics", DiagnosticArray)

    def connected() -> bool:
        for process in made.values():
            assert process.running(), process.output
        # Images are seen by the local node and an edge node, CameraInfo by all but one.
        return (
            cell.ready()
            and all(s.get_publisher_count() for s in (*heard, *seen))
            and all(p.get_subscription_count() == 2 for p in cell._image_publishers)
            and all(p.get_subscription_count() == 4 for p in cell._info_publishers)
            and all(peer.node.count_subscribers(t) == 1 for t in ECHOED)
            and all(peer.node.count_subscribers(t) == 2 for t in OBSERVATIONS)
        )

    peer.until(connected, "all nodes")
    return made


def at(peer: Any, topic: str, stamp: int, patience: float = 3.0) -> Any:
    """The message of a capture time, or None if it does not come."""

    def found() -> Any:
        heard = reversed(peer.heard[topic])
        return next((m for m in heard if nanoseconds(m.header.stamp) == stamp), None)

    return peer.until(found, patience=patience)


WAYS = ("/hand_mesh_node/hands", "/fusion/hands", "/echo/hands")


@pytest.fixture(scope="module")
def hands(nodes: dict[str, Any], peer: Any, cell: Any) -> list[list[Any]]:
    """15 instants at which each of the three ways saw the hand with both cameras.

    They saw the ten before as well: what a track remembers of a start or a gap of its own, half a
    millimetre at first, is a tenth of one then.
    """
    found: list[list[Any]] = []
    in_a_row = 0
    for _ in range(120):
        stamp = cell.show()
        answers = [at(peer, topic, stamp) for topic in WAYS]
        seen = all(m and list(m.views) == [*cell.NAMES] and len(m.hands) == 1 for m in answers)
        in_a_row = in_a_row + 1 if seen else 0
        if in_a_row > 10:
            found.append(answers)
        if len(found) == 15:
            return found
    pytest.fail(f"only {len(found)} of 120 instants were seen by all, and the ten before them")


def apart(a: Any, b: Any) -> np.ndarray:
    """Distances (21,) between the joints of two answers' only hands, m."""
    (one,), (other,) = hand_set(a).hands, hand_set(b).hands
    assert one.estimate.side == other.estimate.side == "right"
    assert one.estimate.scale_source == other.estimate.scale_source == "multi_view"
    return np.linalg.norm(one.estimate.joints - other.estimate.joints, axis=-1)


def test_the_same_views_are_the_same_hands(hands: list[list[Any]]) -> None:
    """What the message carries is all that counts, but for its float32 (and when a node began)."""
    distances = np.array([apart(local, echo) for local, _, echo in hands])
    print(f"joints of images and of the same views in messages: {1e3 * distances.max():.4f} mm")
    assert distances.max() < 3e-4
    assert all(m.header.frame_id == "world" for pair in hands for m in pair)


def test_edge_nodes_see_what_the_whole_pipeline_sees(hands: list[list[Any]]) -> None:
    """The same networks, in regions that are guessed in the image instead of from the cell."""
    distances = np.array([apart(local, fused) for local, fused, _ in hands])
    print(
        f"joints of images and of edge nodes: {1e3 * np.median(distances):.2f} mm apart, "
        f"at most {1e3 * distances.max():.2f} mm"
    )
    assert np.median(distances) < 2e-3
    assert len({fused.hands[0].track_id for _, fused, _ in hands}) == 1


def test_a_message_is_small_and_follows_its_hand(hands: list[list[Any]], peer: Any) -> None:
    for topic in OBSERVATIONS:
        stamps = {nanoseconds(fused.header.stamp) for _, fused, _ in hands}
        messages = [m for m in peer.heard[topic] if nanoseconds(m.header.stamp) in stamps]
        assert len(messages) == len(stamps)
        sizes = [len(serialize_message(m)) for m in messages]
        print(f"{topic}: {max(sizes)} bytes")
        assert max(sizes) < 1024
        assert {len(m.track_id) for m in messages} == {1}
        assert len({m.track_id[0] for m in messages}) == 1
        assert {m.camera for m in messages} == {topic[-8:]}
        assert all(m.header.frame_id and (m.width, m.height) == (320, 240) for m in messages)


def test_no_hand_is_told_as_well(nodes: dict[str, Any], peer: Any, cell: Any) -> None:
    """An empty message: the camera lives, and the set is complete without waiting."""
    for _ in range(20):
        stamp = cell.new_stamp()
        for camera in (0, 1):
            dark = np.zeros((240, 320, 3), np.uint8)
            lens = cell.scene.cameras[camera].frame_id
            image = (encode_image, encode_compressed)[camera](dark, stamp, lens)
            cell.publish(camera, cell.messages(camera, stamp)[0], image)
        fused = at(peer, "/fusion/hands", stamp)
        if fused is not None and list(fused.views) == [*cell.NAMES]:
            break
    # Tracks coast for a moment; nothing is seen any more.
    assert not [hand for hand in fused.hands if not hand.extrapolated]
    for topic in OBSERVATIONS:
        message = at(peer, topic, stamp)
        assert len(message.track_id) == len(message.landmarks) == 0
        assert message.width == 320


def test_diagnostics_tell_of_the_cameras_clock(
    nodes: dict[str, Any], peer: Any, cell: Any
) -> None:
    """The stamps of the test are of last year: another clock's, though all agree."""

    def told() -> list[str]:
        cell.show()
        statuses = [s for m in peer.heard["/diagnostics"][-10:] for s in m.status]
        return [
            s.message
            for s in statuses
            if s.name == "fusion: camera camera_1" and s.level == DiagnosticStatus.WARN
        ]

    message = peer.until(told, "a warning")[-1]
    assert "behind this machine's clock" in message and "synchronised (PTP, chrony)" in message


def test_an_edge_node_that_dies_is_named_and_missed(
    nodes: dict[str, Any], peer: Any, cell: Any
) -> None:
    """Hands go on with the other camera; edge nodes end well."""
    assert nodes["edge_1"].end() == 0

    def warned() -> list[str]:
        stamp = cell.show()
        fused = at(peer, "/fusion/hands", stamp, patience=1.0)
        if fused is None or list(fused.views) != ["camera_0"] or not fused.hands:
            return []
        statuses = [s for m in peer.heard["/diagnostics"][-10:] for s in m.status]
        return [s.message for s in statuses if OBSERVATIONS[1] in s.message]

    assert "nothing on" in peer.until(warned, "a warning that names the topic")[0]
    assert nodes["edge_0"].end() == 0
    for name, process in nodes.items():
        assert "Traceback" not in process.output, name
