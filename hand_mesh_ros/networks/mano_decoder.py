"""HaMeR's head: one token that looks at a backbone's tokens, read out as a hand and a camera.

Architecture: G. Pavlakos et al., Reconstructing Hands in 3D with Transformers (HaMeR, CVPR 2024);
names of parameters are those of its checkpoints under "mano_head.". Any backbone will do: the
context is tokens of any number and width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from hand_mesh_ros.hand.layout import NUM_BETAS, NUM_JOINTS

NUM_6D = 6 * NUM_JOINTS
_ZERO_POSE = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


class RawMano(NamedTuple):
    """What a network says of B right hands, before any of it is a rotation.

    pose6d: (B, 16, 6), the first two columns of each rotation one after the other, the global one
    first. betas: (B, 10). cam: (B, 3), weak perspective s, tx, ty; see `geometry.crop_camera`.
    """

    pose6d: Tensor
    betas: Tensor
    cam: Tensor

    def plus(self, other: RawMano) -> RawMano:
        return RawMano(
            self.pose6d + other.pose6d, self.betas + other.betas, self.cam + other.cam
        )

    def in_single_precision(self) -> RawMano:
        return RawMano(self.pose6d.float(), self.betas.float(), self.cam.float())


class ManoMean(NamedTuple):
    """What a readout adds to: pose6d (96,), betas (10,), cam (3,), as `RawMano` has them."""

    pose6d: Tensor
    betas: Tensor
    cam: Tensor


def flat_mean() -> ManoMean:
    """A flat mean hand that half fills its crop; published networks have their own stored."""
    pose = torch.tensor(_ZERO_POSE).repeat(NUM_JOINTS)
    return ManoMean(pose, torch.zeros(NUM_BETAS), torch.tensor([4.0, 0.0, 0.0]))


@dataclass(frozen=True)
class DecoderConfig:
    """Sizes of a `OneTokenDecoder`, by default the published ones.

    context_dim: width of the tokens that it looks at. dim: its own. dim_head: width of each of
    its `heads`. mlp_dim: width inside its MLPs.
    """

    context_dim: int = 1280
    dim: int = 1024
    depth: int = 6
    heads: int = 8
    dim_head: int = 64
    mlp_dim: int = 1024

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 1:
                raise ValueError(f"{name} of a decoder must be positive, not {value}")


class OneTokenDecoder(nn.Module):
    """Tokens (B, T, context_dim) to one vector each (B, dim); no norm at either end.

    The token that asks starts the same for every image: what it starts from is a constant, kept
    in the two parts that the published one has (the embedding of a zero, and a position).
    """

    def __init__(
        self,
        context_dim: int = 1280,
        dim: int = 1024,
        depth: int = 6,
        heads: int = 8,
        dim_head: int = 64,
        mlp_dim: int = 1024,
    ) -> None:
        super().__init__()
        self.pos_embedding = nn.Parameter(torch.randn(1, 1, dim))
        self.to_token_embedding = nn.Linear(1, dim)
        self.transformer = _Layers(context_dim, dim, depth, heads, dim_head, mlp_dim)

    def forward(self, context: Tensor) -> Tensor:
        x = self.to_token_embedding(context.new_zeros(context.shape[0], 1, 1)) + self.pos_embedding
        return self.transformer(x, context)[:, 0]


class ManoReadout(nn.Module):
    """Vectors (B, dim) to `RawMano`: three linear maps, each added to a stored mean."""

    init_hand_pose: Tensor
    init_betas: Tensor
    init_cam: Tensor

    def __init__(self, dim: int, mean: ManoMean | None = None) -> None:
        super().__init__()
        self.decpose = nn.Linear(dim, NUM_6D)
        self.decshape = nn.Linear(dim, NUM_BETAS)
        self.deccam = nn.Linear(dim, 3)
        register_mean(self, mean)

    def forward(self, x: Tensor) -> RawMano:
        pose = self.decpose(x) + self.init_hand_pose
        return RawMano(
            pose.unflatten(1, (NUM_JOINTS, 6)),
            self.decshape(x) + self.init_betas,
            self.deccam(x) + self.init_cam,
        )


class HamerDecoder(ManoReadout):
    """Tokens (B, T, context_dim) to `RawMano`: HaMeR's whole head, its keys and its sizes.

    With other sizes and other tokens it is the same head on another backbone, for instance
    `HamerDecoder(context_dim=1152, dim=256, depth=3)`.
    """

    def __init__(
        self,
        context_dim: int = 1280,
        dim: int = 1024,
        depth: int = 6,
        heads: int = 8,
        dim_head: int = 64,
        mlp_dim: int = 1024,
        mean: ManoMean | None = None,
    ) -> None:
        super().__init__(dim, mean)
        self.transformer = OneTokenDecoder(context_dim, dim, depth, heads, dim_head, mlp_dim)

    def forward(self, context: Tensor) -> RawMano:
        return super().forward(self.transformer(context))


def register_mean(module: nn.Module, mean: ManoMean | None) -> None:
    """Give a module the buffers of a mean, under the names of the checkpoints."""
    pose6d, betas, cam = flat_mean() if mean is None else mean
    module.register_buffer("init_hand_pose", pose6d.reshape(1, NUM_6D).clone())
    module.register_buffer("init_betas", betas.reshape(1, NUM_BETAS).clone())
    module.register_buffer("init_cam", cam.reshape(1, 3).clone())


class _Layers(nn.Module):
    def __init__(
        self, context_dim: int, dim: int, depth: int, heads: int, dim_head: int, mlp_dim: int
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            _Layer(dim, context_dim, heads, dim_head, mlp_dim) for _ in range(depth)
        )

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x, context)
        return x


class _Layer(nn.ModuleList):
    def __init__(
        self, dim: int, context_dim: int, heads: int, dim_head: int, mlp_dim: int
    ) -> None:
        super().__init__(
            [
                _Normed(dim, _SelfAttention(dim, heads, dim_head)),
                _Normed(dim, _CrossAttention(dim, context_dim, heads, dim_head)),
                _Normed(dim, _Mlp(dim, mlp_dim)),
            ]
        )

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        x = x + self[0](x)
        x = x + self[1](x, context)
        return x + self[2](x)


class _Normed(nn.Module):
    def __init__(self, dim: int, fn: nn.Module) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.fn = fn

    def forward(self, x: Tensor, *context: Tensor) -> Tensor:
        return self.fn(self.norm(x), *context)


class _SelfAttention(nn.Module):
    """Of one token this is linear, since it can only look at itself; a fast path may use that."""

    def __init__(self, dim: int, heads: int, dim_head: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_qkv = nn.Linear(dim, 3 * heads * dim_head, bias=False)
        self.to_out = nn.Sequential(nn.Linear(heads * dim_head, dim))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.to_qkv(x).chunk(3, dim=-1)
        return self.to_out(_attend(q, k, v, self.heads))


class _CrossAttention(nn.Module):
    def __init__(self, dim: int, context_dim: int, heads: int, dim_head: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_kv = nn.Linear(context_dim, 2 * heads * dim_head, bias=False)
        self.to_q = nn.Linear(dim, heads * dim_head, bias=False)
        self.to_out = nn.Sequential(nn.Linear(heads * dim_head, dim))

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        k, v = self.to_kv(context).chunk(2, dim=-1)
        return self.to_out(_attend(self.to_q(x), k, v, self.heads))


def _attend(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    return functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


class _Mlp(nn.Module):
    """The places between the linear layers are the published ones', which count their dropout."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(dim, hidden), nn.GELU(), nn.Identity(), nn.Linear(hidden, dim)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)
