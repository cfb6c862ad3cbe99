"""Displacements of a few of a hand's vertices carried over to all of them."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.hand.kinematics import forward
from hand_mesh_ros.hand.layout import NUM_BETAS, NUM_HAND_POSE
from hand_mesh_ros.hand.model import HandModel

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_HANDS: Final = 200
_BEND: Final = 0.5  # radians of each component of a random hand's pose
_RIDGE: Final = 1e-3  # of the mean square of the displacements


def carrying(model: HandModel, kept: Ints, nearest: int = 8, seed: int = 0) -> tuple[Ints, Floats]:
    """Which of the `kept` vertices (K,), and by what weights, (V, nearest) each, move the others.

    Displacements from the mean shape at rest, of hands without global rotation; least squares over
    random poses and shapes of the model, which a barycentric up-sampling of the rest shape, blind
    to how skin follows bones, has several times the error of. A vertex that is kept is itself.
    """
    rng = np.random.default_rng(seed)
    pose = rng.normal(0, _BEND, (_HANDS, NUM_HAND_POSE))
    betas = rng.normal(0, 1, (_HANDS, NUM_BETAS))
    zeros = np.zeros((_HANDS, 3))
    posed = forward(model, zeros, pose, betas, zeros).vertices
    assert posed is not None
    moved = (posed - model.v_template).transpose(1, 0, 2).reshape(model.num_vertices, -1)
    away = ((model.v_template[:, None] - model.v_template[kept][None]) ** 2).sum(-1)
    near = np.argsort(away, axis=1, kind="stable")[:, :nearest]
    said = moved[kept][near]
    normal = said @ said.transpose(0, 2, 1)
    weight = _RIDGE * np.trace(normal, axis1=1, axis2=2) / nearest
    normal += weight[:, None, None] * np.eye(nearest)
    weights = np.linalg.solve(normal, said @ moved[..., None])[..., 0]
    weights[kept] = np.eye(nearest)[0]
    return near, weights
