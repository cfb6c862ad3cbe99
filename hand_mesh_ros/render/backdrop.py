"""The room behind the hand: a desk and walls with procedural patterns, as a camera sees them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.geometry.cameras import rays
from hand_mesh_ros.render.shading import to_srgb
from hand_mesh_ros.types import Camera, FloatArray, ImageArray

_LATTICE = 64
# Rays are traced on a coarse grid of pixels and interpolated: the lens is smooth.
_GRID = 8
# The room, metres: the desk's height and far edge, and the walls' distances from the world's axis.
_DESK_TOP, _DESK_EDGE, _WALL = 0.0, -0.55, 1.9


def room(camera: Camera, seed: int) -> ImageArray:
    """The empty room as ``camera`` sees it, (H, W, 3) sRGB uint8; ``seed`` picks its colours.

    All cameras of one seed see the same room.
    """
    direction = _pixel_rays(camera)
    rng = np.random.default_rng([seed, 77])
    noise = rng.random((3, _LATTICE, _LATTICE)).astype(np.float32)
    wall_tone = np.array([0.34, 0.37, 0.40]) * rng.uniform(0.7, 1.2) + rng.uniform(-0.04, 0.04, 3)
    wood = np.array([0.30, 0.21, 0.14]) * rng.uniform(0.5, 1.0)
    stripe = rng.uniform(0.05, 0.5, (5, 3))

    distance, sides = _box(camera.centre, direction)
    point = camera.centre + distance[..., None] * direction
    on_desk, desk_t = _desk(camera.centre, direction, distance)
    desk_point = camera.centre + desk_t[..., None] * direction

    wall = _walls(point, sides, wall_tone, stripe, noise)
    return np.asarray(
        255 * to_srgb(np.where(on_desk[..., None], _planks(desk_point, wood, noise), wall)) + 0.5
    ).astype(np.uint8)


def room_depth(camera: Camera) -> NDArray[np.float32]:
    """Depth of the empty room along the optical axis, (H, W) metres."""
    direction = _pixel_rays(camera)
    distance, _ = _box(camera.centre, direction)
    on_desk, desk_t = _desk(camera.centre, direction, distance)
    axis = camera.T_camera_world[2, :3]
    return np.asarray(np.where(on_desk, desk_t, distance) * (direction @ axis), dtype=np.float32)


def _desk(eye: FloatArray, direction: NDArray, distance: NDArray) -> tuple[NDArray, NDArray]:
    """Which pixels see the desk, and how far along their rays its plane is."""
    t = (_DESK_TOP - eye[2]) / np.minimum(direction[..., 2], -1e-6)
    x = eye[0] + t * direction[..., 0]
    return (direction[..., 2] < 0) & (t < distance) & (x > _DESK_EDGE), t


def _pixel_rays(camera: Camera) -> NDArray[np.float64]:
    """Viewing direction of every pixel, (H, W, 3); held at the rim where the lens has no rays."""
    import cv2

    columns = np.linspace(0, camera.width - 1, max(2, camera.width // _GRID))
    rows = np.linspace(0, camera.height - 1, max(2, camera.height // _GRID))
    grid = rays(camera, np.stack(np.meshgrid(columns, rows), axis=-1))
    grid = np.where(np.isfinite(grid), grid, camera.T_camera_world[2, :3])
    u, v = np.meshgrid(
        np.linspace(0, len(columns) - 1, camera.width, dtype=np.float32),
        np.linspace(0, len(rows) - 1, camera.height, dtype=np.float32),
    )
    return np.asarray(cv2.remap(grid.astype(np.float32), u, v, cv2.INTER_LINEAR), dtype=np.float64)


def _box(eye: FloatArray, direction: NDArray) -> tuple[NDArray, NDArray]:
    """Distance to the room's walls, floor and ceiling, and which axis (0, 1, 2) was met."""
    half = np.array([_WALL, _WALL, 1.3])
    middle = np.array([0.0, 0.0, 0.55])
    safe = np.where(np.abs(direction) < 1e-9, 1e-9, direction)
    exits = (np.sign(safe) * half + middle - eye) / safe
    return exits.min(axis=-1), exits.argmin(axis=-1)


def _walls(
    point: NDArray, sides: NDArray, tone: FloatArray, stripe: FloatArray, noise: NDArray
) -> NDArray:
    """Painted walls with a soft fall-off of light, and shelves with coloured things on them."""
    along = np.where(sides == 0, point[..., 1], point[..., 0])
    height = point[..., 2]
    light = 0.55 + 0.35 * np.clip((height + 0.5) / 1.8, 0, 1)
    mottled = 0.85 + 0.3 * _noise(noise[0], along * 3, height * 3)
    colour = (light * mottled)[..., None] * tone
    # Things on two shelves, each 12 to 30 cm wide, stand between bare stretches of wall.
    slot = np.floor(along / 0.21 + 7).astype(int)
    within = along / 0.21 + 7 - slot
    for shelf, base in enumerate((0.15, 0.75)):
        kind = (slot * 7 + shelf * 3) % 11
        tall = 0.12 + 0.03 * (kind % 5)
        thing = (kind < 6) & (within > 0.12) & (within < 0.5 + 0.08 * (kind % 6))
        thing &= (height > base) & (height < base + tall)
        paint = stripe[kind % len(stripe)] * (0.6 + 0.4 * within[..., None])
        colour = np.where(thing[..., None], paint, colour)
        board = (height <= base) & (height > base - 0.025)
        colour = np.where(board[..., None], 0.5 * tone, colour)
    floor = 0.12 + 0.08 * _noise(noise[1], point[..., 0] * 5, point[..., 1] * 5)
    return np.where((sides == 2)[..., None], floor[..., None] * np.array([1.0, 0.95, 0.9]), colour)


def _planks(point: NDArray, wood: FloatArray, noise: NDArray) -> NDArray:
    """A wooden desk: grain drawn out along y, in boards of 14 cm with dark joints."""
    x, y = point[..., 0], point[..., 1]
    board = np.floor(x / 0.14)
    grain = _noise(noise[1], x * 60, y * 4 + board * 3.7)
    broad = _noise(noise[2], x * 6, y * 1.5 + board * 1.3)
    joint = np.where(np.abs(x / 0.14 - board - 0.5) > 0.49, 0.5, 1.0)
    return ((0.6 + 0.35 * grain + 0.35 * broad) * joint)[..., None] * wood


def _noise(lattice: NDArray, x: NDArray, y: NDArray) -> NDArray:
    """Value noise in [0, 1]: two octaves of a periodic random lattice, smoothly interpolated."""
    out = np.zeros(x.shape, dtype=np.float32)
    for scale, weight in ((1.0, 0.67), (2.3, 0.33)):
        u, v = x * scale, y * scale
        column, row = np.floor(u).astype(int), np.floor(v).astype(int)
        a, b = u - column, v - row
        a, b = a * a * (3 - 2 * a), b * b * (3 - 2 * b)
        c0, c1 = column % _LATTICE, (column + 1) % _LATTICE
        r0, r1 = row % _LATTICE, (row + 1) % _LATTICE
        top = lattice[r0, c0] * (1 - a) + lattice[r0, c1] * a
        bottom = lattice[r1, c0] * (1 - a) + lattice[r1, c1] * a
        out += weight * (top * (1 - b) + bottom * b)
    return out
