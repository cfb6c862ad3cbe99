"""HaMeR as it is trained: what is kept of it in a file, and on which backbones it stands."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import torch
from torch import Tensor, nn

from hand_mesh_ros.geometry.crop_camera import CROP
from hand_mesh_ros.geometry.published_crops import DEVIATION, MEAN
from hand_mesh_ros.hand.model import HandModel
from hand_mesh_ros.networks.backbones import Origin, create_backbone, pretrained
from hand_mesh_ros.networks.hamer import Hamer, HamerConfig
from hand_mesh_ros.networks.mano_decoder import DecoderConfig, HamerDecoder
from hand_mesh_ros.networks.mano_layer import ManoLayer
from hand_mesh_ros.networks.reconstruction import Reconstruction, reconstruct
from hand_mesh_ros.networks.vit import ViT

_HAND: Final = "mano."
_ORIGIN: Final = Origin(
    "HaMeR (https://github.com/geopavlakos/hamer): `vitpose_backbone.pth` of its training data",
    "ViTPose is Apache-2.0",
)


class TrainedHamer(Hamer):
    """`Hamer` with its discriminator. backbone_weights: the file that its backbone begins with.

    A run begins with its own kind of file, which holds no hand model, or with a published one.
    Raises AssetError as `backbones.pretrained`.
    """

    not_kept = (_HAND,)

    def __init__(
        self, model: HandModel, config: HamerConfig, backbone_weights: str | None = None
    ) -> None:
        super().__init__(config, model, training_parts=True)
        if backbone_weights is not None:
            self.backbone = pretrained(
                lambda: ViT(config.backbone), "HaMeR's backbone", _ORIGIN, backbone_weights
            )

    @property
    def notes(self) -> dict[str, Any]:
        """What no tensor shows: how many heads there are (`checkpoint_sizes`)."""
        backbone, decoder = self.config.backbone, self.config.decoder
        return {"config": {"backbone": vars(backbone), "decoder": vars(decoder)}}

    def weights(self) -> dict[str, Tensor]:
        """The state without the hand model, whose licence is its own."""
        return {k: v for k, v in self.state_dict().items() if not k.startswith(self.not_kept)}

    def load_weights(self, weights: dict[str, Tensor]) -> None:
        hand = {k: v for k, v in self.state_dict().items() if k.startswith(self.not_kept)}
        self.load_state_dict({**weights, **hand})


class HamerOn(nn.Module):
    """HaMeR's head on a backbone by name, with a learnt place for each of its tokens.

    weights: see `create_backbone`. decoder: its sizes, but that its context is the backbone's.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, model: HandModel, backbone: str, weights: str | None, decoder: DecoderConfig
    ) -> None:
        super().__init__()
        self.backbone = create_backbone(backbone, weights)
        width = int(self.backbone.channels)  # type: ignore[arg-type]
        self.mano_head = HamerDecoder(**vars(replace(decoder, context_dim=width)))
        with torch.no_grad():
            tokens = self.backbone(torch.zeros(1, 3, CROP, CROP)).flatten(2).shape[2]
        self.where = nn.Parameter(0.02 * torch.randn(1, tokens, width))
        self.mano = ManoLayer(model)
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(DEVIATION)[:, None, None], persistent=False)

    def forward(self, crops: Tensor) -> Reconstruction:
        """Of crops (B, 3, 256, 256) as `Hamer` takes them."""
        images = crops * self.std + self.mean
        tokens = self.backbone(images).flatten(2).mT + self.where
        return reconstruct(self.mano_head(tokens), self.mano)

    def weights(self) -> dict[str, Tensor]:
        """All of it: the layer's hand model is no part of the state."""
        return dict(self.state_dict())

    def load_weights(self, weights: dict[str, Tensor]) -> None:
        self.load_state_dict(weights)
