"""Meshes for those who look at them: posed from the MANO parameters, when somebody asks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from hand_mesh_ros.hand.kinematics import forward
from hand_mesh_ros.hand.mirror import mirror_points
from hand_mesh_ros.hand.model import HandModel
from hand_mesh_ros.types import FloatArray, HandSet, ManoParameters, Side


def with_meshes(hands: HandSet, models: Mapping[Side, HandModel]) -> HandSet:
    """The same hands with vertices (V, 3); those that have some (of a mesh network) keep them."""
    return replace(
        hands,
        hands=tuple(
            hand
            if hand.estimate.vertices is not None
            else replace(
                hand,
                estimate=replace(
                    hand.estimate, vertices=mesh_vertices(hand.estimate.mano, models)
                ),
            )
            for hand in hands.hands
        ),
    )


def mesh_vertices(mano: ManoParameters, models: Mapping[Side, HandModel]) -> FloatArray:
    """Vertices (V, 3), m, in the frame of the parameters."""
    model = models["right" if mano.mirrored else mano.side]
    posed = forward(
        model,
        mano.global_orient[None],
        mano.hand_pose[None],
        mano.betas[None],
        np.zeros((1, 3)),
        np.array([mano.scale]),
    )
    assert posed.vertices is not None
    vertices: FloatArray = posed.vertices[0]
    return (mirror_points(vertices) if mano.mirrored else vertices) + mano.transl
