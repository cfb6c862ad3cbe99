"""Parts of HaMuCo's cross-view network: graphs of 21 joints, and attention across views.

X. Zheng et al., HaMuCo: Hand Pose Estimation via Multiview Collaborative Self-Supervised Learning
(ICCV 2023), written anew from its description. Everything takes a true mask of views, so that a
missing view is the same as one that was never there.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

JOINTS = 21


class GraphConv(nn.Module):
    """x to W (D^-1 A x) + b over the joints (..., 21, d); A is learnt and begins as the identity.

    As published the sum of a row of A, which may be of any sign, is what it is divided by; a row
    that sums to nearly nothing is kept from blowing up by the size of its sum, at least 0.1.
    """

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.adjacency = nn.Parameter(torch.eye(JOINTS))
        self.linear = nn.Linear(before, after)

    def forward(self, x: Tensor) -> Tensor:
        total = self.adjacency.sum(-1, keepdim=True)
        safe = torch.where(total < 0, total.clamp(max=-0.1), total.clamp(min=0.1))
        return self.linear((self.adjacency / safe) @ x)


class GraphRegression(nn.Sequential):
    """LayerNorm and two graph convolutions; (..., 21, before) to (..., 21, after)."""

    def __init__(self, before: int, after: int, dropout: float = 0.1, last: bool = True) -> None:
        layers: list[nn.Module] = [
            nn.LayerNorm(before),
            GraphConv(before, before),
            nn.LeakyReLU(),
            nn.Dropout(dropout),
            GraphConv(before, after),
        ]
        super().__init__(*layers, *([nn.LeakyReLU()] if last else []))


class SharedFeature(nn.Module):
    """VSF: what all views agree on, the largest answer of any of them, given back to each."""

    def __init__(self, width: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.graph = GraphRegression(width, width, dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x (B, V, 21, d), mask (B, V) True for views that are there, at least one of each B."""
        each = self.graph(x).masked_fill(~mask[..., None, None], -torch.inf)
        return each.amax(dim=1, keepdim=True).expand_as(x)


class CrossViewAttention(nn.Module):
    """CVA: all joints of all views attend to each other; then each alone through a small MLP."""

    def __init__(self, width: int, heads: int = 4, hidden: int | None = None) -> None:
        super().__init__()
        self.heads = heads
        self.before = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        hidden = hidden or width
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, width)
        )

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x (B, V, 21, d); mask (B, V), or (B, V, V): which views each one may look at."""
        count, views, joints, width = x.shape
        tokens = x.flatten(1, 2)
        q, k, v = self.qkv(self.before(tokens)).unflatten(-1, (3, self.heads, -1)).unbind(2)
        see = mask[:, None, :].expand(-1, views, -1) if mask.ndim == 2 else mask
        see = see.repeat_interleave(joints, 1).repeat_interleave(joints, 2)[:, None]
        mixed = nn.functional.scaled_dot_product_attention(
            q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), attn_mask=see
        )
        tokens = tokens + self.out(mixed.transpose(1, 2).flatten(2))
        return (tokens + self.mlp(tokens)).reshape(count, views, joints, width)


class Block(nn.Module):
    """X to CVA(X) + VSF(X); either can be left out, and what is left keeps the residual path."""

    def __init__(self, width: int, heads: int, dropout: float, cva: bool, vsf: bool) -> None:
        super().__init__()
        self.attention = CrossViewAttention(width, heads) if cva else None
        self.shared = SharedFeature(width, dropout) if vsf else None

    def forward(self, x: Tensor, mask: Tensor, see: Tensor) -> Tensor:
        y = x if self.attention is None else self.attention(x, see)
        return y if self.shared is None else y + self.shared(x, mask)
