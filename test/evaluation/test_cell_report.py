"""What calibrate-cell leaves behind: files that the package's own readers take, and a picture."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hand_mesh_ros.data.static_frames import StaticFrames
from hand_mesh_ros.evaluation.bench_calibration import perturbed, size_ratio
from hand_mesh_ros.evaluation.cell_report import (
    cell_file,
    differences,
    pose_numbers,
    report,
    tables,
    write,
)
from hand_mesh_ros.geometry.cameras import look_at, project
from hand_mesh_ros.geometry.rotations import invert_rigid, quaternion_to_matrix
from hand_mesh_ros.perception.cell_bundle import Bundle
from hand_mesh_ros.perception.cell_calibration import CellCalibration
from hand_mesh_ros.perception.cell_scale import Scale
from hand_mesh_ros.perception.cell_views import MatchedHands
from hand_mesh_ros.ros.cell_files import read_cell
from hand_mesh_ros.types import Camera


@pytest.fixture
def found(rng: np.random.Generator) -> CellCalibration:
    """Three cameras and some hands; numbers as they might be."""
    K = np.array([[600.0, 0, 319.5], [0, 600, 239.5], [0, 0, 1]])
    cameras = tuple(
        Camera(
            f"camera_{i}", 640, 480, K, "plumb_bob", np.array([-0.1, 0.02, 0, 0, 0]),
            look_at(np.array([1.0, y, 0.4]), np.zeros(3), np.array([0.0, 0, 1])),
            f"camera_{i}_optical_frame",
        )
        for i, y in enumerate((-0.6, 0.0, 0.7))
    )  # fmt: skip
    points = 0.1 * rng.normal(size=(30, 1, 3)) + 0.04 * rng.normal(size=(30, 21, 3))
    true = np.stack([project(c, points) for c in cameras], 1)
    error = rng.normal(0, 2, true.shape)
    error[:5, 2] = np.nan
    blank = np.zeros((18, 18))
    bundle = Bundle(
        cameras, points, error, np.ones(true.shape[:3]), blank, np.zeros((30, 18)),
        np.zeros((3, 21, 2, 18)), 1.0, 1.0, 10,
    )  # fmt: skip
    hands = MatchedHands(
        np.arange(30), true - error, np.full(true.shape[:3], 2.0), np.zeros((30, 3, 21, 3)),
        np.where(np.arange(30) % 2, 3.0, -3.0),
    )  # fmt: skip
    half = rng.normal(0, 0.004, (3, 6, 6))
    return CellCalibration(
        cameras, "world", "", half @ np.swapaxes(half, 1, 2), np.full((3, 4), np.nan), bundle,
        hands, np.arange(30) * 100_000_000, Scale(1.0, 0.02, "the calibrated hand"), 3, 12.0, False,
    )  # fmt: skip


def test_the_cell_file_is_one(found: CellCalibration, tmp_path: Path) -> None:
    path = tmp_path / "cell.yaml"
    path.write_text(cell_file(found))
    cell = read_cell(path)
    assert cell.output_frame == "world"
    for camera, read in zip(found.cameras, cell.cameras, strict=True):
        assert (read.name, read.frame_id) == (camera.name, camera.frame_id)
        T = invert_rigid(camera.T_camera_world)
        assert np.allclose(read.extrinsics[:3], T[:3, 3], atol=1e-6)
        turn = quaternion_to_matrix(np.array(read.extrinsics[3:]))
        assert np.allclose(turn, T[:3, :3], atol=1e-6)
        assert read.intrinsics is None, "nobody refined them"


def test_refined_intrinsics_and_a_reference(found: CellCalibration, tmp_path: Path) -> None:
    sigma = np.full((3, 4), np.nan)
    sigma[:, 0] = 0.01
    path = tmp_path / "cell.yaml"
    frame = found.cameras[0].frame_id
    path.write_text(cell_file(replace(found, frame=frame, intrinsic_sigma=sigma)))
    first, second, _ = read_cell(path).cameras
    assert not first.extrinsics and len(second.extrinsics) == 7
    assert isinstance(second.intrinsics, dict)
    assert second.intrinsics["k"] == found.cameras[1].K.reshape(-1).tolist()
    assert second.intrinsics["d"] == found.cameras[1].D.tolist()


def test_files_and_picture(found: CellCalibration, tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    yaml, shell, content, picture = write(found, found.cameras, tmp_path / "new" / "out")
    assert read_cell(yaml).cameras
    image = cv2.imread(str(picture))
    assert image is not None and min(image.shape[:2]) > 500 and image.std() > 10
    told = json.loads(content.read_text())
    assert [c["name"] for c in told["cameras"]] == [c.name for c in found.cameras]
    assert told["cameras"][2]["hands"] == 25
    assert all(c["from_given_deg"] == 0 for c in told["cameras"])
    frames = StaticFrames()
    for line in shell.read_text().splitlines():
        if line.startswith("ros2 run tf2_ros static_transform_publisher"):
            words = line.removesuffix(" &").split()[4:]
            said = dict(zip(words[::2], words[1::2], strict=True))
            numbers = [float(said[f"--{k}"]) for k in ("x", "y", "z", "qx", "qy", "qz", "qw")]
            frames.add(
                said["--frame-id"], said["--child-frame-id"], np.array(numbers[:3]),
                np.array(numbers[3:]),
            )  # fmt: skip
    _, poses = frames.place([c.frame_id for c in found.cameras], "world")
    for camera, T in zip(found.cameras, poses, strict=True):
        assert np.allclose(T, camera.T_camera_world, atol=1e-5)


def test_tables_and_report_agree(found: CellCalibration, rng: np.random.Generator) -> None:
    given = perturbed(found.cameras, rng)
    content = report(found, given)
    assert [t.row_count for t in tables(found, given)] == [7, 3]
    turn, shift = differences(found.cameras, given)
    assert content["cameras"][1]["from_given_deg"] == pytest.approx(turn[1], abs=1e-3)
    assert content["cameras"][1]["from_given_cm"] == pytest.approx(shift[1], abs=1e-2)


def test_differences(found: CellCalibration, rng: np.random.Generator) -> None:
    given = perturbed(found.cameras, rng)
    turn, shift = differences(given, found.cameras, align=False)
    assert np.allclose(turn, 5.0) and np.allclose(shift, 5.0)
    assert size_ratio(found.cameras, found.cameras) == 1.0
    assert len(pose_numbers(found.cameras[0])) == 7
