"""Every distortion model against OpenCV, its own inverse and finite differences."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hand_mesh_ros.geometry.cameras import (
    look_at,
    project,
    project_with_jacobian,
    rays,
    undistort,
    undistort_views,
)
from hand_mesh_ros.types import Camera

MODELS: dict[str, list[float]] = {
    "none": [],
    "plumb_bob": [-0.33, 0.046, -0.0043, 0.0041, 0.067],
    "rational_polynomial": [0.3, -0.1, 0.001, -0.002, 0.02, 0.4, -0.05, 0.01],
    "thin_prism": [0.1, -0.05, 0.001, 0.002, 0.01, 0.05, 0.01, 0.0, 0.002, -0.001, 0.003, 0.001],
    "equidistant": [0.05, -0.01, 0.003, -0.0005],
}


def make(model: str) -> Camera:
    K = np.array([[600.0, 0, 321], [0, 610.0, 242], [0, 0, 1]])
    T = look_at(np.array([0.3, -0.2, -0.9]), np.array([0.02, 0.01, 0.0]), np.array([0, -1.0, 0]))
    return Camera("c", 640, 480, K, model, np.array(MODELS[model]), T)  # type: ignore[arg-type]


@pytest.mark.parametrize("model", MODELS)
def test_projection_agrees_with_opencv(model: str, rng: np.random.Generator) -> None:
    camera = make(model)
    points = rng.uniform(-0.25, 0.25, (50, 3))
    T = camera.T_camera_world
    rvec = cv2.Rodrigues(T[:3, :3])[0]
    if model == "equidistant":
        want = cv2.fisheye.projectPoints(points[:, None], rvec, T[:3, 3], camera.K, camera.D)[0]
    else:
        want = cv2.projectPoints(points, rvec, T[:3, 3], camera.K, camera.D)[0]
    np.testing.assert_allclose(project(camera, points), want[:, 0], atol=1e-6)


@pytest.mark.parametrize("model", MODELS)
@settings(max_examples=60, deadline=None)
@given(u=st.floats(0, 639), v=st.floats(0, 479), depth=st.floats(0.1, 5))
def test_pixels_survive_the_way_out_and_back(model: str, u: float, v: float, depth: float) -> None:
    camera = make(model)
    uv = np.array([u, v])
    point = camera.centre + depth * rays(camera, uv)
    np.testing.assert_allclose(project(camera, point), uv, atol=1e-5)


def test_pixels_of_several_cameras_as_those_of_each(rng: np.random.Generator) -> None:
    """Of all lenses at once; what one of them does not reach, and what is not seen, is NaN."""
    cameras = [make(model) for model in (*MODELS, "plumb_bob", "equidistant")]
    uv = rng.uniform(0, 640, (len(cameras), 9, 2))
    uv[1, 3], uv[5, 0] = 1e5, np.nan
    together = undistort_views(cameras, uv)
    for camera, pixels, found in zip(cameras, uv, together, strict=True):
        np.testing.assert_allclose(found, undistort(camera, pixels), atol=1e-13)
    assert np.isnan(together[1, 3]).all() and np.isnan(together[5, 0]).all()
    assert np.isfinite(together).mean() > 0.95


@pytest.mark.parametrize("model", MODELS)
def test_jacobian_is_the_derivative(model: str, rng: np.random.Generator) -> None:
    camera = make(model)
    points = rng.uniform(-0.2, 0.2, (20, 3))
    J = project_with_jacobian(camera, points).jacobian
    h = 1e-6
    for axis in range(3):
        step = np.eye(3)[axis] * h
        want = (project(camera, points + step) - project(camera, points - step)) / (2 * h)
        np.testing.assert_allclose(J[..., axis], want, atol=1e-3, rtol=1e-5)


def test_points_behind_and_beyond_the_fold_are_not_seen() -> None:
    camera = make("plumb_bob")
    behind = camera.centre - 0.5 * rays(camera, np.array([320.0, 240.0]))
    assert np.isnan(project(camera, behind)).all()
    # k1 = -0.3 alone folds near r = 1.05: at r = 1.5 the formula lands inside the picture.
    camera = replace(camera, D=np.array([-0.3, 0, 0, 0]))
    wide = camera.T_camera_world[:3, :3].T @ np.array([1.5, 0, 1.0]) + camera.centre
    assert np.isnan(project(camera, wide)).all()


def test_unreachable_pixels_are_nan() -> None:
    camera = make("plumb_bob")
    assert np.isnan(undistort(camera, np.array([5000.0, 240.0]))).all()
