"""The same hand seen by several cameras, each in its own axes: moved onto each other, and averaged.

Everything is (B, V, ...) with a mask (B, V) of the views that are there; "ij" is what view j says,
in the axes of view i.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Scale = Literal["ls", "norm"]

_LEAST = 0.1


def relative_rotations(axes: Tensor) -> Tensor:
    """R_ij (B, V, V, 3, 3), from the axes of view j to those of view i, of `axes` (B, V, 3, 3),

    which rotate world points into each view's.
    """
    return torch.einsum("biac,bjdc->bijad", axes, axes)


@torch.no_grad()
def estimated_rotations(points: Tensor, mask: Tensor) -> Tensor:
    """The same from the views' own points (B, V, P, 3), by Procrustes without reflection.

    Without a gradient, in single precision at least: that of an SVD blows up where two singular
    values meet, as they do for a flat hand.
    """
    x = points.float().masked_fill(~mask[..., None, None], 0.0)
    x = x - x.mean(2, keepdim=True)
    U, _, Vh = torch.linalg.svd(torch.einsum("bipx,bjpy->bijxy", x, x))
    sign = torch.det(U @ Vh).sign()
    flip = torch.stack([torch.ones_like(sign), torch.ones_like(sign), sign], -1)
    return ((U * flip[..., None, :]) @ Vh).to(points.dtype)


def moved(
    points: Tensor, R: Tensor, target: Tensor | None = None, scale: Scale = "norm"
) -> Tensor:
    """Points of view j laid onto view i by rotation, size and shift: (B, V, V, P, 3).

    `target` (B, V, P, 3) is what they are laid onto (None: `points`). Size: `ls`, least squares,
    at least a tenth (a bad rotation makes it negative otherwise); `norm`, the ratio of spreads,
    which no rotation spoils.
    """
    target = points if target is None else target
    middle_i, middle_j = target.mean(2), points.mean(2)
    x, y = points - middle_j[:, :, None], target - middle_i[:, :, None]
    turned = torch.einsum("bijxy,bjpy->bijpx", R, x)
    spread_j = x.square().sum((2, 3)).clamp(min=1e-12)[:, None]
    if scale == "ls":
        size = torch.einsum("bijpx,bipx->bij", turned, y) / spread_j
    else:
        size = (y.square().sum((2, 3))[:, :, None] / spread_j).sqrt()
    return size.clamp(min=_LEAST)[..., None, None] * turned + middle_i[:, :, None, None]


def mean_over_views(stacked: Tensor, mask: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean over the views j of `stacked` (B, V, V, ...), of weights (B, V), default the same."""
    weight = mask.to(stacked.dtype) if weights is None else weights * mask
    weight = weight / weight.sum(1, keepdim=True).clamp(min=1e-9)
    shape = (weight.shape[0], 1, weight.shape[1]) + (1,) * (stacked.ndim - 3)
    return (weight.reshape(shape) * stacked).sum(2)


def fuse(
    points: Tensor,
    mask: Tensor,
    R: Tensor | None = None,
    weights: Tensor | None = None,
    scale: Scale = "norm",
) -> Tensor:
    """What all views say together, in the axes, size and place of each: (B, V, P, 3).

    points (B, V, P, 3); R (B, V, V, 3, 3) by `relative_rotations`, None: estimated from the points
    (no calibration); weights (B, V). Views out of `mask` are given what the others say if R is
    known, and take no part.
    """
    R = estimated_rotations(points, mask) if R is None else R
    return mean_over_views(moved(points, R, scale=scale), mask, weights)
