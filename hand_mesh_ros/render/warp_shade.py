"""Light and colour of what was drawn: an environment with shadows, one lamp with its own, skin.

The work is done by `kernels_shade` on a device that Warp knows, the CPU or CUDA.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import warp as wp
from numpy.typing import NDArray

from hand_mesh_ros.render.kernels_matter import Paint, Skin
from hand_mesh_ros.render.kernels_shade import Lamp, World, gather_dome, shade
from hand_mesh_ros.render.warp_raster import draw_keys, to_device

_DOME_SIZE, _LAMP_SIZE = 64, 320


def light_scene(
    mesh: Mapping[str, NDArray], dome: tuple[NDArray, NDArray], lamp: tuple[NDArray, NDArray],
    skin: Skin, paint: Paint, nails: NDArray, folds: NDArray, device: str,
) -> World:  # fmt: skip
    """Light that reaches every vertex, and the lamp's shadow map.

    ``mesh``: ``points``, ``normals``, ``albedo``, ``rest`` (V, 3), ``material`` (V,) of SKIN,
    CLOTH, THING, ``faces`` (F, 3). ``dome``: directions (D, 3) and colours (D, 3). ``lamp``: its
    direction and colour (3,).
    """
    points = mesh["points"]
    faces = to_device(mesh["faces"], wp.int32, device)
    directions, colours = dome
    uv, depth, pixel = _parallel(points, directions, _DOME_SIZE)
    dome_uv, dome_depth = to_device(uv, wp.vec2, device), to_device(depth, float, device)
    keys = draw_keys(dome_uv, dome_depth, faces, _DOME_SIZE, _DOME_SIZE, turned=True)
    normals = to_device(mesh["normals"], wp.vec3, device)
    light = wp.empty(len(points), dtype=wp.vec3, device=device)
    wp.launch(
        gather_dome, dim=len(points), device=device,
        inputs=[
            dome_uv, dome_depth, keys, to_device(pixel, float, device),
            to_device(directions, wp.vec3, device), to_device(colours, wp.vec3, device),
            normals, _DOME_SIZE, light,
        ],
    )  # fmt: skip
    uv, depth, pixel = _parallel(points, lamp[0][None], _LAMP_SIZE)
    lamp_keys = draw_keys(
        to_device(uv, wp.vec2, device), to_device(depth, float, device), faces,
        _LAMP_SIZE, _LAMP_SIZE, turned=True,
    )  # fmt: skip
    world = World()
    world.faces, world.normals, world.dome = faces, normals, light
    for name in ("points", "albedo", "rest"):
        setattr(world, name, to_device(mesh[name], wp.vec3, device))
    world.material = to_device(mesh["material"], wp.int32, device)
    world.nails, world.folds = (to_device(a, wp.vec3, device) for a in (nails, folds))
    world.lamp_uvz = to_device(np.concatenate([uv[0], depth[0][:, None]], 1), wp.vec3, device)
    world.lamp_keys, world.lamp_size = lamp_keys, _LAMP_SIZE
    made = Lamp()
    made.direction, made.colour = wp.vec3(*lamp[0]), wp.vec3(*lamp[1])
    made.pixel = float(pixel[0])
    world.lamp, world.skin, world.paint = made, skin, paint
    return world


def picture(
    world: World, uv: NDArray, depth: NDArray, eye: NDArray, width: int, height: int
) -> NDArray[np.float32]:
    """Premultiplied linear colour and coverage (H, W, 4) of the scene in one camera.

    ``uv`` (V, 2) pixels and ``depth`` (V,) m of the scene's points, ``eye`` (3,) of the camera.
    """
    device = world.faces.device
    fine = to_device((2 * uv + 0.5)[None], wp.vec2, device)
    deep = to_device(depth[None], float, device)
    keys = draw_keys(fine, deep, world.faces, 2 * width, 2 * height)
    layer = wp.empty(width * height, dtype=wp.vec4, device=device)
    inputs = [world, fine, deep, keys, wp.vec3(*eye), width, layer]
    wp.launch(shade, dim=width * height, inputs=inputs, device=device)
    return np.asarray(layer.numpy().reshape(height, width, 4))


def _parallel(
    points: NDArray, directions: NDArray, size: int
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Points as parallel lights from (D, 3) see them: pixels (D, V, 2), depths (D, V), and how
    many metres a pixel is (D,)."""
    helper = np.eye(3)[np.argmin(np.abs(directions), axis=1)]
    side = np.cross(directions, helper)
    side /= np.linalg.norm(side, axis=1, keepdims=True)
    basis = np.stack([side, np.cross(side, directions), -directions], axis=1)
    # Axes first, points last: NumPy is several times faster along them.
    local = basis.astype(np.float32) @ np.ascontiguousarray(points.T, dtype=np.float32)
    low, high = local.min(axis=2), local.max(axis=2)
    extent = np.maximum(high - low, 1e-6)
    pixel = extent[:, :2].max(axis=1) / (size - 3)
    uv = (local[:, :2] - low[:, :2, None]) / pixel[:, None, None] + 1
    # 1/z is interpolated; seen from far away that is as straight as parallel light.
    depth = local[:, 2] - low[:, 2, None] + 20 * extent[:, 2, None]
    return uv.transpose(0, 2, 1), depth, pixel
