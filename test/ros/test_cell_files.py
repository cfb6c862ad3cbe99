"""The cell file: names, topics, frames, and the calibration that it may hold."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from hand_mesh_ros.geometry.rotations import exp_so3, matrix_to_quaternion
from hand_mesh_ros.ros.cell_files import Cell, read_cell

ROOT = Path(__file__).resolve().parents[2]
POSE = [0.5, 0.0, 1.2, 0.0, 1.0, 0.0, 0.0]
K = [900.0, 0.0, 640.0, 0.0, 910.0, 360.0, 0.0, 0.0, 1.0]
INTRINSICS = {"width": 1280, "height": 720, "k": K}


def cell(tmp_path: Path, cameras: dict[str, Any], **parameters: Any) -> Cell:
    file = tmp_path / "cell.yaml"
    section = {"cameras": list(cameras), "camera": cameras, **parameters}
    file.write_text(yaml.safe_dump({"/**": {"ros__parameters": section}}))
    return read_cell(file)


def test_the_file_that_ships_calibrates_nothing() -> None:
    found = read_cell(ROOT / "config" / "cell.yaml")
    assert [camera.name for camera in found.cameras] == [f"camera_{i}" for i in range(4)]
    assert found.output_frame == "world" and found.remappings() == []
    assert not any(camera.calibrated for camera in found.cameras)


def test_topics_frames_and_calibration_of_each_camera(tmp_path: Path) -> None:
    front, side = cell(
        tmp_path,
        {
            "front": {"extrinsics": POSE, "intrinsics": INTRINSICS},
            "side": {"image_topic": "/side/rgb", "frame_id": "side_lens", "extrinsics": POSE},
        },
        output_frame="table",
    ).cameras
    assert (front.image_topic, front.info_topic) == ("front/image_raw", "front/camera_info")
    assert front.frame_id == "front_optical_frame" and front.calibrated
    assert side.topics == ("/side/rgb", "/side/camera_info")
    assert side.frame_id == "side_lens" and side.intrinsics is None


def test_intrinsics_of_the_file_come_from_the_node_that_publishes_them(tmp_path: Path) -> None:
    found = cell(tmp_path, {"front": {"intrinsics": INTRINSICS}, "side": {}})
    info = ("front/camera_info", "cell_calibration_node/front/camera_info")
    assert found.remappings() == [info]
    assert found.remappings("/cell/") == [
        ("front/image_raw", "/cell/front/image_raw"),
        info,
        ("side/image_raw", "/cell/side/image_raw"),
        ("side/camera_info", "/cell/side/camera_info"),
    ]


BAD = {
    "short": ({"extrinsics": POSE[:6]}, r"front\.extrinsics.*x, y, z, qx, qy, qz, qw"),
    "integers": ({"extrinsics": [1, *POSE[1:]]}, r"front\.extrinsics.*with a point"),
    "text": ({"extrinsics": "above"}, r"front\.extrinsics.*'above'"),
    "infinite": ({"extrinsics": [float("inf"), *POSE[1:]]}, r"front\.extrinsics"),
    "no rotation": ({"extrinsics": [*POSE[:6], 2.0]}, "no rotation"),
    "no frame": ({"extrinsics": POSE}, r"front\.extrinsics needs camera\.front\.frame_id"),
    "no file": ({"intrinsics": "gone.yaml"}, r"front\.intrinsics: there is no file .*gone\.yaml"),
    "no k": ({"intrinsics": {"width": 2, "height": 2}}, r"front\.intrinsics lacks.* k:"),
    "unknown": ({"intrinsics": {**INTRINSICS, "fov": 1.0}}, r"front\.intrinsics.* fov:"),
    "bad k": ({"intrinsics": {**INTRINSICS, "k": [900, *K[1:]]}}, r"front\.intrinsics\.k"),
}


@pytest.mark.parametrize(("front", "complaint"), BAD.values(), ids=BAD.keys())
def test_what_is_wrong_is_named(tmp_path: Path, front: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint) as refusal:
        cell(tmp_path, {"front": front, "side": {}})
    assert str(tmp_path / "cell.yaml") in str(refusal.value)


def test_extrinsics_need_a_frame_to_be_in(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"front\.extrinsics needs output_frame"):
        cell(tmp_path, {"front": {"extrinsics": POSE, "frame_id": "front"}})


def test_the_calibration_of_a_camera_that_is_not_named_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"camera\.back\.extrinsics.*does not name back"):
        cell(tmp_path, {"front": {}}, **{"camera.back.extrinsics": POSE})


def test_the_example_in_the_readme_is_one(tmp_path: Path) -> None:
    (example,) = re.findall(r"```yaml\n(/\*\*:.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (tmp_path / "side.yaml").touch()
    (tmp_path / "cell.yaml").write_text(example)
    found = read_cell(tmp_path / "cell.yaml")
    assert found.output_frame == "table" and all(camera.calibrated for camera in found.cameras)


def test_the_calibration_in_the_comments_of_the_shipped_file_is_one(tmp_path: Path) -> None:
    lines = (ROOT / "config" / "cell.yaml").read_text()
    shown = re.sub(r"^( +)#   (extrinsics:|intrinsics:|  \w+:)", r"\1\2", lines, flags=re.MULTILINE)
    (tmp_path / "cell.yaml").write_text(shown)
    camera = read_cell(tmp_path / "cell.yaml").cameras[0]
    assert len(camera.extrinsics) == 7 and isinstance(camera.intrinsics, dict)
    assert set(camera.intrinsics) == {"width", "height", "distortion_model", "k", "d"}


def test_what_calibrate_cell_writes_is_read(tmp_path: Path) -> None:
    """Numbers of every size come back as they were, 2e-06 too, which is a text to PyYAML."""
    from hand_mesh_ros.evaluation.cell_report import pose_numbers
    from hand_mesh_ros.types import Camera

    T = np.eye(4)
    T[:3, 3] = 2e-6, -2.0, 3e6
    numbers = pose_numbers(Camera("front", 10, 10, np.eye(3), T_camera_world=T))
    text = "/**: {ros__parameters: {cameras: [a], output_frame: w, camera: {a: {frame_id: l, "
    (tmp_path / "cell.yaml").write_text(f"{text}extrinsics: {numbers}}}}}}}}}\n")
    (camera,) = read_cell(tmp_path / "cell.yaml").cameras
    assert list(camera.extrinsics) == numbers


def test_numbers_become_a_camera_and_a_pose(tmp_path: Path) -> None:
    pytest.importorskip("rclpy", reason="ROS 2 is not installed")
    from hand_mesh_ros.ros.cell_calibration_node import camera_of, pose_of

    R = exp_so3(np.array([0.3, -1.2, 0.7]))
    pose = [1.0, 2.0, 3.0, *map(float, matrix_to_quaternion(R))]
    d = [0.1, -0.2, 0.0, 0.0, 0.05]
    (front,) = cell(
        tmp_path,
        {"front": {"extrinsics": pose, "intrinsics": {**INTRINSICS, "d": d}}},
        output_frame="table",
    ).cameras
    camera, T = camera_of(front), pose_of(front)
    assert camera is not None and T is not None
    assert (camera.width, camera.height, camera.distortion) == (1280, 720, "plumb_bob")
    np.testing.assert_array_equal(camera.K.reshape(-1), K)
    np.testing.assert_array_equal(camera.D, d)
    np.testing.assert_allclose(T[:3, :3], R, atol=1e-12)
    np.testing.assert_array_equal(T[:3, 3], [1, 2, 3])


def test_a_calibration_file_beside_the_cell_file(tmp_path: Path) -> None:
    pytest.importorskip("rclpy", reason="ROS 2 is not installed")
    from hand_mesh_ros.ros.cell_calibration_node import camera_of

    content = {
        "image_width": 1280,
        "image_height": 720,
        "camera_matrix": {"rows": 3, "cols": 3, "data": K},
        "distortion_model": "plumb_bob",
        "distortion_coefficients": {"rows": 1, "cols": 5, "data": [0.1, 0.0, 0.0, 0.0, 0.0]},
    }
    (tmp_path / "front.yaml").write_text(yaml.safe_dump(content))
    front = {"intrinsics": "front.yaml", "frame_id": "lens"}
    camera = camera_of(cell(tmp_path, {"front": front}).cameras[0])
    assert camera is not None and camera.frame_id == "lens"
    np.testing.assert_array_equal(camera.K.reshape(-1), K)


def test_hand_mesh_node_takes_a_file_with_a_calibration(
    tmp_path: Path, ros_node: Callable[..., Any]
) -> None:
    """Its parameters are those of the file; what it does not know does not trouble it."""
    from hand_mesh_ros.ros.parameter_files import read_parameters
    from hand_mesh_ros.ros.settings import load_settings

    cell(tmp_path, {"front": {"intrinsics": INTRINSICS}, "side": {"frame_id": "lens"}})
    overrides = {
        k.replace(".", "__"): v for k, v in read_parameters(tmp_path / "cell.yaml").items()
    }
    settings = load_settings(ros_node("hand_mesh_node", **overrides))
    assert [camera.frame_id for camera in settings.cameras] == ["", "lens"]
