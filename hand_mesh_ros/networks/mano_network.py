"""A backbone with a MANO head: crops of right hands to rotations, shape, joints and vertices."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hand_mesh_ros.hand.model import HandModel
from hand_mesh_ros.networks.backbones import create_backbone
from hand_mesh_ros.networks.mano_head import ManoHead, ManoOutput
from hand_mesh_ros.networks.mano_layer import ManoLayer, PosedHands


class ManoNetwork(nn.Module):
    """Crops (N, 3, S, S) uint8 of right hands (left ones mirrored) to hands in the crop's axes.

    `frozen` backbones are not trained, and are no part of `weights()`. `weights` is the file that
    the backbone reads, if it reads one.
    """

    def __init__(
        self,
        model: HandModel,
        backbone: str = "landmark_trunk",
        frozen: bool = False,
        channels: int = 64,
        hidden: int = 512,
        weights: str | None = None,
    ) -> None:
        super().__init__()
        self.frozen = frozen
        self.backbone = create_backbone(backbone, weights)
        self.head = ManoHead(int(self.backbone.channels), channels, hidden)  # type: ignore[arg-type]
        self.layer = ManoLayer(model)
        if frozen:
            self.backbone.requires_grad_(False)
        self.train()

    def forward(self, crops: Tensor) -> tuple[ManoOutput, PosedHands]:
        output = self.head(self.backbone(crops.float() / 255))
        # in full precision: half has three digits, and a tenth of a millimetre is the fourth
        with torch.autocast(crops.device.type, enabled=False):
            return output, self.layer(output.rotations, output.betas)

    def train(self, mode: bool = True) -> ManoNetwork:
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
        return self

    def weights(self) -> dict[str, Tensor]:
        """What was trained: the state without the hand model and without a frozen backbone."""
        state = self.state_dict()
        return {k: v for k, v in state.items() if not (self.frozen and k.startswith("backbone."))}

    def load_weights(self, weights: dict[str, Tensor]) -> None:
        """The reverse of `weights`; KeyError names what is missing or does not belong here."""
        wrong = set(weights) ^ set(self.weights())
        if wrong:
            raise KeyError(f"weights do not fit this network: {', '.join(sorted(wrong)[:5])} ...")
        self.load_state_dict(weights, strict=False)
