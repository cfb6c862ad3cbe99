"""Cameras of other machines as inputs: what is bad or of another time harms nobody else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import CameraInfo, Image

from hand_mesh_ros.msg import HandObservations
from hand_mesh_ros.perception.frame_sets import SyncSettings
from hand_mesh_ros.ros import builders
from hand_mesh_ros.ros.camera_info import camera_info_message
from hand_mesh_ros.ros.images import encode_image
from hand_mesh_ros.ros.inputs import CameraInputs
from hand_mesh_ros.ros.settings import Sync, load_settings
from hand_mesh_ros.types import Camera, FrameSet, View

K = np.array([[500.0, 0, 160], [0, 500, 120], [0, 0, 1]])
LOCAL = Camera("local", 320, 240, K, frame_id="lens")
FAR = Camera("far", 320, 240, K, frame_id="lens")
TOPIC = "/edge/observations/far"


class Bench:
    """CameraInputs of a local camera and one far away, and a node that plays both."""

    def __init__(self, ros_node: Callable[..., Any]) -> None:
        self.node, self.player = ros_node(
            cameras=["local", "far"],
            camera__far__observations_topic=TOPIC,
            output_frame="lens",
        ), ros_node("player")
        self.complaints: list[str] = []
        self.sets: list[FrameSet] = []
        self.jumps = 0
        self.inputs = CameraInputs(
            self.node,
            load_settings(self.node).cameras,
            Sync(SyncSettings(max_wait=0.05)),
            "lens",
            lambda key, text: self.complaints.append(text),
            self._on_sets,
            self._on_jump,
        )
        make = self.player.create_publisher
        self.images = make(Image, "local/image_raw", 10)
        self.infos = [make(CameraInfo, f"{c.name}/camera_info", 10) for c in (LOCAL, FAR)]
        self.far = make(HandObservations, TOPIC, 10)
        self.executor = SingleThreadedExecutor(context=self.node.context)
        self.executor.add_node(self.node)
        publishers = (self.images, *self.infos, self.far)
        self.until(lambda: all(p.get_subscription_count() for p in publishers))
        for info, camera in zip(self.infos, (LOCAL, FAR), strict=True):
            info.publish(camera_info_message(camera, 1))
        self.until(lambda: len(self.inputs._models._infos) == 2)

    def _on_sets(self, sets: list[Any]) -> None:
        found = [self.inputs.frame_set(raw) for raw in sets]
        self.sets += [frames for frames in found if frames is not None]

    def _on_jump(self) -> None:
        self.jumps += 1

    def now(self) -> int:
        return int(self.node.get_clock().now().nanoseconds)

    def until(self, done: Callable[[], bool]) -> None:
        for _ in range(2000):
            if done():
                return
            self.executor.spin_once(timeout_sec=0.01)
        pytest.fail("waited 20 s in vain")

    def show(self, stamp: int, spoil: Callable[[Any], None] = lambda m: None, off: int = 0) -> None:
        """One instant of both cameras; the far one's clock is off by ``off`` nanoseconds."""
        rng = np.random.default_rng(1)
        seen = View(0, FAR, rng.uniform(80, 160, (21, 2)), np.full(21, 2.0),
                    rng.normal(0, 0.05, (21, 3)), 0.9, 0.9, np.zeros(4))  # fmt: skip
        message = builders.observations("far", (320, 240), [(seen, 1)], "lens", stamp + off)
        spoil(message)
        before = self.inputs.received.copy()
        self.far.publish(message)
        self.images.publish(encode_image(np.zeros((240, 320, 3), np.uint8), stamp, "lens"))
        self.until(lambda: all(self.inputs.received[n] > before[n] for n in ("local", "far")))

    def cameras(self, stamp: int) -> list[str]:
        """Names of the cameras in the set of a stamp."""
        self.until(lambda: any(s.stamp_ns == stamp for s in self.sets))
        (found,) = [s for s in self.sets if s.stamp_ns == stamp]
        return [frame.camera.name for frame in found.frames]


@pytest.fixture
def bench(ros_node: Callable[..., Any]) -> Bench:
    return Bench(ros_node)


def test_images_and_observations_make_one_set(bench: Bench) -> None:
    stamp = bench.now()
    bench.show(stamp)
    assert bench.cameras(stamp) == ["local", "far"]
    local, far = bench.sets[0].frames
    assert local.observed is None and local.image.shape == (240, 320, 3)
    assert far.image.shape == (0, 0, 3) and far.stamp_ns == stamp
    assert far.observed is not None and len(far.observed) == 1
    assert bench.inputs.topic(1) == TOPIC
    states = bench.inputs.states(lambda stamp: 0.5, {"far": 2.5})
    assert [(s.topic, s.rate, s.age, s.clock) for s in states][1] == (TOPIC, 1.0, 0.5, "")
    assert states[1].reprojection_px == 2.5
    assert [s.rate for s in bench.inputs.states(lambda stamp: 0.5, {})] == [0, 0]


def test_no_image_is_subscribed_to(bench: Bench) -> None:
    names = {s.topic_name for s in bench.node.subscriptions}
    assert "/local/image_raw" in names and TOPIC in names
    assert "/far/image_raw" not in names


def test_a_bad_message_costs_itself_and_is_named(bench: Bench) -> None:
    first = bench.now()
    bench.show(first, lambda m: setattr(m, "landmarks", m.landmarks[:-1]))
    assert bench.cameras(first) == ["local"]
    (told,) = bench.complaints
    assert TOPIC in told and "landmarks has 41 values, expected 42" in told
    assert bench.inputs.refused["far"] == 1
    second = first + 30_000_000
    bench.show(second)
    assert bench.cameras(second) == ["local", "far"]


@pytest.mark.parametrize("seconds", [-5, 5])
def test_another_clock_is_told_and_harms_nobody(bench: Bench, seconds: int) -> None:
    stamp = bench.now()
    bench.show(stamp)
    assert bench.cameras(stamp) == ["local", "far"]
    for number in range(1, 4):
        at = stamp + number * 33_000_000
        # Only its own offsets may count: those of before were right.
        bench.inputs.clocks._offsets[1].clear()
        bench.show(at, off=seconds * 10**9)
        assert bench.cameras(at) == ["local"]
    told = bench.complaints[0]
    assert TOPIC in told and "PTP, chrony" in told and "camera local" in told
    assert ("ahead of" if seconds > 0 else "behind") in told
    assert bench.inputs.refused["far"] == 3
    assert bench.jumps == 0
    local, far = bench.inputs.states(lambda stamp: 0.0, {})
    assert "not synchronised" in far.clock and local.clock == ""


def test_a_stamp_of_zero_is_refused(bench: Bench) -> None:
    bench.show(bench.now(), lambda m: setattr(m.header.stamp, "sec", 0) or
               setattr(m.header.stamp, "nanosec", 0))  # fmt: skip
    assert any("without a stamp" in told and TOPIC in told for told in bench.complaints)
