"""ResNet-18, -34 and -50 without the classifier: the backbones of HaMuCo, HandOccNet and others.

Architecture: K. He et al., Deep Residual Learning for Image Recognition (2016), in torchvision's
form, whose keys these are: a bottleneck strides in its 3 x 3 convolution ("V1.5").
Figures: 11,176,512, 21,284,672 and 23,508,032 parameters.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn
from torch.nn.functional import relu

from hand_mesh_ros.networks.backbones import Origin, pretrained, standardise


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions, added to what came in: (N, before, H, W) to (N, width, H/s, W/s)."""

    expansion = 1

    def __init__(self, before: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = _conv(before, width, 3, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _conv(width, width, 3)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _shortcut(before, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = relu(self.bn1(self.conv1(x)))
        return relu(self.bn2(self.conv2(y)) + self.downsample(x))


class Bottleneck(nn.Module):
    """Narrow, convolve, widen: (N, before, H, W) to (N, 4 width, H/stride, W/stride)."""

    expansion = 4

    def __init__(self, before: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = _conv(before, width, 1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _conv(width, width, 3, stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = _conv(width, 4 * width, 1)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.downsample = _shortcut(before, 4 * width, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = relu(self.bn1(self.conv1(x)))
        y = relu(self.bn2(self.conv2(y)))
        return relu(self.bn3(self.conv3(y)) + self.downsample(x))


class ResNet(nn.Module):
    """Images (N, 3, H, W) in 0..1 to features (N, `channels`, H/32, W/32).

    `counts` blocks in each of the four layers, of `width`, 2, 4 and 8 times that. Untrained as it
    is made; batch norms learn their statistics while training, as in the papers.
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        counts: tuple[int, int, int, int],
        width: int = 64,
    ) -> None:
        super().__init__()
        self.conv1 = _conv(3, width, 7, 2)
        self.bn1 = nn.BatchNorm2d(width)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        widths = [width << k for k in range(4)]
        before = [width, *(w * block.expansion for w in widths)]
        self.layer1 = _layer(block, before[0], widths[0], counts[0], stride=1)
        self.layer2 = _layer(block, before[1], widths[1], counts[1])
        self.layer3 = _layer(block, before[2], widths[2], counts[2])
        self.layer4 = _layer(block, before[3], widths[3], counts[3])
        self.channels = before[4]
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        return self.maps(images)[-1]

    def maps(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """All four layers' features, H/4, H/8, H/16 and H/32, for heads that look at detail."""
        x = self.maxpool(relu(self.bn1(self.conv1(standardise(images)))))
        first = self.layer1(x)
        second = self.layer2(first)
        third = self.layer3(second)
        return first, second, third, self.layer4(third)


def resnet18(weights: str | Path | None = None) -> ResNet:
    """512 channels; see `backbones.pretrained` for where its weights are, and for errors."""
    return pretrained(
        lambda: ResNet(BasicBlock, (2, 2, 2, 2)), "resnet18", _origin("18-f37072fd"), weights
    )


def resnet34(weights: str | Path | None = None) -> ResNet:
    """512 channels; see `backbones.pretrained` for where its weights are, and for errors."""
    return pretrained(
        lambda: ResNet(BasicBlock, (3, 4, 6, 3)), "resnet34", _origin("34-b627a593"), weights
    )


def resnet50(weights: str | Path | None = None) -> ResNet:
    """2048 channels; see `backbones.pretrained` for where its weights are, and for errors."""
    return pretrained(
        lambda: ResNet(Bottleneck, (3, 4, 6, 3)), "resnet50", _origin("50-0676ba61"), weights
    )


def _origin(version: str) -> Origin:
    return Origin(
        f"https://download.pytorch.org/models/resnet{version}.pth (torchvision, IMAGENET1K_V1)",
        "torchvision is BSD-3-Clause; trained on ImageNet, whose terms of use are for research",
        ignored=("fc.",),
    )


def _layer(
    block: type[BasicBlock] | type[Bottleneck], before: int, width: int, count: int, stride: int = 2
) -> nn.Sequential:
    later = [block(width * block.expansion, width) for _ in range(count - 1)]
    return nn.Sequential(block(before, width, stride), *later)


def _conv(before: int, after: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(before, after, kernel, stride, kernel // 2, bias=False)


def _shortcut(before: int, after: int, stride: int) -> nn.Module:
    if stride == 1 and before == after:
        return nn.Identity()
    return nn.Sequential(_conv(before, after, 1, stride), nn.BatchNorm2d(after))
