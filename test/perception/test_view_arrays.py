"""Views as arrays give what the functions for one camera give."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from hand_mesh_ros.geometry.cameras import undistort
from hand_mesh_ros.geometry.triangulation import reprojection_errors, triangulate
from hand_mesh_ros.perception.view_arrays import (
    errors_in_sigmas,
    triangulate_arrays,
    view_arrays,
)
from hand_mesh_ros.types import Camera, View

LENSES: dict[str, tuple[Any, list[float]]] = {
    "none": ("none", []),
    "plumb_bob": ("plumb_bob", [-0.28, 0.09, 1e-3, -5e-4, -0.01]),
    "rational": ("rational_polynomial", [0.4, -0.2, 1e-4, 2e-4, 0.01, 0.7, -0.1, 0.02]),
    "equidistant": ("equidistant", [0.02, -0.01, 0.003, 0.0]),
}


def seen_by(scene: Any, lens: str, count: int) -> list[View]:
    model, D = LENSES[lens]
    cameras: list[Camera] = [
        replace(c, distortion=model, D=np.array(D)) for c in scene.cameras(count)
    ]
    rng = np.random.default_rng(4)
    hand = scene.hand(rng, "right")
    return [scene.view(hand, i, c, rng) for i, c in enumerate(cameras)]


@pytest.mark.parametrize("lens", LENSES)
def test_undistorted_and_triangulated_alike(scene: Any, lens: str) -> None:
    views = seen_by(scene, lens, 4)
    arrays = view_arrays(views)
    for xy, view in zip(arrays.xy, views, strict=True):
        np.testing.assert_allclose(xy, undistort(view.camera, view.uv), atol=2e-7)
    uv, sigma = np.stack([v.uv for v in views]), np.stack([v.sigma for v in views])
    cameras = [v.camera for v in views]
    points = triangulate(cameras, uv, sigma)
    np.testing.assert_allclose(triangulate_arrays(arrays), points, atol=1e-6)
    np.testing.assert_allclose(triangulate_arrays(arrays, passes=1), points, atol=2e-3)
    errors, depth = errors_in_sigmas(arrays, points)
    expected = reprojection_errors(cameras, points, uv) / sigma
    np.testing.assert_allclose(np.median(errors), np.median(expected), rtol=0.15)
    for z, camera in zip(depth, cameras, strict=True):
        T = camera.T_camera_world
        np.testing.assert_allclose(z, points @ T[2, :3] + T[2, 3], atol=1e-12)


def test_what_no_ray_reaches_is_nan_and_does_not_count(scene: Any) -> None:
    views = seen_by(scene, "plumb_bob", 3)
    uv = views[1].uv.copy()
    uv[4] = 1e5
    arrays = view_arrays([views[0], replace(views[1], uv=uv), views[2]])
    assert np.isnan(arrays.xy[1, 4]).all() and np.isfinite(arrays.xy).mean() > 0.98
    assert np.isfinite(triangulate_arrays(arrays)).all()
    alone = triangulate_arrays(arrays.select([0, 1]))
    assert np.isnan(alone[4]).all() and np.isfinite(np.delete(alone, 4, axis=0)).all()
