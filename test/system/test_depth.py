"""One camera with a depth image, through the real node: metric, and told so."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from rcl_interfaces.msg import Log
from sensor_msgs.msg import Image

from hand_mesh_ros.msg import Hand, HandArray
from hand_mesh_ros.render.depth_sensor import DepthSensor
from hand_mesh_ros.render.synthetic import SyntheticCell
from hand_mesh_ros.ros.images import encode_depth, nanoseconds
from hand_mesh_ros.ros.readers import hand_set

HANDS, DEPTH = "/hand_mesh_node/hands", "/camera_0/depth/image_raw"
SETS = 15
NODE = {
    "cameras": ["camera_0"],
    "output_frame": "world",
    "num_threads": 1,
    "camera": {"camera_0": {"reliability": "reliable"}},
}
CELL = {
    "synthetic": {"cameras": 1, "seconds": SETS / 5, "fps": 5.0, "seed": 2, "depth": True},
    "pace": "lockstep",
}


def played(start: Callable[..., Any], peer: Any, depth_topic: str) -> tuple[np.ndarray, set[int]]:
    """Wrist errors (N,), m, over the synthetic scene, and the sources of scale."""
    peer.heard[HANDS].clear()
    hands = peer.listen(HANDS, HandArray)
    camera = NODE["camera"]["camera_0"] | {"depth_topic": depth_topic}  # type: ignore[index]
    node = start("hand_mesh_node", NODE | {"camera": {"camera_0": camera}})
    peer.until(lambda: hands.get_publisher_count() or not node.running(), "the node's hands")
    assert node.running(), node.output
    cell = start("camera_cell_node", CELL)
    peer.until(lambda: not cell.running(), "the end of the scene")
    assert cell.wait() == 0, cell.output
    assert node.end() == 0, node.output
    peer.node.destroy_subscription(hands)
    scene = SyntheticCell(cameras=1, seconds=SETS / 5, fps=5, seed=2)
    truths = {scene.stamp_ns(scene.time(i)): scene.ground_truth(i)[0] for i in range(len(scene))}
    errors, sources = [], set()
    for message in peer.heard[HANDS]:
        if message.hands:
            wrist = hand_set(message).hands[0].estimate.wrist[:3, 3]
            truth = truths[nanoseconds(message.header.stamp)].wrist[:3, 3]
            errors.append(np.linalg.norm(wrist - truth))
            sources.add(message.hands[0].scale_source)
    return np.array(errors), sources


def test_depth_makes_one_camera_metric(start: Callable[..., Any], peer: Any) -> None:
    without, sources = played(start, peer, "")
    assert len(without) >= 0.8 * SETS and sources == {Hand.SCALE_MODEL_PRIOR}
    with_depth, sources = played(start, peer, DEPTH)
    assert len(with_depth) >= 0.8 * SETS and sources == {Hand.SCALE_DEPTH}
    assert np.median(with_depth) < 0.015
    assert np.median(with_depth) < 0.5 * np.median(without)


class DepthCell:
    """The first camera of the test's cell, with depth images that a test may spoil."""

    def __init__(self, peer: Any, cell: Any) -> None:
        self.peer, self.cell = peer, cell
        scene = SyntheticCell(
            cameras=2, seconds=1.0, width=320, height=240, depth=DepthSensor()
        )
        (self.frame, _) = scene.frame_set(0).frames
        self._publisher = peer.publisher(DEPTH, Image)

    def ready(self) -> bool:
        return self._publisher.get_subscription_count() > 0

    def see(self, wanted: Callable[[Any], bool], **spoiled: Any) -> Any:
        """Show instants with depth until the answer is as wanted; None after twenty."""
        for _ in range(20):
            stamp = self.cell.new_stamp()
            depth = spoiled.get("depth", self.frame.depth)
            frame_id = spoiled.get("frame_id", self.frame.camera.frame_id)
            self._publisher.publish(encode_depth(depth, stamp, frame_id))
            self.cell.publish(0, *self.cell.messages(0, stamp))
            answer = self.cell.answer(stamp, patience=3)
            if answer is not None and answer.hands and wanted(answer.hands[0]):
                return answer
        return None


@pytest.fixture
def depth_cell(start: Callable[..., Any], peer: Any, cell: Any) -> Iterator[DepthCell]:
    made = DepthCell(peer, cell)
    peer.listen("/rosout", Log, peer.latched)
    camera = {"reliability": "reliable", "depth_topic": DEPTH}
    node = start("hand_mesh_node", NODE | {"camera": {"camera_0": camera}})
    peer.until(lambda: made.ready() or not node.running(), "the node's subscriptions")
    assert node.running(), node.output
    yield made
    assert node.end() == 0
    assert "Traceback" not in node.output


def test_depth_that_does_not_fit_is_named_and_not_used(depth_cell: DepthCell, peer: Any) -> None:
    def by_depth(hand: Any) -> bool:
        return bool(hand.scale_source == Hand.SCALE_DEPTH)

    def by_size(hand: Any) -> bool:
        return bool(hand.scale_source == Hand.SCALE_MODEL_PRIOR)

    def told(pattern: str) -> Callable[[], bool]:
        return lambda: any(
            m.level >= 40 and DEPTH in m.msg and pattern in m.msg for m in peer.heard["/rosout"]
        )

    assert depth_cell.see(by_depth)
    depth = depth_cell.frame.depth
    assert depth is not None
    assert depth_cell.see(by_size, depth=depth[::2, ::2])
    peer.until(told("160x120"), "the sizes in an error")
    assert depth_cell.see(by_size, frame_id="camera_0_depth_frame")
    peer.until(told("camera_0_depth_frame"), "the frames in an error")
    assert depth_cell.see(by_size, depth=np.zeros_like(depth))  # all holes: no error, no depth
    assert depth_cell.see(by_depth)
