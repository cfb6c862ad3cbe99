"""HaMeR's discriminator: whether hand poses and shapes look like recorded ones. Training only.

As HMR's (A. Kanazawa et al., End-to-end Recovery of Human Shape and Pose, 2018), of hands.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from hand_mesh_ros.hand.layout import NUM_BETAS, NUM_JOINTS

_FINGERS: Final = NUM_JOINTS - 1
_CHANNELS: Final = 32
_HIDDEN: Final = 1024

VERDICTS: Final = _FINGERS + 2
"""One of each joint, one of the shape, one of all joints together."""


class Discriminator(nn.Module):
    """Rotations (B, 15, 3, 3) of the fingers and betas (B, 10) to verdicts (B, 17), 1 is real.

    The global rotation has no part in it. Names of parameters are the checkpoints'.
    """

    def __init__(self) -> None:
        super().__init__()
        self.D_conv1 = nn.Conv2d(9, _CHANNELS, 1)
        self.D_conv2 = nn.Conv2d(_CHANNELS, _CHANNELS, 1)
        self.pose_out = nn.ModuleList(nn.Linear(_CHANNELS, 1) for _ in range(_FINGERS))
        self.betas_fc1 = nn.Linear(NUM_BETAS, NUM_BETAS)
        self.betas_fc2 = nn.Linear(NUM_BETAS, NUM_BETAS // 2)
        self.betas_out = nn.Linear(NUM_BETAS // 2, 1)
        self.D_alljoints_fc1 = nn.Linear(_CHANNELS * _FINGERS, _HIDDEN)
        self.D_alljoints_fc2 = nn.Linear(_HIDDEN, _HIDDEN)
        self.D_alljoints_out = nn.Linear(_HIDDEN, 1)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    def forward(self, rotations: Tensor, betas: Tensor) -> Tensor:
        x = rotations.flatten(2).mT[:, :, None]  # (B, 9, 1, 15)
        x = functional.relu(self.D_conv2(functional.relu(self.D_conv1(x))))
        of_joints = [out(x[:, :, 0, k]) for k, out in enumerate(self.pose_out)]
        y = functional.relu(self.betas_fc2(functional.relu(self.betas_fc1(betas))))
        z = functional.relu(self.D_alljoints_fc1(x.flatten(1)))
        z = functional.relu(self.D_alljoints_fc2(z))
        return torch.cat([*of_joints, self.betas_out(y), self.D_alljoints_out(z)], dim=1)
