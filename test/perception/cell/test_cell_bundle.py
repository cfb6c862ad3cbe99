"""Bundle adjustment: its derivatives, what it leaves alone, and its gauge."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from hand_mesh_ros.geometry.cameras import project
from hand_mesh_ros.geometry.rotations import exp_so3, rigid
from hand_mesh_ros.geometry.triangulation import triangulate
from hand_mesh_ros.perception.cell_bundle import (
    BundleSettings,
    bundle_adjust,
    reduced_system,
)
from hand_mesh_ros.perception.cell_epipolar import (
    depths,
    metric,
    ray_angle,
    relative_pose,
    sampson,
)
from hand_mesh_ros.perception.cell_gauge import gauge_directions, held_by, onto
from hand_mesh_ros.perception.cell_views import MatchedHands, by_side, matched


@pytest.fixture
def hands(scene: Any, stage: Any, rng: np.random.Generator) -> MatchedHands:
    cameras = stage.ring(3)
    views = stage.cell_views(stage.wander(scene, cameras, 12, rng), cameras)
    return matched(views, by_side(views), 3)


def _points(cameras: Any, hands: MatchedHands) -> np.ndarray:
    G, C, J, _ = hands.uv.shape
    uv = hands.uv.transpose(1, 0, 2, 3).reshape(C, G * J, 2)
    return triangulate(cameras, uv, hands.sigma.transpose(1, 0, 2).reshape(C, -1)).reshape(G, J, 3)


def test_the_gradient_is_the_costs(stage: Any, hands: MatchedHands) -> None:
    """At settled points the reduced gradient is the cost's own: they do not care to first order."""
    cameras = stage.ring(3)
    sure = BundleSettings(rounds=12, iterations=60, tolerance=1e-14)
    found = bundle_adjust(
        cameras, hands.uv, hands.sigma, _points(cameras, hands), sure, held=(0, 1, 2)
    )
    sigma = found.noise * hands.sigma
    _, gradient, _ = reduced_system(cameras, hands.uv, sigma, found.points)

    def cost(xi: np.ndarray) -> float:
        T = rigid(exp_so3(xi[:3]), xi[3:]) @ cameras[1].T_camera_world
        square = ((project(cameras[1].placed(T), found.points) - hands.uv[:, 1]) ** 2).sum(-1)
        return float(0.5 * 6 * np.nansum(np.log1p(square / sigma[:, 1] ** 2 / 4)))

    step = 1e-6 * np.eye(6)
    differences = [(cost(d) - cost(-d)) / 2e-6 for d in step]
    # Points settle to a per cent or so: the errors' scale is measured once more at the end.
    assert np.allclose(gradient[6:12], differences, atol=0.03 * np.abs(differences).max())


def test_information_knows_nothing_of_the_gauge(stage: Any, hands: MatchedHands) -> None:
    cameras = stage.ring(3)
    found = bundle_adjust(cameras, hands.uv, hands.sigma, _points(cameras, hands))
    G = gauge_directions(found.cameras, 6)
    G = G / np.linalg.norm(G, axis=0)
    along = np.abs(np.einsum("ik,ij,jk->k", G, found.information, G))
    assert along.max() < 1e-4 * np.trace(found.information)
    assert np.linalg.matrix_rank(held_by(found.cameras, 6, 1) @ G) == 7


def test_held_cameras_stay(stage: Any, hands: MatchedHands, rng: np.random.Generator) -> None:
    cameras = list(stage.ring(3))
    cameras[2] = stage.turned(cameras[2], 2.0, 0.02, rng)
    found = bundle_adjust(
        cameras, hands.uv, hands.sigma, _points(cameras, hands), held=(0, 1)
    )
    for i in (0, 1):
        assert np.array_equal(found.cameras[i].T_camera_world, cameras[i].T_camera_world)
    true = stage.ring(3)[2].T_camera_world
    assert np.abs(found.cameras[2].T_camera_world - true).max() < 0.01


def test_outliers_hardly_count(
    stage: Any, hands: MatchedHands, rng: np.random.Generator
) -> None:
    cameras = stage.ring(3)
    uv = hands.uv.copy()
    wrong = rng.random(uv.shape[:3]) < 0.1
    uv[wrong] += rng.normal(0, 60, (int(wrong.sum()), 2))
    spoiled = replace(hands, uv=uv)
    found = bundle_adjust(cameras, uv, hands.sigma, _points(cameras, spoiled))
    moved = onto(found.cameras, cameras)
    for a, b in zip(found.cameras, cameras, strict=True):
        assert np.degrees(np.abs(moved.camera(a).T_camera_world - b.T_camera_world).max()) < 1.0
    assert found.weight[wrong].mean() < 0.3 < found.weight[~wrong].mean()


def test_points_at_infinity_do_no_harm(stage: Any, hands: MatchedHands) -> None:
    cameras = stage.ring(3)
    points = _points(cameras, hands)
    points[0] += 1e7
    found = bundle_adjust(cameras, hands.uv, hands.sigma, points)
    assert np.isfinite(found.information).all() and np.isfinite(found.cost)


def test_epipolar_geometry_of_a_pair(rng: np.random.Generator) -> None:
    T = rigid(exp_so3(np.array([0.1, -0.6, 0.2])), np.array([0.5, 0.1, 0.2]))
    points = rng.normal([0, 0, 1.5], 0.2, (300, 3))
    there = points @ T[:3, :3].T + T[:3, 3]
    a, b = points[:, :2] / points[:, 2:], there[:, :2] / there[:, 2:]
    assert sampson(T, a, b).max() < 1e-12
    z_a, z_b = depths(T, a, b)
    assert np.allclose(z_a, points[:, 2]) and np.allclose(z_b, there[:, 2])
    noisy = a + rng.normal(0, 0.001, a.shape), b + rng.normal(0, 0.001, b.shape)
    found = relative_pose(*noisy, 0.001)
    assert found is not None
    scaled = metric(found, *noisy, points[:, 2], there[:, 2])
    assert scaled is not None and np.abs(scaled - T).max() < 0.02
    cosine = (points @ T[:3, :3].T * there).sum(-1)
    cosine = cosine / np.linalg.norm(points, axis=1) / np.linalg.norm(there, axis=1)
    assert np.allclose(ray_angle(T, a, b), np.arccos(np.abs(cosine)))
    assert relative_pose(a[:5], b[:5], 0.001) is None
    # Behind the cameras: a baseline of the other sign puts every point there.
    back = found.copy()
    back[:3, 3] *= -1
    assert metric(back, *noisy, points[:, 2], there[:, 2]) is None
