"""Surfaces and light: from a mesh in the world to anti-aliased colour in a camera's picture.

Colours are RGB in [0, 1]: linear reflectance and light up to the last step, sRGB in pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.geometry.cameras import project
from hand_mesh_ros.geometry.rotations import transform_points
from hand_mesh_ros.render.rasteriser import rasterise, rasterise_region
from hand_mesh_ros.types import Camera, FloatArray, ImageArray

# How far light bleeds through skin beyond the terminator, per colour (a cosine).
_BLEED = np.array([0.35, 0.15, 0.10])


@dataclass(frozen=True, slots=True, eq=False)
class Surface:
    """A mesh in the world: ``vertices`` (V, 3) m, ``faces`` (F, 3), ``albedo`` (V, 3) linear.

    ``gloss`` (V,) is the strength of the soft highlight.
    """

    vertices: FloatArray
    faces: NDArray[np.int64]
    albedo: FloatArray
    gloss: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Lamp:
    """Parallel light from ``direction`` (3,), a unit vector, with linear ``colour`` (3,)."""

    direction: FloatArray
    colour: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """Part of a picture: sRGB ``colour`` (h, w, 3), coverage ``alpha`` (h, w), its ``window``."""

    colour: NDArray[np.float32]
    alpha: NDArray[np.float32]
    window: tuple[slice, slice]


def to_linear(srgb: NDArray) -> NDArray:
    """Linear light of sRGB values, by the usual power law of 2.2."""
    return np.asarray(np.clip(srgb, 0, 1) ** 2.2)


def to_srgb(linear: NDArray) -> NDArray:
    """sRGB values of linear light, rolled off softly instead of clipped above 0.8."""
    rolled = np.where(linear > 0.8, 1 - 0.2 * np.exp(-(linear - 0.8) / 0.2), linear)
    return np.asarray(np.clip(rolled, 0, 1) ** (1 / 2.2))


def join(surfaces: Sequence[Surface]) -> Surface:
    """One surface of several, which hide each other where they overlap."""
    offsets = np.cumsum([0, *(len(s.vertices) for s in surfaces[:-1])])
    return Surface(
        np.concatenate([s.vertices for s in surfaces]),
        np.concatenate([s.faces + o for s, o in zip(surfaces, offsets, strict=True)]),
        np.concatenate([s.albedo for s in surfaces]),
        np.concatenate([s.gloss for s in surfaces]),
    )


def project_surface(camera: Camera, vertices: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Distorted pixels (V, 2), NaN where unseen, and depths (V,) for the z-buffer."""
    local = transform_points(camera.T_camera_world, vertices)
    fisheye = camera.distortion == "equidistant"
    depth = np.linalg.norm(local, axis=1) if fisheye else local[:, 2]
    return project(camera, vertices), np.asarray(depth)


def sky(zenith: FloatArray, ground: FloatArray, count: int = 12) -> tuple[Lamp, ...]:
    """A dome of ``count`` lamps all around, z up: with shadows, it darkens creases and contacts.

    ``zenith`` and ``ground`` (3,) are the light from straight above and below. Directions follow a
    Fibonacci lattice, the usual even covering of a sphere.
    """
    k = np.arange(count) + 0.5
    z, turn = 1 - 2 * k / count, k * np.pi * (3 - np.sqrt(5))
    radius = np.sqrt(1 - z**2)
    directions = np.stack([radius * np.cos(turn), radius * np.sin(turn), z], axis=1)
    mix = (z[:, None] + 1) / 2
    # A surface under an even sky receives the integral of the cosine, a quarter of all lamps.
    colours = (mix * zenith + (1 - mix) * ground) * 4 / count
    return tuple(Lamp(d, c) for d, c in zip(directions, colours, strict=True))


def illuminate(surface: Surface, normals: FloatArray, lamps: Sequence[Lamp]) -> FloatArray:
    """Linear radiance (V, 3) that each vertex sends back evenly to all sides."""
    light = np.zeros_like(surface.vertices)
    for lamp in lamps:
        cosine = normals @ lamp.direction
        lit = reach(surface, lamp.direction)
        # Light that entered the skin leaves it beyond the edge of the shade, red furthest.
        spread = np.clip((cosine[:, None] + _BLEED) / (1 + _BLEED), 0, None)
        light += lit[:, None] * spread * lamp.colour
    return np.asarray(surface.albedo * light)


def highlight(
    surface: Surface, normals: FloatArray, lamps: Sequence[Lamp], eye: FloatArray
) -> FloatArray:
    """Linear radiance (V, 3) mirrored softly towards ``eye`` (3,): Blinn-Phong."""
    view = eye - surface.vertices
    view /= np.linalg.norm(view, axis=1, keepdims=True)
    out = np.zeros_like(surface.vertices)
    for lamp in lamps:
        half = view + lamp.direction
        half /= np.maximum(np.linalg.norm(half, axis=1, keepdims=True), 1e-9)
        facing = np.clip(4 * (normals @ lamp.direction), 0, 1)
        shine = surface.gloss * facing * np.clip((normals * half).sum(axis=1), 0, 1) ** 24
        out += shine[:, None] * lamp.colour
    return out


def reach(surface: Surface, direction: FloatArray, size: int = 96) -> FloatArray:
    """How much of a parallel light from ``direction`` reaches each vertex, (V,) in [0, 1].

    A shadow map of ``size`` x ``size``, softened over two of its pixels.
    """
    side = np.cross(direction, np.eye(3)[np.argmin(np.abs(direction))])
    side /= np.linalg.norm(side)
    basis = np.stack([side, np.cross(side, direction), -direction])
    local = surface.vertices @ basis.T
    low, extent = local.min(axis=0), np.ptp(local, axis=0)
    pixel = max(float(extent[:2].max()), 1e-6) / (size - 3)
    uv = (local[:, :2] - low[:2]) / pixel + 1
    # The z-buffer interpolates 1/z; seen from far away that is as straight as parallel light.
    depth = local[:, 2] - low[2] + 100 * max(float(extent[2]), 1e-6)
    # Faces turned to the light are left out: a surface then hides others but never itself.
    nearest = rasterise_region(uv, depth, surface.faces[:, ::-1], size, size, cull_backfaces=True)
    column, row = np.rint(uv).astype(int).T
    behind = depth - nearest.expanded(size, size).depth[row, column]
    return np.asarray(np.clip(1.5 - behind / pixel / 2, 0, 1))


def draw(
    camera: Camera, surface: Surface, radiance: FloatArray, *, supersample: int = 2
) -> Layer | None:
    """The surface as the camera sees it, or None where it is not in the picture.

    ``radiance`` (V, 3) linear. Edges are smoothed by ``supersample`` x ``supersample`` samples a
    pixel. The lens's distortion is honoured at every vertex.
    """
    import cv2

    uv, depth = project_surface(camera, surface.vertices)
    s = supersample
    size = camera.width * s, camera.height * s
    fragments = rasterise_region((uv + 0.5) * s - 0.5, depth, surface.faces, *size)
    if fragments.face_ids.size == 0:
        return None
    first_row, first_column = (w.start // s for w in fragments.window)
    top, left = (w.start % s for w in fragments.window)
    height, width = fragments.face_ids.shape
    rows, columns = -(-(top + height) // s), -(-(left + width) // s)
    canvas = np.zeros((rows * s, columns * s, 4), dtype=np.float32)
    inner = canvas[top : top + height, left : left + width]
    inner[fragments.mask, :3] = fragments.interpolate(surface.faces, radiance)
    inner[..., 3] = fragments.mask
    mean = cv2.resize(canvas, (columns, rows), interpolation=cv2.INTER_AREA)
    alpha = mean[..., 3]
    colour = to_srgb(mean[..., :3] / np.maximum(alpha, 1e-6)[..., None])
    window = slice(first_row, first_row + rows), slice(first_column, first_column + columns)
    return Layer(colour, alpha, window)


def depth_of(camera: Camera, surface: Surface) -> NDArray[np.float32]:
    """Depth (H, W) along the optical axis of what the camera sees first, inf beside the surface."""
    depth = transform_points(camera.T_camera_world, surface.vertices)[:, 2]
    uv, size = project(camera, surface.vertices), (camera.width, camera.height)
    return rasterise(uv, depth, surface.faces, *size).depth


def composite(image: ImageArray, layer: Layer | None) -> None:
    """Lay ``layer`` over ``image`` (H, W, 3) uint8, in place."""
    if layer is not None:
        below = image[layer.window]
        mixed = below + layer.alpha[..., None] * (255 * layer.colour - below)
        below[:] = (mixed + 0.5).astype(np.uint8)
