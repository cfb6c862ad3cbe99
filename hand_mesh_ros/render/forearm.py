"""A forearm with a sleeve, grown from the open wrist of a posed hand.

The hand model ends at the wrist. People do not, and the palm detector was taught on people.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.hand.model import HandModel
from hand_mesh_ros.render.shading import Surface
from hand_mesh_ros.types import FloatArray

# Distance behind the end of the hand (m) and girth relative to it; the sleeve covers the skin.
_SKIN = ((0.012, 1.01), (0.03, 1.06), (0.05, 1.13))
_SLEEVE = ((0.028, 1.24), (0.030, 1.31), (0.05, 1.33), (0.09, 1.42), (0.14, 1.55), (0.20, 1.7))
# Over which length the arm turns from the hand's axis towards the elbow, and how much of the way.
_BEND_LENGTH = 0.10
_BEND_LIMIT = 0.75


@lru_cache(maxsize=8)
def open_wrist(model: HandModel) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Vertices (N,) around the open wrist, in order, and the faces (F, 3) without its cap.

    A closed model is opened by taking away the fan around the middle of its wrist end.
    Raises ``ValueError`` where there is neither an opening nor such a fan.
    """
    faces = model.faces
    loop = _longest_boundary(faces)
    if loop.size == 0:
        faces = faces[(faces != _cap_hub(model)).all(axis=1)]
        loop = _longest_boundary(faces)
    if loop.size < 6:
        raise ValueError(f"hand model '{model.model_id}' has no wrist to grow a forearm from")
    return loop, faces


def _cap_hub(model: HandModel) -> int:
    """The vertex in the middle of the flat end of the mesh at the wrist."""
    along = model.v_template[:, 0] * (1 if model.side == "right" else -1)
    end = np.flatnonzero(along > along.max() - 1e-3)
    offset = model.v_template[end] - model.v_template[end].mean(axis=0)
    return int(end[np.argmin(np.linalg.norm(offset, axis=1))])


def _longest_boundary(faces: NDArray[np.int64]) -> NDArray[np.int64]:
    """Vertices along the longest open edge of a mesh, against the sense of its faces."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    directed = set(map(tuple, edges.tolist()))
    follows = {b: a for a, b in directed if (b, a) not in directed}
    loops: list[list[int]] = [[]]
    while follows:
        start, following = follows.popitem()
        loop = [start]
        while following != start:
            loop.append(following)
            following = follows.pop(following)
        loops.append(loop)
    return np.array(max(loops, key=len), dtype=np.int64)


Rings = tuple[tuple[float, float], ...]


def with_forearm(
    model: HandModel,
    hand: Surface,
    axis: FloatArray,
    elbow: FloatArray,
    cloth: FloatArray,
    *,
    bare: Rings = _SKIN,
    covered: Rings = _SLEEVE,
) -> Surface:
    """``hand`` (posed vertices of ``model``) with forearm and a sleeve of colour ``cloth`` (3,).

    ``axis`` (3,) is the unit direction in which the hand ends, ``elbow`` (3,) a world point which
    the arm bends towards. ``bare`` and ``covered``: the sections of skin and sleeve, each its
    distance behind the end of the hand (m) and its girth relative to it. Skin comes before cloth.
    """
    loop, faces = open_wrist(model)
    ring = hand.vertices[loop]
    skin = _tube(ring, axis, elbow, bare)
    sleeve = _tube(ring, axis, elbow, covered)
    n, start = len(loop), len(hand.vertices)
    skin_ids = np.concatenate([loop[None], start + np.arange(len(bare) * n).reshape(-1, n)])
    sleeve_ids = start + len(bare) * n + np.arange(len(covered) * n).reshape(-1, n)
    fabric = np.tile(cloth, (len(sleeve), 1))
    return Surface(
        np.concatenate([hand.vertices, skin, sleeve]),
        np.concatenate([faces, _strips(skin_ids), _strips(sleeve_ids)]),
        np.concatenate([hand.albedo, np.tile(hand.albedo[loop], (len(bare), 1)), fabric]),
        np.concatenate([hand.gloss, np.full(len(skin), hand.gloss.mean()), np.zeros(len(sleeve))]),
    )


def _tube(ring: FloatArray, axis: FloatArray, elbow: FloatArray, rings: Rings) -> FloatArray:
    """The wrist's ``ring`` (n, 3) carried along a bending centre line, (rings * n, 3)."""
    centre = ring.mean(axis=0)
    towards = elbow - centre
    towards = towards / np.linalg.norm(towards)
    distance, girth = np.array(rings).T
    # The centre line starts along the hand's axis and turns smoothly towards the elbow.
    fine = np.linspace(0, distance.max(), 48)
    turn = _BEND_LIMIT * (1 - np.exp(-fine / _BEND_LENGTH))
    heading = (1 - turn[:, None]) * axis + turn[:, None] * towards
    heading /= np.linalg.norm(heading, axis=1, keepdims=True)
    line = centre + np.cumsum(heading, axis=0) * (fine[1] - fine[0])
    nearest = np.searchsorted(fine, distance)
    along = heading[nearest]
    offset = ring - centre
    flat = offset - (offset @ axis)[:, None] * axis
    # Each section stands across the line; the small lean of the cut wrist fades out.
    across = flat[None] - np.einsum("nd,kd->kn", flat, along)[..., None] * along[:, None]
    across *= (np.linalg.norm(flat, axis=1) / np.linalg.norm(across, axis=2))[..., None]
    lean = (offset @ axis)[None, :] * np.exp(-distance / 0.02)[:, None]
    points = line[nearest][:, None] + across * girth[:, None, None] + lean[..., None] * axis
    return np.asarray(points.reshape(-1, 3))


def _strips(ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """Triangles between neighbouring rings of vertex numbers (rings, n), facing outwards."""
    a, b = ids[:-1], ids[1:]
    a2, b2 = np.roll(a, -1, axis=1), np.roll(b, -1, axis=1)
    first, second = np.stack([a, a2, b], axis=-1), np.stack([a2, b2, b], axis=-1)
    return np.concatenate([first.reshape(-1, 3), second.reshape(-1, 3)])
