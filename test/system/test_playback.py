"""camera_cell_node plays the synthetic cell into hand_mesh_node, both as processes."""

from __future__ import annotations

from collections.abc import Callable
from signal import SIGINT, SIGTERM
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from sensor_msgs.msg import CameraInfo, Image
from tf2_msgs.msg import TFMessage

from hand_mesh_ros.msg import HandArray
from hand_mesh_ros.ros.images import nanoseconds
from hand_mesh_ros.ros.readers import hand_set

SCENE = {"cameras": 2, "hands": ["right"], "seconds": 0.8, "fps": 10.0}
NAMES = ["camera_0", "camera_1"]
NODE = {
    "cameras": NAMES,
    "num_threads": 1,
    "sync": {"max_wait": 1.0},
    "camera": {name: {"reliability": "reliable"} for name in NAMES},
}
SYNTHETIC = {f"synthetic.{key}": value for key, value in SCENE.items()}
HANDS, TRUTH = "/hand_mesh_node/hands", "/camera_cell_node/ground_truth"


def by_stamp(peer: Any, topic: str) -> dict[int, Any]:
    return {nanoseconds(m.header.stamp): m for m in peer.heard[topic]}


def test_a_scene_in_lockstep_to_its_end(start: Callable[..., Any], peer: Any) -> None:
    """The second subscriber to CameraInfo is the test: nothing is played before it listens."""
    subscriptions = [peer.listen(topic, HandArray) for topic in (HANDS, TRUTH)]
    node = start("hand_mesh_node", NODE)
    cell = start("camera_cell_node", {**SYNTHETIC, "pace": "lockstep", "info_subscribers": 2})

    def connected() -> bool:
        assert node.running() and cell.running(), node.output + cell.output
        return all(s.get_publisher_count() for s in subscriptions)

    peer.until(connected, "both nodes' publishers")
    for name in NAMES:
        peer.listen(f"/{name}/camera_info", CameraInfo)
    peer.until(lambda: not cell.running(), "the end of the scene")
    assert cell.wait() == 0, cell.output
    assert "not answered" not in cell.output
    peer.until(lambda: len(peer.heard[HANDS]) >= 8, patience=2)

    truths, answers = by_stamp(peer, TRUTH), by_stamp(peer, HANDS)
    assert len(truths) == 8
    assert sorted(answers) == sorted(truths)
    errors = []
    for stamp, truth in truths.items():
        (expected,) = hand_set(truth).hands
        assert answers[stamp].header.frame_id == truth.header.frame_id == "world"
        for hand in hand_set(answers[stamp]).hands:
            assert hand.estimate.side == "right"
            distance = np.linalg.norm(hand.estimate.joints - expected.estimate.joints, axis=-1)
            errors.append(distance.mean())
    assert len(errors) >= 7
    assert np.median(errors) < 0.03
    assert node.end(SIGTERM) == 0
    assert "Traceback" not in node.output + cell.output


def test_a_loop_is_published_until_it_is_stopped(start: Callable[..., Any], peer: Any) -> None:
    peer.listen("/camera_0/image_raw", Image)
    peer.listen("/camera_1/image_raw", Image)
    infos = [peer.listen(f"/{name}/camera_info", CameraInfo) for name in NAMES]
    peer.listen("/tf_static", TFMessage, peer.latched)
    playing = {**SYNTHETIC, "loop": True, "rate": 20.0, "start_delay": 0.0}
    cell = start("camera_cell_node", playing)

    def looped() -> bool:
        stamps = [nanoseconds(m.header.stamp) for m in peer.heard["/camera_0/image_raw"]]
        return any(b < a for a, b in zip(stamps, stamps[1:], strict=False))

    peer.until(lambda: looped() or not cell.running(), "the second round")
    assert cell.running(), cell.output
    heard = [f"/{name}/camera_info" for name in NAMES]
    peer.until(lambda: all(peer.heard[topic] for topic in heard), "camera_info of both")
    assert all(info.get_publisher_count() for info in infos)
    (transforms,) = [m.transforms for m in peer.heard["/tf_static"]][-1:]
    assert {t.header.frame_id for t in transforms} == {"world"}
    assert {t.child_frame_id for t in transforms} == {f"{n}_optical_frame" for n in NAMES}
    for name in NAMES:
        info, image = peer.heard[f"/{name}/camera_info"][-1], peer.heard[f"/{name}/image_raw"][-1]
        assert (info.width, info.height) == (image.width, image.height)
        assert info.header.frame_id == image.header.frame_id == f"{name}_optical_frame"
    assert cell.end(SIGINT) == 0
    assert "Traceback" not in cell.output


@pytest.mark.parametrize(
    ("parameters", "complaint"),
    [
        ({"source": "no/such/recording"}, "no/such/recording"),
        ({"synthetic.hands": ["both"]}, "left and right"),
        ({**SYNTHETIC, "synthetic.cameras": 3, "start_timeout": 0.2}, "nobody subscribes to"),
        ({"rate": 0.0}, "rate"),
        ({"loop": "yes, please"}, "loop"),
    ],
    ids=["source", "hands", "nobody", "range", "type"],
)
def test_what_is_wrong_is_said_and_ends_it(
    start: Callable[..., Any], parameters: dict[str, Any], complaint: str
) -> None:
    cell = start("camera_cell_node", parameters)
    assert cell.wait() == 1
    assert complaint in cell.output
    assert "Traceback" not in cell.output
