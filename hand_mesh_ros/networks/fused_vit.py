"""`ViT` for inference: what is constant is folded into weights, and those are packed.

Folded are the affine part of every norm into the product behind it, the scale of attention into the
queries, the position embedding and the patches' bias into one array. The keys' bias is left out,
which softmax does not see; the values' bias, which attention passes on as it is, is behind it.
"""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from hand_mesh_ros.networks.fused_linear import Linear, Precision, linear
from hand_mesh_ros.networks.vit import Block, ViT

_EPSILON = 1e-6  # of all norms of `ViT`


class FusedBlock(NamedTuple):
    qkv: Linear
    proj: Linear
    fc1: Linear  # with its GELU
    fc2: Linear


class FusedViT:
    """Standardised, cut images (N, 3, H, W) to normed tokens (N, T, width), in float32.

    questions: (1, Q, width), tokens in front of the picture's, or None; T counts them.
    The sum that runs through the network, its norms and the last one stay in float32: only the
    products, and the softmax between them, are of `precision`.
    """

    def __init__(self, net: ViT, precision: Precision, questions: Tensor | None = None) -> None:
        self.image = net.config.image
        self.heads = net.config.heads
        self.between = torch.float32 if precision == "int8" else precision
        self.patch = copy.deepcopy(net.patch_embed.proj)
        assert self.patch.bias is not None
        self.start = (net.positions(*net.config.grid) + self.patch.bias).detach().clone()
        self.questions = None if questions is None else questions.detach().clone()
        many = self.start.shape[1] + (0 if questions is None else questions.shape[1])
        self.blocks = [_fused(block, precision, many) for block in net.blocks]  # type: ignore[arg-type]
        self.last_norm = copy.deepcopy(net.last_norm)

    def __call__(self, images: Tensor) -> Tensor:
        if tuple(images.shape[2:]) != self.image:
            raise ValueError(f"fused for images of {self.image}, not {tuple(images.shape[2:])}")
        patch = self.patch
        x = functional.conv2d(images, patch.weight, None, patch.stride, patch.padding)
        x = x.flatten(2).mT + self.start
        if self.questions is not None:
            x = torch.cat([self.questions.expand(len(x), -1, -1), x], dim=1)
        count, tokens, width = x.shape
        x = x.reshape(count * tokens, width)
        for block in self.blocks:
            x = self._block(block, x, count)
        return self.last_norm(x).view(count, tokens, width)

    def _block(self, block: FusedBlock, x: Tensor, count: int) -> Tensor:
        x = x.add_(block.proj(attend(block.qkv(self._norm(x)), count, self.heads)))
        return x.add_(block.fc2(block.fc1(self._norm(x))))

    def _norm(self, x: Tensor) -> Tensor:
        return functional.layer_norm(x, x.shape[1:], eps=_EPSILON).to(self.between)


def attend(qkv: Tensor, count: int, heads: int) -> Tensor:
    """Rows (N T, 3 width) of scaled queries, keys and values to attended values (N T, width).

    On a CPU two products are faster than `scaled_dot_product_attention` for so few tokens.
    """
    tokens = len(qkv) // count
    q, k, v = qkv.view(count, tokens, 3, heads, -1).permute(2, 0, 3, 1, 4)
    if qkv.device.type == "cpu":
        q, k, v = (part.reshape(count * heads, tokens, -1) for part in (q, k, v))
        x = torch.bmm(torch.bmm(q, k.mT).softmax(-1), v).view(count, heads, tokens, -1)
    else:
        x = functional.scaled_dot_product_attention(q, k, v, scale=1.0)
    return x.transpose(1, 2).reshape(count * tokens, -1)


def _fused(block: Block, precision: Precision, rows: int) -> FusedBlock:
    width = block.norm1.weight.shape[0]
    qkv, bias = after_norm(block.norm1, block.attn.qkv.weight, block.attn.qkv.bias)
    scale = (width // block.attn.heads) ** -0.5
    qkv = torch.cat([qkv[:width] * scale, qkv[width:]])
    constant = bias[2 * width :]
    bias = torch.cat([bias[:width] * scale, torch.zeros_like(bias[width:])])
    proj = block.attn.proj
    fc1, fc1_bias = after_norm(block.norm2, block.mlp.fc1.weight, block.mlp.fc1.bias)
    fc2 = block.mlp.fc2
    return FusedBlock(
        linear(qkv, bias, precision, rows),
        linear(proj.weight, proj.bias + proj.weight @ constant, precision, rows),
        linear(fc1, fc1_bias, precision, rows, gelu=True),
        linear(fc2.weight, fc2.bias, precision, rows),
    )


def after_norm(
    norm: torch.nn.LayerNorm, weight: Tensor, bias: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Weight and bias for what `norm` makes without its affine part."""
    moved = weight @ norm.bias
    return (weight * norm.weight).detach(), (moved if bias is None else bias + moved).detach()
