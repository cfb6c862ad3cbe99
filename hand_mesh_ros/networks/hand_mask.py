"""Which pixels of a crop show the hand itself: the mask that tells skin from what hides it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hand_mesh_ros.networks.evidence import COARSE, FINE, MIDDLE, Evidence

SIZE = 56
WEIGHTS = Path(__file__).parent / "weights" / "hand_mask.safetensors"


class HandMask(nn.Module):
    """Maps of `Evidence`, channels last, to logits (N, 56, 56) that a pixel shows this hand.

    Its own arm counts as not the hand, as everything else does: another hand, a thing, background.
    """

    def __init__(self, channels: int = 48) -> None:
        super().__init__()
        self.narrow = nn.ModuleList(nn.Conv2d(c, channels, 1) for _, c in (FINE, MIDDLE, COARSE))
        self.mix = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, groups=channels),
            nn.Conv2d(channels, 2 * channels, 1),
            nn.GELU(),
            nn.Conv2d(2 * channels, channels, 3, padding=1),
            nn.GELU(),
        )
        self.out = nn.Sequential(nn.Conv2d(channels, 4, 1), nn.PixelShuffle(2))

    def forward(self, fine: Tensor, middle: Tensor, coarse: Tensor) -> Tensor:
        size = (FINE[0], FINE[0])
        maps = [
            nn.functional.interpolate(
                narrow(x.permute(0, 3, 1, 2)), size, mode="bilinear", align_corners=False
            )
            for narrow, x in zip(self.narrow, (fine, middle, coarse), strict=True)
        ]
        logits: Tensor = self.out(self.mix(torch.stack(maps).sum(0)))
        return logits[:, 0]

    def weights(self) -> dict[str, Tensor]:
        """All of it was trained."""
        return self.state_dict()

    def load_weights(self, weights: dict[str, Tensor]) -> None:
        self.load_state_dict(weights)

    @torch.inference_mode()
    def probability(self, evidence: Evidence) -> NDArray[np.float32]:
        """Probability (N, 56, 56) that a pixel of the crop shows this hand."""
        maps = (torch.from_numpy(np.asarray(x, np.float32)) for x in evidence[:3])
        return self(*maps).sigmoid().numpy()


def load_hand_mask(path: Path = WEIGHTS) -> HandMask:
    """The mask network with the weights that come with the package, or those of a file."""
    from safetensors.torch import load_file

    network = HandMask()
    network.load_weights({name: value.float() for name, value in load_file(path).items()})
    return network.eval()
