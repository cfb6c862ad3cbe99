"""Which colour a picture shows at each vertex of a hand's mesh, and how far it may be believed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.geometry.meshes import vertex_normals
from hand_mesh_ros.render.rasteriser import rasterise_region
from hand_mesh_ros.render.shading import to_linear
from hand_mesh_ros.types import FloatArray, ImageArray

_SLACK = 0.003  # metres by which a visible vertex may lie behind its pixel's surface
# Beyond a grazing angle a pixel mixes what lies behind with what is asked for.
_GRAZING, _FACING = 0.15, 0.6
_DARK, _BRIGHT = 4, 251  # levels of 255 that a camera's clipping has spoilt


@dataclass(frozen=True, eq=False)
class SkinColours:
    """Of V vertices in one picture: linear ``colours`` (V, 3), ``weight`` (V,) 0..1 of each (0:

    not seen), and the unit ``normals`` (V, 3) that light falls on, in the camera's axes.
    """

    colours: FloatArray
    weight: FloatArray
    normals: FloatArray


def sample_skin(
    image: ImageArray,
    uv: FloatArray,
    points: FloatArray,
    faces: NDArray[np.integer],
    skin: NDArray[np.floating] | None = None,
) -> SkinColours:
    """Colours of ``points`` (V, 3), in the camera's axes and seen at pixels ``uv`` (V, 2).

    A vertex counts if the z-buffer of the mesh has it in front, and by how much it faces the
    camera. ``skin`` (V,) is the probability that its pixel shows the hand, not what covers it;
    without it, everything before the hand is taken for skin.
    """
    height, width = image.shape[:2]
    normals = vertex_normals(points, faces)
    facing = -(normals * points).sum(1) / np.linalg.norm(points, axis=1)
    near = rasterise_region(uv, points[:, 2], faces, width, height, cull_backfaces=True)
    finite = np.isfinite(uv).all(1)
    within = np.asarray(finite & ((uv > 0) & (uv < [width - 1, height - 1])).all(1))
    column, row = np.rint(np.where(within[:, None], uv, 0)).astype(int).T
    depth = np.full((height, width), np.inf)
    depth[near.window] = near.depth
    front = within & (points[:, 2] <= depth[row, column] + _SLACK)
    weight = front * np.clip((facing - _GRAZING) / (_FACING - _GRAZING), 0, 1)
    levels = bilinear(image, np.where(within[:, None], uv, 0))
    weight *= ((levels > _DARK) & (levels < _BRIGHT)).all(1)
    if skin is not None:
        weight = weight * np.clip(2 * skin - 1, 0, 1)
    colours = to_linear(levels / 255)
    return SkinColours(np.asarray(colours), weight, normals)


def bilinear(image: NDArray, uv: FloatArray) -> FloatArray:
    """Values (N, C) or (N,) of an image (H, W, C) or (H, W) at pixels (N, 2), clamped to it."""
    height, width = image.shape[:2]
    u = np.clip(uv[:, 0], 0, width - 1)
    v = np.clip(uv[:, 1], 0, height - 1)
    left = np.minimum(u.astype(int), width - 2)
    top = np.minimum(v.astype(int), height - 2)
    a, b = u - left, v - top
    if image.ndim == 3:
        a, b = a[:, None], b[:, None]
    above = (1 - a) * image[top, left] + a * image[top, left + 1]
    below = (1 - a) * image[top + 1, left] + a * image[top + 1, left + 1]
    return np.asarray((1 - b) * above + b * below, dtype=np.float64)
