"""What the node publishes, and that nobody pays for what nobody wants."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")
pytest.importorskip("hand_mesh_ros.ros")  # gives tf2_msgs where ROS comes from wheels

from geometry_msgs.msg import PoseArray, PoseStamped, PoseWithCovarianceStamped
from rclpy.executors import SingleThreadedExecutor
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CompressedImage, Image
from tf2_msgs.msg import TFMessage
from visualization_msgs.msg import MarkerArray

from hand_mesh_ros.hand.model import load_hand_model
from hand_mesh_ros.msg import HandArray, HandMesh, HandObservations
from hand_mesh_ros.perception.surface import with_meshes
from hand_mesh_ros.render import overlay
from hand_mesh_ros.ros import builders, markers, outputs
from hand_mesh_ros.ros.images import decode_image, nanoseconds
from hand_mesh_ros.ros.settings import LiveSettings
from hand_mesh_ros.types import SIDES, Camera, Frame, FrameSet

LIVE = LiveSettings(
    "", True, True, 0.6, 0.4, calibration_frames=60, calibration_timeout=60.0,
    cell_sets=600, cell_timeout=90.0)  # fmt: skip
CAMERAS = ("front", "left", "top")
COSTLY = {
    "mesh": (HandMesh, builders, "fill_hand_mesh"),
    "/tf": (TFMessage, builders, "fill_transforms"),
    "markers": (MarkerArray, markers.HandMarkers, "build"),
    "right/wrist_pose": (PoseWithCovarianceStamped, builders, "wrist_pose"),
    "right/wrist_pose_stamped": (PoseStamped, builders, "wrist_pose_stamped"),
    "right/joints": (PoseArray, builders, "joint_poses"),
    "observations/left": (HandObservations, builders, "observations"),
    "overlay/left": (Image, overlay, "draw_views"),
    "overlay/left/compressed": (CompressedImage, overlay, "draw_views"),
}


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each costly thing was really computed."""
    counted: Counter[str] = Counter()

    def counting(owner: Any, name: str) -> None:
        real = getattr(owner, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            counted[name] += 1
            return real(*args, **kwargs)

        monkeypatch.setattr(owner, name, call)

    for owner, name in {(owner, name) for _, owner, name in COSTLY.values()}:
        counting(owner, name)
    return counted


class Bench:
    """Outputs of a node and what a second node hears of them."""

    def __init__(self, ros_node: Callable[..., Any], hands: Any) -> None:
        self.hands = hands
        self.node, self.listener = ros_node("hand_mesh_node"), ros_node("listener")
        self.models = {side: load_hand_model(side=side) for side in SIDES}
        self.outputs = outputs.HandOutputs(self.node, CAMERAS, self.models)
        camera = Camera("", 160, 120, np.array([[100.0, 0, 80], [0, 100, 60], [0, 0, 1]]))
        image = np.zeros((120, 160, 3), np.uint8)
        frames = []
        for name in CAMERAS:
            T = np.eye(4)
            T[2, 3] = 1.5
            placed = Camera(name, 160, 120, camera.K, T_camera_world=T, frame_id=f"{name}_lens")
            frames.append(Frame(placed, hands.stamp_ns, image))
        self.frames = FrameSet(tuple(frames))
        self.executor = SingleThreadedExecutor(context=self.listener.context)
        self.executor.add_node(self.listener)

    def publish(self, live: LiveSettings = LIVE) -> None:
        self.outputs.publish(self.hands, self.frames, "world", live, lambda stamp_ns: 0.125)

    def subscribe(self, topic: str, kind: Any) -> list[Any]:
        """Messages of a topic, once the publisher knows of the subscription."""
        heard: list[Any] = []
        name = topic if topic.startswith("/") else f"/hand_mesh_node/{topic}"
        self.listener.create_subscription(kind, name, heard.append, 5)
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
    return Bench(ros_node, make_set(make_hand("right", 1)))


def test_nobody_pays_for_what_nobody_wants(bench: Bench, calls: Counter[str]) -> None:
    bench.publish()
    assert not calls


@pytest.mark.parametrize("topic", sorted(COSTLY))
def test_what_is_wanted_is_made_and_nothing_else(
    bench: Bench, calls: Counter[str], topic: str
) -> None:
    kind, _, name = COSTLY[topic]
    heard = bench.subscribe(topic, kind)
    bench.publish()
    bench.spin_until(lambda: len(heard) == 1)
    assert set(calls) == {name}


def test_overlays_are_drawn_at_once_for_those_who_look(
    bench: Bench, calls: Counter[str]
) -> None:
    raw = {name: bench.subscribe(f"overlay/{name}", Image) for name in ("front", "top")}
    small = bench.subscribe("overlay/top/compressed", CompressedImage)
    for count in (1, 2):
        bench.publish()
        bench.spin_until(lambda: all(len(h) == count for h in (*raw.values(), small)))  # noqa: B023
        assert calls == {"draw_views": count}
    for name, heard in raw.items():
        frame = next(f for f in bench.frames.frames if f.camera.name == name)
        meshes = with_meshes(bench.hands, bench.models)
        faces = {side: model.faces for side, model in bench.models.items()}
        drawn = overlay.draw_hands(frame.image, frame.camera, meshes.hands, faces)
        assert drawn.any()
        for message in heard:
            assert message.header.frame_id == f"{name}_lens"
            assert nanoseconds(message.header.stamp) == frame.stamp_ns
            np.testing.assert_array_equal(decode_image(message, name), drawn)


def test_a_camera_without_an_image_has_no_overlay(bench: Bench, calls: Counter[str]) -> None:
    """But what its edge node saw is told, and the others' pictures are drawn."""
    pictures = {n: bench.subscribe(f"overlay/{n}", Image) for n in ("front", "left")}
    seen = bench.subscribe("observations/left", HandObservations)
    none = np.zeros((0, 0, 3), np.uint8)
    bench.frames = FrameSet(
        tuple(
            replace(f, image=none, observed=()) if f.camera.name == "left" else f
            for f in bench.frames.frames
        )
    )
    for count in (1, 2):
        bench.publish()
        bench.spin_until(lambda: len(pictures["front"]) == len(seen) == count)  # noqa: B023
    assert not pictures["left"]
    bench.frames = FrameSet(tuple(replace(f, observed=()) for f in bench.frames.frames))
    before = calls["draw_views"]
    bench.publish()
    bench.spin_until(lambda: len(seen) == 3)
    assert calls["draw_views"] == before


def test_what_is_heard_is_what_the_builders_make(
    bench: Bench, make_hand: Any, make_set: Any
) -> None:
    """Over DDS, also for hands that are written over others."""
    topics = {"mesh": HandMesh, "markers": MarkerArray, "/tf": TFMessage}
    heard = {topic: bench.subscribe(topic, kind) for topic, kind in topics.items()}
    bench.publish()
    hand = make_hand("right", 8, seed=5)
    bench.hands = replace(make_set(hand), stamp_ns=bench.hands.stamp_ns + 10**10)
    bench.publish()
    bench.spin_until(lambda: all(len(h) == 2 for h in heard.values()))
    model, stamp = bench.models["right"], bench.hands.stamp_ns
    assert heard["mesh"][1] == builders.hand_mesh(hand, model.model_id, "world", stamp)
    faces = {side: m.faces for side, m in bench.models.items()}
    expected = markers.marker_array(bench.hands, faces, "world", LIVE.marker_lifetime)
    assert heard["markers"][1] == deserialize_message(serialize_message(expected), MarkerArray)
    assert heard["/tf"][1].transforms == builders.transforms(bench.hands, "world", "", True)


def test_hands_are_always_published_and_tell_their_latency(bench: Bench) -> None:
    heard = bench.subscribe("hands", HandArray)
    bench.publish()
    bench.spin_until(lambda: len(heard) == 1)
    assert heard[0].latency == 0.125
    assert len(heard[0].hands) == 1


def test_closing_ends_every_publisher(bench: Bench) -> None:
    ours = "/hand_mesh_node/"
    assert any(p.topic_name.startswith(ours) for p in bench.node.publishers)
    bench.outputs.close()
    left = {p.topic_name for p in bench.node.publishers}
    assert not {name for name in left if name.startswith(ours)} and "/tf" not in left
