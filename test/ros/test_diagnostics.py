"""Diagnostics: one status for the pipeline, one a camera, and the name of what is missing."""

from __future__ import annotations

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.serialization import deserialize_message, serialize_message

from hand_mesh_ros.ros.diagnostics import CameraRate, Statistics, diagnostics

FRONT = CameraRate("front", 30.0, 0, "/front/image_raw")
STATISTICS = Statistics(
    sets=12, hands=20, dropped_sets=3, failures=1, latency=0.0421, stages={"observe": 0.0305}
)


def made(*cameras: CameraRate) -> list[DiagnosticStatus]:
    message = diagnostics("hand_mesh_node", 1_500_000_000, STATISTICS, {"late": 2}, cameras)
    received = deserialize_message(serialize_message(message), DiagnosticArray)
    assert (received.header.stamp.sec, received.header.stamp.nanosec) == (1, 500_000_000)
    return list(received.status)


def test_all_is_well() -> None:
    pipeline, front = made(FRONT)
    assert pipeline.name == "hand_mesh_node: pipeline"
    assert front.name == "hand_mesh_node: camera front"
    assert pipeline.level == front.level == DiagnosticStatus.OK
    values = {pair.key: pair.value for pair in pipeline.values}
    assert values["frame sets"] == "12"
    assert values["hands"] == "20"
    assert values["latency (s)"] == "0.042"
    assert values["observe (ms)"] == "30.5"
    assert values["frames late"] == "2"
    assert values["failures"] == "1"


def test_a_silent_camera_is_named_with_its_topic() -> None:
    silent = CameraRate("left", 0.0, 4, "/left/image_raw")
    pipeline, front, left = made(FRONT, silent)
    assert front.level == DiagnosticStatus.OK
    assert pipeline.level == left.level == DiagnosticStatus.WARN
    assert "left" in pipeline.message and "front" not in pipeline.message
    assert "/left/image_raw" in left.message
    assert {pair.key: pair.value for pair in left.values}["refused"] == "4"
