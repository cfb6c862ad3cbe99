"""A z-buffer without a loop over triangles: every triangle is expanded into candidate pixels.

Pixel centres are integers, as everywhere in the package. The input is in pixels already, so that
any camera model can be used: straight edges between distorted vertices are exact at the vertices
and, for the millimetre triangles of a hand, far below a pixel between them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.types import FloatArray

_EMPTY = np.iinfo(np.uint64).max
# Bounds the memory of one pass; a hand that fills the picture needs a few passes.
_CANDIDATES_PER_PASS = 1 << 21
# Pixels; without a little slack, rounding opens hairline cracks along shared edges.
_EDGE_SLACK = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class Fragments:
    """What each pixel of a region sees first.

    ``face_ids`` (H, W) int32, -1 for background; ``barycentric`` (H, W, 3) perspective-correct
    weights of the face's corners, 0 on background; ``depth`` (H, W) along the optical axis, inf on
    background. The region's top-left pixel is ``origin`` = (column, row) of the full picture.
    """

    face_ids: NDArray[np.int32]
    barycentric: NDArray[np.float32]
    depth: NDArray[np.float32]
    origin: tuple[int, int] = (0, 0)

    @property
    def mask(self) -> NDArray[np.bool_]:
        """(H, W), True where a face covers the pixel."""
        return self.face_ids >= 0

    @property
    def window(self) -> tuple[slice, slice]:
        """Rows and columns of the full picture which this region covers."""
        (column, row), (height, width) = self.origin, self.face_ids.shape
        return slice(row, row + height), slice(column, column + width)

    def interpolate(self, faces: NDArray[np.integer], attribute: NDArray) -> NDArray[np.float32]:
        """Per-vertex ``attribute`` (V, C) at the covered pixels, (N, C), in ``mask`` order."""
        mask = self.mask
        corners = np.asarray(attribute, dtype=np.float32)[faces[self.face_ids[mask]]]
        return np.einsum("nk,nkc->nc", self.barycentric[mask], corners)

    def expanded(self, width: int, height: int) -> Fragments:
        """The same fragments in arrays of the full picture."""
        face_ids = np.full((height, width), -1, dtype=np.int32)
        barycentric = np.zeros((height, width, 3), dtype=np.float32)
        depth = np.full((height, width), np.inf, dtype=np.float32)
        face_ids[self.window] = self.face_ids
        barycentric[self.window] = self.barycentric
        depth[self.window] = self.depth
        return Fragments(face_ids, barycentric, depth)


def rasterise(
    uv: FloatArray,
    depth: FloatArray,
    faces: NDArray[np.integer],
    width: int,
    height: int,
    *,
    near: float = 0.01,
    cull_backfaces: bool = False,
) -> Fragments:
    """Visible face of each pixel, over the whole picture of ``width`` x ``height``.

    ``uv`` (V, 2) pixels, ``depth`` (V,) metres along the optical axis, ``faces`` (F, 3). A face
    with a corner nearer than ``near`` or without finite pixels is left out. ``cull_backfaces``
    drops faces that turn clockwise away from the camera (corners are counter-clockwise seen from
    outside), which halves the work for a closed surface.
    """
    cropped = rasterise_region(
        uv, depth, faces, width, height, near=near, cull_backfaces=cull_backfaces
    )
    return cropped.expanded(width, height)


def rasterise_region(
    uv: FloatArray,
    depth: FloatArray,
    faces: NDArray[np.integer],
    width: int,
    height: int,
    *,
    near: float = 0.01,
    cull_backfaces: bool = False,
) -> Fragments:
    """As ``rasterise``, but only the bounding box of the visible mesh (possibly empty)."""
    corners = np.ascontiguousarray(np.asarray(faces, dtype=np.int64).T)
    ids, low, high = _visible_faces(uv, depth, corners, width, height, near, cull_backfaces)
    if ids.size == 0:
        return _empty()
    origin, limit = low.min(axis=1), high.max(axis=1)
    columns, rows = (int(n) for n in limit - origin + 1)
    plane = _FacePlanes.of(uv - origin, depth, corners[:, ids])
    nearest = np.full(rows * columns, _EMPTY, dtype=np.uint64)
    for column, row, face, z in _candidates(plane, low - origin[:, None], high - origin[:, None]):
        # Positive float32 numbers sort as their bit patterns, so depth and face share one integer
        # and the nearest face is a minimum; ties go to the lower face, whatever the order.
        key = z.view(np.uint32).astype(np.uint64) << np.uint64(32) | face.astype(np.uint64)
        np.minimum.at(nearest, row * columns + column, key)

    hit = np.flatnonzero(nearest != _EMPTY)
    face = (nearest[hit] & np.uint64(0xFFFFFFFF)).astype(np.int64)
    row, column = np.divmod(hit, columns)
    planes = plane.weights[:, :, face]
    weights = planes[:, 0] * column + planes[:, 1] * row + planes[:, 2]
    weights = np.clip(weights, 0, 1) * plane.corner_inverse_depth[:, face]
    weights /= weights.sum(axis=0)
    face_ids = np.full(rows * columns, -1, dtype=np.int32)
    barycentric = np.zeros((rows * columns, 3), dtype=np.float32)
    nearest_depth = np.full(rows * columns, np.inf, dtype=np.float32)
    face_ids[hit] = ids[face]
    barycentric[hit] = weights.T
    nearest_depth[hit] = (nearest[hit] >> np.uint64(32)).astype(np.uint32).view(np.float32)
    return Fragments(
        face_ids.reshape(rows, columns),
        barycentric.reshape(rows, columns, 3),
        nearest_depth.reshape(rows, columns),
        (int(origin[0]), int(origin[1])),
    )


def _empty() -> Fragments:
    return Fragments(
        np.empty((0, 0), np.int32), np.empty((0, 0, 3), np.float32), np.empty((0, 0), np.float32)
    )


# From here on the axis of the faces, pixel lines or pixels comes last: NumPy reduces and combines
# a leading axis of three several times faster than a trailing one.


def _visible_faces(
    uv: FloatArray,
    depth: FloatArray,
    corners: NDArray[np.int64],
    width: int,
    height: int,
    near: float,
    cull_backfaces: bool,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Those of the faces (3, F) that may cover a pixel, with their first and last pixel (2, N)."""
    usable = np.isfinite(uv).all(axis=1) & np.isfinite(depth) & (depth > near)
    ids = np.flatnonzero(usable[corners].all(axis=0))
    x, y = uv.T[:, corners[:, ids]]
    area = (x[1] - x[0]) * (y[2] - y[0]) - (y[1] - y[0]) * (x[2] - x[0])
    size = np.array([[width], [height]])
    low = np.clip(np.stack([x.min(axis=0), y.min(axis=0)]), -1, size)
    high = np.clip(np.stack([x.max(axis=0), y.max(axis=0)]), -1, size)
    first = np.maximum(np.ceil(low - _EDGE_SLACK).astype(np.int64), 0)
    last = np.minimum(np.floor(high + _EDGE_SLACK).astype(np.int64), size - 1)
    # Rows grow downwards, so counter-clockwise on the screen is a negative area.
    keep = (last >= first).all(axis=0) & (area < 0 if cull_backfaces else area != 0)
    return ids[keep], first[:, keep], last[:, keep]


@dataclass(frozen=True, slots=True, eq=False)
class _FacePlanes:
    """Affine functions of the pixel (by column, by row, constant) for each of N faces.

    ``weights`` (3, 3, N): the screen-space barycentric weight of each corner; ``inverse_depth``
    (3, N): 1/z, which is affine on the screen where z is not; ``corner_inverse_depth`` (3, N).
    """

    weights: FloatArray
    inverse_depth: FloatArray
    corner_inverse_depth: FloatArray

    @classmethod
    def of(cls, uv: FloatArray, depth: FloatArray, corners: NDArray[np.int64]) -> _FacePlanes:
        x, y = uv.T[:, corners]
        after, before = [1, 2, 0], [2, 0, 1]
        constant = x[after] * y[before] - x[before] * y[after]
        planes = np.stack([y[after] - y[before], x[before] - x[after], constant], axis=1)
        weights = planes / constant.sum(axis=0)
        inverse = 1 / depth[corners]
        return cls(weights, (inverse[:, None] * weights).sum(axis=0), inverse)


def _candidates(
    plane: _FacePlanes, low: NDArray[np.int64], high: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]]:
    """Columns, rows, faces and depths of all pixels inside faces: lines of pixels, then pixels."""
    face, row = _ranges(low[1], high[1])
    weights, inverse = plane.weights[:, :, face], plane.inverse_depth[:, face]
    slope, at_zero = weights[:, 0], weights[:, 1] * row + weights[:, 2]
    # Each weight must be positive, which bounds the column from the side its slope tells.
    with np.errstate(divide="ignore", invalid="ignore"):
        crossing = -(at_zero + _EDGE_SLACK * np.abs(slope)) / slope
    first = np.where(slope > 0, crossing, -np.inf).max(axis=0)
    last = np.where(slope < 0, crossing, np.inf).min(axis=0)
    first = np.ceil(np.clip(first, low[0, face], high[0, face] + 1)).astype(np.int64)
    last = np.floor(np.clip(last, low[0, face] - 1, high[0, face])).astype(np.int64)
    last = np.where(((slope == 0) & (at_zero < 0)).any(axis=0), first - 1, last)
    depth_slope, depth_at_zero = inverse[0], inverse[1] * row + inverse[2]

    passes = np.cumsum(np.maximum(last - first + 1, 0)) // _CANDIDATES_PER_PASS
    for run in _runs(passes):
        line, column = _ranges(first[run], last[run])
        line += run.start
        z = 1 / (depth_slope[line] * column + depth_at_zero[line])
        yield column, row[line], face[line], z.astype(np.float32)


def _ranges(first: NDArray[np.int64], last: NDArray[np.int64]) -> tuple[NDArray, NDArray]:
    """All integers of the ranges ``first..last`` in order, as (range index, value)."""
    counts = np.maximum(last - first + 1, 0)
    index = np.repeat(np.arange(counts.size), counts)
    starts = np.cumsum(counts) - counts
    return index, np.arange(index.size) + np.repeat(first - starts, counts)


def _runs(labels: NDArray[np.int64]) -> Iterator[slice]:
    """Slices of equal neighbouring labels."""
    edges = [0, *(np.flatnonzero(np.diff(labels)) + 1).tolist(), labels.size]
    return (slice(*pair) for pair in zip(edges, edges[1:], strict=False))
