"""CameraInfo to cameras: OpenCV, a brute-force pixel grid, and round trips as references."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

pytest.importorskip("sensor_msgs.msg", reason="needs ROS 2 messages (pip extra [ros])")
from sensor_msgs.msg import CameraInfo, RegionOfInterest  # noqa: E402
from std_msgs.msg import Header  # noqa: E402

from hand_mesh_ros.geometry.cameras import project  # noqa: E402
from hand_mesh_ros.ros.camera_info import (  # noqa: E402
    BadCameraInfo,
    camera_from_info,
    camera_info_message,
    check_size,
)
from hand_mesh_ros.ros.images import BadImage  # noqa: E402
from hand_mesh_ros.types import Camera, DistortionModel  # noqa: E402

K = np.array([[600.0, 0, 320.5], [0, 610.0, 239.0], [0, 0, 1]])
PLUMB = [-0.31, 0.11, 0.001, -0.002, -0.02]
RATIONAL = [0.4, -0.2, 0.001, -0.0005, 0.01, 0.7, -0.1, 0.02]
PRISM = [*RATIONAL, 0.002, -0.001, 0.0015, 0.0005]
FISHEYE = [-0.02, 0.01, -0.004, 0.001]


def info(**changes: Any) -> CameraInfo:
    fields: dict[str, Any] = {
        "header": Header(frame_id="left_optical_frame"),
        "width": 640,
        "height": 480,
        "distortion_model": "plumb_bob",
        "d": PLUMB,
        "k": K.reshape(-1).tolist(),
        "r": np.eye(3).reshape(-1).tolist(),
        "p": [580.0, 0, 310, -58, 0, 581, 242, 0, 0, 0, 1, 0],
    }
    fields |= changes
    for key in "dkrp":
        fields[key] = [float(number) for number in fields[key]]
    return CameraInfo(**fields)


def opencv_pixels(points: NDArray[np.float64], model: str, D: list[float]) -> NDArray[np.float64]:
    zero = np.zeros(3)
    if model == "equidistant":
        uv, _ = cv2.fisheye.projectPoints(points[:, None], zero, zero, K, np.array(D))
    else:
        uv, _ = cv2.projectPoints(points[:, None], zero, zero, K, np.array(D or [0.0] * 4))
    return np.asarray(uv).reshape(-1, 2)


@pytest.mark.parametrize(
    ("model", "D", "name", "count"),
    [
        ("plumb_bob", PLUMB, "plumb_bob", 5),
        ("plumb_bob", PLUMB[:4], "plumb_bob", 4),
        ("plumb_bob", [], "none", 0),
        ("plumb_bob", [0.0] * 5, "none", 0),
        ("", [], "none", 0),
        ("none", [0.0] * 5, "none", 0),
        ("rational_polynomial", RATIONAL, "rational_polynomial", 8),
        ("rational_polynomial", [*RATIONAL, *[0.0] * 6], "rational_polynomial", 8),
        ("rational_polynomial", [*PRISM, 0.0, 0.0], "thin_prism", 12),
        ("thin_prism", PRISM, "thin_prism", 12),
        ("thin_prism", [*PRISM, 0.0, 0.0], "thin_prism", 12),
        ("equidistant", FISHEYE, "equidistant", 4),
        ("equidistant", [0.0] * 4, "equidistant", 4),
        ("fisheye", FISHEYE, "equidistant", 4),
    ],
)
def test_models_project_as_opencv_does(
    model: str, D: list[float], name: str, count: int, rng: np.random.Generator
) -> None:
    camera = camera_from_info(info(distortion_model=model, d=D), "left", topic="/l/camera_info")
    assert (camera.distortion, len(camera.D)) == (name, count)
    assert (camera.name, camera.frame_id) == ("left", "left_optical_frame")
    assert (camera.width, camera.height) == (640, 480)
    points = np.column_stack([rng.uniform(-0.3, 0.3, (50, 2)), np.ones(50)])
    np.testing.assert_allclose(
        project(camera, points), opencv_pixels(points, camera.distortion, D), atol=1e-6
    )


def test_rectified_uses_p_alone() -> None:
    R = cv2.Rodrigues(np.array([0.1, 0.2, 0.3]))[0]
    broken_raw = info(distortion_model="strange", d=[1.0], k=[0.0] * 9, r=R.reshape(-1).tolist())
    camera = camera_from_info(broken_raw, "left", rectified=True, topic="/l/camera_info")
    np.testing.assert_array_equal(camera.K, [[580, 0, 310], [0, 581, 242], [0, 0, 1]])
    assert camera.distortion == "none" and len(camera.D) == 0
    np.testing.assert_array_equal(camera.T_camera_world, np.eye(4))  # the baseline is TF's


@given(
    size=st.tuples(st.integers(18, 60), st.integers(18, 60)),  # 4 px are left for a bin of 4
    offset=st.tuples(st.integers(0, 7), st.integers(0, 7)),
    cut=st.tuples(st.integers(0, 7), st.integers(0, 7)),
    binning=st.tuples(st.integers(0, 4), st.integers(0, 4)),
    rectified=st.booleans(),
)
def test_roi_and_binning_against_a_cropped_and_binned_pixel_grid(
    size: tuple[int, int],
    offset: tuple[int, int],
    cut: tuple[int, int],
    binning: tuple[int, int],
    rectified: bool,
) -> None:
    (width, height), (x, y) = size, offset
    w, h = width - x - cut[0], height - y - cut[1]
    message = info(
        width=width,
        height=height,
        distortion_model="none",
        d=[],
        k=[50.0, 0, 20.25, 0, 40.0, 14.5, 0, 0, 1],
        p=[45.0, 0, 18.75, 0, 0, 44.0, 15.5, 0, 0, 0, 1, 0],
        binning_x=binning[0],
        binning_y=binning[1],
        roi=RegionOfInterest(x_offset=x, y_offset=y, width=w, height=h),
    )
    full = np.reshape(message.p, (3, 4))[:, :3] if rectified else np.reshape(message.k, (3, 3))
    camera = camera_from_info(message, "c", rectified, "/c/camera_info")
    # Each full-resolution pixel carries its own coordinates; crop, then average them in bins.
    grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1)[y : y + h, x : x + w]
    bx, by = max(binning[0], 1), max(binning[1], 1)
    grid = grid[: h // by * by, : w // bx * bx].reshape(h // by, by, w // bx, bx, 2).mean((1, 3))
    assert (camera.height, camera.width) == grid.shape[:2]
    v, u = np.indices(grid.shape[:2])
    delivered = np.stack([u, v, np.ones_like(u)], -1) @ np.linalg.inv(camera.K).T
    original = np.concatenate([grid, np.ones((*grid.shape[:2], 1))], -1) @ np.linalg.inv(full).T
    np.testing.assert_allclose(delivered, original, atol=1e-12)


def test_no_roi_and_a_roi_of_everything_are_the_same() -> None:
    everything = RegionOfInterest(width=640, height=480)
    first, second = (camera_from_info(i, "c") for i in (info(), info(roi=everything)))
    np.testing.assert_array_equal(first.K, second.K)
    assert (first.width, first.height) == (second.width, second.height)


coefficient = st.floats(-0.5, 0.5)
MODELS: dict[DistortionModel, tuple[int, ...]] = {
    "none": (0,),
    "plumb_bob": (4, 5),
    "rational_polynomial": (8,),
    "thin_prism": (12,),
    "equidistant": (4,),
}


@st.composite
def cameras(draw: st.DrawFn) -> Camera:
    model = draw(st.sampled_from(sorted(MODELS)))
    count = draw(st.sampled_from(MODELS[model]))
    fx, fy = draw(st.floats(1, 5000)), draw(st.floats(1, 5000))
    cx, cy = draw(st.floats(-100, 3000)), draw(st.floats(-100, 3000))
    return Camera(
        name="c",
        width=draw(st.integers(1, 4096)),
        height=draw(st.integers(1, 4096)),
        K=np.array([[fx, draw(st.floats(-1, 1)), cx], [0, fy, cy], [0, 0, 1]]),
        distortion=model,
        D=np.array(draw(st.lists(coefficient, min_size=count, max_size=count))),
        frame_id=draw(st.text("abc_/", max_size=8)),
    )


@given(cameras(), st.integers(0, 2**31 * 10**9 - 1))
def test_round_trip(camera: Camera, stamp_ns: int) -> None:
    message = camera_info_message(camera, stamp_ns)
    assert message.header.stamp.sec * 10**9 + message.header.stamp.nanosec == stamp_ns
    back = camera_from_info(message, "c", topic="/c/camera_info")
    np.testing.assert_array_equal(back.K, camera.K)
    assert (back.width, back.height, back.frame_id) == (
        camera.width,
        camera.height,
        camera.frame_id,
    )
    # The same distortion, perhaps told with fewer numbers (trailing zeros, or all of them).
    if camera.distortion == "equidistant":
        assert back.distortion == "equidistant"
    if camera.D[8:].any():
        assert back.distortion == "thin_prism"
    padded = [np.pad(c.D, (0, 12 - len(c.D))) for c in (back, camera)]
    np.testing.assert_array_equal(*padded)
    rectified = camera_from_info(message, "c", rectified=True, topic="/c/camera_info")
    np.testing.assert_array_equal(rectified.K, camera.K)


@pytest.mark.parametrize(
    ("change", "rectified", "words"),
    [
        ({"k": [0.0] * 9}, False, r"not calibrated \(K\[0\] = 0\)"),
        ({"p": [0.0] * 12}, True, r"not calibrated \(P\[0\] = 0\)"),
        ({"k": [math.nan, *K.reshape(-1)[1:]]}, False, "K holds numbers that are not finite"),
        ({"d": [math.inf, 0.0, 0.0, 0.0]}, False, "D holds numbers that are not finite"),
        ({"p": [580.0, *[math.nan] * 11]}, True, "P holds numbers that are not finite"),
        ({"k": [-600.0, *K.reshape(-1)[1:]]}, False, "focal lengths"),
        ({"k": [1.0] * 9}, False, "no camera matrix"),
        ({"distortion_model": "ftheta"}, False, "unknown distortion model 'ftheta'.*equidistant"),
        ({"d": [0.1, 0.2, 0.3]}, False, "D has 3 coefficients, expected 0 or 4 or 5"),
        ({"distortion_model": "equidistant"}, False, "D has 5 coefficients, expected 4"),
        ({"distortion_model": "rational_polynomial"}, False, "D has 5.*expected 8 or 12 or 14"),
        ({"distortion_model": "thin_prism", "d": RATIONAL}, False, "D has 8.*expected 12 or 14"),
        ({"distortion_model": "thin_prism", "d": [*PRISM, 0.01, 0.0]}, False, "sensor tilt"),
        ({"distortion_model": ""}, False, "no coefficients; name the model"),
        ({"width": 0}, False, "size is 0x480"),
        ({"height": 0}, True, "size is 640x0"),
        ({"roi": RegionOfInterest(x_offset=600, width=100, height=10)}, False, "leaves the image"),
        ({"roi": RegionOfInterest(y_offset=480)}, False, "leaves the image"),
        ({"binning_x": 1000}, False, "binning 1000x1 leaves nothing"),
    ],
)
def test_refusals_name_the_topic(change: dict[str, Any], rectified: bool, words: str) -> None:
    with pytest.raises(BadCameraInfo, match=f"^/left/camera_info: .*{words}"):
        camera_from_info(info(**change), "left", rectified, "/left/camera_info")


def test_an_image_of_another_size_is_refused() -> None:
    camera = camera_from_info(info(), "left")
    check_size(camera, np.zeros((480, 640, 3), np.uint8), "/l/image_raw", "/l/camera_info")
    with pytest.raises(BadImage, match="^/l/image_raw: .*320x240 .* 640x480.*/l/camera_info"):
        check_size(camera, np.zeros((240, 320, 3), np.uint8), "/l/image_raw", "/l/camera_info")
