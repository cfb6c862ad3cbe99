"""WiLoR: HaMeR's backbone with the questions among its tokens, and a refinement of the answer.

R. Potamias et al., WiLoR: End-to-end 3D Hand Localization and Reconstruction in-the-wild, CVPR
2025. Written from its description: its code may not be adapted. Keys and shapes of the state are
those of the published checkpoint.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from hand_mesh_ros.hand.layout import NUM_BETAS, NUM_JOINTS
from hand_mesh_ros.hand.model import HandModel
from hand_mesh_ros.networks.checkpoint_mano import CheckpointMano
from hand_mesh_ros.networks.discriminator import Discriminator
from hand_mesh_ros.networks.mano_decoder import ManoMean, RawMano, register_mean
from hand_mesh_ros.networks.reconstruction import Reconstruction, reconstruct
from hand_mesh_ros.networks.refine_net import RefineNet, Sampling
from hand_mesh_ros.networks.vit import VIT_H_HAMER, ViT, ViTConfig, cut_to_shape

QUESTIONS = NUM_JOINTS + 2
"""Tokens in front of the picture's: one a joint, one of the shape, one of the camera."""


@dataclass(frozen=True)
class WilorConfig:
    """Sizes of a `Wilor`; `sampling` "published" is what published weights need."""

    backbone: ViTConfig = VIT_H_HAMER
    sampling: Sampling = "published"


WILOR = WilorConfig()
"""As published: 639.3 million parameters without the discriminator."""


class Coarse(NamedTuple):
    """A first estimate, and the backbone's features (B, C, 16, 12) for a second."""

    raw: RawMano
    features: Tensor


class WilorBackbone(ViT):
    """`ViT` whose tokens begin with 18 that ask for a hand: the mean's numbers, embedded."""

    init_hand_pose: Tensor
    init_betas: Tensor
    init_cam: Tensor

    def __init__(self, config: ViTConfig = VIT_H_HAMER, mean: ManoMean | None = None) -> None:
        super().__init__(config)
        self.pose_emb = nn.Linear(6, config.width)
        self.shape_emb = nn.Linear(NUM_BETAS, config.width)
        self.cam_emb = nn.Linear(3, config.width)
        self.decpose = nn.Linear(config.width, 6)  # the same for all joints
        self.decshape = nn.Linear(config.width, NUM_BETAS)
        self.deccam = nn.Linear(config.width, 3)
        register_mean(self, mean)

    def ask(self, images: Tensor) -> Coarse:
        """Of images that are cut and standardised already."""
        patches = self.patch_embed(images)
        rows, columns = patches.shape[2:]
        x = patches.flatten(2).mT + self.positions(rows, columns)
        x = torch.cat([self.questions().expand(x.shape[0], -1, -1), x], dim=1)
        for block in self.blocks:
            x = block(x)
        x = self.last_norm(x)
        features = x[:, QUESTIONS:].mT.unflatten(2, (rows, columns))
        return Coarse(self.answers(x[:, :QUESTIONS]), features)

    def questions(self) -> Tensor:
        """(1, 18, width), the same for every image; they have no position."""
        joints = self.pose_emb(self.init_hand_pose.unflatten(1, (NUM_JOINTS, 6)))
        others = [self.shape_emb(self.init_betas), self.cam_emb(self.init_cam)]
        return torch.cat([joints, *(x[:, None] for x in others)], dim=1)

    def answers(self, x: Tensor) -> RawMano:
        pose = self.decpose(x[:, :NUM_JOINTS]) + self.init_hand_pose.unflatten(1, (NUM_JOINTS, 6))
        betas = self.decshape(x[:, NUM_JOINTS]) + self.init_betas
        return RawMano(pose, betas, self.deccam(x[:, NUM_JOINTS + 1]) + self.init_cam)


class Wilor(nn.Module):
    """Crops (B, 3, 256, 256) of right hands (left ones mirrored) to a `Reconstruction`.

    Crops, `hand_model` and `training_parts` are as `Hamer` has them. Untrained as it is made;
    published weights need evaluation mode, see `RefineNet`.
    """

    def __init__(
        self,
        config: WilorConfig = WILOR,
        hand_model: HandModel | None = None,
        training_parts: bool = False,
    ) -> None:
        super().__init__()
        self.config = config
        self.hand_model = hand_model
        self.backbone = WilorBackbone(config.backbone)
        self.refine_net = RefineNet(config.backbone.width, config.sampling)
        self.mano = CheckpointMano(hand_model)
        if training_parts:
            self.discriminator = Discriminator()
            self.register_buffer("initialized", torch.tensor(False))

    def forward(self, crops: Tensor) -> Reconstruction:
        coarse = self.coarse(crops)
        return reconstruct(self.refine(coarse), self.mano)

    def coarse(self, crops: Tensor) -> Coarse:
        """The first estimate, before it is refined."""
        return self.backbone.ask(cut_to_shape(crops, *self.config.backbone.image))

    def refine(self, coarse: Coarse) -> RawMano:
        first = reconstruct(coarse.raw, self.mano)
        return coarse.raw.plus(self.refine_net(coarse.features, first.vertices, first.cam))
