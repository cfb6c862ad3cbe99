"""Meshes and cameras that tests of rendering share."""

from __future__ import annotations

import numpy as np
import pytest

from hand_mesh_ros.geometry.cameras import look_at
from hand_mesh_ros.types import Camera


@pytest.fixture
def sphere() -> tuple[np.ndarray, np.ndarray]:
    """A unit sphere, outward faces: (V, 3), (F, 3); a subdivided octahedron."""
    vertices = np.array(
        [[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]], dtype=float
    )
    faces = np.array(
        [[0, 2, 4], [2, 1, 4], [1, 3, 4], [3, 0, 4], [2, 0, 5], [1, 2, 5], [3, 1, 5], [0, 3, 5]]
    )
    for _ in range(4):
        corners = vertices[faces]
        middle = (corners + np.roll(corners, -1, axis=1)) / 2
        middle /= np.linalg.norm(middle, axis=-1, keepdims=True)
        points = np.concatenate([corners, middle], axis=1).reshape(-1, 3)
        unique, inverse = np.unique(points.round(9), axis=0, return_inverse=True)
        vertices = unique / np.linalg.norm(unique, axis=1, keepdims=True)
        a, b, c, ab, bc, ca = inverse.reshape(-1, 6).T
        faces = np.concatenate(
            [np.stack(t, 1) for t in ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))]
        )
    return vertices, faces


@pytest.fixture
def camera() -> Camera:
    """A webcam with strong plumb_bob distortion, 0.8 m from the origin."""
    K = np.array([[460.0, 0, 318], [0, 462, 243], [0, 0, 1]])
    D = np.array([-0.28, 0.09, 0.0015, -0.001, -0.01])
    T = look_at(np.array([0.8, 0.1, 0.2]), np.zeros(3), np.array([0.0, 0, 1]))
    return Camera("webcam", 640, 480, K, "plumb_bob", D, T)
