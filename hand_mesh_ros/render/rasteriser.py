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
    faces = np.asarray(faces, dtype=np.int64)
    ids, low, high = _visible_faces(uv, depth, faces, width, height, near, cull_backfaces)
    if ids.size == 0:
        return _empty()
    origin, limit = low.min(axis=0), high.max(axis=0)
    columns, rows = (int(n) for n in limit - origin + 1)
    plane = _FacePlanes.of(uv - origin, depth, faces[ids])
    nearest = np.full(rows * columns, _EMPTY, dtype=np.uint64)
    for column, row, face, z in _candidates(plane, low - origin, high - origin):
        # Positive float32 numbers sort as their bit patterns, so depth and face share one integer
        # and the nearest face is a minimum; ties go to the lower face, whatever the order.
        key = z.view(np.uint32).astype(np.uint64) << np.uint64(32) | face.astype(np.uint64)
        np.minimum.at(nearest, row * columns + column, key)

    hit = np.flatnonzero(nearest != _EMPTY)
    face = (nearest[hit] & np.uint64(0xFFFFFFFF)).astype(np.int64)
    pixel = np.stack([hit % columns, hit // columns, np.ones_like(hit)], axis=1)
    weights = np.clip(np.einsum("nkc,nc->nk", plane.weights[face], pixel), 0, 1)
    weights *= plane.corner_inverse_depth[face]
    total = weights.sum(axis=1, keepdims=True)
    face_ids = np.full(rows * columns, -1, dtype=np.int32)
    barycentric = np.zeros((rows * columns, 3), dtype=np.float32)
    nearest_depth = np.full(rows * columns, np.inf, dtype=np.float32)
    face_ids[hit] = ids[face]
    barycentric[hit] = weights / total
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


def _visible_faces(
    uv: FloatArray,
    depth: FloatArray,
    faces: NDArray[np.int64],
    width: int,
    height: int,
    near: float,
    cull_backfaces: bool,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Faces that may cover a pixel, with their first and last pixel (N, 2) inside the picture."""
    usable = np.isfinite(uv).all(axis=1) & np.isfinite(depth) & (depth > near)
    ids = np.flatnonzero(usable[faces].all(axis=1))
    corners = uv[faces[ids]]
    size = np.array([width, height])
    low = np.ceil(np.clip(corners.min(axis=1), -1, size) - _EDGE_SLACK).astype(np.int64)
    high = np.floor(np.clip(corners.max(axis=1), -1, size) + _EDGE_SLACK).astype(np.int64)
    low, high = np.maximum(low, 0), np.minimum(high, size - 1)
    area = _double_area(corners)
    keep = (high >= low).all(axis=1) & (area < 0 if cull_backfaces else area != 0)
    return ids[keep], low[keep], high[keep]


def _double_area(corners: FloatArray) -> FloatArray:
    """Twice the signed area of (N, 3, 2); negative when counter-clockwise on the screen."""
    a, b = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    return np.asarray(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0])


@dataclass(frozen=True, slots=True, eq=False)
class _FacePlanes:
    """Affine functions of the pixel (a column, a row, a constant) for each of N faces.

    ``weights`` (N, 3, 3): the screen-space barycentric weight of each corner; ``inverse_depth``
    (N, 3): 1/z, which is affine on the screen where z is not; ``corner_inverse_depth`` (N, 3).
    """

    weights: FloatArray
    inverse_depth: FloatArray
    corner_inverse_depth: FloatArray

    @classmethod
    def of(cls, uv: FloatArray, depth: FloatArray, faces: NDArray[np.int64]) -> _FacePlanes:
        x, y = np.moveaxis(uv[faces], -1, 0)
        after, before = [1, 2, 0], [2, 0, 1]
        constant = x[:, after] * y[:, before] - x[:, before] * y[:, after]
        rows = np.stack([y[:, after] - y[:, before], x[:, before] - x[:, after], constant], axis=2)
        weights = rows / constant.sum(axis=1)[:, None, None]
        inverse = 1 / depth[faces]
        return cls(weights, np.einsum("nk,nkc->nc", inverse, weights), inverse)


def _candidates(
    plane: _FacePlanes, low: NDArray[np.int64], high: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]]:
    """Columns, rows, faces and depths of all pixels inside faces, first by row, then by column."""
    face, row = _ranges(low[:, 1], high[:, 1])
    slope, at_zero = _row_lines(plane.weights[face], row)
    # Each weight must be positive, which bounds the column from the side its slope tells.
    with np.errstate(divide="ignore", invalid="ignore"):
        crossing = -(at_zero + _EDGE_SLACK * np.abs(slope)) / slope
    first = np.where(slope > 0, crossing, -np.inf).max(axis=1)
    last = np.where(slope < 0, crossing, np.inf).min(axis=1)
    first = np.ceil(np.clip(first, low[face, 0], high[face, 0] + 1)).astype(np.int64)
    last = np.floor(np.clip(last, low[face, 0] - 1, high[face, 0])).astype(np.int64)
    last = np.where(((slope == 0) & (at_zero < 0)).any(axis=1), first - 1, last)
    depth_slope, depth_at_zero = _row_lines(plane.inverse_depth[face], row)

    counts = np.maximum(last - first + 1, 0)
    passes = np.cumsum(counts) // _CANDIDATES_PER_PASS
    for run in _runs(passes):
        line, column = _ranges(first[run], last[run])
        line += run.start
        inverse = depth_slope[line] * column + depth_at_zero[line]
        yield column, row[line], face[line], (1 / inverse).astype(np.float32)


def _row_lines(affine: FloatArray, row: NDArray[np.int64]) -> tuple[FloatArray, FloatArray]:
    """Slope along the row and value at column 0 of affine functions (N, ..., 3) on rows (N,)."""
    row = row.reshape(-1, *[1] * (affine.ndim - 2))
    return affine[..., 0], affine[..., 1] * row + affine[..., 2]


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
