"""The TFLite operators our networks use, as torch modules on (N, C, H, W) activations.

Each reproduces TFLite's arithmetic exactly, SAME padding (which depends on the size and may be
lopsided) included; weights arrive in the file's layout and are stored in torch's.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Activation = Callable[[Tensor], Tensor]
Pair = tuple[int, int]


def identity(x: Tensor) -> Tensor:
    """No activation; a named function, so that modules can be pickled."""
    return x


def _padding_same(x: Tensor, kernel: Pair, stride: Pair, dilation: Pair) -> tuple[int, ...]:
    """TFLite's SAME padding of (N, C, H, W) as `F.pad` takes it: (left, right, top, bottom)."""
    pads: list[int] = []
    for size, k, s, d in zip(x.shape[2:], kernel, stride, dilation, strict=True):
        total = max((-(-size // s) - 1) * s + (k - 1) * d + 1 - size, 0)
        pads = [total // 2, total - total // 2, *pads]  # the last dimension comes first
    return tuple(pads)


class Conv(nn.Module):
    """CONV_2D and, with `groups` > 1, DEPTHWISE_CONV_2D; weight (O, I / groups, kh, kw)."""

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        groups: int,
        stride: Pair,
        dilation: Pair,
        same: bool,
        activation: Activation,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.bias = None if bias is None else nn.Parameter(bias)
        self.groups, self.stride, self.dilation, self.same = groups, stride, dilation, same
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        symmetric: Pair = (0, 0)
        if self.same:
            kernel = (self.weight.shape[2], self.weight.shape[3])
            left, right, top, bottom = _padding_same(x, kernel, self.stride, self.dilation)
            if left == right and top == bottom:
                symmetric = (top, left)
            else:
                x = F.pad(x, (left, right, top, bottom))
        y = F.conv2d(x, self.weight, self.bias, self.stride, symmetric, self.dilation, self.groups)
        return self.activation(y)


class Linear(nn.Module):
    """FULLY_CONNECTED on (N, I), weight (O, I)."""

    def __init__(self, weight: Tensor, bias: Tensor | None, activation: Activation) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.bias = None if bias is None else nn.Parameter(bias)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(F.linear(x, self.weight, self.bias))


class PRelu(nn.Module):
    """PRELU with one slope a channel, (C,)."""

    def __init__(self, slope: Tensor) -> None:
        super().__init__()
        self.slope = nn.Parameter(slope)

    def forward(self, x: Tensor) -> Tensor:
        return F.prelu(x, self.slope)


class Add(nn.Module):
    """ADD of two activations of the same shape."""

    def __init__(self, activation: Activation) -> None:
        super().__init__()
        self.activation = activation

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.activation(a + b)


class MaxPool(nn.Module):
    """MAX_POOL_2D."""

    def __init__(self, kernel: Pair, stride: Pair, same: bool, activation: Activation) -> None:
        super().__init__()
        self.kernel, self.stride, self.same, self.activation = kernel, stride, same, activation

    def forward(self, x: Tensor) -> Tensor:
        if self.same:
            pads = _padding_same(x, self.kernel, self.stride, (1, 1))
            if any(pads):
                x = F.pad(x, pads, value=float("-inf"))
        return self.activation(F.max_pool2d(x, self.kernel, self.stride))


class Pad(nn.Module):
    """PAD with zeros; `pads` as `F.pad` takes them, for (N, C, H, W)."""

    def __init__(self, pads: tuple[int, ...]) -> None:
        super().__init__()
        self.pads = pads

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x, self.pads)


class Resize(nn.Module):
    """RESIZE_BILINEAR with half-pixel centres or aligned corners."""

    def __init__(self, size: Pair, align_corners: bool) -> None:
        super().__init__()
        self.size, self.align_corners = size, align_corners

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, size=self.size, mode="bilinear", align_corners=self.align_corners)


class SpatialMean(nn.Module):
    """MEAN over height and width, which it drops."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=(2, 3))


class Flatten(nn.Module):
    """RESHAPE of a map to (N, ...), in the file's order of elements: channels fastest."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1).reshape(x.shape[0], *self.shape)


class Concat(nn.Module):
    """CONCATENATION along a dimension in torch's layout."""

    def __init__(self, dim: int, activation: Activation) -> None:
        super().__init__()
        self.dim, self.activation = dim, activation

    def forward(self, *parts: Tensor) -> Tensor:
        return self.activation(torch.cat(parts, dim=self.dim))


class Logistic(nn.Module):
    """LOGISTIC."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(x)
