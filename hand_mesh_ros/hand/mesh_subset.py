"""A few vertices that stand for the whole surface of whichever hand model is loaded.

The published down-sampling of MANO's mesh derives from MANO; this one is made at run time from the
model itself: vertices as far apart as can be, and all others as mixtures of their nearest.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.hand.model import FloatArray, HandModel

# Metres that a change of bone is worth: neighbours across a gap between fingers are no neighbours.
_BONE_DISTANCE = 0.04
_NEAREST = 4


class MeshSubset(NamedTuple):
    """``chosen`` (C,) vertices; vertex i is about the sum of ``weights[i]`` (V, 4), which sum to

    one, times chosen vertices ``nearest[i]`` (V, 4), positions in ``chosen``.
    """

    chosen: NDArray[np.int64]
    nearest: NDArray[np.int64]
    weights: FloatArray


def mesh_subset(model: HandModel, count: int) -> MeshSubset:
    """``count`` vertices by farthest-point sampling in the zero pose; ValueError for a wrong count.

    Distances are of place and of skinning weights, so that fingers stay apart.
    """
    if not _NEAREST <= count <= model.num_vertices:
        raise ValueError(
            f"a subset of {count} vertices: choose from {_NEAREST} to {model.num_vertices}, which "
            f"the model {model.model_id} has"
        )
    points = np.concatenate([model.v_template, _BONE_DISTANCE * model.lbs_weights], axis=1)
    chosen = _farthest(points, count)
    gap = np.linalg.norm(points[:, None] - points[chosen], axis=-1)
    nearest = np.argsort(gap, axis=1, kind="stable")[:, :_NEAREST]
    weights = 1 / np.maximum(np.take_along_axis(gap, nearest, 1), 1e-9) ** 2
    weights /= weights.sum(1, keepdims=True)
    return MeshSubset(chosen, nearest, weights)


def _farthest(points: FloatArray, count: int) -> NDArray[np.int64]:
    """Each next one is the farthest from those before; the first is the farthest from the mean."""
    chosen = [int(np.argmax(np.linalg.norm(points - points.mean(0), axis=1)))]
    gap = np.full(len(points), np.inf)
    for _ in range(count - 1):
        gap = np.minimum(gap, np.linalg.norm(points - points[chosen[-1]], axis=1))
        chosen.append(int(np.argmax(gap)))
    return np.array(chosen, dtype=np.int64)
