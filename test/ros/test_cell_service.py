"""~/calibrate_cell without a node: gathers, gives up, computes elsewhere, cancels."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from hand_mesh_ros.geometry.cameras import look_at, project
from hand_mesh_ros.hand.kinematics import NUM_PARAMS
from hand_mesh_ros.hand.landmarks import landmarks_and_jacobian
from hand_mesh_ros.hand.model import load_hand_model
from hand_mesh_ros.ros.cell_service import CellService
from hand_mesh_ros.types import SIDES, Camera, HandSet, View

MODELS = {side: load_hand_model(side=side) for side in SIDES}


@pytest.fixture
def service(tmp_path: Path, log: Any) -> CellService:
    return CellService(MODELS, lambda: None, tmp_path / "cell", log)


def _until(done: Callable[[], Any]) -> None:
    end = time.monotonic() + 120
    while not done():
        assert time.monotonic() < end
        time.sleep(0.01)


def _sets(count: int, rng: np.random.Generator) -> list[HandSet]:
    """A right hand that wanders, stiffly, before three cameras."""
    K = np.array([[600.0, 0, 319.5], [0, 600, 239.5], [0, 0, 1]])
    cameras = [
        Camera(
            f"camera_{i}", 640, 480, K, "none", np.zeros(0),
            look_at(np.array([0.8, y, 0.3 + 0.1 * i]), np.zeros(3), np.array([0.0, 0, 1])),
            f"camera_{i}_optical_frame",
        )
        for i, y in enumerate((-0.6, 0.0, 0.6))
    ]  # fmt: skip
    rest = landmarks_and_jacobian(MODELS["right"], np.zeros((1, NUM_PARAMS)))[0][0]
    out = []
    for k in range(count):
        turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        turn *= np.sign(np.linalg.det(turn))
        points = (rest - rest.mean(0)) @ turn.T + 0.08 * rng.normal(size=3)
        views = tuple(
            View(
                i, c, project(c, points) + rng.normal(0, 1, (21, 2)), np.full(21, 1.0),
                (points - points.mean(0)) @ c.T_camera_world[:3, :3].T, 0.9, 0.95, np.zeros(4),
            )
            for i, c in enumerate(cameras)
        )  # fmt: skip
        names = tuple(c.name for c in cameras)
        out.append(HandSet(k * 200_000_000, 0.0, names, (), (), views))
    return out


def test_one_calibration_at_a_time(service: CellService, log: Any) -> None:
    ok, message = service.begin(30, 60.0)
    assert ok and "30 frame sets" in message
    assert service.begin(30, 60.0) == (False, "already gathering: 0 of 30")
    service.cancel()
    assert log.lines == [("info", "calibrate_cell: cancelled, the node stops")]
    assert service.begin(30, 60.0)[0]


def test_time_is_up_without_hands(service: CellService, log: Any) -> None:
    service.begin(30, 0.0)
    service.check()
    ((level, message),) = log.lines
    assert level == "error" and "no hand was seen by two cameras" in message
    service.check()
    assert len(log.lines) == 1, "nothing is going on any more"


def test_hands_before_one_camera_are_not_gathered(
    service: CellService, rng: np.random.Generator
) -> None:
    service.begin(30, 60.0)
    (hands,) = _sets(1, rng)
    service.add(replace(hands, unmatched=hands.unmatched[:1]))
    assert service.begin(30, 60.0) == (False, "already gathering: 0 of 30")


def test_too_little_is_told_with_the_reason(
    service: CellService, log: Any, rng: np.random.Generator, tmp_path: Path
) -> None:
    service.begin(5, 60.0)
    for hands in _sets(5, rng):
        service.add(hands)
    _until(lambda: log.lines)
    ((level, message),) = log.lines
    assert level == "error" and "at least 20" in message and not (tmp_path / "cell").exists()


def test_enough_makes_a_report(
    service: CellService, log: Any, rng: np.random.Generator, tmp_path: Path
) -> None:
    service.begin(40, 60.0)
    for hands in _sets(40, rng):
        service.add(hands)
    _until(lambda: log.lines)
    ((level, message),) = log.lines
    assert level == "info" and "mean hand" in message and "off by" in message
    told = json.loads((tmp_path / "cell" / "cell.json").read_text())
    assert told["frame"] == "world" and len(told["cameras"]) == 3
    assert max(c["from_given_deg"] for c in told["cameras"]) < 0.5
