"""hand_edge_node in this process, with the real networks, a rendered camera and its depth."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

import rclpy
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.qos import ReliabilityPolicy, qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, Image

from hand_mesh_ros.msg import HandObservations
from hand_mesh_ros.networks.assets import AssetError, fetch_landmark_networks
from hand_mesh_ros.render.depth_sensor import DepthSensor
from hand_mesh_ros.render.synthetic import SyntheticCell
from hand_mesh_ros.ros.camera_info import camera_info_message
from hand_mesh_ros.ros.edge_node import HandEdgeNode
from hand_mesh_ros.ros.images import encode_depth, encode_image, nanoseconds
from hand_mesh_ros.ros.readers import views

START = 1_763_700_000_123_456_789
TOPIC = "/hand_edge_node/observations/camera_0"
_domains = itertools.count(20)


class Bench:
    """The node, active, and another one that plays its camera and listens."""

    def __init__(self, context: Any, **parameters: Any) -> None:
        values = {
            "cameras": ["camera_0"],
            "camera.camera_0.depth_topic": "depth",
            "num_threads": 1,
            "autostart": False,
            **parameters,
        }
        overrides = [rclpy.Parameter(key, value=value) for key, value in values.items()]
        self.node = HandEdgeNode(context=context, parameter_overrides=overrides)
        self.player = rclpy.create_node("player", context=context)
        self.cell = SyntheticCell(cameras=1, seconds=1.0, depth=DepthSensor())
        self.executor = SingleThreadedExecutor(context=context)
        self.executor.add_node(self.node)
        self.executor.add_node(self.player)
        make = self.player.create_publisher
        self._publishers = [
            make(CameraInfo, "camera_0/camera_info", 5),
            make(Image, "depth", 5),
            make(Image, "camera_0/image_raw", 5),
        ]
        self.heard: list[Any] = []
        self._count = itertools.count()

    def activate(self) -> None:
        assert self.node.trigger_configure() == TransitionCallbackReturn.SUCCESS
        assert self.node.trigger_activate() == TransitionCallbackReturn.SUCCESS
        self.until(lambda: all(p.get_subscription_count() for p in self._publishers))

    def listen(self) -> None:
        qos = qos_profile_sensor_data
        self.player.create_subscription(HandObservations, TOPIC, self.heard.append, qos)
        publisher = self.node._observations["camera_0"]
        self.until(lambda: publisher.get_subscription_count() > 0)

    def until(self, done: Callable[[], Any]) -> None:
        for _ in range(2000):
            if done():
                return
            self.executor.spin_once(timeout_sec=0.01)
        pytest.fail("waited 20 s in vain")

    def show(self) -> int:
        """One frame; returns its capture time once the node has taken it in."""
        number = next(self._count)
        stamp = START + number * 66_666_667
        (frame,) = self.cell.frame_set(number % 4).frames
        assert frame.depth is not None
        inputs, frame_id = self.node._cameras, frame.camera.frame_id
        for publisher, message in zip(
            self._publishers,
            (
                camera_info_message(frame.camera, stamp),
                encode_depth(frame.depth, stamp, frame_id),
                encode_image(frame.image, stamp, frame_id),
            ),
            strict=True,
        ):
            publisher.publish(message)
        self.until(lambda: inputs is not None and inputs.newest_ns[0] == stamp)
        return stamp


@pytest.fixture
def bench() -> Iterator[Callable[..., Bench]]:
    """``bench(**parameters)``; networks are fetched, nodes are ended."""
    try:
        fetch_landmark_networks()
    except AssetError as error:
        pytest.skip(f"no landmark networks: {error}")
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=1 + (os.getpid() * 7 + next(_domains)) % 100)
    made: list[Bench] = []

    def make(**parameters: Any) -> Bench:
        made.append(Bench(context, **parameters))
        return made[-1]

    yield make
    for each in made:
        each.node.trigger_shutdown()
        each.executor.shutdown()
        each.node.destroy_node()
        each.player.destroy_node()
    rclpy.shutdown(context=context)


def test_what_it_sees_with_depth(bench: Callable[..., Bench]) -> None:
    made = bench()
    made.activate()
    made.listen()
    stamp = made.show()
    made.until(lambda: made.heard)
    message = made.heard[-1]
    camera = made.cell.cameras[0]
    assert nanoseconds(message.header.stamp) == stamp
    assert (message.header.frame_id, message.camera) == (camera.frame_id, "camera_0")
    (view,) = views(message, camera, TOPIC)
    T = camera.T_camera_world
    true = made.cell.ground_truth(0)[0].joints @ T[:3, :3].T + T[:3, 3]
    assert view.depth is not None and view.depth_sigma is not None
    known = np.isfinite(view.depth)
    assert known.sum() > 5
    assert np.median(np.abs(view.depth - true[:, 2])[known]) < 0.015
    assert np.array_equal(np.isfinite(view.depth_sigma), known)


def test_what_nobody_listens_to_is_not_looked_at(bench: Callable[..., Bench]) -> None:
    made = bench()
    made.node._timer.cancel()  # the rate counts from one call of `statuses` to the next
    made.activate()
    made.show()
    statistics = made.node._statistics
    made.until(lambda: made.node.worker.waiting == 0)
    made.listen()
    assert statistics.sets == 0
    made.show()
    made.until(lambda: made.heard)
    assert statistics.sets == 1 and statistics.hands == 1
    # Frames of the cameras count all the while.
    whole, camera = made.node.statuses()
    assert whole.name == "hand_edge_node: pipeline"
    assert camera.name == "hand_edge_node: camera camera_0"
    assert whole.level == camera.level == DiagnosticStatus.OK
    assert {"rate (Hz)": "2.00"}.items() <= {v.key: v.value for v in camera.values}.items()
    (silent, _) = made.node.statuses()
    assert silent.level == DiagnosticStatus.WARN and "camera_0" in silent.message


@pytest.mark.parametrize("reliability", ["best_effort", "reliable"])
def test_how_it_sends_and_that_it_stops(bench: Callable[..., Bench], reliability: str) -> None:
    made = bench(**{"observations.reliability": reliability})
    made.activate()
    (offered,) = made.node.get_publishers_info_by_topic(TOPIC)
    assert offered.qos_profile.reliability == ReliabilityPolicy[reliability.upper()]
    assert made.node.trigger_deactivate() == TransitionCallbackReturn.SUCCESS
    assert made.node.trigger_cleanup() == TransitionCallbackReturn.SUCCESS
    assert made.node._pipeline is None
    made.until(lambda: not made.node.get_publishers_info_by_topic(TOPIC))
    made.activate()
    made.listen()
    made.show()
    made.until(lambda: made.heard)


def test_a_setting_that_is_wrong_is_named(
    bench: Callable[..., Bench], capfd: pytest.CaptureFixture[str]
) -> None:
    made = bench(runtime="abacus")
    assert made.node.trigger_configure() == TransitionCallbackReturn.FAILURE
    assert "runtime is 'abacus'" in capfd.readouterr().err
    assert not made.node._observations
