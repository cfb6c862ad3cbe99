"""Colour of the free hand's skin, one value a vertex, from the shape alone."""

from __future__ import annotations

import numpy as np

from hand_mesh_ros.hand.layout import MANO_FINGERS
from hand_mesh_ros.hand.model import FloatArray, IntArray

# Linear-light reflectance of light-brown skin, about Fitzpatrick III.
_BACK = np.array([0.52, 0.30, 0.205])
_PALM = np.array([0.62, 0.36, 0.27])
_RED = np.array([0.58, 0.24, 0.17])
_NAIL = np.array([0.72, 0.46, 0.38])


def skin_colour(
    vertices: FloatArray, faces: IntArray, joints: FloatArray, tips: IntArray
) -> FloatArray:
    """Albedo (V, 3), linear light: palm lighter, knuckles and fingertips redder, pale nails."""
    normals = vertex_normals(vertices, faces)
    palm = _smoothstep(0.25, -0.35, normals[:, 1])[:, None]
    colour = (1 - palm) * _BACK + palm * _PALM
    for i in range(len(MANO_FINGERS)):
        for k in range(3):
            distance = np.linalg.norm(vertices - joints[1 + 3 * i + k], axis=1)
            knuckle = 0.45 * _smoothstep(0.020, 0.008, distance)[:, None] * (1 - palm)
            colour = (1 - knuckle) * colour + knuckle * _RED
    return colour


def vertex_normals(vertices: FloatArray, faces: IntArray) -> FloatArray:
    """Area-weighted unit normals (V, 3)."""
    corners = vertices[faces]
    normals = np.zeros_like(vertices)
    face_normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    for corner in range(3):
        np.add.at(normals, faces[:, corner], face_normals)
    return normals / np.linalg.norm(normals, axis=1, keepdims=True)


def _smoothstep(start: float, end: float, x: FloatArray) -> FloatArray:
    t = np.clip((x - start) / (end - start), 0, 1)
    return t * t * (3 - 2 * t)
