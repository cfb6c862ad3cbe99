"""Where the rays of several views meet: robust triangulation of whole batches, for a network.

It is something that a network is told, not something it learns through: it has no gradient.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

_PASSES = 3
_APART = 0.1  # half-widths of a crop; views that are further from a point count for little


class Meeting(NamedTuple):
    """`points` (B, V, P, 3) in each view's axes, m from its camera, and where they are in the crop,

    `uv` (B, V, P, 2). Zeros where fewer than two views are there, by `known` (B,).
    """

    points: Tensor
    uv: Tensor
    known: Tensor


@torch.no_grad()
def meeting_points(
    uv: Tensor, weights: Tensor, mask: Tensor, axes: Tensor, centres: Tensor, field: Tensor
) -> Meeting:
    """Points nearest to the rays through `uv` (B, V, P, 2) of the views in `mask` (B, V).

    weights (B, V, P). axes (B, V, 3, 3) rotate world points into the crops' axes, centres
    (B, V, 3) are the cameras', m, and field (B, V) half a crop's width over its focal length.
    Least squares over views, then again with those far off trusted less (Cauchy's weights). In
    double precision: rays that are nearly parallel meet far away or not, by their last digits.
    """
    kind = uv.dtype
    uv, weights, axes, centres, field = (
        x.double().masked_fill(~mask.reshape(*mask.shape, *[1] * (x.ndim - 2)), 0.0)
        for x in (uv, weights, axes, centres, field)
    )
    ahead = torch.cat([uv * field[..., None, None], torch.ones_like(uv[..., :1])], -1)
    ray = torch.einsum("bvdc,bvpd->bvpc", axes, torch.nn.functional.normalize(ahead, dim=-1))
    eye = torch.eye(3, device=uv.device, dtype=uv.dtype)
    across = eye - ray[..., :, None] * ray[..., None, :]
    # about the mean of the cameras, which damping draws towards
    there = mask[..., None].to(uv.dtype)
    middle = (centres * there).sum(1) / there.sum(1).clamp(min=1)
    begin = (centres - middle[:, None])[:, :, None, :, None]
    trust = weights * there
    for _ in range(_PASSES):
        A = (trust[..., None, None] * across).sum(1)
        b = (trust[..., None, None] * (across @ begin)).sum(1)
        damping = 1e-4 * eye * A.diagonal(dim1=-2, dim2=-1).sum(
            -1, keepdim=True)[..., None] + 1e-9 * eye  # fmt: skip
        world = torch.linalg.solve(A + damping, b)[..., 0]
        local = torch.einsum("bvcd,bvpd->bvpc", axes, world[:, None] - begin[..., 0])
        depth = local[..., 2:].clamp(min=0.02) * field[..., None, None].clamp(min=1e-3)
        place = local[..., :2] / depth
        apart = (place - uv).norm(dim=-1) / _APART
        trust = weights * there / (1 + apart.square())
    known = mask.sum(1) > 1
    fine = (known[:, None] & mask)[..., None, None] & local.isfinite().all(-1, keepdim=True)
    points, places = (torch.where(fine, x, 0.0).to(kind) for x in (local, place))
    return Meeting(points, places, known)
