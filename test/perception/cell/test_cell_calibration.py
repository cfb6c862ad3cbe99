"""Cells from hands: against the truth of synthetic cells, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from hand_mesh_ros.evaluation.bench_calibration import size_ratio
from hand_mesh_ros.evaluation.cell_report import differences
from hand_mesh_ros.hand.model import load_hand_model
from hand_mesh_ros.hand.shape import HandShape
from hand_mesh_ros.perception.cell_bundle import Intrinsics
from hand_mesh_ros.perception.cell_calibration import (
    CellCalibration,
    CellSettings,
    calibrate_cell,
)
from hand_mesh_ros.perception.cell_scale import Baseline
from hand_mesh_ros.perception.cell_start import CannotCalibrate
from hand_mesh_ros.types import SIDES, Camera

MODELS = {side: load_hand_model(side=side) for side in SIDES}
SHAPE = HandShape(
    MODELS["right"].model_id, np.zeros(10), 1e-4 * np.eye(10), 100, 50.0, "mediapipe", "2025-01-01"
)
NOTHING = CellSettings(from_nothing=True)


def _errors(found: CellCalibration, true: tuple[Camera, ...]) -> tuple[float, float]:
    turn, shift = differences(found.cameras, true)
    return float(turn.max()), float(shift.max())


@pytest.mark.parametrize("count", [2, 4, 8])
def test_from_nothing(scene: Any, stage: Any, rng: np.random.Generator, count: int) -> None:
    cameras = stage.ring(count, spread=60.0 if count == 2 else 140.0)
    # Networks whose metres are 15 % too long.
    views = stage.cell_views(stage.wander(scene, cameras, 60, rng, size=1.15), cameras)
    found = calibrate_cell(views, cameras, MODELS, SHAPE, NOTHING)
    turn, shift = _errors(found, cameras)
    assert turn < 0.3 and shift < 1.0
    assert abs(size_ratio(found.cameras, cameras) - 1) < 0.01
    assert found.frame == "camera_0_optical_frame" and found.reference == "camera_0"
    assert np.allclose(found.cameras[0].T_camera_world, np.eye(4), atol=1e-12)
    assert np.abs(found.covariance[0]).max() < 1e-12, "the reference is where it is"


def test_poses_that_are_given_do_not_matter_from_nothing(
    scene: Any, stage: Any, rng: np.random.Generator
) -> None:
    cameras = stage.ring(3)
    instants = stage.wander(scene, cameras, 40, rng)
    views = stage.cell_views(instants, cameras)
    nowhere = [c.placed(np.eye(4)) for c in cameras]
    one, two = (calibrate_cell(views, c, MODELS, None, NOTHING) for c in (cameras, nowhere))
    for a, b in zip(one.cameras, two.cameras, strict=True):
        assert np.array_equal(a.T_camera_world, b.T_camera_world)


def test_disturbed_poses_are_found_again(
    scene: Any, stage: Any, rng: np.random.Generator
) -> None:
    cameras = stage.ring(4)
    views = stage.cell_views(stage.wander(scene, cameras, 50, rng), cameras)
    start = [stage.turned(c, 5.0, 0.05, rng) for c in cameras]
    before = differences(start, cameras)
    found = calibrate_cell(views, start, MODELS, SHAPE)
    turn, shift = _errors(found, cameras)
    assert before[0].max() > 3 and turn < 0.3 and shift < 1.0
    assert found.frame == "world" and found.reference == ""


def test_a_reference_keeps_its_pose(scene: Any, stage: Any, rng: np.random.Generator) -> None:
    cameras = stage.ring(3)
    views = stage.cell_views(stage.wander(scene, cameras, 40, rng), cameras)
    start = [cameras[0], *(stage.turned(c, 4.0, 0.04, rng) for c in cameras[1:])]
    settings = CellSettings(reference="camera_0")
    found = calibrate_cell(views, start, MODELS, SHAPE, settings)
    assert np.allclose(found.cameras[0].T_camera_world, cameras[0].T_camera_world, atol=1e-9)
    turn, shift = differences(found.cameras, cameras, align=False)
    assert turn.max() < 0.4 and shift.max() < 1.0
    assert np.abs(found.covariance[0]).max() < 1e-12
    assert np.linalg.eigvalsh(found.covariance[1]).min() > 0


def test_a_baseline_sets_the_scale(scene: Any, stage: Any, rng: np.random.Generator) -> None:
    cameras = stage.ring(3)
    views = stage.cell_views(stage.wander(scene, cameras, 40, rng), cameras)
    true = float(np.linalg.norm(cameras[0].centre - cameras[2].centre))
    rule = Baseline("camera_0", "camera_2", 2 * true, 0.01)
    found = calibrate_cell(views, cameras, MODELS, None, replace(NOTHING, baseline=rule))
    assert abs(size_ratio(found.cameras, cameras) - 2) < 0.02
    centre = [c.centre for c in found.cameras]
    assert np.linalg.norm(centre[0] - centre[2]) == pytest.approx(2 * true, rel=1e-9)
    # The distance is known to a centimetre, and that is what it is uncertain by.
    along = (centre[2] - centre[0]) / np.linalg.norm(centre[2] - centre[0])
    assert np.sqrt(along @ found.covariance[2, :3, :3] @ along) == pytest.approx(0.01, rel=0.01)


def test_a_trusted_pair_stays_and_sets_the_scale(
    scene: Any, stage: Any, rng: np.random.Generator
) -> None:
    cameras = stage.ring(4)
    views = stage.cell_views(stage.wander(scene, cameras, 40, rng), cameras)
    start = [*cameras[:2], *(stage.turned(c, 4.0, 0.04, rng) for c in cameras[2:])]
    settings = CellSettings(trusted_pair=("camera_0", "camera_1"))
    found = calibrate_cell(views, start, MODELS, None, settings)
    for a, b in zip(found.cameras[:2], cameras, strict=False):
        assert np.allclose(a.T_camera_world, b.T_camera_world, atol=1e-12)
    turn, shift = differences(found.cameras, cameras, align=False)
    assert turn.max() < 0.4 and shift.max() < 1.0


def test_the_mean_hand_is_said_to_be_one(
    scene: Any, stage: Any, rng: np.random.Generator
) -> None:
    cameras = stage.ring(3)
    views = stage.cell_views(stage.wander(scene, cameras, 40, rng), cameras)
    known, mean = (calibrate_cell(views, cameras, MODELS, s, NOTHING) for s in (SHAPE, None))
    assert "mean hand" in mean.scale.source and "calibrated" in known.scale.source
    assert mean.scale.sigma > 0.03 > known.scale.sigma
    assert abs(size_ratio(mean.cameras, cameras) - 1) < 0.03, "the synthetic hand is the mean one"


def test_focal_lengths_are_refined(scene: Any, stage: Any, rng: np.random.Generator) -> None:
    cameras = stage.ring(4)
    views = stage.cell_views(stage.wander(scene, cameras, 120, rng, reach=0.12), cameras)
    wrong = list(cameras)
    K = wrong[1].K.copy()
    K[:2, :2] *= 1.04
    wrong[1] = replace(wrong[1], K=K)
    settings = CellSettings(intrinsics=Intrinsics(focal=True))
    found = calibrate_cell(views, wrong, MODELS, None, settings)
    ratio = np.array([f.focal / c.focal for f, c in zip(found.cameras, cameras, strict=True)])
    assert abs(ratio - 1).max() < 0.015
    assert np.isfinite(found.intrinsic_sigma[:, 0]).all()
    assert np.isnan(found.intrinsic_sigma[:, 1:]).all(), "only the focal length was free"


def test_covariance_is_of_the_errors_size(
    scene: Any, stage: Any, rng: np.random.Generator
) -> None:
    """Errors of independent landmarks over their sigma, root mean square over several cells."""
    cameras, square = stage.ring(3), []
    settings = replace(NOTHING, landmark_bias=0.0)
    true = [_seen_from(cameras[0], c) for c in cameras]
    for _ in range(4):
        views = stage.cell_views(stage.wander(scene, cameras, 60, rng, noise=3.0), cameras)
        found = calibrate_cell(views, cameras, MODELS, None, settings)
        turn = np.radians(differences(found.cameras, true, align=False)[0])[1:]
        square.append(turn**2 / np.trace(found.covariance[1:, 3:, 3:], axis1=1, axis2=2))
    assert 0.4 < np.sqrt(np.mean(square)) < 1.8


def _seen_from(reference: Camera, camera: Camera) -> Camera:
    return camera.placed(camera.T_camera_world @ np.linalg.inv(reference.T_camera_world))


def test_too_few_instants(scene: Any, stage: Any, rng: np.random.Generator) -> None:
    cameras = stage.ring(3)
    views = stage.cell_views(stage.wander(scene, cameras, 5, rng), cameras)
    with pytest.raises(CannotCalibrate, match="10 hands were seen .* at least 20"):
        calibrate_cell(views, cameras, MODELS, SHAPE, NOTHING)


def test_no_motion(scene: Any, stage: Any, rng: np.random.Generator) -> None:
    cameras = stage.ring(3)
    views = stage.cell_views(stage.wander(scene, cameras, 40, rng, reach=0.003), cameras)
    with pytest.raises(CannotCalibrate, match="hardly moved"):
        calibrate_cell(views, cameras, MODELS, SHAPE)


def test_cameras_that_never_see_the_hand_together(
    scene: Any, stage: Any, rng: np.random.Generator
) -> None:
    cameras = stage.ring(4)
    seen = np.zeros((80, 4), bool)
    seen[:40, :2] = seen[40:, 2:] = True
    views = stage.cell_views(stage.wander(scene, cameras, 80, rng, seen=seen), cameras)
    for settings in (NOTHING, CellSettings()):
        with pytest.raises(CannotCalibrate, match=r"camera_2, camera_3 and camera_0, camera_1"):
            calibrate_cell(views, cameras, MODELS, SHAPE, settings)


def test_two_cameras_that_face_each_other(
    scene: Any, stage: Any, rng: np.random.Generator
) -> None:
    cameras = stage.facing()
    instants = stage.wander(scene, cameras, 60, rng, reach=0.02, hands=("right",))
    views = stage.cell_views(instants, cameras)
    with pytest.raises(CannotCalibrate, match="along the same line as camera_"):
        calibrate_cell(views, cameras, MODELS, SHAPE, CellSettings(motion=0.005))


@pytest.mark.parametrize(
    "settings, message",
    [
        (CellSettings(reference="door"), "reference 'door' is no camera"),
        (CellSettings(trusted_pair=("camera_0", "camera_0")), "twice"),
        (CellSettings(trusted_pair=("camera_0", "camera_1"), from_nothing=True), "leave out"),
        (CellSettings(baseline=Baseline("camera_0", "door", 1.0)), "baseline names .* 'door'"),
        (CellSettings(baseline=Baseline("camera_0", "camera_1", -1.0)), "positive"),
    ],
)
def test_settings_that_make_no_sense(
    scene: Any, stage: Any, rng: np.random.Generator, settings: CellSettings, message: str
) -> None:
    cameras = stage.ring(2, spread=60.0)
    views = stage.cell_views(stage.wander(scene, cameras, 20, rng), cameras)
    with pytest.raises(CannotCalibrate, match=message):
        calibrate_cell(views, cameras, MODELS, SHAPE, settings)
