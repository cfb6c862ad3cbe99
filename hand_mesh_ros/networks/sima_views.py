"""What SiMA-Hand makes of one view before anything is shared: two trunks with one answer.

`DenseStackTrunk` is the published one, on pixels; `LandmarkTrunk` a small one of our own, on what
the landmark network says of the crop (`networks.evidence`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, gelu, grid_sample, interpolate, normalize

from hand_mesh_ros.hand.model import HandModel
from hand_mesh_ros.networks.densestack import DenseStack2, DenseStackEncoder
from hand_mesh_ros.networks.evidence import COARSE, MIDDLE
from hand_mesh_ros.networks.sima_decoder import rest_joints

PALM: Final = (0, 5, 9, 17)  # wrist, knuckles of index, middle and little finger


class ViewFeatures(NamedTuple):
    """Of N views: `shared` (N, C, H, W), F_s in the papers; `latent` (N, T, D), T places of J;

    `joints` (N, 21, A) at the joints' places; `uv` (N, 21, 2), -1..1 from edge to edge of the crop;
    `start` (N, 3, 3), the rotation that the orientation branch begins with; `geometry` (N, T, G),
    what it is told beside, or None.
    """

    shared: Tensor
    latent: Tensor
    joints: Tensor
    uv: Tensor
    start: Tensor
    geometry: Tensor | None


class DenseStackTrunk(nn.Module):
    """The published trunk and the shape branch's own: images (N, 3, S, S) in 0..1, S = 128.

    Reads `image` (N, H, W, 3) of 0..255 and brings it to S. Figures: see `sima`.
    """

    reads = ("image",)
    joint_channels = 256
    shared_channels = 128
    latent_channels = 1024
    geometry_channels = 0

    def __init__(self, size: int = 128) -> None:
        super().__init__()
        self.size = size
        self.encoder = DenseStackEncoder()
        self.shape = DenseStack2(self.shared_channels, 24)
        self.uv_map = nn.Conv2d(24, 21, 1)
        places = (size // 8) ** 2
        layers: list[nn.Module] = []
        for before, after in ((places, 128), (128, 64)):
            layers += [nn.Linear(before, after, bias=False), nn.Hardtanh(0.0, 4.0)]
        self.uv = nn.Sequential(*layers, nn.Linear(64, 2, bias=False))
        self.narrow = nn.Conv2d(self.latent_channels, 256, 1)
        self.joint = nn.Conv2d(256, self.joint_channels, 1)

    def forward(self, views: Mapping[str, Tensor]) -> ViewFeatures:
        pictures = views["image"].permute(0, 3, 1, 2).float() / 255
        if pictures.shape[-1] != self.size:
            pictures = interpolate(pictures, self.size, mode="bilinear", align_corners=False)
        shared = self.encoder(pictures)
        features, latent = self.shape(shared)
        fractions = self.uv(self.uv_map(features).flatten(2))  # of the crop, 0..1 as published
        uv = 2 * fractions - 1
        at = self.joint(self.narrow(latent))
        grid = uv.clamp(-1, 1)[:, None]
        joints = grid_sample(at, grid, align_corners=True)[:, :, 0].transpose(1, 2)
        start = torch.eye(3, device=uv.device).expand(len(uv), 3, 3)
        return ViewFeatures(shared, latent.flatten(2).transpose(1, 2), joints, uv, start, None)


class LandmarkTrunk(nn.Module):
    """Evidence of N crops to the same: the landmark network's maps at its landmarks, and these.

    Reads `middle` (N, 14, 14, 112), `coarse` (N, 7, 7, 192), `landmarks` and `world` (N, 21, 3). It
    begins with the rotation that lays the palm of `world` onto the model's, and sees `world` turned
    back by it, so that shape is asked of the same thing in all views.
    """

    reads = ("middle", "coarse", "landmarks", "world")
    geometry_channels = 18
    palm: Tensor

    def __init__(self, model: HandModel, channels: int, joint_channels: int, layers: int) -> None:
        super().__init__()
        self.joint_channels, self.shared_channels, self.latent_channels = (
            joint_channels, channels, channels,
        )  # fmt: skip
        palm = torch.tensor(rest_joints(model), dtype=torch.float32)
        self.register_buffer("palm", palm_axes(palm), persistent=False)
        middle, coarse = MIDDLE[1], COARSE[1]
        self.map_middle = nn.Linear(middle, channels)
        self.map_coarse = nn.Linear(coarse, channels)
        self.map_place = nn.Parameter(torch.zeros(COARSE[0] ** 2, channels))
        self.own = nn.Linear(middle + coarse + 6, channels)
        self.whole = nn.Sequential(
            nn.Linear(2 * 63 + 9 + coarse, 2 * channels), nn.GELU(),
            nn.Linear(2 * channels, channels),
        )  # fmt: skip
        self.name = nn.Parameter(0.02 * torch.randn(21, channels))
        self.look = Mixing(channels)
        self.mix = nn.ModuleList(Mixing(channels) for _ in range(layers))
        self.norm = nn.LayerNorm(channels)
        self.joint = nn.Linear(channels, joint_channels)
        self.move = nn.Linear(channels, 2)
        nn.init.zeros_(self.move.weight)
        nn.init.zeros_(self.move.bias)

    def forward(self, views: Mapping[str, Tensor]) -> ViewFeatures:
        middle, coarse = (views[name].float() for name in ("middle", "coarse"))
        landmarks = views["landmarks"].float()
        metres = views["world"].float()
        world = 10 * (metres - metres[:, :1])
        start = palm_axes(world) @ self.palm.mT
        turned = world @ start
        uv = landmarks[..., :2]
        local = [_sampled(middle, uv), _sampled(coarse, uv), turned, landmarks]
        tokens = self.map_middle(halved(middle)) + self.map_coarse(coarse)
        tokens = gelu(tokens.flatten(1, 2) + self.map_place)
        seen = [turned.flatten(1), landmarks.flatten(1), start.flatten(1), coarse.mean((1, 2))]
        x = self.own(torch.cat(local, -1)) + self.whole(torch.cat(seen, -1))[:, None] + self.name
        x = self.look(x, tokens)
        for mix in self.mix:
            x = mix(x)
        x = self.norm(x)
        shared = tokens.transpose(1, 2).unflatten(2, (7, 7))
        by_start = start.flatten(1)[:, None].expand(-1, 21, -1)
        geometry = torch.cat([world, turned, landmarks, by_start], -1)
        return ViewFeatures(shared, x, self.joint(x), uv + self.move(x), start, geometry)


class Mixing(nn.Module):
    """Attention (of `x` to `context`, or to itself) and two layers, each added; norms before."""

    def __init__(self, channels: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(2))
        self.query = nn.Linear(channels, channels)
        self.key_value = nn.Linear(channels, 2 * channels)
        self.out = nn.Linear(channels, channels)
        self.inner = nn.Sequential(
            nn.Linear(channels, 2 * channels), nn.GELU(), nn.Linear(2 * channels, channels)
        )

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        first = self.norms[0](x)
        q = self.query(first)
        k, v = self.key_value(first if context is None else context).chunk(2, -1)
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in (q, k, v))
        mixed = nn.functional.scaled_dot_product_attention(q, k, v)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        return torch.as_tensor(x + self.inner(self.norms[1](x)))


def palm_axes(joints: Tensor) -> Tensor:
    """Axes of a palm (..., 3, 3), columns, of joints (..., 21, 3): along it, across it, off it."""
    wrist, index, middle, little = (joints[..., j, :] for j in PALM)
    along = normalize(middle - wrist, dim=-1)
    across = index - little
    off = normalize(torch.linalg.cross(along, across), dim=-1)
    return torch.stack([along, torch.linalg.cross(off, along), off], dim=-1)


def halved(maps: Tensor) -> Tensor:
    """Maps (N, H, W, C) of half as many places a side, each the mean of four."""
    return avg_pool2d(maps.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)


def _sampled(maps: Tensor, uv: Tensor) -> Tensor:
    """Features (N, 21, C) of maps (N, H, W, C) at places (N, 21, 2), -1..1 from edge to edge."""
    found = grid_sample(
        maps.permute(0, 3, 1, 2), uv[:, None], align_corners=False, padding_mode="border"
    )
    return found[:, :, 0].transpose(1, 2)
