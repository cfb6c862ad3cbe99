"""Diagnostics: one status for the pipeline, one a camera, and the name of what is missing."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.serialization import deserialize_message, serialize_message

from hand_mesh_ros.ros.diagnostics import (
    CameraState,
    Statistics,
    camera_status,
    device_memory,
    pipeline_status,
)
from hand_mesh_ros.types import HandSet, TrackedHand

FRONT = CameraState(
    "front", "/front/image_raw", 30.0, age=0.021, reprojection_px=3.14,
    contradicted=5, dropped={"late": 7})  # fmt: skip
STATISTICS = Statistics(sets=12, hands=20, latency=0.0421, stages={"observe": 0.0305})


def made(*cameras: CameraState) -> list[DiagnosticStatus]:
    statuses = [
        pipeline_status("node", STATISTICS, cameras, {"late": 2}, failures=1, waiting=1, skipped=3),
        *(camera_status("node", camera) for camera in cameras),
    ]
    return [deserialize_message(serialize_message(s), DiagnosticStatus) for s in statuses]


def values(status: DiagnosticStatus) -> dict[str, str]:
    return {pair.key: pair.value for pair in status.values}


def test_all_is_well() -> None:
    pipeline, front = made(FRONT)
    assert pipeline.name == "node: pipeline"
    assert front.name == "node: camera front"
    assert pipeline.level == front.level == DiagnosticStatus.OK
    told = values(pipeline)
    assert told["frame sets"] == "12"
    assert told["hands"] == "20"
    assert told["latency (s)"] == "0.042"
    assert told["observe (ms)"] == "30.5"
    assert told["frames late"] == "2"
    assert told["failures"] == "1"
    assert told["sets waiting"] == "1"
    assert told["sets dropped because a newer one came"] == "3"
    told = values(front)
    assert told["age (s)"] == "0.021"
    assert told["reprojection (px)"] == "3.1"
    assert told["views contradicted by others"] == "5"
    assert told["frames late"] == "7"


def test_a_silent_camera_is_named_with_its_topic() -> None:
    silent = CameraState("left", "/left/image_raw", 0.0, refused=4)
    pipeline, front, left = made(FRONT, silent)
    assert front.level == DiagnosticStatus.OK
    assert pipeline.level == left.level == DiagnosticStatus.WARN
    assert "left" in pipeline.message and "front" not in pipeline.message
    assert "/left/image_raw" in left.message
    assert values(left)["refused"] == "4"


def test_a_camera_that_moved_is_named() -> None:
    moved = CameraState("left", "/left/image_raw", 30.0, moved="moved by about 12 px")
    pipeline, front, left = made(FRONT, moved)
    assert front.level == DiagnosticStatus.OK
    assert pipeline.level == left.level == DiagnosticStatus.WARN
    assert "left" in pipeline.message and "front" not in pipeline.message
    assert left.message == "moved by about 12 px"


def test_other_trouble_is_told_beside() -> None:
    silent = CameraState("left", "/left/image_raw", 0.0)
    told = pipeline_status(
        "node", STATISTICS, [silent], {}, failures=0, waiting=0, skipped=0, trouble="another person"
    )
    assert told.level == DiagnosticStatus.WARN
    assert "another person" in told.message and "left" in told.message


def test_reprojection_is_counted_for_the_camera_that_saw_it(
    make_hand: Callable[..., TrackedHand], make_set: Callable[..., HandSet]
) -> None:
    """The made hands are seen by the first and the last of three cameras."""
    errors = np.full((2, 21), 3.0)
    errors[0, 5] = np.nan  # not observed
    errors[1] = 7.0
    hand = make_hand(residual_px=errors)
    statistics = Statistics()
    statistics.add(make_set(hand), 0.05, {"observe": 0.01})
    assert statistics.sets == statistics.hands == 1
    assert (statistics.latency, statistics.stages) == (0.05, {"observe": 0.01})
    assert statistics.reprojection_px == {"front": 3.0, "top": 7.0}
    for _ in range(200):
        statistics.add(make_set(make_hand(residual_px=errors + 1)), 0.05, {"observe": 0.03})
    assert statistics.reprojection_px["front"] == pytest.approx(4.0, abs=0.01)
    assert statistics.stages["observe"] == pytest.approx(0.03, abs=1e-4)


def test_a_torch_that_another_thread_is_importing_is_no_trouble(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "torch", ModuleType("torch"))
    assert device_memory() == {}
