"""The hand model as a differentiable layer of rotation matrices: what a network predicts."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from hand_mesh_ros.hand.layout import MANO_TO_OPENPOSE, NUM_JOINTS
from hand_mesh_ros.hand.model import HandModel


class PosedHands(NamedTuple):
    """Joints (N, 21, 3) in OpenPose order and vertices (N, V, 3), metres; the model's own place."""

    joints: Tensor
    vertices: Tensor


class ManoLayer(nn.Module):
    """Poses a `HandModel` by smplx's linear blend skinning, in single precision.

    Axis-angle, which `hand.kinematics` takes, has no useful gradient near half a turn, and
    global orientations come near it; rotation matrices have one everywhere.
    The model's arrays are no part of the state: weights never carry a hand model with them.
    """

    v_template: Tensor
    shapedirs: Tensor
    posedirs: Tensor
    J_regressor: Tensor
    lbs_weights: Tensor
    parents: Tensor
    tips: Tensor
    order: Tensor

    def __init__(self, model: HandModel) -> None:
        super().__init__()
        arrays = {
            "v_template": model.v_template,
            "shapedirs": model.shapedirs,
            "posedirs": model.posedirs,
            "J_regressor": model.J_regressor,
            "lbs_weights": model.lbs_weights,
        }
        for name, array in arrays.items():
            self.register_buffer(name, torch.tensor(array, dtype=torch.float32), persistent=False)
        indices = {"parents": model.parents, "tips": model.tips, "order": MANO_TO_OPENPOSE}
        for name, index in indices.items():
            self.register_buffer(name, torch.tensor(np.array(index)), persistent=False)

    def forward(self, rotations: Tensor, betas: Tensor) -> PosedHands:
        """Hands of total rotations (N, 16, 3, 3), the first one global, and betas (N, 10)."""
        return posed_hands(self, rotations, betas, self.tips, self.order)


def posed_hands(
    layer: nn.Module, rotations: Tensor, betas: Tensor, tips: Tensor, order: Tensor
) -> PosedHands:
    """The hands of a layer that has a model's arrays under smplx's names."""
    from smplx.lbs import lbs

    template = layer.v_template
    assert isinstance(template, Tensor)
    if not len(betas):  # which smplx cannot reshape
        return PosedHands(template.new_zeros(0, len(order), 3), template[None, :][:0])
    vertices, joints = lbs(
        betas,
        rotations,
        template,
        layer.shapedirs,
        layer.posedirs,
        layer.J_regressor,
        layer.parents,
        layer.lbs_weights,
        pose2rot=False,
    )
    points = torch.cat([joints[:, :NUM_JOINTS], vertices[:, tips]], dim=1)
    return PosedHands(points[:, order], vertices)
