"""A hand's mesh at several resolutions, and how to walk on it: what spiral convolutions need.

Made at run time from whichever hand model is loaded, because a licensed mesh may not be shipped in
any form; some seconds once, then kept in a file by what it was made of.
Sources: Ranjan et al., Generating 3D Faces using Convolutional Mesh Autoencoders (2018: levels by
quadric edge collapse, up-sampling by barycentric coordinates); Gong et al., SpiralNet++ (2019).
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.geometry.meshes import vertex_normals
from hand_mesh_ros.hand.decimate import collapsed

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_VERSION: Final = 1  # of what is made; files of another one are not read
_CHUNK: Final = 256  # vertices at a time against all triangles
_BACK: Final = 100.0  # times farther that a triangle seems whose face looks the other way


@dataclass(frozen=True, eq=False)
class MeshLevel:
    """One resolution. Vertices (V,) by their numbers in the whole mesh, ascending.

    faces (F, 3) among these. spirals (V, S): a vertex, its ring, the next ring and so on, S in all.
    up_vertices, up_weights (W, 3): the corners of this level and their weights, which sum to one,
    that make each of the next finer level's W vertices; of none (0, 3) for the finest.
    """

    vertices: Ints
    faces: Ints
    spirals: Ints
    up_vertices: Ints
    up_weights: Floats

    def __len__(self) -> int:
        return len(self.vertices)


@dataclass(frozen=True, eq=False)
class MeshHierarchy:
    """Levels from the finest, the mesh itself, to the coarsest."""

    levels: tuple[MeshLevel, ...]

    @property
    def sizes(self) -> tuple[int, ...]:
        return tuple(len(level) for level in self.levels)


def mesh_hierarchy(
    vertices: Floats, faces: Ints, levels: int = 5, spiral: int = 9, cache: Path | None = None
) -> MeshHierarchy:
    """Levels of a mesh (V, 3), (F, 3), each of half the vertices of the one before, rounded up.

    A mesh of 778 vertices has 389, 195, 98 and 49. `spiral`: vertices of a spiral. `cache`: a
    folder in which it is kept and looked for.
    Raises ValueError for a mesh that cannot be reduced so far.
    """
    vertices, faces = np.asarray(vertices, np.float64), np.asarray(faces, np.int64)
    if cache is None:
        return _made(vertices, faces, levels, spiral)
    file = cache / f"{_key(vertices, faces, levels, spiral)}.npz"
    found = _read(file, levels)
    if found is None:
        found = _made(vertices, faces, levels, spiral)
        _write(found, file)
    return found


def _made(vertices: Floats, faces: Ints, levels: int, spiral: int) -> MeshHierarchy:
    counts = [len(vertices)]
    for _ in range(levels - 1):
        counts.append(-(-counts[-1] // 2))
    meshes = [(np.arange(len(vertices)), faces), *collapsed(vertices, faces, counts[1:])]
    out = []
    finer: tuple[Ints, Ints] | None = None
    for kept, between in meshes:
        at = vertices[kept]
        if finer is None:
            corners, weights = np.zeros((0, 3), np.int64), np.zeros((0, 3))
        else:
            above = vertices[finer[0]]
            corners, weights = _nearest(above, vertex_normals(above, finer[1]), at, between)
        out.append(MeshLevel(kept, between, spirals(at, between, spiral), corners, weights))
        finer = (kept, between)
    return MeshHierarchy(tuple(out))


def spirals(vertices: Floats, faces: Ints, length: int) -> Ints:
    """(V, length): each vertex, then its rings outwards, every ring counter-clockwise seen from

    outside, beginning with the vertex that lies farthest along +x: in MANO's placement towards the
    wrist, so that all spirals begin alike. Where a rim leaves no ring, nearest vertices follow.
    """
    around = _rings(len(vertices), faces)
    normals = vertex_normals(vertices, faces)
    out = np.empty((len(vertices), length), dtype=np.int64)
    for centre in range(len(vertices)):
        walk, ring = [centre], [centre]
        while len(walk) < length and ring:
            seen = set(walk)
            ring = sorted({v for w in ring for v in around[w]} - seen)
            walk += _in_turn(vertices, normals[centre], centre, ring)
        if len(walk) < length:
            order = np.argsort(((vertices - vertices[centre]) ** 2).sum(1), kind="stable")
            walk += [int(v) for v in order if v not in set(walk)]
        walk += walk[-1:] * (length - len(walk))
        out[centre] = walk[:length]
    return out


def _rings(count: int, faces: Ints) -> list[set[int]]:
    around: list[set[int]] = [set() for _ in range(count)]
    for a, b, c in faces.tolist():
        around[a] |= {b, c}
        around[b] |= {a, c}
        around[c] |= {a, b}
    return around


def _in_turn(vertices: Floats, normal: Floats, centre: int, ring: list[int]) -> list[int]:
    if not ring:
        return []
    away = vertices[ring] - vertices[centre]
    start = away[int(np.argmax(away[:, 0]))]
    x = start - normal * (start @ normal)
    angle = np.arctan2(away @ np.cross(normal, x), away @ x) % (2 * np.pi)
    angle[angle > 2 * np.pi - 1e-9] = 0.0
    return [ring[i] for i in np.argsort(angle, kind="stable")]


def _nearest(
    points: Floats, normals: Floats, vertices: Floats, faces: Ints
) -> tuple[Ints, Floats]:
    """Corners and barycentric weights (P, 3) of the place nearest to each point on a mesh.

    Places that look the other way, as the next finger's do, count as farther.
    """
    corners = vertices[faces]
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    best, weights = np.empty(len(points), np.int64), np.empty((len(points), 3))
    for first in range(0, len(points), _CHUNK):
        part = slice(first, first + _CHUNK)
        found = _barycentric(points[part, None], corners[None])
        away = ((found[..., None] * corners).sum(-2) - points[part, None]) ** 2
        away = away.sum(-1) + 1e-18
        away = np.where(normals[part] @ cross.T < 0, _BACK * away, away)
        chosen = away.argmin(1)
        best[part] = chosen
        weights[part] = found[np.arange(len(chosen)), chosen]
    return faces[best], weights


def _barycentric(points: Floats, corners: Floats) -> Floats:
    """Weights (..., 3) of the place in triangles (..., 3, 3) nearest to points (..., 3).

    The foot of the perpendicular if it is inside, else the nearest place of the three sides.
    """
    a, b, c = corners[..., 0, :], corners[..., 1, :], corners[..., 2, :]
    ab, ac, ap = b - a, c - a, points - a
    d00, d01, d11 = (ab * ab).sum(-1), (ab * ac).sum(-1), (ac * ac).sum(-1)
    d20, d21 = (ap * ab).sum(-1), (ap * ac).sum(-1)
    area = np.maximum(d00 * d11 - d01 * d01, 1e-30)
    v, w = (d11 * d20 - d01 * d21) / area, (d00 * d21 - d01 * d20) / area
    inner = np.stack([1 - v - w, v, w], -1)
    sides = []
    for i, j in ((0, 1), (1, 2), (2, 0)):
        start, along = corners[..., i, :], corners[..., j, :] - corners[..., i, :]
        t = ((points - start) * along).sum(-1) / np.maximum((along * along).sum(-1), 1e-30)
        t = np.clip(t, 0.0, 1.0)
        side = np.zeros((*t.shape, 3))
        side[..., i], side[..., j] = 1 - t, t
        sides.append(side)
    choices = np.stack(sides, -2)
    there = (choices[..., None] * corners[..., None, :, :]).sum(-2)
    nearest = ((there - points[..., None, :]) ** 2).sum(-1).argmin(-1)
    outer = np.take_along_axis(choices, nearest[..., None, None], -2)[..., 0, :]
    return np.where((inner >= 0).all(-1, keepdims=True), inner, outer)


def _key(vertices: Floats, faces: Ints, levels: int, spiral: int) -> str:
    digest = hashlib.sha256(f"{_VERSION} {levels} {spiral} {len(vertices)}".encode())
    digest.update(np.ascontiguousarray(vertices).tobytes())
    digest.update(np.ascontiguousarray(faces).tobytes())
    return digest.hexdigest()[:32]


def _names(level: int) -> list[str]:
    return [f"{name}_{level}" for name in MeshLevel.__dataclass_fields__]


def _read(file: Path, levels: int) -> MeshHierarchy | None:
    try:
        with np.load(file, allow_pickle=False) as stored:
            return MeshHierarchy(
                tuple(MeshLevel(*(stored[name] for name in _names(k))) for k in range(levels))
            )
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None  # absent, or torn: it is made again


def _write(made: MeshHierarchy, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    arrays = {
        name: array
        for k, level in enumerate(made.levels)
        for name, array in zip(_names(k), vars(level).values(), strict=True)
    }
    # beside other processes that make the same
    handle, fresh = tempfile.mkstemp(dir=file.parent, suffix=".npz")
    with os.fdopen(handle, "wb") as stream:
        np.savez_compressed(stream, **arrays)
    os.replace(fresh, file)
