"""HaMuCo's cross-view interaction: what several views of one hand make of each other.

Each view's joints are 21 nodes of a graph: features of the deep map (SAIGB), features at the
joints (JFS), and what the single view says (localisation). They pass through blocks that mix all
views' nodes, and each view is then answered again, in its own axes. Any number and order of views;
a masked view is as if it were not there.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hand_mesh_ros.hand.layout import NUM_BETAS
from hand_mesh_ros.networks.hamuco_graph import JOINTS, Block, GraphRegression
from hand_mesh_ros.networks.hamuco_single import POSE, ZERO_POSE, RawHands, SingleView, begin_with

_FINGERS = POSE - 6
_AGREED = 3 * JOINTS + 6


@dataclass(frozen=True)
class CrossSettings:
    """The published network by default; `SMALL` is the one on evidence.

    maps: of the deep map's cells, a joint (SAIGB). located: numbers a joint of what the single view
    says. sampled: the joint features are narrowed to so many (None: taken as they are).
    agreed: relative rotations of the cameras, where they are known, turn all single views into
    each view's axes; their mean, by how sure they are, is what a view's answer begins with. False
    is the published network, whose answers are from nothing and which knows no camera.
    """

    maps: int = 8
    located: int = 64
    sampled: int | None = None
    heads: int = 4
    blocks: int = 2
    out: int = 32
    dropout: float = 0.1
    cva: bool = True
    vsf: bool = True
    agreed: bool = False
    hints: int = 0


HINTS = 2 * JOINTS + 5 * JOINTS + 1
SMALL = CrossSettings(maps=1, located=47, sampled=64, out=16, agreed=True, hints=HINTS)


class CrossView(nn.Module):
    """20.5 M parameters and nodes of 1024 numbers with ResNet-18, as published."""

    def __init__(self, single: SingleView, settings: CrossSettings) -> None:
        super().__init__()
        s = self.settings = settings
        self.maps = nn.Conv2d(single.deep, s.maps * JOINTS, 1)
        self.narrow = nn.Identity() if s.sampled is None else nn.Linear(single.sampled, s.sampled)
        told = 3 * JOINTS + _FINGERS + (_AGREED + 1 if s.agreed else 0) + s.hints
        self.locate = nn.Sequential(
            nn.Linear(told, s.located * JOINTS), nn.LeakyReLU(),
            nn.Linear(s.located * JOINTS, s.located * JOINTS),
        )  # fmt: skip
        self.width = s.maps * single.cells + (s.sampled or single.sampled) + s.located
        self.blocks = nn.ModuleList(
            Block(self.width, s.heads, s.dropout, s.cva, s.vsf) for _ in range(s.blocks)
        )
        self.graph = GraphRegression(self.width, s.out, s.dropout, last=False)
        self.last = nn.Sequential(
            nn.Linear(JOINTS * s.out, JOINTS * s.out), nn.LeakyReLU(),
            nn.Linear(JOINTS * s.out, POSE + NUM_BETAS + 3),
        )  # fmt: skip
        bias = torch.zeros(POSE + NUM_BETAS + 3)
        if not s.agreed:
            bias[:POSE] = ZERO_POSE
        begin_with(self.last[-1], bias)

    def forward(
        self, raw: RawHands, uvd: Tensor, joints: Tensor, sure: Tensor, deep: Tensor,
        at_joints: Tensor, mask: Tensor, R: Tensor | None = None, see: Tensor | None = None,
        hints: Tensor | None = None,
    ) -> RawHands:  # fmt: skip
        """All (B, V, ...): the single views' hands (`raw`), their joints in the crop with depth

        `uvd` (B, V, 21, 3) and in metres (B, V, 21, 3), `sure` (B, V, 21), `deep` maps
        (B, V, C, h, w), features at joints (B, V, 21, C), `mask` (B, V), at least one of each B.
        R (B, V, V, 3, 3): `view_fusion.relative_rotations`, None where they are not known.
        see (B, V, V): which views each may look at (None: all that are there). hints (B, V, H).
        The betas are the single views' own, or their mean if `agreed`, without a gradient.
        """
        count, views = mask.shape
        maps = nn.functional.leaky_relu(self.maps(deep.flatten(0, 1)))
        maps = maps.reshape(count, views, JOINTS, -1)
        told = [uvd.flatten(2), raw.pose6d[..., 6:]]
        base: Tensor | None = None
        if self.settings.agreed:
            base, agreed = self._agreed(raw, joints, sure, mask, R)
            told.append(agreed)
        if self.settings.hints:
            assert hints is not None
            told.append(hints)
        located = self.locate(torch.cat(told, -1)).unflatten(-1, (JOINTS, -1))
        x = torch.cat([maps, self.narrow(at_joints), located], dim=-1)
        x = x.masked_fill(~mask[..., None, None], 0.0)
        see = mask[:, None] & (mask[:, None].expand(-1, views, -1) if see is None else see)
        for block in self.blocks:
            x = block(x, mask, see | torch.eye(views, dtype=torch.bool, device=x.device))
        out = self.last(self.graph(x).flatten(2))
        pose, _, camera = out.split([POSE, NUM_BETAS, 3], dim=-1)
        betas = raw.betas.detach()
        if base is not None:
            pose = pose + base
            camera = camera + raw.camera
            betas = _mean(betas, sure.mean(-1), mask)[:, None].expand_as(betas)
        return RawHands(pose, betas, camera)

    def _agreed(
        self, raw: RawHands, joints: Tensor, sure: Tensor, mask: Tensor, R: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """The pose that an answer begins with (B, V, 96), and what a view is told (B, V, 70):

        how far its own joints and its own orientation are from all views' mean, and whether the
        cameras are known; without them it is only the fingers that views can agree on.
        """
        trust = sure.mean(-1)
        fingers = _mean(raw.pose6d[..., 6:], trust, mask)[:, None].expand(-1, mask.shape[1], -1)
        if R is None:
            root = raw.pose6d[..., :6]
            away = joints.new_zeros(*mask.shape, _AGREED + 1)
        else:
            columns = raw.pose6d[..., :6].unflatten(-1, (2, 3))
            turned = torch.einsum("bijxy,bjcy->bijcx", R, columns)
            root = _mean_ij(turned, trust, mask).flatten(2)
            others = torch.einsum("bijxy,bjpy->bijpx", R, joints)
            mean = _mean_ij(others, sure, mask)
            away = torch.cat(
                [10 * (mean - joints).flatten(2), root - raw.pose6d[..., :6],
                 joints.new_ones(*mask.shape, 1)], dim=-1,
            )  # fmt: skip
        return torch.cat([root, fingers], dim=-1), away


def _mean(x: Tensor, weight: Tensor, mask: Tensor) -> Tensor:
    """(B, V, D) to (B, D), weighted."""
    weight = (weight * mask)[..., None]
    return (weight * x).sum(1) / weight.sum(1).clamp(min=1e-9)


def _mean_ij(x: Tensor, weight: Tensor, mask: Tensor) -> Tensor:
    """(B, V, V, K, 3) to (B, V, K, 3) over the second views, weighted (B, V) or (B, V, K)."""
    weight = weight * (mask if weight.ndim == 2 else mask[..., None])
    weight = weight[:, None, :, None, None] if weight.ndim == 2 else weight[:, None, ..., None]
    return (weight * x).sum(2) / weight.sum(2).clamp(min=1e-9)
