"""A small head: feature maps to a right hand's rotations, shape and place in the crop."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from hand_mesh_ros.hand.layout import NUM_BETAS, NUM_JOINTS


class ManoOutput(NamedTuple):
    """What the head says of N right hands.

    rotations: (N, 16, 3, 3) total, the first one global, in the crop's axes (x right, y down,
    z into the picture). betas: (N, 10). camera: (N, 3) scale s and the wrist's place tx, ty, by
    `place`.
    """

    rotations: Tensor
    betas: Tensor
    camera: Tensor


class ManoHead(nn.Module):
    """Features (N, C, h, w) to `ManoOutput`, by a narrow flattened map and two linear layers.

    `channels` is what the map is narrowed to; flattening it keeps where things are, which an
    average over the picture would lose. The first answer of an untrained head is the model's
    zero pose.
    """

    def __init__(self, before: int, channels: int = 64, hidden: int = 512, cells: int = 7) -> None:
        super().__init__()
        self.narrow = nn.Conv2d(before, channels, 1)
        self.pool = nn.AdaptiveAvgPool2d(cells)
        self.norm = nn.LayerNorm(channels * cells * cells)
        self.hidden = nn.Linear(channels * cells * cells, hidden)
        self.out = nn.Linear(hidden, 6 * NUM_JOINTS + NUM_BETAS + 3)
        nn.init.normal_(self.out.weight, std=0.01)
        with torch.no_grad():
            self.out.bias.zero_()
            self.out.bias[: 6 * NUM_JOINTS] = torch.tensor([1.0, 0, 0, 0, 1, 0]).repeat(NUM_JOINTS)

    def forward(self, features: Tensor) -> ManoOutput:
        x = self.pool(nn.functional.gelu(self.narrow(features))).flatten(1)
        x = self.out(nn.functional.gelu(self.hidden(self.norm(x))))
        sixd, betas, camera = x.float().split([6 * NUM_JOINTS, NUM_BETAS, 3], dim=1)
        return ManoOutput(rotations_from_6d(sixd.unflatten(1, (NUM_JOINTS, 6))), betas, camera)


def rotations_from_6d(sixd: Tensor) -> Tensor:
    """Rotation matrices (..., 3, 3) from their first two columns (..., 6), made orthonormal.

    Source: Zhou et al., On the Continuity of Rotation Representations, 2019. The torch form of
    `geometry.rotations.matrix_from_6d`.
    """
    x = nn.functional.normalize(sixd[..., :3], dim=-1)
    y = sixd[..., 3:]
    y = nn.functional.normalize(y - (x * y).sum(-1, keepdim=True) * x, dim=-1)
    return torch.stack([x, y, torch.linalg.cross(x, y)], dim=-1)


def place(joints: Tensor, camera: Tensor) -> Tensor:
    """Weak perspective: places (N, J, 2) in the crop, -1..1 from edge to edge, of joints (N, J, 3).

    `exp(s)` crop half-widths a decimetre, about the wrist, which is at (tx, ty).
    """
    relative = (joints - joints[:, :1])[..., :2] * 10
    return camera[:, :1, None].exp() * relative + camera[:, None, 1:]
