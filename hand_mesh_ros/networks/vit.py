"""A plain vision transformer as HaMeR uses it (ViTPose's), at any width and depth.

Architecture: Y. Xu et al., ViTPose (2022), after A. Dosovitskiy et al. (2021); as the backbone of
G. Pavlakos et al., HaMeR (CVPR 2024), whose checkpoints' keys these are, less "backbone.".
Published size (`VIT_H_HAMER`): 630,912,000 parameters in 389 tensors.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from hand_mesh_ros.networks.backbones import Origin, pretrained, standardise


@dataclass(frozen=True)
class ViTConfig:
    """Sizes of a `ViT`; raises ValueError where they do not fit each other.

    image: height and width in pixels that the position embedding is for, multiples of `patch`.
    drop_path: share of samples that skip the last block while training, from 0 at the first.
    """

    width: int = 1280
    depth: int = 32
    heads: int = 16
    mlp_ratio: int = 4
    image: tuple[int, int] = (256, 192)
    patch: int = 16
    drop_path: float = 0.55

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        if any(size % self.patch or size < self.patch for size in self.image):
            raise ValueError(f"image {self.image} is not a multiple of patch {self.patch}")
        if not 0 <= self.drop_path < 1:
            raise ValueError(f"drop_path {self.drop_path} is not in 0 ... 1")

    @property
    def grid(self) -> tuple[int, int]:
        return self.image[0] // self.patch, self.image[1] // self.patch


VIT_H_HAMER = ViTConfig()


class ViT(nn.Module):
    """Images (N, 3, H, W) in 0..1 to features (N, `channels`, H/16, 3/4 W/16), of the square crop.

    Crops wider than `config.image` are cut to its shape, the same at both sides: of HaMeR's
    256 x 256 the outer 32 columns. A crop of another size has the position embedding resized
    for it. Untrained as it is made.
    """

    def __init__(self, config: ViTConfig = VIT_H_HAMER) -> None:
        super().__init__()
        self.config = config
        self.channels = config.width
        rows, columns = config.grid
        # The first is a class token's, which is not there: it is added to all tokens instead.
        self.pos_embed = nn.Parameter(torch.zeros(1, rows * columns + 1, config.width))
        self.patch_embed = PatchEmbedding(config.width, config.patch)
        last = max(config.depth - 1, 1)
        self.blocks = nn.ModuleList(
            Block(config.width, config.heads, config.mlp_ratio, config.drop_path * k / last)
            for k in range(config.depth)
        )
        self.last_norm = nn.LayerNorm(config.width, eps=1e-6)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Raises ValueError for images that are narrower than `config.image`, in shape."""
        return self.encode(standardise(cut_to_shape(images, *self.config.image)))

    def encode(self, images: Tensor) -> Tensor:
        """The same of images that are cut and standardised already."""
        patches = self.patch_embed(images)
        rows, columns = patches.shape[2:]
        x = patches.flatten(2).mT + self.positions(rows, columns)
        for block in self.blocks:
            x = block(x)
        return self.last_norm(x).mT.unflatten(2, (rows, columns))

    def positions(self, rows: int, columns: int) -> Tensor:
        """What is added to the tokens (1, rows * columns, width), of rows after each other.

        On a grid other than the trained one it is interpolated (bicubic).
        """
        common, places = self.pos_embed[:, :1], self.pos_embed[:, 1:]
        if (rows, columns) != self.config.grid:
            grid = places.mT.unflatten(2, self.config.grid)
            places = functional.interpolate(grid, (rows, columns), mode="bicubic").flatten(2).mT
        return places + common


def cut_to_shape(images: Tensor, height: int, width: int) -> Tensor:
    """The middle columns of images (N, 3, H, W), to have the shape of `height` x `width`.

    Raises ValueError if they are narrower than that.
    """
    have = images.shape[3]
    wanted = round(images.shape[2] * width / height)
    if have < wanted:
        raise ValueError(
            f"images of {images.shape[2]} x {have} pixels are too narrow for a network of "
            f"{height} x {width}: at least {wanted} columns are needed"
        )
    left = (have - wanted) // 2
    return images[..., left : left + wanted]


class PatchEmbedding(nn.Module):
    """Pixels (N, 3, H, W) to tokens (N, width, H/patch, W/patch).

    As published, patches are padded by 2 on all sides and so lie 2 pixels up and left of where
    they would: the last two rows and columns are never seen. Weights are trained to that.
    """

    def __init__(self, width: int, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch, patch, padding=2)

    def forward(self, images: Tensor) -> Tensor:
        return self.proj(images)


class Block(nn.Module):
    """Attention and MLP on tokens (N, T, width), each behind a norm and added to what came in."""

    def __init__(self, width: int, heads: int, mlp_ratio: int, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Mlp(width, mlp_ratio * width)
        self.drop_path = drop_path

    def forward(self, x: Tensor) -> Tensor:
        x = x + self._drop(self.attn(self.norm1(x)))
        return x + self._drop(self.mlp(self.norm2(x)))

    def _drop(self, x: Tensor) -> Tensor:
        """Stochastic depth (Huang et al., 2016): whole samples, the others scaled up for it."""
        if not self.training or self.drop_path == 0:
            return x
        keep = 1 - self.drop_path
        return x * x.new_empty(len(x), 1, 1).bernoulli_(keep).div_(keep)


class Attention(nn.Module):
    """Self-attention of tokens (N, T, width); of `qkv`'s outputs the thirds are q, k and v."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        x = functional.scaled_dot_product_attention(q, k, v)
        return self.proj(x.transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(functional.gelu(self.fc1(x)))


def vit_h_hamer(weights: str | Path | None = None) -> ViT:
    """HaMeR's backbone, with the weights of a file; see `backbones.pretrained`.

    Reads HaMeR's whole checkpoint as well as the backbone that its training starts from.
    """
    origin = Origin(
        "HaMeR (https://github.com/geopavlakos/hamer): `vitpose_backbone.pth` of its training "
        "data, or its checkpoint `hamer.ckpt`",
        "HaMeR is MIT, ViTPose Apache-2.0; `hamer.ckpt` holds MANO too, which is for "
        "non-commercial research and not to be passed on",
    )
    return pretrained(ViT, "vit_h_hamer", origin, weights)
