from __future__ import annotations

import numpy as np
import pytest

from hand_mesh_ros.geometry.alignment import procrustes
from hand_mesh_ros.geometry.cameras import look_at, project
from hand_mesh_ros.geometry.rotations import exp_so3
from hand_mesh_ros.geometry.triangulation import (
    epipolar_distance,
    reprojection_errors,
    triangulate,
    triangulation_covariance,
)
from hand_mesh_ros.types import Camera


def cell(n: int = 3) -> list[Camera]:
    K = np.array([[700.0, 0, 640], [0, 705.0, 360], [0, 0, 1]])
    D = np.array([0.12, -0.2, 0.001, -0.002, 0.08])
    angles = np.linspace(-0.7, 0.7, n)
    eyes = [np.array([np.sin(a), -0.2 + 0.1 * i, -np.cos(a)]) for i, a in enumerate(angles)]
    return [
        Camera(f"c{i}", 1280, 720, K, "plumb_bob", D, look_at(e, np.zeros(3), np.array([0, -1, 0])))
        for i, e in enumerate(eyes)
    ]


def test_exact_pixels_give_exact_points(rng: np.random.Generator) -> None:
    cameras = cell()
    points = rng.uniform(-0.15, 0.15, (21, 3))
    uv = np.stack([project(c, points) for c in cameras])
    sigma = np.full(uv.shape[:2], 2.0)
    np.testing.assert_allclose(triangulate(cameras, uv, sigma), points, atol=1e-9)
    assert np.nanmax(reprojection_errors(cameras, points, uv)) < 1e-9


def test_one_view_is_not_enough_and_missing_views_are_ignored(rng: np.random.Generator) -> None:
    cameras = cell()
    points = rng.uniform(-0.1, 0.1, (4, 3))
    uv = np.stack([project(c, points) for c in cameras])
    uv[1:, 0] = np.nan
    uv[2, 1] = np.nan
    got = triangulate(cameras, uv, np.ones(uv.shape[:2]))
    assert np.isnan(got[0]).all()
    np.testing.assert_allclose(got[1:], points[1:], atol=1e-9)


def test_covariance_is_the_scatter_of_noisy_triangulations(rng: np.random.Generator) -> None:
    cameras = cell()
    point = np.array([[0.03, -0.02, 0.05]])
    sigma = np.array([[1.0], [2.0], [3.0]])
    clean = np.stack([project(c, point) for c in cameras])
    trials = 3000
    noise = rng.normal(size=(3, trials, 2)) * sigma[..., None]
    got = triangulate(cameras, clean + noise, np.repeat(sigma, trials, 1))
    want = np.cov((got - point).T)
    expected = triangulation_covariance(cameras, point, sigma)[0]
    np.testing.assert_allclose(np.linalg.eigvalsh(expected), np.linalg.eigvalsh(want), rtol=0.12)


def test_epipolar_distance_measures_pixels(rng: np.random.Generator) -> None:
    a, b, _ = cell()
    points = rng.uniform(-0.1, 0.1, (30, 3))
    uv_a, uv_b = project(a, points), project(b, points)
    assert epipolar_distance(a, b, uv_a, uv_b).max() < 1e-6
    shifted = uv_b + np.array([0, 20.0])
    distance = epipolar_distance(a, b, uv_a, shifted)
    assert 5 < np.median(distance) < 21


@pytest.mark.parametrize("with_scale", [False, True])
def test_procrustes_undoes_a_similarity(with_scale: bool, rng: np.random.Generator) -> None:
    source = rng.normal(size=(5, 21, 3))
    R, t = exp_so3(rng.normal(size=(5, 3))), rng.normal(size=(5, 3))
    scale = rng.uniform(0.5, 2, 5) if with_scale else np.ones(5)
    target = scale[:, None, None] * source @ np.swapaxes(R, -1, -2) + t[:, None]
    s, R2, t2 = procrustes(source, target, with_scale=with_scale)
    np.testing.assert_allclose(s, scale)
    np.testing.assert_allclose(R2, R, atol=1e-9)
    np.testing.assert_allclose(t2, t, atol=1e-9)


def test_procrustes_never_reflects(rng: np.random.Generator) -> None:
    source = rng.normal(size=(21, 3))
    _, R, _ = procrustes(source, source * np.array([-1, 1, 1]))
    assert np.linalg.det(R) == pytest.approx(1)
