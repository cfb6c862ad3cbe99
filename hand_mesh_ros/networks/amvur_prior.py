"""AMVUR's model-based branch: a distribution over the hand model's parameters.

Gaussian in the tangent space of `amvur_points`, about a mean of rotations and betas: independent
numbers and a few common directions (depth is unsure for root and fingers together). Where the
landmark network's own answers are at hand, the palm they show is the frame that everything else is
told in, so that the network has no orientation to learn.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import grid_sample, normalize

from hand_mesh_ros.hand.layout import NUM_BETAS, NUM_JOINTS
from hand_mesh_ros.hand.limits import comfortable_pose
from hand_mesh_ros.networks.amvur_points import TANGENT, TangentPoints
from hand_mesh_ros.networks.mano_head import rotations_from_6d

_ROTATIONS = 6 * NUM_JOINTS
_FIRST_SIGMA = (0.2, 0.25, 0.8)  # of root, fingers and betas, before anything is learnt
_LOG_SIGMA = (math.log(0.003), math.log(2.0))


class Cues(NamedTuple):
    """What is seen of N crops of right hands.

    vector (N, G); maps, each (N, h, w, C), channels last; focal (N,): the crop camera's focal
    length in half-widths of the crop. landmarks (N, 21, 3) in -1..1 of the crop and world
    (N, 21, 3) metres as `networks.evidence` has them, or None without such a network.
    """

    vector: Tensor
    maps: tuple[Tensor, ...]
    focal: Tensor
    landmarks: Tensor | None = None
    world: Tensor | None = None


class PriorHands(NamedTuple):
    """A distribution over the hands of N crops, in their axes.

    rotations (N, 16, 3, 3) and betas (N, 10): the mean. factor (N, 58, 58 + R): L of the tangent's
    covariance L L^T. camera (N, 3) as `place` takes it. numbers (N, 58): the raw log-sigmas.
    """

    rotations: Tensor
    betas: Tensor
    factor: Tensor
    camera: Tensor
    numbers: Tensor


class PixelSampler(nn.Module):
    """Features of maps, each narrowed to `width`, at places in the crop; `channels` of a place.

    With `width` 0 maps are sampled as they are.
    """

    def __init__(self, channels: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.narrow = nn.ModuleList(
            nn.Linear(c, width) if width else nn.Identity() for c in channels
        )
        self.channels = width * len(channels) if width else sum(channels)

    def narrowed(self, maps: tuple[Tensor, ...]) -> list[Tensor]:
        """Maps (N, width, h, w), ready to be sampled."""
        return [
            narrow(x).permute(0, 3, 1, 2) for narrow, x in zip(self.narrow, maps, strict=True)
        ]

    def forward(self, narrowed: list[Tensor], uv: Tensor) -> Tensor:
        """(N, P, channels) at places (N, P, 2), -1..1 from edge to edge; 0 beyond the edges."""
        grid = uv[:, :, None].to(narrowed[0])
        found = [grid_sample(x, grid, align_corners=False)[..., 0] for x in narrowed]
        return torch.cat(found, dim=1).transpose(1, 2)


class PriorNet(nn.Module):
    """Cues and what the pixels about its landmarks say to `PriorHands`.

    `seen`: features of a place. `rank`: of the common directions. `cues`: whether landmarks are
    told; without, everything is made of the vector.
    """

    palm: Tensor
    first: Tensor

    def __init__(
        self, points: TangentPoints, vector: int, seen: int, hidden: int, rank: int, cues: bool
    ) -> None:
        super().__init__()
        self.rank, self.cues = rank, cues
        at_rest = points.rest[:21] + points.offsets
        self.register_buffer("palm", palm_frame(at_rest[None])[0], persistent=False)
        self.register_buffer("first", _relaxed(), persistent=False)
        self.global_ = nn.Linear(vector, 64 if cues else hidden)
        before = 64 + 21 * 16 + 63 + 63 + 6 if cues else hidden
        if cues:
            self.local = nn.Linear(seen, 16)
        self.enter = nn.Linear(before, hidden)
        self.norm = nn.LayerNorm(hidden)
        self.inner = nn.Sequential(
            nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, hidden)
        )
        self.mean = nn.Linear(hidden, _ROTATIONS + NUM_BETAS + 3)
        self.spread = nn.Linear(hidden, TANGENT * (1 + rank))
        for head in (self.mean, self.spread):
            nn.init.normal_(head.weight, std=0.01)
            nn.init.zeros_(head.bias)
        root, finger, shape = (math.log(sigma) for sigma in _FIRST_SIGMA)
        with torch.no_grad():
            self.spread.bias[:TANGENT] = torch.tensor(
                3 * [root] + 45 * [finger] + NUM_BETAS * [shape]
            )

    def forward(self, cues: Cues, seen: Tensor | None) -> PriorHands:
        """`seen` (N, 21, F): features at the landmarks, where there are landmarks."""
        frame, start = self.frame(cues)
        x = self.norm(nn.functional.gelu(self.enter(self._told(cues, seen, frame))))
        x = x + self.inner(x)
        sixd, betas, camera = self.mean(x).split([_ROTATIONS, NUM_BETAS, 3], dim=1)
        turns = rotations_from_6d(self.first + sixd.unflatten(1, (NUM_JOINTS, 6)))
        rotations = torch.cat([frame[:, None] @ turns[:, :1], turns[:, 1:]], dim=1)
        numbers, common = self.spread(x).split([TANGENT, TANGENT * self.rank], dim=1)
        sigma = numbers.clamp(*_LOG_SIGMA).exp()
        common = common.unflatten(1, (TANGENT, self.rank)) * sigma.detach()[..., None]
        factor = torch.cat([torch.diag_embed(sigma), common], dim=-1)
        return PriorHands(rotations, betas, factor, start + camera, numbers)

    def frame(self, cues: Cues) -> tuple[Tensor, Tensor]:
        """Root rotation (N, 3, 3) and camera (N, 3) to begin with."""
        if cues.landmarks is None or cues.world is None:
            count = len(cues.vector)
            eye = torch.eye(3, device=cues.vector.device).expand(count, 3, 3)
            return eye, cues.vector.new_tensor([math.log(0.8), 0.0, 0.0]).expand(count, 3)
        frame = palm_frame(cues.world) @ self.palm.T
        flat, uv = cues.world[..., :2], cues.landmarks[..., :2]
        sizes = [(x - x.mean(1, keepdim=True)).square().sum((1, 2)) for x in (uv, 10 * flat)]
        scale = 0.5 * ((sizes[0] + 1e-4) / (sizes[1] + 1e-4)).log()
        return frame, torch.cat([scale[:, None], uv[:, 0]], dim=1)

    def _told(self, cues: Cues, seen: Tensor | None, frame: Tensor) -> Tensor:
        vector = self.global_(cues.vector)
        if cues.landmarks is None or cues.world is None or seen is None:
            return vector
        canonical = 10 * (cues.world - cues.world[:, :1]) @ frame
        flat = (cues.landmarks - cues.landmarks[:, :1]) * 2
        parts = [self.local(seen).flatten(1), canonical.flatten(1), flat.flatten(1)]
        return torch.cat([vector, *parts, frame[..., :2].flatten(1)], dim=1)


def evidence_cues(evidence: Mapping[str, Tensor], focal: Tensor, maps: Sequence[str]) -> Cues:
    """Of `networks.evidence`'s maps and answers by name, as tensors; `maps`: those to look at."""
    return Cues(
        vector=evidence["coarse"].mean((1, 2)),
        maps=tuple(evidence[name] for name in maps),
        focal=focal,
        landmarks=evidence["landmarks"],
        world=evidence["world"],
    )


def place(points: Tensor, camera: Tensor, focal: Tensor) -> Tensor:
    """Places (N, P, 2) in the crop, -1..1, of points (N, P, 3) m relative to the wrist.

    `camera` (N, 3): the logarithm of crop half-widths a decimetre at the wrist's depth, and the
    wrist's place; `focal` (N,) in half-widths. Perspective: what is nearer is larger.
    """
    scale = 10 * camera[:, :1, None].exp()
    near = 1 + points[..., 2:] * scale / focal[:, None, None]
    return (scale * points[..., :2] + camera[:, None, 1:]) / near.clamp(min=0.2)


def place_jacobian(points: Tensor, camera: Tensor, focal: Tensor) -> Tensor:
    """Derivatives (N, P, 2, 3) of `place` by the points."""
    scale = 10 * camera[:, :1, None].exp()
    near = (1 + points[..., 2:] * scale / focal[:, None, None]).clamp(min=0.2)
    uv = place(points, camera, focal)
    flat = (scale / near)[..., None] * torch.eye(2, device=points.device)
    along = -uv * scale / focal[:, None, None] / near
    return torch.cat([flat, along[..., None]], dim=-1)


def palm_frame(points: Tensor) -> Tensor:
    """Rotations (N, 3, 3) whose columns are a palm's axes, of OpenPose points (N, 21, 3).

    From the wrist to the middle knuckle, from the little's towards the index's, and across.
    """
    y = normalize(points[:, 9] - points[:, 0], dim=-1)
    x = points[:, 5] - points[:, 17]
    x = normalize(x - (x * y).sum(-1, keepdim=True) * y, dim=-1)
    return torch.stack([x, y, torch.linalg.cross(x, y)], dim=-1)


def _relaxed() -> Tensor:
    """Six numbers (16, 6) of each rotation of a relaxed hand."""
    from hand_mesh_ros.geometry.rotations import exp_so3

    turns = torch.tensor(exp_so3(comfortable_pose().reshape(15, 3)), dtype=torch.float32)
    turns = torch.cat([torch.eye(3)[None], turns])
    return turns[..., :2].transpose(-1, -2).flatten(1)

