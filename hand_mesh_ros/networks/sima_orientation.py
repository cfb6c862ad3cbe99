"""SiMA-Hand's orientation branch: from detached features of a view to the hand's global rotation.

Source: Y. Wang et al., SiMA-Hand (AAAI 2024). H2ONet's, which it is made of, adds J and R where
this one attends.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hand_mesh_ros.networks.densestack import DenseStack2Encoder
from hand_mesh_ros.networks.mano_head import rotations_from_6d


@dataclass(frozen=True)
class RegressorSettings:
    """The published rotation regressor, by default: 62.18 M parameters.

    head_channels: of one attention head. mlp: what follows the flattened tokens.
    """

    heads: int = 8
    head_channels: int = 512
    narrow: tuple[int, ...] = (512, 256)
    mlp: tuple[int, ...] = (2048, 1024, 512, 256, 128, 64, 32, 16)
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if min(self.heads, self.head_channels, *self.narrow) < 1 or not 0 <= self.dropout < 1:
            raise ValueError(
                "heads, head_channels and narrow must be positive, dropout at least 0, less than 1"
            )


class Attention(nn.Module):
    """Queries `x` (N, T, C) of keys `of` (N, U, C), added to `x`, normed after; no biases."""

    def __init__(self, channels: int, settings: RegressorSettings) -> None:
        super().__init__()
        inner = settings.heads * settings.head_channels
        self.heads = settings.heads
        self.query, self.key, self.value = (
            nn.Linear(channels, inner, bias=False) for _ in range(3)
        )
        self.out = nn.Linear(inner, channels, bias=False)
        self.norm = nn.LayerNorm(channels)
        self.dropout = nn.Dropout(settings.dropout)

    def forward(self, x: Tensor, of: Tensor) -> Tensor:
        q, k, v = (
            layer(t).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer, t in ((self.query, x), (self.key, of), (self.value, of))
        )
        found = nn.functional.scaled_dot_product_attention(
            q, k, v, dropout_p=self.dropout.p if self.training else 0.0
        )
        added = self.dropout(self.out(found.transpose(1, 2).flatten(2)))
        return torch.as_tensor(self.norm(x + added))


class RotationRegressor(nn.Module):
    """J and R tokens (N, T, C), (N, U, C) to a rotation (N, 3, 3) and what is on the way to it.

    The six numbers are the first two *rows*, as published; they are told relative to no rotation.
    The reference does not say what is between the last layers; here it is ReLU.
    """

    def __init__(self, tokens: int, channels: int, settings: RegressorSettings) -> None:
        super().__init__()
        self.of_latent, self.of_map, self.across = (Attention(channels, settings) for _ in range(3))
        narrow: list[nn.Module] = []
        before = channels
        for after in settings.narrow:
            narrow += [nn.Linear(before, after), nn.ReLU()]  # a 1-D convolution of length one
            before = after
        self.narrow = nn.Sequential(*narrow)
        layers: list[nn.Module] = []
        before *= tokens
        for after in settings.mlp:
            layers += [nn.Linear(before, after), nn.ReLU()]
            before = after
        self.mlp = nn.Sequential(*layers)
        self.last = nn.Linear(before, 6)

    def forward(self, latent: Tensor, of_map: Tensor) -> tuple[Tensor, Tensor]:
        latent, of_map = self.of_latent(latent, latent), self.of_map(of_map, of_map)
        mixed = self.across(latent, of_map)
        found = self.last(self.mlp(self.narrow(mixed).flatten(1)))
        unit = torch.tensor([1.0, 0, 0, 0, 1, 0], device=found.device)
        return rotations_from_6d(found.float() + unit).mT, mixed


class Adapter(nn.Module):
    """Three layers of 1 x 1 convolution, batch norm and ReLU, added: HOFE's part of the answer.

    (N, C, ...) to the same. Source: the published code; that what it adds stands for what several
    views would add is an inference from its names and the figure.
    """

    def __init__(self, channels: int, count: int = 3) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(count):
            layers += [
                nn.Conv1d(channels, channels, 1, bias=False), nn.BatchNorm1d(channels), nn.ReLU(),
            ]  # fmt: skip
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.as_tensor(self.layers(x.flatten(2))).view_as(x)


class SmallAdapter(nn.Module):
    """The same for small networks: two layers, added, no batch norm; adds nothing at first."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv1d(channels, channels, 1), nn.GELU(), nn.Conv1d(channels, channels, 1)
        )
        last = self.layers[-1]
        assert isinstance(last, nn.Conv1d) and last.bias is not None
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.as_tensor(self.layers(x.flatten(2))).view_as(x)


class SmallMapEncoder(nn.Module):
    """A map (N, C, 7, 7) to (N, C, 4, 4): what stands for the published R encoder."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.gelu(self.conv(x))


def map_encoder(channels: int, published: bool) -> nn.Module:
    """What makes R of F_o."""
    return DenseStack2Encoder(channels) if published else SmallMapEncoder(channels)
