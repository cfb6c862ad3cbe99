"""The training renderer's z-buffer: `warp-lang` kernels, one thread a triangle, CPU or CUDA.

Chosen by measurement (one core, a hand of 3,296 triangles, 256x256, after warming up):
`rasteriser` (NumPy) draws 38 a second, a z-buffer of torch tensors 21, a ray cast into Warp's BVH
19, these kernels over 700. The same source compiles for both devices, and the wheel brings its
compiler along.

Pixel centres are integers, and corners are pixels already, so that any lens can be used: see
`rasteriser`.
"""

# mypy: disable-error-code="valid-type,no-untyped-def,no-any-return"
# Kernels are compiled by Warp, whose types are no Python types; postponed annotations hide them.

from dataclasses import dataclass

import numpy as np
import warp as wp
from numpy.typing import NDArray

wp.config.quiet = True
wp.config.log_level = wp.LOG_ERROR if hasattr(wp, "LOG_ERROR") else wp.config.log_level

EMPTY = np.uint64(0xFFFFFFFFFFFFFFFF)
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


@dataclass(frozen=True, eq=False)
class Drawn:
    """What each pixel sees first: ``face_ids`` (H, W) int32, -1 where nothing; ``depth`` (H, W)
    float32 along the axis, inf where nothing."""

    face_ids: NDArray[np.int32]
    depth: NDArray[np.float32]

    @property
    def mask(self) -> NDArray[np.bool_]:
        return self.face_ids >= 0


def to_device(array: NDArray, dtype: object, device: str) -> wp.array:
    """A float32 or int32 copy on ``device``; the last axis becomes a vector's where one is meant."""
    plain = np.int32 if dtype is wp.int32 else np.float32
    return wp.array(np.ascontiguousarray(array, dtype=plain), dtype=dtype, device=device)


def draw_keys(
    uv: wp.array, depth: wp.array, faces: wp.array, width: int, height: int,
    *, turned: bool = False, count: int | None = None, onto: wp.array | None = None,
    first: int = 0,
) -> wp.array:  # fmt: skip
    """Keys (views, H * W) of ``count`` faces from the ``first`` on, drawn over ``onto``."""
    device = uv.device
    views = uv.shape[0]
    count = faces.shape[0] - first if count is None else count
    keys = onto
    if keys is None:
        keys = wp.full((views, width * height), wp.uint64(int(EMPTY)), wp.uint64, device=device)
    inputs = [uv, depth, faces, first, width, height, int(turned), keys]
    wp.launch(draw_faces, dim=(views, count), inputs=inputs, device=device)
    return keys


def read_keys(keys: wp.array, view: int, width: int, height: int) -> Drawn:
    """The keys of one view as arrays on the host."""
    host = keys.numpy()[view].reshape(height, width)
    empty = host == EMPTY
    face_ids = np.where(empty, np.int32(-1), (host & np.uint64(0xFFFFFFFF)).astype(np.int32))
    depth = (host >> np.uint64(32)).astype(np.uint32).view(np.float32)
    return Drawn(face_ids, np.where(empty, np.float32(np.inf), depth))


def rasterise(
    uv: NDArray, depth: NDArray, faces: NDArray, width: int, height: int, device: str = "cpu"
) -> Drawn:
    """Visible face of each pixel: ``uv`` (V, 2) pixels, ``depth`` (V,) m, ``faces`` (F, 3).

    Faces with a corner nearer than 1 cm or without finite pixels are left out. ``device`` is
    Warp's name of it, cpu or cuda:0.
    """
    keys = draw_keys(
        to_device(uv[None], wp.vec2, device), to_device(depth[None], float, device),
        to_device(faces, wp.int32, device), width, height,
    )  # fmt: skip
    return read_keys(keys, 0, width, height)
