"""What a running node finds out about its person and its cell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from hand_mesh_ros.perception.build import build_pipeline
from hand_mesh_ros.perception.drift import CameraDrift
from hand_mesh_ros.ros.calibrations import Calibrations, _moved_by
from hand_mesh_ros.ros.settings import load_settings


@pytest.fixture
def made(ros_node: Callable[..., Any]) -> Callable[..., tuple[Calibrations, Any]]:
    def make(*cameras: str) -> tuple[Calibrations, Any]:
        node = ros_node(cameras=list(cameras))
        settings = load_settings(node)
        pipeline, models = build_pipeline(images=False)
        return Calibrations(settings, pipeline, models, node.get_logger()), settings

    return make


def test_one_camera_is_no_cell(made: Callable[..., tuple[Calibrations, Any]]) -> None:
    calibrations, settings = made("front")
    begun, told = calibrations.begin_cell(settings.live)
    assert not begun and "one camera is no cell" in told
    assert calibrations.begin_shape(settings.live)[0]
    assert calibrations.moved() == {}


def test_both_calibrations_gather_at_once(made: Callable[..., tuple[Calibrations, Any]]) -> None:
    calibrations, settings = made("front", "left")
    live = replace(settings.live, cell_sets=123, calibration_frames=45)
    begun, told = calibrations.begin_cell(live)
    assert begun and "123 frame sets" in told
    begun, told = calibrations.begin_shape(live)
    assert begun and "45" in told
    assert not calibrations.begin_cell(live)[0]  # already at it
    calibrations.cancel()
    assert calibrations.begin_cell(live)[0]
    assert calibrations.other_person() == ""  # no shape, nobody it could be


def test_a_motion_is_told_in_words() -> None:
    drift = CameraDrift("left", 12.0, 3.0, True, 1.26, 0.031)
    assert _moved_by(drift) == "moved by about 1.3 degrees and 3.1 cm: calibrate the cell again"
    assert "or front has" in _moved_by(replace(drift, alike=("front",)))
