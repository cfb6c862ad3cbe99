"""Things that hide hands: boxes, cylinders, spheres and random hulls, as meshes with distances."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.geometry.rotations import exp_so3
from hand_mesh_ros.types import FloatArray

Kind = Literal["box", "cylinder", "sphere", "hull"]
_AROUND, _ALONG = 20, 8


@dataclass(frozen=True, slots=True, eq=False)
class Thing:
    """A solid. ``size`` (3,) half extents in metres: of a cylinder radius, radius, half length
    (its axis is z); of a sphere three times the radius; of a hull those of its ``points`` (N, 3).

    ``colour``, ``second`` (3,) linear, ``stripes`` (3,) rad/m, ``striped`` and ``gloss`` paint it.
    ``pose`` (4, 4) maps its own points into the world.
    """

    kind: Kind
    size: FloatArray
    colour: FloatArray
    second: FloatArray
    stripes: FloatArray
    striped: float
    gloss: float
    points: FloatArray | None
    pose: FloatArray

    def mesh(self) -> tuple[FloatArray, NDArray[np.int64]]:
        """Vertices (V, 3) in its own frame, and outward faces (F, 3)."""
        if self.kind == "hull":
            assert self.points is not None
            return hull(self.points)
        if self.kind == "box":
            return _box(self.size)
        return _cylinder(self.size) if self.kind == "cylinder" else _sphere(self.size[0])

    def distance(self, points: FloatArray) -> FloatArray:
        """Signed distance (...,) of world points (..., 3) from the surface, negative inside.

        A hull counts as its bounding box.
        """
        local = (points - self.pose[:3, 3]) @ self.pose[:3, :3]
        if self.kind == "sphere":
            return np.asarray(np.linalg.norm(local, axis=-1) - self.size[0])
        if self.kind == "cylinder":
            radial = np.linalg.norm(local[..., :2], axis=-1) - self.size[0]
            over = np.stack([radial, np.abs(local[..., 2]) - self.size[2]], axis=-1)
        else:
            over = np.abs(local) - self.size
        outside = np.linalg.norm(np.maximum(over, 0), axis=-1)
        return np.asarray(outside + np.minimum(over.max(axis=-1), 0))


def random_thing(seed: int, *, held: bool) -> Thing:
    """A thing by its seed, at the origin: of a size to hold, or any."""
    rng = np.random.default_rng([seed, 53])
    kind: Kind = ("cylinder", "box", "sphere", "hull")[rng.choice(4, p=[0.4, 0.3, 0.15, 0.15])]
    if kind == "cylinder":
        radius = rng.uniform(0.004, 0.012) if rng.random() < 0.25 else rng.uniform(0.015, 0.042)
        size = np.array([radius, radius, rng.uniform(0.05, 0.12)])
    elif kind == "sphere":
        size = np.full(3, rng.uniform(0.018, 0.045))
    else:
        size = np.array(
            [rng.uniform(0.006, 0.035), rng.uniform(0.015, 0.05), rng.uniform(0.03, 0.11)]
        )
    if not held:
        size = size * rng.uniform(0.7, 1.3)
    points = None
    if kind == "hull":
        points = rng.normal(0, 1, (14, 3))
        points = points / np.linalg.norm(points, axis=1, keepdims=True) * size
        size = np.abs(points).max(axis=0)
    grey = rng.random() < 0.35
    colour = np.repeat(rng.uniform(0.02, 0.8), 3) if grey else rng.uniform(0.01, 0.8, 3)
    return Thing(
        kind, size, colour,
        second=rng.uniform(0.01, 0.9, 3),
        stripes=2 * np.pi / rng.uniform(0.01, 0.08) * rng.choice([0.0, 1.0], 3),
        striped=float(rng.random() < 0.5),
        gloss=float(rng.choice([0.02, 0.15, 0.5])),
        points=points,
        pose=np.eye(4),
    )  # fmt: skip


def random_turn(rng: np.random.Generator) -> FloatArray:
    """A rotation (3, 3), uniform enough."""
    axis = rng.normal(0, 1, 3)
    return np.asarray(exp_so3(axis / np.linalg.norm(axis) * rng.uniform(0, np.pi)))


def hull(points: FloatArray) -> tuple[FloatArray, NDArray[np.int64]]:
    """The convex hull of points, with faces turned outwards."""
    from scipy.spatial import ConvexHull

    made = ConvexHull(points)
    faces = made.simplices.astype(np.int64)
    a, b, c = (points[faces[:, k]] for k in range(3))
    inward = np.einsum("fc,fc->f", np.cross(b - a, c - a), made.equations[:, :3]) < 0
    faces[inward] = faces[inward][:, ::-1]
    return _facets(points, faces)


def _facets(points: FloatArray, faces: NDArray[np.int64]) -> tuple[FloatArray, NDArray[np.int64]]:
    """Corners of their own for every face, so that edges stay sharp."""
    return points[faces].reshape(-1, 3), np.arange(3 * len(faces)).reshape(-1, 3)


def _box(half: FloatArray) -> tuple[FloatArray, NDArray[np.int64]]:
    """Six sides of a few squares each; none shares vertices, so that edges stay sharp."""
    n = 5
    a, b = np.meshgrid(np.linspace(-1, 1, n), np.linspace(-1, 1, n), indexing="ij")
    ids = np.arange(n * n).reshape(n, n)
    p, q, r, s = ids[:-1, :-1], ids[1:, :-1], ids[1:, 1:], ids[:-1, 1:]
    square = np.concatenate([np.stack([p, q, r], -1), np.stack([p, r, s], -1)]).reshape(-1, 3)
    vertices: list[FloatArray] = []
    faces: list[NDArray[np.int64]] = []
    for axis in range(3):
        for sign in (-1.0, 1.0):
            side = np.empty((n, n, 3))
            side[..., axis], side[..., (axis + 1) % 3], side[..., (axis + 2) % 3] = sign, a, b
            faces.append((square if sign > 0 else square[:, ::-1]) + n * n * len(vertices))
            vertices.append(side.reshape(-1, 3) * half)
    return np.concatenate(vertices), np.concatenate(faces)


def _cylinder(size: FloatArray) -> tuple[FloatArray, NDArray[np.int64]]:
    angle = 2 * np.pi * np.arange(_AROUND) / _AROUND
    ring = np.stack([np.cos(angle), np.sin(angle)], axis=1) * size[0]
    height = np.linspace(-size[2], size[2], _ALONG)
    side = np.concatenate([np.c_[ring, np.full(_AROUND, z)] for z in height])
    ids = np.arange(_ALONG * _AROUND).reshape(_ALONG, _AROUND)
    a, b = ids[:-1], np.roll(ids, -1, axis=1)[:-1]
    c, d = np.roll(ids, -1, axis=1)[1:], ids[1:]
    strips = np.concatenate([np.stack([a, b, c], -1), np.stack([a, c, d], -1)]).reshape(-1, 3)
    vertices, faces = [side], [strips]
    for sign in (-1.0, 1.0):
        start = sum(map(len, vertices))
        vertices.append(np.concatenate([np.c_[ring, np.full(_AROUND, sign * size[2])],
                                        [[0, 0, sign * size[2]]]]))  # fmt: skip
        k = np.arange(_AROUND)
        fan = np.stack([np.full(_AROUND, _AROUND), k, (k + 1) % _AROUND], axis=-1)
        faces.append(start + (fan if sign > 0 else fan[:, ::-1]))
    return np.concatenate(vertices), np.concatenate(faces)


def _sphere(radius: float) -> tuple[FloatArray, NDArray[np.int64]]:
    from scipy.spatial import ConvexHull

    from hand_mesh_ros.render.light import lattice

    points = lattice(180) * radius
    faces = ConvexHull(points).simplices.astype(np.int64)
    a, b, c = (points[faces[:, k]] for k in range(3))
    inward = np.einsum("fc,fc->f", np.cross(b - a, c - a), a + b + c) < 0
    faces[inward] = faces[inward][:, ::-1]
    return points, faces
