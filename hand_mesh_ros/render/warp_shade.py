"""Light and colour of what was drawn, by Warp kernels: environment, one lamp with shadows, skin.

Linear light throughout. Skin is textured in the hand model's rest pose, so that it moves with it.
"""

# mypy: disable-error-code="valid-type,no-untyped-def,no-any-return,assignment"

import numpy as np
import warp as wp
from numpy.typing import NDArray

from hand_mesh_ros.render.warp_raster import draw_keys, to_device, weights_at

SKIN, CLOTH, THING = 0, 1, 2
_NONE = wp.constant(wp.uint64(0xFFFFFFFFFFFFFFFF))
_DOME_SIZE, _LAMP_SIZE = 64, 320


@wp.struct
class Skin:
    """Of one person: see `skin.SkinLook`."""

    nail: wp.vec3
    nail_share: float
    mottle: float
    bump: float
    freckles: float
    gloss: float
    shift: wp.vec3


@wp.struct
class Paint:
    """Of things, and of cloth: stripe frequencies (rad/m), their strength, and their colour."""

    stripes: wp.vec3
    strength: float
    second: wp.vec3
    gloss: float
    cloth_stripes: wp.vec3
    cloth_strength: float
    cloth_second: wp.vec3


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


@wp.func
def nail_at(rest: wp.vec3, nails: wp.array2d(dtype=wp.vec3)) -> wp.vec2:
    """How much of a nail a point of the rest pose is, and how near to its free edge."""
    inside = float(0.0)
    along = float(0.0)
    for k in range(nails.shape[0]):
        offset = rest - nails[k, 0]
        u = wp.dot(offset, nails[k, 1])
        v = wp.dot(offset, nails[k, 2])
        up = wp.dot(offset, nails[k, 3])
        if up > -0.0045 and wp.abs(u) < 1.2 and wp.abs(v) < 1.2:
            r = wp.abs(u * u * u) + wp.abs(v * v * v)
            w = 1.0 - wp.smoothstep(0.75, 1.0, r)
            if w > inside:
                inside = w
                along = u
    return wp.vec2(inside, along)


@wp.func
def fold_at(rest: wp.vec3, folds: wp.array2d(dtype=wp.vec3)) -> float:
    """Depth of the skin's folds at a point: fine lines over the knuckles, one below each."""
    depth = float(0.0)
    for k in range(folds.shape[0]):
        offset = rest - folds[k, 0]
        along = wp.dot(offset, folds[k, 1])
        if wp.abs(along) < 0.009 and wp.dot(offset, offset) < 2.5e-4:
            if offset[1] > 0.002:
                fade = 1.0 - wp.abs(along) / 0.009
                wave = 0.5 + 0.5 * wp.sin(3600.0 * along + 400.0 * offset[2] * offset[2] / 0.008)
                depth += fade * wave * wave * wave * 0.5
            elif offset[1] < -0.001:
                depth += wp.exp(-along * along / 5.0e-7)
    return depth


@wp.struct
class Matter:
    """What a point is made of, as the light meets it."""

    base: wp.vec3
    normal: wp.vec3
    gloss: float
    sharp: float


@wp.func
def striped(base: wp.vec3, where: wp.vec3, stripes: wp.vec3, share: float, second: wp.vec3) -> wp.vec3:
    wave = wp.sin(where[0] * stripes[0]) + wp.sin(where[1] * stripes[1] + where[2] * stripes[2])
    on = wp.smoothstep(-0.1, 0.1, wave) * share
    return (1.0 - on) * base + on * second


@wp.func
def skin_at(
    base: wp.vec3,
    normal: wp.vec3,
    where: wp.vec3,
    skin: Skin,
    nails: wp.array2d(dtype=wp.vec3),
    folds: wp.array2d(dtype=wp.vec3),
) -> Matter:
    state = wp.rand_init(7)
    moved = where + skin.shift
    slow = wp.noise(state, 70.0 * moved)
    middle = wp.noise(state, 300.0 * moved)
    fine = wp.noise(state, 1100.0 * moved)
    tint = skin.mottle * (slow + 0.6 * middle + 0.4 * fine)
    colour = wp.cw_mul(base, wp.vec3(1.0 + 0.7 * tint, 1.0 + tint, 1.0 + 1.1 * tint))
    spots = wp.smoothstep(0.45, 0.6, wp.noise(state, 420.0 * moved)) * skin.freckles
    shown = colour * (1.0 - 0.5 * spots) * (1.0 - 0.3 * wp.min(fold_at(where, folds), 1.0))
    nail = nail_at(where, nails)
    share = nail[0] * skin.nail_share
    edge_share = wp.smoothstep(0.7, 0.85, nail[1])
    plate = skin.nail + edge_share * (0.25 * skin.nail + wp.vec3(0.05, 0.08, 0.08))
    out = Matter()
    out.base = (1.0 - share) * shown + share * plate
    out.gloss = (1.0 - nail[0]) * skin.gloss * (1.0 + 0.5 * middle) + 0.16 * nail[0]
    out.sharp = 18.0 + 40.0 * nail[0]
    lean = wp.vec3(
        wp.noise(state, 900.0 * moved + wp.vec3(31.0, 0.0, 0.0)),
        wp.noise(state, 900.0 * moved + wp.vec3(0.0, 57.0, 0.0)),
        fine,
    )
    out.normal = normal + skin.bump * (1.0 - nail[0]) * lean
    return out


@wp.func
def cloth_at(base: wp.vec3, normal: wp.vec3, where: wp.vec3, paint: Paint) -> Matter:
    state = wp.rand_init(11)
    weave = 1.0 + 0.25 * wp.noise(state, 700.0 * where)
    lean = wp.vec3(
        wp.noise(state, 160.0 * where),
        wp.noise(state, 70.0 * where),
        wp.noise(state, 110.0 * where + wp.vec3(9.0, 9.0, 9.0)),
    )
    out = Matter()
    colour = striped(base, where, paint.cloth_stripes, paint.cloth_strength, paint.cloth_second)
    out.base = weave * colour
    out.normal = normal + 0.25 * lean
    out.gloss = 0.01
    out.sharp = 20.0
    return out


@wp.func
def thing_at(base: wp.vec3, normal: wp.vec3, where: wp.vec3, paint: Paint) -> Matter:
    state = wp.rand_init(13)
    out = Matter()
    colour = striped(base, where, paint.stripes, paint.strength, paint.second)
    out.base = colour * (1.0 + 0.12 * wp.noise(state, 120.0 * where))
    out.normal = normal
    out.gloss = paint.gloss
    out.sharp = 60.0
    return out


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


def light_scene(
    mesh: dict[str, NDArray], dome: tuple[NDArray, NDArray], lamp: tuple[NDArray, NDArray],
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
