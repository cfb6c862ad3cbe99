"""WiLoR's second stage: features where the first estimate's vertices lie correct the estimate.

R. Potamias et al., WiLoR, CVPR 2025, written from its description. The published network samples
elsewhere than it says: see `Sampling`.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from hand_mesh_ros.geometry.crop_camera import crop_translation, project_to_crop
from hand_mesh_ros.hand.layout import NUM_BETAS, NUM_JOINTS
from hand_mesh_ros.networks.mano_decoder import NUM_6D, RawMano

Sampling = Literal["published", "aligned"]
"""Where the features of a vertex are taken from.

published: places in the crop, -0.5..0.5, are taken for pixels of the feature map, so that all lie
about its first one. Published weights are trained to that. aligned: where the vertex is seen; for
weights that are trained with it.
"""


class RefineNet(nn.Module):
    """Features (B, C, h, w), vertices (B, V, 3) m and a camera (B, 3) to corrections, `RawMano`.

    The features are doubled twice in size, and each size sampled at the vertices; of a channel
    counts the largest sample. Evaluation mode is needed where weights are published ones: in
    training mode the batch's own mean and deviation are taken.
    """

    def __init__(self, width: int = 1280, sampling: Sampling = "published") -> None:
        super().__init__()
        if width % 8:
            raise ValueError(f"the width of the backbone must be a multiple of 8, not {width}")
        self.sampling = sampling
        self.deconv = _Pyramid(width)
        features = width // 2 + width // 4 + width // 8
        self.dec_pose = nn.Linear(features, NUM_6D)
        self.dec_cam = nn.Linear(features, 3)
        self.dec_shape = nn.Linear(features, NUM_BETAS)

    def forward(self, features: Tensor, vertices: Tensor, cam: Tensor) -> RawMano:
        return self.read(self.sample(self.deconv(features), vertices, cam))

    def sample(self, maps: list[Tensor], vertices: Tensor, cam: Tensor) -> Tensor:
        """Largest samples (B, 7 C / 8) of `maps`, from the finest, over the vertices."""
        return torch.cat([self._largest(m, vertices, cam) for m in maps], dim=1)

    def read(self, x: Tensor) -> RawMano:
        return RawMano(
            self.dec_pose(x).unflatten(1, (NUM_JOINTS, 6)), self.dec_shape(x), self.dec_cam(x)
        )

    def _largest(self, features: Tensor, vertices: Tensor, cam: Tensor) -> Tensor:
        height, width = features.shape[2:]
        # The map's own camera, of as many pixels as it has rows. Places in it hardly depend on it.
        places = project_to_crop(vertices, crop_translation(cam, height), height)
        size = places.new_tensor([width, height])
        if self.sampling == "published":
            grid = 2 * places / (size - 1) - 1
        else:
            shown = places.new_tensor([width / height, 1])  # the map is of the crop's middle
            grid = 2 * places / shown
        samples = functional.grid_sample(
            features,
            grid[:, None].to(features.dtype),
            padding_mode="zeros",
            align_corners=self.sampling == "published",
        )
        return samples[:, :, 0].amax(-1)


class _Pyramid(nn.Module):
    """Features (B, C, h, w) to maps of C/8, C/4 and C/2 channels, 4, 2 and 1 times the size."""

    def __init__(self, width: int) -> None:
        super().__init__()
        half = width // 2
        self.first_conv = nn.Sequential(nn.Conv2d(width, half, 1))
        self.deconv = nn.ModuleList(
            [
                nn.Sequential(*_doubled(half, half // 2)),
                nn.Sequential(*_doubled(half, half // 2), *_doubled(half // 2, half // 4)),
            ]
        )

    def forward(self, features: Tensor) -> list[Tensor]:
        x = self.first_conv(features)
        return [self.deconv[1](x), self.deconv[0](x), x]


def _doubled(before: int, after: int) -> tuple[nn.Module, nn.Module, nn.Module]:
    up = nn.ConvTranspose2d(before, after, 4, stride=2, padding=1, bias=False)
    return up, nn.BatchNorm2d(after), nn.ReLU()
