"""~/texture and the colours of meshes and markers, over DDS."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")
pytest.importorskip("hand_mesh_ros.ros")  # gives tf2_msgs where ROS comes from wheels

from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.serialization import deserialize_message, serialize_message
from visualization_msgs.msg import MarkerArray

from hand_mesh_ros.hand.model import load_hand_model
from hand_mesh_ros.msg import Hand, HandMesh, HandTexture
from hand_mesh_ros.networks.assets import AssetError, landmark_network_path
from hand_mesh_ros.perception import hand_texture
from hand_mesh_ros.ros import markers, outputs
from hand_mesh_ros.ros.images import nanoseconds
from hand_mesh_ros.ros.packed import HandMeshes
from hand_mesh_ros.ros.settings import LiveSettings
from hand_mesh_ros.ros.textures import TextureSettings
from hand_mesh_ros.types import SIDES, Camera, Frame, FrameSet, View

LIVE = LiveSettings("", True, True, 0.6, 0.4, 60, 60.0, 600, 90.0)
LATCHED = QoSProfile(depth=20, durability=DurabilityPolicy.TRANSIENT_LOCAL)
SECOND = 10**9


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The cameras in whose pictures skin was really looked at."""
    try:
        landmark_network_path("hand_landmark_full")
    except AssetError as error:
        pytest.skip(str(error))
    real, seen = hand_texture.view_colours, []

    def counted(view: View, *more: Any) -> Any:
        seen.append(view.index)
        return real(view, *more)

    monkeypatch.setattr(hand_texture, "view_colours", counted)
    return seen


class Bench:
    """Outputs of a node that sees two hands with two cameras, and a listener."""

    def __init__(self, ros_node: Callable[..., Any], make_hand: Any, make_set: Any) -> None:
        self.node, self.listener = ros_node("hand_mesh_node"), ros_node("listener")
        self.models = {side: load_hand_model(side=side) for side in SIDES}
        settings = TextureSettings(period=1.0, pictures=2)
        self.outputs = outputs.HandOutputs(self.node, ("front", "left"), self.models, settings)
        self.executor = SingleThreadedExecutor(context=self.listener.context)
        self.executor.add_node(self.listener)
        both = make_set(make_hand("right", 4), make_hand("left", 9, seed=3))
        views = tuple(self.view(i) for i in range(2))
        self.frames = FrameSet(tuple(v.frame for v in views))
        self.hands = replace(both, observed=(views, views))

    @staticmethod
    def view(index: int) -> View:
        T = np.eye(4)
        T[2, 3] = 1.5
        K = np.array([[300.0, 0, 80], [0, 300, 60], [0, 0, 1]])
        camera = Camera(("front", "left")[index], 160, 120, K, T_camera_world=T)
        frame = Frame(camera, 0, np.full((120, 160, 3), 120, np.uint8))
        roi = np.array([80.0, 60, 110, 0.3])
        zero = np.zeros((21, 3))
        return View(index, camera, zero[:, :2], np.ones(21), zero, 1.0, 1.0, roi, frame)

    def publish(self, seconds: float, live: LiveSettings = LIVE) -> None:
        hands = replace(self.hands, stamp_ns=self.hands.stamp_ns + round(seconds * SECOND))
        self.outputs.publish(hands, self.frames, "world", live, lambda stamp_ns: 0.1)

    def subscribe(self, topic: str, kind: Any, qos: Any = 20) -> list[Any]:
        heard: list[Any] = []
        name = f"/hand_mesh_node/{topic}"
        self.listener.create_subscription(kind, name, heard.append, qos)
        publisher = next(p for p in self.node.publishers if p.topic_name == name)
        self.spin_until(lambda: publisher.get_subscription_count() > 0)
        return heard

    def spin_until(self, done: Callable[[], bool]) -> None:
        for _ in range(2000):
            if done():
                return
            self.executor.spin_once(timeout_sec=0.01)
        pytest.fail("waited 20 s in vain")


@pytest.fixture
def bench(ros_node: Callable[..., Any], make_hand: Any, make_set: Any) -> Bench:
    return Bench(ros_node, make_hand, make_set)


def test_textures_are_told_each_period_and_to_those_who_come_late(
    bench: Bench, looks: list[int]
) -> None:
    bench.publish(0.0)
    assert not looks  # nobody wants to know
    heard = bench.subscribe("texture", HandTexture, LATCHED)
    for seconds in (0.0, 0.5, 0.9, 1.1):
        bench.publish(seconds)
    bench.spin_until(lambda: len(heard) == 4)
    assert looks == [0, 0, 1, 1]  # both hands, at 0.0 and at 1.1 s, in one camera after the other
    assert [(m.track_id, m.pictures) for m in heard] == [(4, 1), (9, 1), (4, 2), (9, 2)]
    late = bench.subscribe("texture", HandTexture, LATCHED)
    bench.spin_until(lambda: len(late) == 2)
    assert late == heard[2:]
    right, left = late
    model = bench.models["left"]
    assert (right.side, left.side) == (Hand.RIGHT, Hand.LEFT)
    assert left.topology_id == model.model_id and left.header.frame_id == "world"
    assert nanoseconds(left.header.stamp) == bench.hands.stamp_ns + round(1.1 * SECOND)
    count = model.num_vertices
    assert (len(left.colours), len(left.observed), len(left.sigma)) == (3 * count, count, count)
    assert min(left.colours) > 0 and min(left.sigma) > 0
    bench.publish(-100.0)  # a clock that went back
    assert len(looks) == 6


def test_meshes_and_markers_have_the_colours_of_the_texture(
    bench: Bench, looks: list[int]
) -> None:
    meshes, shown = bench.subscribe("mesh", HandMesh), bench.subscribe("markers", MarkerArray)
    told = bench.subscribe("texture", HandTexture, LATCHED)
    coloured = replace(LIVE, mesh_texture=True, marker_texture=True)
    for seconds, live in ((0.0, coloured), (0.1, coloured), (0.2, LIVE)):
        bench.publish(seconds, live)
    bench.spin_until(lambda: len(meshes) == 6 and len(shown) == 3 and len(told) == 2)
    by_track = {m.track_id: np.asarray(m.colours).reshape(-1, 3) for m in told}
    counts = [len(m.colours) for m in meshes]
    assert counts == [0, 0, *[len(c) * 3 for c in by_track.values()], 0, 0]
    for mesh in meshes[2:4]:
        np.testing.assert_array_equal(
            np.asarray(mesh.colours).reshape(-1, 3), by_track[mesh.track_id]
        )
    before, now, after = ([m for m in s.markers if m.ns.endswith("/mesh")] for s in shown)
    assert [len(m.colors) for m in (*before, *after)] == [0, 0, 0, 0]
    for marker, track in zip(now, (4, 9), strict=True):
        faces = bench.models["right" if track == 4 else "left"].faces
        assert len(marker.colors) == len(marker.points) == faces.size
        painted = np.array([[c.r, c.g, c.b] for c in marker.colors])
        np.testing.assert_allclose(painted, by_track[track][faces.ravel()] / 255, atol=1e-6)


def test_colours_alone_make_the_node_look_too(bench: Bench, looks: list[int]) -> None:
    bench.subscribe("markers", MarkerArray)
    bench.publish(0.0)
    assert not looks
    bench.publish(0.0, replace(LIVE, mesh_texture=True))
    assert not looks  # of meshes that nobody wants
    bench.publish(0.0, replace(LIVE, marker_texture=True))
    assert looks == [0, 0]


def test_coloured_messages_written_over_are_those_built_anew(
    make_hand: Any, make_set: Any
) -> None:
    rng, model = np.random.default_rng(0), load_hand_model(side="right")
    faces = {"right": model.faces}
    packed, shown = HandMeshes(pytest.fail), markers.HandMarkers(faces, pytest.fail)
    for track in (1, 2, 3):
        hand = make_hand("right", track, seed=track)
        colours = rng.integers(0, 256, (model.num_vertices, 3)).astype(np.uint8)
        data = packed.build(hand, "id", "world", track, colours)
        mesh = deserialize_message(data, HandMesh)
        np.testing.assert_array_equal(np.asarray(mesh.colours).reshape(-1, 3), colours)
        hands = make_set(hand)
        data = shown.build(hands, "world", 0.4, {track: colours})
        expected = markers.marker_array(hands, faces, "world", 0.4, colours={track: colours})
        found = deserialize_message(data, MarkerArray)
        ours = [m for m in found.markers if m.action != m.DELETE]
        assert ours == deserialize_message(serialize_message(expected), MarkerArray).markers
