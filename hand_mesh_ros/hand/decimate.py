"""Triangle meshes with fewer vertices: quadric edge collapse onto vertices that are kept.

Source: Garland and Heckbert, Surface Simplification Using Quadric Error Metrics, 1997; with the
link condition of Dey et al., Topology Preserving Edge Contraction, 1999, so that what was a
manifold stays one of the same topology.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_BOUNDARY: Final = 1000.0  # weight of the planes that keep a mesh's rim in its place
_FLIP: Final = 0.2  # cosine below which a face is said to have turned over


def collapsed(vertices: Floats, faces: Ints, counts: Sequence[int]) -> list[tuple[Ints, Ints]]:
    """The mesh (V, 3), (F, 3) with each of the `counts` of vertices, which descend.

    Of each: the kept vertices' numbers in the mesh, ascending, and the faces between these (f, 3),
    numbered among the kept. Always the same for the same mesh.
    Raises ValueError where the mesh cannot be reduced so far without changing its topology.
    """
    work = _Collapse(np.asarray(vertices, np.float64), np.asarray(faces, np.int64))
    out = []
    for count in counts:
        work.reduce_to(count)
        out.append(work.snapshot())
    return out


class _Collapse:
    """Half-edge collapses: an edge's one end moves onto the other, the cheapest edge first."""

    def __init__(self, vertices: Floats, faces: Ints) -> None:
        self._at = vertices
        self._faces: dict[int, tuple[int, int, int]] = {
            number: (int(a), int(b), int(c)) for number, (a, b, c) in enumerate(faces)
        }
        self._of: dict[int, set[int]] = {v: set() for v in range(len(vertices))}
        for number, face in self._faces.items():
            for vertex in face:
                self._of[vertex].add(number)
        self._alive = {v for v, faces_of in self._of.items() if faces_of}
        self._quadrics = _quadrics(vertices, faces)
        self._version = dict.fromkeys(self._alive, 0)
        self._heap: list[tuple[float, int, int, int, int]] = []
        for vertex in sorted(self._alive):
            for other in self._around(vertex):
                if vertex < other:
                    self._offer(vertex, other)

    def reduce_to(self, count: int) -> None:
        """Collapse until `count` vertices are left; edges that may not go now wait for changes."""
        while len(self._alive) > count:
            if not self._heap:
                raise ValueError(
                    f"the mesh cannot be reduced to {count} vertices: {len(self._alive)} are left "
                    "and no edge can go without changing its topology"
                )
            _, gone, kept, *versions = heapq.heappop(self._heap)
            if [self._version.get(gone), self._version.get(kept)] == versions:
                if self._allowed(gone, kept):
                    self._collapse(gone, kept)

    def snapshot(self) -> tuple[Ints, Ints]:
        kept = np.array(sorted(self._alive))
        faces = np.array([self._faces[number] for number in sorted(self._faces)])
        return kept, np.searchsorted(kept, faces)

    def _around(self, vertex: int) -> list[int]:
        found = {v for number in self._of[vertex] for v in self._faces[number]} - {vertex}
        return sorted(found)

    def _offer(self, a: int, b: int) -> None:
        """Both ends' collapses are offered: the dearer one may be the only one allowed."""
        total = self._quadrics[a] + self._quadrics[b]
        for gone, kept in ((a, b), (b, a)):
            point = np.append(self._at[kept], 1.0)
            cost = float(point @ total @ point)
            versions = (self._version[gone], self._version[kept])
            heapq.heappush(self._heap, (cost, gone, kept, *versions))

    def _rim(self, a: int, b: int) -> bool:
        return len(self._of[a] & self._of[b]) == 1

    def _allowed(self, gone: int, kept: int) -> bool:
        shared = self._of[gone] & self._of[kept]
        around, there = self._around(gone), self._around(kept)
        if len(set(around) & set(there)) != len(shared):
            return False
        on_rim = [any(self._rim(v, w) for w in near) for v, near in ((gone, around), (kept, there))]
        # an inner edge between two places of the rim would pinch the mesh; a rim vertex stays there
        if on_rim[0] and not (on_rim[1] and self._rim(gone, kept)):
            return False
        if len(self._alive) <= 4:
            return False
        return not any(self._turns(number, gone, kept) for number in self._of[gone] - shared)

    def _turns(self, number: int, gone: int, kept: int) -> bool:
        face = self._faces[number]
        before = _normal(*(self._at[v] for v in face))
        after = _normal(*(self._at[kept if v == gone else v] for v in face))
        return not before @ after > _FLIP

    def _collapse(self, gone: int, kept: int) -> None:
        for number in self._of[gone] & self._of[kept]:
            for vertex in self._faces.pop(number):
                self._of[vertex].discard(number)
        for number in self._of.pop(gone):
            a, b, c = (kept if v == gone else v for v in self._faces[number])
            self._faces[number] = (a, b, c)
            self._of[kept].add(number)
        self._quadrics[kept] += self._quadrics[gone]
        self._alive.discard(gone)
        del self._version[gone]
        # what is around has other faces now, so edges that were not allowed may be
        near = [kept, *self._around(kept)]
        for vertex in near:
            self._version[vertex] += 1
        edges = {(min(v, w), max(v, w)) for v in near for w in self._around(v)}
        for a, b in sorted(edges):
            self._offer(a, b)


def _normal(a: Floats, b: Floats, c: Floats) -> Floats:
    (ux, uy, uz), (vx, vy, vz) = (b - a).tolist(), (c - a).tolist()
    n = np.array([uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx])
    return np.asarray(n / max(float(n @ n) ** 0.5, 1e-30))


def _quadrics(vertices: Floats, faces: Ints) -> Floats:
    """(V, 4, 4): squared distances from the planes of a vertex's faces, weighted by their areas."""
    out = np.zeros((len(vertices), 4, 4))
    corners = vertices[faces]
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    double = np.linalg.norm(cross, axis=1)
    normals = cross / np.maximum(double, 1e-30)[:, None]
    _add_planes(out, faces, normals, corners[:, 0], double / 2)
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    owner = np.tile(np.arange(len(faces)), 3)
    _, first, count = np.unique(np.sort(edges, 1), axis=0, return_index=True, return_counts=True)
    rim = first[count == 1]
    if len(rim):
        along = vertices[edges[rim, 1]] - vertices[edges[rim, 0]]
        upright = np.cross(along, normals[owner[rim]])
        upright /= np.maximum(np.linalg.norm(upright, axis=1), 1e-30)[:, None]
        weights = _BOUNDARY * (along**2).sum(1)
        _add_planes(out, edges[rim], upright, vertices[edges[rim, 0]], weights)
    return out


def _add_planes(
    quadrics: Floats, owners: Ints, normals: Floats, points: Floats, weights: Floats
) -> None:
    planes = np.concatenate([normals, -(normals * points).sum(1, keepdims=True)], axis=1)
    made = weights[:, None, None] * planes[:, :, None] * planes[:, None, :]
    for column in owners.T:
        np.add.at(quadrics, column, made)
