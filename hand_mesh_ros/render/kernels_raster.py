"""Kernels of the z-buffer, one thread a triangle; `warp_raster` launches them.

Warp compiles them for the CPU or CUDA. Its types are no Python types, and it must see annotations
themselves, not their names.
"""

# mypy: ignore-errors

import warp as wp

# Warp greets and warns of a missing GPU on standard error; what goes wrong is raised anyway.
if hasattr(wp, "LOG_ERROR"):
    wp.config.log_level = wp.LOG_ERROR
else:  # before Warp 1.12
    wp.config.quiet = True
wp.set_module_options({"enable_backward": False})

_NEAR = wp.constant(0.01)
# In parts of the whole triangle; without it, rounding opens hairline cracks along shared edges.
_SLACK = wp.constant(-1.0e-5)


@wp.func
def edge(a: wp.vec2, b: wp.vec2, p: wp.vec2) -> float:
    """Twice the signed area of (a, b, p)."""
    return (b[0] - a[0]) * (p[1] - a[1]) - (b[1] - a[1]) * (p[0] - a[0])


@wp.func
def weights_at(
    a: wp.vec2, b: wp.vec2, c: wp.vec2, inverse: wp.vec3, p: wp.vec2
) -> wp.vec3:
    """Perspective-correct weights of a triangle's corners at the pixel ``p``."""
    area = edge(a, b, c)
    w = wp.vec3(edge(b, c, p) / area, edge(c, a, p) / area, edge(a, b, p) / area)
    w = wp.vec3(wp.max(w[0], 0.0), wp.max(w[1], 0.0), wp.max(w[2], 0.0))
    w = wp.cw_mul(w, inverse)
    return w / (w[0] + w[1] + w[2])


@wp.kernel
def draw_faces(
    uv: wp.array2d(dtype=wp.vec2),
    depth: wp.array2d(dtype=float),
    faces: wp.array2d(dtype=wp.int32),
    first: int,
    width: int,
    height: int,
    turned: int,
    keys: wp.array2d(dtype=wp.uint64),
):
    """Nearest face of every pixel as depth bits above, face number below.

    ``turned``: 1 draws only faces whose back is seen, 0 all.
    """
    view, number = wp.tid()
    face = first + number
    i, j, k = faces[face, 0], faces[face, 1], faces[face, 2]
    zi, zj, zk = depth[view, i], depth[view, j], depth[view, k]
    a, b, c = uv[view, i], uv[view, j], uv[view, k]
    area = edge(a, b, c)
    if not (zi > _NEAR and zj > _NEAR and zk > _NEAR and wp.isfinite(area)) or area == 0.0:
        return
    if turned == 1 and area < 0.0:
        return
    left = wp.max(wp.min(wp.min(a[0], b[0]), c[0]), -1.0)
    right = wp.min(wp.max(wp.max(a[0], b[0]), c[0]), float(width))
    top = wp.max(wp.min(wp.min(a[1], b[1]), c[1]), -1.0)
    bottom = wp.min(wp.max(wp.max(a[1], b[1]), c[1]), float(height))
    inverse = wp.vec3(1.0 / zi, 1.0 / zj, 1.0 / zk) / area
    for row in range(wp.max(int(wp.ceil(top)), 0), wp.min(int(wp.floor(bottom)), height - 1) + 1):
        for column in range(
            wp.max(int(wp.ceil(left)), 0), wp.min(int(wp.floor(right)), width - 1) + 1
        ):
            p = wp.vec2(float(column), float(row))
            wa, wb, wc = edge(b, c, p), edge(c, a, p), edge(a, b, p)
            if wp.min(wp.min(wa / area, wb / area), wc / area) >= _SLACK:
                z = 1.0 / (wa * inverse[0] + wb * inverse[1] + wc * inverse[2])
                # Positive floats sort as their bit patterns do.
                bits = wp.uint64(wp.cast(z, wp.uint32))
                key = (bits << wp.uint64(32)) | wp.uint64(face)
                wp.atomic_min(keys, view, row * width + column, key)
