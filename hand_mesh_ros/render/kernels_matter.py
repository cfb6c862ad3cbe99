"""Kernels' functions of what things are made of: skin with its nails and folds, cloth, paint.

Skin is textured in the hand model's rest pose, so that it moves with it.
"""

# mypy: ignore-errors
# ruff: noqa: UP018 (a variable that changes in a loop must be made by a call)

import warp as wp


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
def striped(
    base: wp.vec3, where: wp.vec3, stripes: wp.vec3, share: float, second: wp.vec3
) -> wp.vec3:
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
