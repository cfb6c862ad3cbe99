"""DenseStack, the small backbone of MobRecon, H2ONet and SiMA-Hand: its front half and its parts.

Architecture: X. Chen et al., MobRecon (CVPR 2022), as H. Xu et al., H2ONet (CVPR 2023) and Y. Wang
et al., SiMA-Hand (AAAI 2024) use it. Its images are 128 x 128; what is said of sizes is for these.
Figures: 2,381,160 parameters of `DenseStackEncoder`, 3,409,216 of `DenseStack2Encoder(128)`. (The
papers' code has 526,848 more in each stack, of a squeeze-and-excite of 1024 that it never uses.)
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, hardtanh, pixel_unshuffle

from hand_mesh_ros.networks.backbones import Origin, pretrained

_SEED = 0


def conv_unit(before: int, after: int, kernel: int = 1, stride: int = 1) -> nn.Sequential:
    """A convolution without bias, batch norm, ReLU: (N, before, H, W) to (N, after, H/s, W/s)."""
    conv = nn.Conv2d(before, after, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(after), nn.ReLU())


class SeparableUnit(nn.Module):
    """`depth` 3 x 3 convolutions by channel, then one across: (N, before, H, W) to after channels.

    With as many channels after as before, what came in is added.
    """

    def __init__(self, before: int, after: int, depth: int = 1) -> None:
        super().__init__()
        self.depthwise = nn.Sequential(*(_depthwise(before) for _ in range(depth)))
        self.pointwise = conv_unit(before, after)
        self.straight = before == after

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.pointwise(self.depthwise(x))
        return x + y if self.straight else y


class _Dense(nn.Module):
    """Units in a row, each of which sees all that came before; all are kept."""

    def __init__(self, channels: int, count: int) -> None:
        super().__init__()
        growth = channels // count
        self.units = nn.ModuleList(
            SeparableUnit(channels + k * growth, growth) for k in range(count)
        )

    def forward(self, x: Tensor) -> Tensor:
        for unit in self.units:
            x = torch.cat([x, unit(x)], dim=1)
        return x


class DenseBlock(_Dense):
    """Four units, each adding a quarter: (N, c, H, W) to (N, 2c, H, W), the input first."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, 4)


class DenseBlock2(_Dense):
    """Two units, each adding a half: (N, c, H, W) to (N, 2c, H, W), the input first."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, 2)


class DenseBlock2NoExpand(nn.Module):
    """Units of 3/4 and 1/4 of the channels, whose input is not kept: (N, c, H, W) to as many."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        most = channels * 3 // 4
        self.first = SeparableUnit(channels, most)
        self.second = SeparableUnit(channels + most, channels - most)

    def forward(self, x: Tensor) -> Tensor:
        first = self.first(x)
        return torch.cat([first, self.second(torch.cat([x, first], dim=1))], dim=1)


class SqueezeExcite(nn.Module):
    """Channels weighted 0..1 by what their means over the image say; any (N, c, H, W).

    Between its two layers of half the channels, at most 256, it clips to 0..4.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = min(channels // 2, 256)
        self.squeeze = nn.Sequential(
            nn.Linear(channels, hidden, bias=False), nn.BatchNorm1d(hidden)
        )
        self.excite = nn.Sequential(
            nn.Linear(hidden, channels, bias=False), nn.BatchNorm1d(channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        hidden = hardtanh(self.squeeze(x.mean((2, 3))), 0.0, 4.0)
        return x * torch.sigmoid(self.excite(hidden))[:, :, None, None]


class DenseStackDown(nn.Module):
    """A stack's way down: (N, c, H, W) to (2c, H/2), (4c, H/4) and (8c, H/8), and as wide."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Sequential(DenseBlock2(channels), SqueezeExcite(2 * channels))
        self.second = nn.Sequential(DenseBlock(2 * channels), SqueezeExcite(4 * channels))
        self.third = DenseBlock(4 * channels)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        first = avg_pool2d(self.first(x), 2)
        second = avg_pool2d(self.second(first), 2)
        return first, second, avg_pool2d(self.third(second), 2)


class DenseStackUp(nn.Module):
    """A stack's way up again, from what `DenseStackDown(channels)` gives, which it adds.

    To (N, after, H, W), or at `half` size without the last, bilinear step.
    """

    def __init__(self, channels: int, after: int, half: bool = False) -> None:
        super().__init__()
        nearest = nn.Upsample(scale_factor=2, mode="nearest")
        last = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
        self.first = nn.Sequential(*_narrowed(8 * channels, 4 * channels, 4 * channels), nearest)
        self.second = nn.Sequential(*_narrowed(4 * channels, 2 * channels, 2 * channels), nearest)
        self.third = nn.Sequential(*_narrowed(2 * channels, 2 * channels, after))
        self.last = nn.Identity() if half else last

    def forward(self, first: Tensor, second: Tensor, third: Tensor) -> Tensor:
        x = self.second(self.first(third) + second) + first
        return torch.as_tensor(self.last(self.third(x)))


class DenseStack(nn.Module):
    """Down to an eighth and up again: (N, channels, H, W) to (N, after, H, W)."""

    def __init__(self, channels: int, after: int) -> None:
        super().__init__()
        self.down = DenseStackDown(channels)
        self.up = DenseStackUp(channels, after)

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.up(*self.down(x)))


class DenseStack2Encoder(nn.Module):
    """The encoder half of `DenseStack2` alone: (N, c, H, W) to its latent (N, 8c, H/8, W/8)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.down = DenseStackDown(channels)
        self.deep = nn.Sequential(
            DenseBlock2NoExpand(8 * channels), DenseBlock2NoExpand(8 * channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.levels(x)[2]

    def levels(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(2c, H/2), (4c, H/4) and the latent."""
        first, second, third = self.down(x)
        return first, second, self.deep(third)


class DenseStack2(nn.Module):
    """(N, c, H, W) to features (N, after, H/2, W/2) and the latent (N, 8c, H/8, W/8).

    The latent is "J" of H2ONet and SiMA-Hand. `DenseStack2Encoder` gives it alone.
    """

    def __init__(self, channels: int, after: int) -> None:
        super().__init__()
        self.encoder = DenseStack2Encoder(channels)
        self.up = DenseStackUp(channels, after, half=True)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        levels = self.encoder.levels(x)
        return self.up(*levels), levels[2]


class DenseStackEncoder(nn.Module):
    """Images (N, 3, H, W) in 0..1 to the shared encoding F_s (N, `channels`, H/4, W/4).

    `width` is 64 in the papers, which makes 128 channels of it; `after` is the width of the
    stack's own result. Sides must be multiples of 32. Untrained as it is made.
    """

    def __init__(self, width: int = 64, after: int = 24) -> None:
        super().__init__()
        self.channels = 2 * width
        self.stem = nn.Sequential(
            conv_unit(3, width, 3, stride=2), SeparableUnit(width, self.channels)
        )
        self.shrink = conv_unit(4 * self.channels, self.channels)
        self.stack = DenseStack(self.channels, after)
        self.remap = conv_unit(after, after)
        self.join = conv_unit(self.channels + after, self.channels)

    def forward(self, images: Tensor) -> Tensor:
        trunk = self.shrink(pixel_unshuffle(self.stem(images), 2))
        return torch.as_tensor(self.join(torch.cat([self.remap(self.stack(trunk)), trunk], dim=1)))


def densestack(weights: str | Path | None = None) -> DenseStackEncoder:
    """128 channels at a quarter of the image's size; see `backbones.pretrained` for `weights`.

    Without `weights` it is untrained, and always the same: no weights of it are published but
    with the papers' own networks, whose keys are others.
    """
    if weights is not None:
        origin = Origin("a training run of your own", "yours")
        return pretrained(DenseStackEncoder, "densestack", origin, weights)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        return DenseStackEncoder()


def _depthwise(channels: int) -> nn.Sequential:
    conv = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(channels), nn.ReLU())


def _narrowed(before: int, between: int, after: int) -> tuple[nn.Module, ...]:
    return (
        SeparableUnit(before, between),
        SeparableUnit(between, after, depth=2),
        SqueezeExcite(after),
    )
