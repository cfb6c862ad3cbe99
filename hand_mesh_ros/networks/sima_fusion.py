"""SiMA-Hand's fusions over views: image (IFF), joint (JFF) and vertex level (VFF).

The authors' multi-view network is unpublished. All of this is a reconstruction from the paper's
figure, a review's equation and the names in the published single-view code: what the primary view
has, plus a small network of what all views have together. Each is a switch of `sima.SimaSettings`.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

Pool = Literal["weighted", "set", "concatenated"]
POOLS: tuple[Pool, ...] = ("weighted", "set", "concatenated")


class Fusion(nn.Module):
    """Features (B, V, T, C) to the same with what all views have added to each.

    pool: "set", masked mean, maximum and standard deviation over the views, of any number and
    order; "weighted", the mean by a weight that each place of each view gives itself, and the
    maximum; "concatenated", of a fixed number of `views` in their order, as the review has it: then
    missing views are zeros. The last layer begins with zeros, so training begins with one view.
    """

    def __init__(self, channels: int, pool: Pool, views: int) -> None:
        super().__init__()
        self.pool, self.views = pool, views
        wide = {"set": 3, "weighted": 2, "concatenated": views}[pool] * channels
        self.score = nn.Linear(channels, 1) if pool == "weighted" else None
        self.inner = nn.Linear(wide, channels)
        self.outer = nn.Linear(channels, channels)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)

    def forward(self, primary: Tensor, pooled: Tensor, mask: Tensor) -> Tensor:
        """primary (B, V, T, C); pooled (B, V, T, C), or (B, P, V, T, C) if every primary view P

        sees the others in its own way; mask (B, V).
        """
        own = pooled.ndim == 5
        mask = mask[:, None] if own else mask
        found = self._pooled(pooled, mask[..., None, None])
        found = self.outer(nn.functional.gelu(self.inner(found)))
        return primary + (found if own else found[:, None])

    def _pooled(self, x: Tensor, mask: Tensor) -> Tensor:
        if self.pool == "concatenated":
            if x.shape[-3] != self.views:
                raise ValueError(
                    f"this network was made for {self.views} views in their order, not "
                    f"{x.shape[-3]}: train one with pool 'set' or 'weighted' for any number"
                )
            return (x * mask).transpose(-3, -2).flatten(-2)
        most = x.masked_fill(~mask, -torch.inf).amax(-3)
        most = torch.where(mask.any(-3), most, 0.0)
        if self.score is not None:
            score = self.score(x).masked_fill(~mask, -1e9)
            return torch.cat([(score.softmax(-3) * x).sum(-3), most], -1)
        count = mask.sum(-3).clamp(min=1)
        mean = (x * mask).sum(-3) / count
        spread = ((x - mean.unsqueeze(-3)).square() * mask).sum(-3) / count
        # the root of nothing has no gradient
        return torch.cat([mean, most, (spread + 1e-6).sqrt()], -1)


class RelativeViews(nn.Module):
    """Tells each primary view how every other's rotation lies to its own, for IFF with cameras.

    Whether the authors' network is told of cameras is open; this is `cameras = "relative"`.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.turn = nn.Sequential(nn.Linear(6, 32), nn.GELU(), nn.Linear(32, channels))
        self.mix = nn.Linear(channels, channels)

    def forward(self, x: Tensor, start: Tensor, axes: Tensor) -> Tensor:
        """x (B, V, T, C), start (B, V, 3, 3), axes (B, V, 3, 3) from one world to each crop.

        To (B, P, V, T, C): of view V as the primary view P sees it. What is told is the rotation
        from what P begins with to what V does, both brought to P: none, if they agree.
        """
        world = axes.mT @ start
        between = world.mT[:, :, None] @ world[:, None]
        told = self.turn(between[..., :2].flatten(-2))
        return nn.functional.gelu(self.mix(x[:, None] + told[..., None, :]))
