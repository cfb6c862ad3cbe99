"""~/calibrate_shape without a node: begins, gathers, gives up, computes elsewhere, cancels."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from hand_mesh_ros.hand.model import load_hand_model
from hand_mesh_ros.hand.shape import load_shape
from hand_mesh_ros.perception.landmark_fit import LandmarkFit
from hand_mesh_ros.perception.pipeline import HandPipeline
from hand_mesh_ros.ros.shape_service import ShapeCalibration
from hand_mesh_ros.types import SIDES, HandSet


@pytest.fixture
def made(tmp_path: Path, log: Any) -> ShapeCalibration:
    models = {side: load_hand_model(side=side) for side in SIDES}
    pipeline = HandPipeline(lambda frames, hints, search: [], LandmarkFit(models))
    return ShapeCalibration(pipeline, models, tmp_path / "person.json", log)


def _until(done: Callable[[], Any]) -> None:
    end = time.monotonic() + 60
    while not done():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_one_calibration_at_a_time(made: ShapeCalibration, log: Any) -> None:
    ok, message = made.begin(30, 60.0)
    assert ok and "person.json" in message
    assert made.begin(30, 60.0) == (False, "already gathering: 0 of 30")
    made.cancel()
    assert log.lines == [("info", "calibrate_shape: cancelled, the node stops")]
    assert made.begin(30, 60.0)[0]


def test_time_is_up_with_too_few_hands(
    made: ShapeCalibration, log: Any, make_set: Callable[..., HandSet]
) -> None:
    made.begin(30, 0.0)
    made.check()
    ((level, message),) = log.lines
    assert level == "error" and "0 hands in time, at least 10 are needed" in message
    made.check()
    made.add(make_set())
    assert len(log.lines) == 1, "nothing is going on any more"


def test_enough_hands_make_a_file_that_is_in_use(
    made: ShapeCalibration, log: Any, tmp_path: Path, scene_sets: list[HandSet]
) -> None:
    made.begin(12, 60.0)
    for hands in scene_sets:
        made.add(hands)
    _until(lambda: log.lines)
    ((level, message),) = log.lines
    assert level == "info", message
    assert "from 12 hands" in message
    shape = load_shape(tmp_path / "person.json", "free_hand_1")
    assert json.loads((tmp_path / "person.json").read_text())["hands"] == 12
    made._pipeline.use_shape(shape)  # the pipeline takes what was written
    assert made.begin(12, 60.0)[0], "another one may follow"


@pytest.fixture(scope="module")
def scene_sets() -> list[HandSet]:
    """Twelve instants of a hand that three cameras see, as the fit estimates it."""
    import numpy as np

    from hand_mesh_ros.geometry.cameras import look_at, project
    from hand_mesh_ros.hand.kinematics import HAND_POSE, TRANSL
    from hand_mesh_ros.hand.landmarks import landmarks_and_jacobian
    from hand_mesh_ros.hand.limits import comfortable_pose
    from hand_mesh_ros.networks.landmarks import rois_from_landmarks
    from hand_mesh_ros.perception.estimate import HandViews
    from hand_mesh_ros.types import Camera, TrackedHand, View

    models = {side: load_hand_model(side=side) for side in SIDES}
    fit, rng, sets = LandmarkFit(models), np.random.default_rng(0), []
    K = np.array([[600.0, 0, 320], [0, 600, 240], [0, 0, 1]])
    cameras = [
        Camera(
            f"c{i}",
            640,
            480,
            K,
            T_camera_world=look_at(
                0.7 * np.array([np.cos(a), np.sin(a), 0.3]), np.zeros(3), np.array([0.0, 0, 1])
            ),
        )
        for i, a in enumerate((-0.8, 0.0, 0.8))
    ]
    for k in range(12):
        params = np.zeros(61)
        params[:3] = rng.normal(0, 1, 3)
        params[HAND_POSE] = comfortable_pose("right") + rng.normal(0, 0.05, 45)
        params[TRANSL] -= landmarks_and_jacobian(models["right"], params[None])[0][0].mean(0)
        points = landmarks_and_jacobian(models["right"], params[None])[0][0]
        views = []
        for i, camera in enumerate(cameras):
            uv = project(camera, points) + rng.normal(0, 1, (21, 2))
            world = points @ camera.T_camera_world[:3, :3].T
            roi = rois_from_landmarks(uv)[0]
            views.append(View(i, camera, uv, np.full(21, 1.0), world, 0.9, 0.95, roi))
        (estimate,) = fit.estimate([HandViews(tuple(views), right_votes=5.0)])
        assert estimate is not None
        stamp = 1_000_000_000 + k * 100_000_000
        hand = TrackedHand(1, estimate)
        sets.append(HandSet(stamp, 0.0, ("c0", "c1", "c2"), (hand,), (tuple(views),)))
    return sets
