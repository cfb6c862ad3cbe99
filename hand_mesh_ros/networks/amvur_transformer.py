"""AMVUR's model-free branch: tokens of joints and vertices, and who attends to whom.

Stages as METRO's, narrower from one to the next; in each, vertices attend to joints and then to
each other (Jiang et al., A Probabilistic Attention Model, CVPR 2023). Joints attend back to
vertices only with `cross` two_way, which the published network does not have.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

Cross = Literal["none", "one_way", "two_way"]


class Attention(nn.Module):
    """Multi-head attention of tokens (N, Q, W) to others (N, K, W), added to them."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.ask, self.tell = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.out, self.norm = nn.Linear(width, width), nn.LayerNorm(width)

    def forward(self, tokens: Tensor, others: Tensor) -> Tensor:
        asked = self._split(self.ask(tokens))
        keys, values = (self._split(x) for x in self.tell(others).chunk(2, dim=-1))
        found = scaled_dot_product_attention(asked, keys, values)
        return self.norm(tokens + self.out(found.transpose(1, 2).flatten(2)))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class Layer(nn.Module):
    """Self-attention and a feed-forward network of `ffn` times the width, normed after (BERT)."""

    def __init__(self, width: int, heads: int, ffn: int, dropout: float) -> None:
        super().__init__()
        self.attention = Attention(width, heads)
        self.wide, self.narrow = nn.Linear(width, ffn * width), nn.Linear(ffn * width, width)
        self.norm, self.drop = nn.LayerNorm(width), nn.Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = self.attention(tokens, tokens)
        return self.norm(tokens + self.drop(self.narrow(gelu(self.wide(tokens)))))


class Stage(nn.Module):
    """Tokens (N, 21 + C, before) to (N, 21 + C, after), `width` wide between; joints come first."""

    def __init__(
        self, before: int, width: int, after: int, tokens: int, depth: int, heads: int, ffn: int,
        cross: Cross, dropout: float,
    ) -> None:  # fmt: skip
        super().__init__()
        self.enter, self.leave = nn.Linear(before, width), nn.Linear(width, after)
        self.skip = nn.Linear(before, after)
        self.position = nn.Parameter(0.02 * torch.randn(tokens, width))
        self.drop = nn.Dropout(dropout)
        self.to_joints = Attention(width, heads) if cross != "none" else None
        self.to_vertices = Attention(width, heads) if cross == "two_way" else None
        self.layers = nn.ModuleList(Layer(width, heads, ffn, dropout) for _ in range(depth))

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.drop(self.enter(tokens) + self.position)
        joints, vertices = x[:, :21], x[:, 21:]
        if self.to_joints is not None:
            vertices = self.to_joints(vertices, joints)
        for layer in self.layers:
            vertices = layer(vertices)
        if self.to_vertices is not None:
            joints = self.to_vertices(joints, vertices)
        return self.leave(torch.cat([joints, vertices], dim=1)) + self.skip(tokens)


class AmvurTransformer(nn.Module):
    """Stages of widths `hidden` that end in widths `outputs`, one each."""

    def __init__(
        self, before: int, hidden: Sequence[int], outputs: Sequence[int], tokens: int,
        depth: int = 4, heads: int = 4, ffn: int = 4, cross: Cross = "one_way",
        dropout: float = 0.1,
    ) -> None:  # fmt: skip
        super().__init__()
        widths = [before, *outputs]
        self.stages = nn.ModuleList(
            Stage(b, w, a, tokens, depth, heads, ffn, cross, dropout)
            for b, w, a in zip(widths, hidden, outputs, strict=False)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        for stage in self.stages:
            tokens = stage(tokens)
        return tokens
