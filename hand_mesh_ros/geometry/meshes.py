"""Triangle meshes: what follows from vertices and faces alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def vertex_normals(
    vertices: NDArray[np.float64], faces: NDArray[np.integer]
) -> NDArray[np.float64]:
    """Unit normals (V, 3), each the area-weighted mean of the faces around a vertex.

    They point to where faces (F, 3) turn counter-clockwise; 0 for a vertex of no face.
    """
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    normal = np.cross(b - a, c - a)
    size = len(vertices)
    corners = faces.ravel()
    total = np.stack(
        [np.bincount(corners, np.repeat(normal[:, k], 3), size) for k in range(3)], axis=1
    )
    return np.asarray(total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-20))
