"""The hand model as a layer that neither waits for a device nor has branches on its numbers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from hand_mesh_ros.networks.checkpoint_mano import CheckpointMano
from hand_mesh_ros.networks.mano_layer import PosedHands


class FusedMano(nn.Module):
    """Linear blend skinning as smplx has it, with the kinematic tree in the host's memory.

    A tree on the device is asked for every bone, which waits for all work on it; and a trace for
    export cannot follow it. Rest joints are linear in the shape without the vertices between.
    """

    template: Tensor
    shapes: Tensor
    poses: Tensor
    rest: Tensor
    rest_shapes: Tensor
    weights: Tensor
    tips: Tensor
    order: Tensor
    identity: Tensor

    def __init__(self, model: CheckpointMano) -> None:
        super().__init__()
        mano: Any = model  # whose buffers no type knows
        self.parents: list[int] = mano.parents.tolist()
        shapes = mano.shapedirs.detach()
        arrays = {
            "template": mano.v_template,
            "shapes": shapes.flatten(0, 1).mT,  # (10, 3 V)
            "poses": mano.posedirs,  # (135, 3 V)
            "rest": mano.J_regressor @ mano.v_template,  # (16, 3)
            "rest_shapes": torch.einsum("jv,vxs->sjx", mano.J_regressor, shapes).flatten(1),
            "weights": mano.lbs_weights,
            "tips": mano.extra_joints_idxs,
            "order": mano.joint_map,
            "identity": torch.eye(3, device=shapes.device),
        }
        for name, array in arrays.items():
            self.register_buffer(name, array.detach().clone(), persistent=False)

    def forward(self, rotations: Tensor, betas: Tensor) -> PosedHands:
        """Hands of total rotations (N, 16, 3, 3), the first one global, and betas (N, 10)."""
        bent = (rotations[:, 1:] - self.identity).flatten(1)
        moved = (betas @ self.shapes + bent @ self.poses).unflatten(1, (-1, 3))
        rest = self.rest + (betas @ self.rest_shapes).unflatten(1, (-1, 3))
        turned, placed = self._chain(rotations, rest)
        offsets = placed - (turned @ rest[..., None])[..., 0]
        blended = torch.einsum("vj,njxy->nvxy", self.weights, turned)
        vertices = (blended @ (self.template + moved)[..., None])[..., 0] + self.weights @ offsets
        points = torch.cat([placed, vertices[:, self.tips]], dim=1)
        return PosedHands(points[:, self.order], vertices)

    def _chain(self, rotations: Tensor, rest: Tensor) -> tuple[Tensor, Tensor]:
        """Of each joint the rotation (N, 16, 3, 3) and the place (N, 16, 3), from the root on."""
        turned, placed = [rotations[:, 0]], [rest[:, 0]]
        for joint, parent in enumerate(self.parents[1:], start=1):
            bone = rest[:, joint] - rest[:, parent]
            placed.append(placed[parent] + (turned[parent] @ bone[..., None])[..., 0])
            turned.append(turned[parent] @ rotations[:, joint])
        return torch.stack(turned, dim=1), torch.stack(placed, dim=1)
