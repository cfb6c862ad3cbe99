"""HaMeR: crops of hands to MANO, by a vision transformer and a token that asks it.

G. Pavlakos et al., Reconstructing Hands in 3D with Transformers, CVPR 2024. Keys and shapes of the
state are those of the published checkpoint.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from hand_mesh_ros.hand.model import HandModel
from hand_mesh_ros.networks.checkpoint_mano import CheckpointMano
from hand_mesh_ros.networks.discriminator import Discriminator
from hand_mesh_ros.networks.mano_decoder import DecoderConfig, HamerDecoder, RawMano
from hand_mesh_ros.networks.reconstruction import Reconstruction, reconstruct
from hand_mesh_ros.networks.vit import VIT_H_HAMER, ViT, ViTConfig, cut_to_shape


@dataclass(frozen=True)
class HamerConfig:
    """Sizes of a `Hamer`; ValueError where backbone and decoder do not fit each other."""

    backbone: ViTConfig = VIT_H_HAMER
    decoder: DecoderConfig = field(default_factory=DecoderConfig)

    def __post_init__(self) -> None:
        if self.backbone.width != self.decoder.context_dim:
            raise ValueError(
                f"the decoder looks at tokens of width {self.decoder.context_dim}, and the "
                f"backbone's have {self.backbone.width}"
            )


HAMER = HamerConfig()
"""As published: 670.4 million parameters without the discriminator."""


class Hamer(nn.Module):
    """Crops (B, 3, 256, 256) of right hands (left ones mirrored) to a `Reconstruction`.

    Crops are standardised, by the published rule; see `geometry.published_crops`. Of their 256
    columns the middle 192 are used.
    hand_model: None is an empty one, for the checkpoint's to be loaded into. Without
    `training_parts` there is no discriminator, which no hand needs. Untrained as it is made.
    """

    def __init__(
        self,
        config: HamerConfig = HAMER,
        hand_model: HandModel | None = None,
        training_parts: bool = False,
    ) -> None:
        super().__init__()
        self.config = config
        self.hand_model = hand_model
        self.backbone = ViT(config.backbone)
        self.mano_head = HamerDecoder(**vars(config.decoder))
        self.mano = CheckpointMano(hand_model)
        if training_parts:
            self.discriminator = Discriminator()
            self.register_buffer("initialized", torch.tensor(False))

    def forward(self, crops: Tensor) -> Reconstruction:
        return reconstruct(self.regress(self.features(crops)), self.mano)

    def features(self, crops: Tensor) -> Tensor:
        """The backbone's (B, C, 16, 12)."""
        return self.backbone.encode(cut_to_shape(crops, *self.config.backbone.image))

    def regress(self, features: Tensor) -> RawMano:
        return self.mano_head(features.flatten(2).mT)
