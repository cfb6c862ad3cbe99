"""Kernels of light: what reaches a vertex, and what a pixel sees. Linear light throughout."""

# mypy: ignore-errors
# ruff: noqa: UP018 (a variable that changes in a loop must be made by a call)

import warp as wp

from hand_mesh_ros.render.kernels_matter import Matter, Paint, Skin, cloth_at, skin_at, thing_at
from hand_mesh_ros.render.kernels_raster import weights_at

wp.set_module_options({"enable_backward": False})

_NONE = wp.constant(wp.uint64(0xFFFFFFFFFFFFFFFF))


@wp.struct
class Lamp:
    direction: wp.vec3
    colour: wp.vec3
    pixel: float


@wp.func
def shade_of(behind: float, pixel: float) -> float:
    """How much light passes, where a blocker is ``behind`` m nearer: soft over two pixels."""
    return wp.clamp(1.5 - 0.5 * behind / pixel, 0.0, 1.0)


@wp.func
def depth_of(key: wp.uint64) -> float:
    return wp.cast(wp.uint32(key >> wp.uint64(32)), float)


@wp.func
def bled(cosine: float) -> wp.vec3:
    """Light that entered the skin leaves it beyond the edge of the shade, red furthest."""
    return wp.vec3(
        wp.max((cosine + 0.35) / 1.35, 0.0),
        wp.max((cosine + 0.15) / 1.15, 0.0),
        wp.max((cosine + 0.10) / 1.10, 0.0),
    )


@wp.kernel
def gather_dome(
    uv: wp.array2d(dtype=wp.vec2),
    depth: wp.array2d(dtype=float),
    keys: wp.array2d(dtype=wp.uint64),
    pixel: wp.array(dtype=float),
    directions: wp.array(dtype=wp.vec3),
    colours: wp.array(dtype=wp.vec3),
    normals: wp.array(dtype=wp.vec3),
    size: int,
    light: wp.array(dtype=wp.vec3),
):
    """Light of all directions that reaches each vertex, with what is in its way."""
    vertex = wp.tid()
    total = wp.vec3(0.0, 0.0, 0.0)
    for d in range(directions.shape[0]):
        cosine = wp.max(wp.dot(normals[vertex], directions[d]), 0.0)
        if cosine > 0.0:
            at = uv[d, vertex]
            key = keys[d, int(wp.rint(at[1])) * size + int(wp.rint(at[0]))]
            passed = float(1.0)
            if key != _NONE:
                passed = shade_of(depth[d, vertex] - depth_of(key), pixel[d])
            total += cosine * passed * colours[d]
    light[vertex] = total


@wp.func
def lamp_reach(
    a: wp.vec3, keys: wp.array2d(dtype=wp.uint64), size: int, pixel: float
) -> float:
    """How much of the lamp's light reaches a point (u, v, depth) of its map: nine soft looks."""
    total = float(0.0)
    for dy in range(-1, 2):
        for dx in range(-1, 2):
            column = wp.clamp(int(wp.rint(a[0])) + dx, 0, size - 1)
            row = wp.clamp(int(wp.rint(a[1])) + dy, 0, size - 1)
            key = keys[0, row * size + column]
            if key == _NONE:
                total += 1.0
            else:
                total += shade_of(a[2] - depth_of(key), 1.6 * pixel)
    return total / 9.0


@wp.struct
class World:
    """A scene on the device: everything that a picture needs besides a camera."""

    faces: wp.array2d(dtype=wp.int32)
    points: wp.array(dtype=wp.vec3)
    normals: wp.array(dtype=wp.vec3)
    albedo: wp.array(dtype=wp.vec3)
    rest: wp.array(dtype=wp.vec3)
    material: wp.array(dtype=wp.int32)
    dome: wp.array(dtype=wp.vec3)
    nails: wp.array2d(dtype=wp.vec3)
    folds: wp.array2d(dtype=wp.vec3)
    lamp_uvz: wp.array(dtype=wp.vec3)
    lamp_keys: wp.array2d(dtype=wp.uint64)
    lamp_size: int
    lamp: Lamp
    skin: Skin
    paint: Paint


@wp.func
def mixed(of: wp.array(dtype=wp.vec3), i: int, j: int, k: int, w: wp.vec3) -> wp.vec3:
    return w[0] * of[i] + w[1] * of[j] + w[2] * of[k]


@wp.func
def colour_at(world: World, i: int, j: int, k: int, w: wp.vec3, eye: wp.vec3) -> wp.vec3:
    """Linear light that a point of the face (i, j, k) sends to the eye."""
    base = mixed(world.albedo, i, j, k, w)
    normal = mixed(world.normals, i, j, k, w)
    where = mixed(world.rest, i, j, k, w)
    sky = mixed(world.dome, i, j, k, w)
    kind = world.material[i]
    made = Matter()
    if kind == 0:
        made = skin_at(base, normal, where, world.skin, world.nails, world.folds)
    elif kind == 1:
        made = cloth_at(base, normal, where, world.paint)
    else:
        made = thing_at(base, normal, where, world.paint)
    n = wp.normalize(made.normal)
    view = wp.normalize(eye - mixed(world.points, i, j, k, w))
    lamp = world.lamp
    cosine = wp.dot(n, lamp.direction)
    on_lamp = mixed(world.lamp_uvz, i, j, k, w)
    reach = lamp_reach(on_lamp, world.lamp_keys, world.lamp_size, lamp.pixel)
    facing = wp.max(cosine, 0.0)
    direct = wp.vec3(facing, facing, facing)
    if kind == 0:
        direct = bled(cosine)
    half = wp.normalize(view + lamp.direction)
    shine = reach * wp.pow(wp.max(wp.dot(n, half), 0.0), made.sharp)
    rim = wp.pow(1.0 - wp.clamp(wp.dot(n, view), 0.0, 1.0), 4.0)
    mirrored = shine * wp.clamp(4.0 * cosine, 0.0, 1.0) * lamp.colour + (0.3 + 0.25 * rim) * sky
    sent = wp.cw_mul(made.base, sky + reach * wp.cw_mul(direct, lamp.colour))
    return sent + made.gloss * mirrored


@wp.func
def sample_at(
    world: World,
    uv: wp.array2d(dtype=wp.vec2),
    depth: wp.array2d(dtype=float),
    face: int,
    at: wp.vec2,
    eye: wp.vec3,
) -> wp.vec3:
    i = world.faces[face, 0]
    j = world.faces[face, 1]
    k = world.faces[face, 2]
    inverse = wp.vec3(1.0 / depth[0, i], 1.0 / depth[0, j], 1.0 / depth[0, k])
    w = weights_at(uv[0, i], uv[0, j], uv[0, k], inverse, at)
    return colour_at(world, i, j, k, w, eye)


@wp.kernel
def shade(
    world: World,
    uv: wp.array2d(dtype=wp.vec2),
    depth: wp.array2d(dtype=float),
    keys: wp.array2d(dtype=wp.uint64),
    eye: wp.vec3,
    width: int,
    layer: wp.array(dtype=wp.vec4),
):
    """Premultiplied colour and coverage of each pixel, from 2 x 2 samples; a face of it is shaded

    once.
    """
    pixel = wp.tid()
    row, column = pixel // width, pixel % width
    total = wp.vec4(0.0, 0.0, 0.0, 0.0)
    last = int(-1)
    colour = wp.vec3(0.0, 0.0, 0.0)
    for s in range(4):
        x = 2 * column + s % 2
        y = 2 * row + s // 2
        key = keys[0, y * 2 * width + x]
        if key != _NONE:
            face = int(key & wp.uint64(0xFFFFFFFF))
            if face != last:
                colour = sample_at(world, uv, depth, face, wp.vec2(float(x), float(y)), eye)
                last = face
            total += 0.25 * wp.vec4(colour[0], colour[1], colour[2], 1.0)
    layer[pixel] = total
