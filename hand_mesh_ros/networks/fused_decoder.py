"""`HamerDecoder` for inference: what one token, which starts constant, leaves to be computed.

- Self-attention of one token is linear: its values' and its output matrix become one.
- The first layer's self-attention and its queries are constants.
- No keys and values are made of the context. A query times the keys' matrix is looked up in the
  context itself, and the values' matrix is applied to the one sum that comes out: with one query
  these are vectors times matrices, where the keys and values of 192 tokens were 1.5 GMAC.
- The affine parts of the norms and the readouts' means are in the weights.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from hand_mesh_ros.networks.fused_linear import Linear, linear
from hand_mesh_ros.networks.fused_vit import after_norm
from hand_mesh_ros.networks.mano_decoder import HamerDecoder, RawMano


class FusedLayer(NamedTuple):
    alone: Linear | None  # self-attention; None in the first layer, where it is in the start
    query: Linear | None  # None in the first layer, whose look-up is a constant
    keys: Tensor  # (heads, dim_head, context)
    values: Tensor  # (heads, context, dim_head)
    out: Linear
    fc1: Linear
    fc2: Linear


class FusedDecoder:
    """Tokens (B, T, context_dim), float32, to `RawMano`. All of it is float32: it is small."""

    def __init__(self, head: HamerDecoder) -> None:
        asked = head.transformer
        start = (asked.to_token_embedding.bias + asked.pos_embedding[0]).detach()
        layers: list[Any] = list(asked.transformer.layers)
        self.start: Tensor = start + layers[0][0](start[None])[0].detach()  # (1, dim)
        self.layers = [_fused(layer, first=not k) for k, layer in enumerate(layers)]
        cross = layers[0][1]
        query = cross.fn.to_q(cross.norm(self.start)).view(cross.fn.heads, 1, -1).detach()
        self.look_up: Tensor = torch.bmm(query, _keys(cross.fn))[:, 0]  # (heads, context)
        readouts = (head.decpose, head.decshape, head.deccam)
        means = (head.init_hand_pose, head.init_betas, head.init_cam)
        bias = torch.cat([r.bias + m[0] for r, m in zip(readouts, means, strict=True)])
        self.read = linear(torch.cat([r.weight for r in readouts]), bias, torch.float32, 1)
        self.sizes = [len(r.weight) for r in readouts]

    def __call__(self, context: Tensor) -> RawMano:
        x = self.start.expand(len(context), -1)
        for layer in self.layers:
            x = self._layer(layer, x, context)
        pose, betas, cam = self.read(x).split(self.sizes, dim=1)
        return RawMano(pose.unflatten(1, (-1, 6)), betas, cam)

    def _layer(self, layer: FusedLayer, x: Tensor, context: Tensor) -> Tensor:
        if layer.alone is not None:
            x = x + layer.alone(_norm(x))
        if layer.query is None:
            sought = self.look_up.expand(len(x), -1, -1)
        else:
            heads = len(layer.keys)
            query = layer.query(_norm(x)).view(len(x), heads, -1).transpose(0, 1)
            sought = torch.bmm(query, layer.keys).transpose(0, 1)
        weights = torch.bmm(sought, context.mT).softmax(-1)  # (B, heads, T)
        found = torch.bmm(weights, context).transpose(0, 1)  # (heads, B, context)
        x = x + layer.out(torch.bmm(found, layer.values).transpose(0, 1).flatten(1))
        return x + layer.fc2(layer.fc1(_norm(x)))


def _norm(x: Tensor) -> Tensor:
    return functional.layer_norm(x, x.shape[1:])


def _keys(attention: Any) -> Tensor:
    """The keys' matrix (heads, dim_head, context) of a cross-attention, scaled."""
    k, _ = attention.to_kv.weight.detach().chunk(2)
    k = k.unflatten(0, (attention.heads, -1))
    scaled: Tensor = k * k.shape[1] ** -0.5
    return scaled


def _fused(layer: nn.ModuleList, first: bool) -> FusedLayer:
    parts: Any = layer  # whose modules' attributes no type knows
    alone, cross, mlp = parts

    def plain(weight: Tensor, bias: Tensor | None, gelu: bool = False) -> Linear:
        return linear(weight, bias, torch.float32, 1, gelu)

    _, _, value = alone.fn.to_qkv.weight.chunk(3)
    out = alone.fn.to_out[0]
    both, both_bias = after_norm(alone.norm, out.weight @ value, out.bias)
    query, query_bias = after_norm(cross.norm, cross.fn.to_q.weight, None)
    _, v = cross.fn.to_kv.weight.detach().chunk(2)
    fc1, fc1_bias = after_norm(mlp.norm, mlp.fn.net[0].weight, mlp.fn.net[0].bias)
    return FusedLayer(
        None if first else plain(both, both_bias),
        None if first else plain(query, query_bias),
        _keys(cross.fn).contiguous(),
        v.unflatten(0, (cross.fn.heads, -1)).mT.contiguous(),
        plain(cross.fn.to_out[0].weight, cross.fn.to_out[0].bias),
        plain(fc1, fc1_bias, gelu=True),
        plain(mlp.fn.net[3].weight, mlp.fn.net[3].bias),
    )
