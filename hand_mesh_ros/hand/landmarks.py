"""Where landmark networks put their points, relative to the hand model's joints.

A network marks what its annotators marked: its knuckles lie deeper in the palm than the axes about
which fingers bend, its thumb base lies on the thenar. On the palm these differences are rigid to
the wrist, so they can be told apart from pose: they were measured as the mean offset of
triangulated landmarks from the true joints over renders of the free hand seen from the palm's and
from the back's side (`hand-mesh bench landmark-offsets` measures them again). Fingers get none:
theirs are smaller, and mixed with how far a finger is bent.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from hand_mesh_ros.geometry.arrays import AnyArray, like, namespace
from hand_mesh_ros.geometry.rotations import exp_and_left_jacobian, skew
from hand_mesh_ros.hand.kinematics import GLOBAL_ORIENT, joints_and_jacobian
from hand_mesh_ros.hand.mirror import mirror_points
from hand_mesh_ros.hand.model import FloatArray, HandModel, Side

PALM: Final = np.array([0, 1, 5, 9, 13, 17])
"""OpenPose joints that are rigid to the wrist in MANO's skeleton."""

# Metres along the right model's axes: x towards the wrist, y out of the back, z to the thumb.
_PALM_OFFSETS: Final = 1e-3 * np.array(
    [
        [-4.4, -3.3, -2.7],
        [1.8, -13.9, 2.4],
        [3.6, -6.6, -1.3],
        [0.4, -9.7, 2.1],
        [1.3, -10.4, 0.7],
        [2.4, -7.7, 1.2],
    ]
)


def palm_offsets(side: Side) -> FloatArray:
    """Offsets (6, 3), m, of the palm's landmarks from its joints, in the model's axes."""
    return _PALM_OFFSETS if side == "right" else mirror_points(_PALM_OFFSETS)


def landmarks_and_jacobian(model: HandModel, params: AnyArray) -> tuple[AnyArray, AnyArray]:
    """Landmarks (B, 21, 3) of hands ``params`` (B, P) and their Jacobian (B, 21, 3, P).

    The 21 joints, the palm's moved by `palm_offsets`, which turn with the global orientation.
    NumPy or torch.
    """
    points, jacobian = joints_and_jacobian(model, params)
    rotation, turn = exp_and_left_jacobian(params[:, GLOBAL_ORIENT])
    xp = namespace(params)
    offset = like(palm_offsets(model.side), params) @ xp.matrix_transpose(rotation)
    points[:, PALM] += offset
    jacobian[:, PALM, :, GLOBAL_ORIENT] -= skew(offset) @ turn[:, None]
    return points, jacobian
