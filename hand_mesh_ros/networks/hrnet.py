"""HRNet with its classification head: the backbone of METRO, MeshGraphormer and AMVUR.

Architecture: J. Wang et al., Deep High-Resolution Representation Learning (2020), the "-C" networks
trained on ImageNet, whose keys these are. Branches of `width`, 2, 4 and 8 times that are kept side
by side at H/4, H/8, H/16 and H/32.
Figures: 128.06, 41.23 and 21.30 M parameters of W64, W32, W18 with the classifier's 2.05 M.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from hand_mesh_ros.networks.backbones import Origin, pretrained, standardise
from hand_mesh_ros.networks.resnet import BasicBlock, Bottleneck

Branches = list[Tensor]


class Exchange(nn.Module):
    """Blocks on every branch, then every branch from the sum of all at its own size.

    `branches`: (N, widths[k], H/2^k, W/2^k). A coarser one comes by a 1 x 1 convolution and
    repetition, a finer one by as many 3 x 3 convolutions of stride 2 as it takes.
    """

    def __init__(self, widths: Sequence[int], blocks: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(*(BasicBlock(w, w) for _ in range(blocks))) for w in widths
        )
        self.fuse_layers = nn.ModuleList(
            nn.ModuleDict(
                {str(j): _between(widths, j, i) for j in range(len(widths)) if j != i}
            )
            for i in range(len(widths))
        )

    def forward(self, branches: Branches) -> Branches:
        own = [blocks(x) for blocks, x in zip(self.branches, branches, strict=True)]
        fused = []
        for i, fuse in enumerate(self.fuse_layers):
            total = own[i]
            for j, way in fuse.items():  # type: ignore[operator]
                total = total + way(own[int(j)])
            fused.append(relu(total))
        return fused


class HRNet(nn.Module):
    """Images (N, 3, H, W) in 0..1 to features (N, `channels`, H/32, W/32).

    `modules` exchanges in the stages of two, three and four branches, with `blocks` of each
    branch in each; `head` bottlenecks' widths. Sides must be multiples of 32. Untrained as it is
    made. `local_channels` are those of the first three branches, see `vector_and_maps`.
    """

    def __init__(
        self,
        width: int,
        modules: tuple[int, int, int] = (1, 4, 3),
        blocks: int = 4,
        stem: int = 64,
        head: tuple[int, int, int, int] = (32, 64, 128, 256),
        channels: int = 2048,
    ) -> None:
        super().__init__()
        widths = [width << k for k in range(4)]
        self.channels = channels
        self.local_channels = (widths[0], widths[1], widths[2])
        self.conv1 = nn.Conv2d(3, stem, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.conv2 = nn.Conv2d(stem, stem, 3, 2, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(stem)
        later = [Bottleneck(4 * stem, stem) for _ in range(blocks - 1)]
        self.layer1 = nn.Sequential(Bottleneck(stem, stem), *later)
        self.transition1 = nn.ModuleList(
            [_conv(4 * stem, widths[0], 1), nn.Sequential(_conv(4 * stem, widths[1], 2))]
        )
        # by number, as in the published files: only the branch that is new has a convolution
        self.transition2 = nn.ModuleDict({"2": nn.Sequential(_conv(widths[1], widths[2], 2))})
        self.transition3 = nn.ModuleDict({"3": nn.Sequential(_conv(widths[2], widths[3], 2))})
        self.stage2, self.stage3, self.stage4 = (
            nn.Sequential(*(Exchange(widths[: k + 2], blocks) for _ in range(count)))
            for k, count in enumerate(modules)
        )
        self.incre_modules = nn.ModuleList(
            nn.Sequential(Bottleneck(w, h)) for w, h in zip(widths, head, strict=True)
        )
        self.downsamp_modules = nn.ModuleList(
            _conv(4 * a, 4 * b, 2, bias=True) for a, b in zip(head[:3], head[1:], strict=True)
        )
        self.final_layer = nn.Sequential(
            nn.Conv2d(4 * head[3], channels, 1), nn.BatchNorm2d(channels), nn.ReLU()
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        return self._summary(self.maps(images))

    def maps(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The last stage's branches, H/4, H/8, H/16 and H/32, for heads that look at detail."""
        x = relu(self.bn1(self.conv1(standardise(images))))
        x = self.layer1(relu(self.bn2(self.conv2(x))))
        branches = self.stage2([way(x) for way in self.transition1])
        branches = self.stage3([*branches, self.transition2["2"](branches[-1])])
        first, second, third, last = self.stage4(
            [*branches, self.transition3["3"](branches[-1])]
        )
        return first, second, third, last

    def vector_and_maps(self, images: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
        """The whole image's vector (N, `channels`), and the branches at H/4, H/8 and H/16.

        As AMVUR reads them: 2048 numbers, and 64, 128 and 256 channels (`local_channels`) of W64.
        """
        maps = self.maps(images)
        return self._summary(maps).mean((2, 3)), maps[:3]

    def _summary(self, maps: Sequence[Tensor]) -> Tensor:
        x, *rest = (wider(m) for wider, m in zip(self.incre_modules, maps, strict=True))
        for down, finer in zip(self.downsamp_modules, rest, strict=True):
            x = finer + down(x)
        return torch.as_tensor(self.final_layer(x))


def hrnet_w64(weights: str | Path | None = None) -> HRNet:
    """2048 channels; see `backbones.pretrained` for where its weights are, and for errors."""
    return _published(64, weights)


def hrnet_w32(weights: str | Path | None = None) -> HRNet:
    """2048 channels; see `backbones.pretrained` for where its weights are, and for errors."""
    return _published(32, weights)


def hrnet_w18(weights: str | Path | None = None) -> HRNet:
    """2048 channels; see `backbones.pretrained` for where its weights are, and for errors."""
    return _published(18, weights)


def _published(width: int, weights: str | Path | None) -> HRNet:
    origin = Origin(
        f"https://huggingface.co/timm/hrnet_w{width}.ms_in1k (model.safetensors), or the authors' "
        "HRNet-Image-Classification",
        "MIT; trained on ImageNet, whose terms of use are for research",
        ignored=("classifier.",),
    )
    return pretrained(lambda: HRNet(width), f"hrnet_w{width}", origin, weights)


def _conv(
    before: int, after: int, stride: int, *, bias: bool = False, last: bool = False
) -> nn.Sequential:
    layers = [nn.Conv2d(before, after, 3, stride, 1, bias=bias), nn.BatchNorm2d(after)]
    return nn.Sequential(*layers) if last else nn.Sequential(*layers, nn.ReLU())


def _between(widths: Sequence[int], source: int, target: int) -> nn.Sequential:
    if source > target:
        return nn.Sequential(
            nn.Conv2d(widths[source], widths[target], 1, bias=False),
            nn.BatchNorm2d(widths[target]),
            nn.Upsample(scale_factor=2 ** (source - target), mode="nearest"),
        )
    steps = [_conv(widths[source], widths[source], 2) for _ in range(target - source - 1)]
    return nn.Sequential(*steps, _conv(widths[source], widths[target], 2, last=True))
