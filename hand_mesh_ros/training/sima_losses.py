"""SiMA-Hand's losses: H2ONet's of a mesh in two branches, and those of learning from a teacher."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from hand_mesh_ros.hand.mesh_hierarchy import MeshLevel
from hand_mesh_ros.networks.sima import SimaFeatures, SimaHands
from hand_mesh_ros.networks.sima_decoder import SpiralConv
from hand_mesh_ros.training.losses import known_mean

Target = Literal["generator", "plain"]


@dataclass(frozen=True)
class SimaWeights:
    """Weights of the parts of `sima_losses`; 0 leaves one out.

    By default the published ones, of H2ONet, for lengths in metres and places in 0..1 of the crop;
    `unit` multiplies all lengths. `first_epochs`: so many begin without the orientation's losses
    (rotation, and turned vertices and joints), the published first stage.
    """

    vertices0: float = 1.0
    joints0: float = 1.0
    vertices: float = 1.0
    joints: float = 1.0
    rotation: float = 1.0
    uv: float = 1.0
    normal: float = 0.1
    edge: float = 1.0
    unit: float = 1.0
    first_epochs: int = 0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 0:
                raise ValueError(f"{name} must not be negative, not {value}")


class HandTruth(NamedTuple):
    """Of N views, metres; NaN where unknown. `vertices0` (N, K, 3) of some of a model's vertices

    and `joints0` (N, 21, 3): without global rotation, in the model's own place. `joints` (N, 21, 3)
    relative to the wrist, in the crop's axes; `rotation` (N, 3, 3); `uv` (N, 21, 2), -1..1.
    """

    vertices0: Tensor
    joints0: Tensor
    joints: Tensor
    rotation: Tensor
    uv: Tensor


def sima_losses(
    hands: SimaHands, truth: HandTruth, kept: Tensor, faces: Tensor, weights: SimaWeights,
    oriented: bool = True,
) -> dict[str, Tensor]:
    """Weighted parts of the loss of N views.

    kept (K,): the vertices that the truth has; faces (F, 3) among them. oriented: False leaves the
    orientation's losses out.
    Parts: vertices0, joints0, mean absolute error without rotation; vertices, joints, the same with
    it, about the wrist; rotation, mean square of matrix elements; uv, mean absolute error in 0..1
    of the crop; normal, mean absolute cosine of predicted edges and true face normals; edge, mean
    absolute difference of lengths of edges. Of the mesh without rotation both.
    """
    vertices0 = hands.vertices0[:, kept]
    vertices = hands.vertices[:, kept] - hands.joints[:, :1]
    unit = weights.unit
    root = truth.joints0[:, :1]
    parts = {
        "vertices0": unit * known_mean(vertices0, truth.vertices0, torch.abs),
        "joints0": unit * known_mean(hands.joints0, truth.joints0, torch.abs),
        "uv": 0.5 * known_mean(hands.uv, truth.uv, torch.abs),
    }
    if weights.normal or weights.edge:
        normal, edge = surface_losses(vertices0, truth.vertices0, faces)
        parts |= {"normal": normal, "edge": unit * edge}
    if oriented:
        true = (truth.vertices0 - root) @ truth.rotation.mT
        joints = hands.joints - hands.joints[:, :1]
        parts |= {
            "vertices": unit * known_mean(vertices, true, torch.abs),
            "joints": unit * known_mean(joints, truth.joints, torch.abs),
            "rotation": known_mean(hands.rotation, truth.rotation, torch.square),
        }
    return {name: getattr(weights, name) * value for name, value in parts.items()}


def surface_losses(predicted: Tensor, true: Tensor, faces: Tensor) -> tuple[Tensor, Tensor]:
    """The losses `normal` and `edge` (metres) of vertices (N, K, 3), three edges a face."""
    ours, theirs = _edges(predicted, faces), _edges(true, faces)
    normals = normalize(torch.linalg.cross(theirs[..., 0, :], theirs[..., 1, :]), dim=-1)
    # what is unknown must reach no gradient: as NaN of a truth of zeros
    straight = 0.0 * theirs[..., 0]
    along = (normalize(ours, dim=-1) * normals.nan_to_num().unsqueeze(-2)).sum(-1)
    normal = known_mean(along, straight, torch.abs)
    edge = known_mean(ours.norm(dim=-1), theirs.norm(dim=-1), torch.abs)
    return normal, edge


def _edges(vertices: Tensor, faces: Tensor) -> Tensor:
    """(N, F, 3, 3): from each corner of a face to the next."""
    corners = vertices[:, faces]
    return corners.roll(-1, 2) - corners


@dataclass(frozen=True)
class TeachingWeights:
    """Weights of the parts of `Teaching`; 0 leaves one out. None of them is published.

    shape: HSFE's loss (LSE), of features of the coarsest vertices and of the decoder's levels, by a
    `generator` that masks `masked` of the vertices and is dropped after training, or `plain`.
    orientation: HOFE's loss (LOE), of what the adapters add and of the attention's result.
    vertices, rotation: of what the teacher predicts, without rotation, metres times `unit`; and of
    matrix elements. occluded: how many times more a view is taught that shows nothing of the hand
    than one that shows all of it, less one; on average all of it stays the same.
    """

    shape: float = 0.1
    orientation: float = 0.1
    vertices: float = 0.0
    rotation: float = 0.0
    generator: Target = "generator"
    masked: float = 0.3
    unit: float = 1.0
    occluded: float = 0.0

    def __post_init__(self) -> None:
        for name in ("shape", "orientation", "vertices", "rotation", "unit", "occluded"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, not {getattr(self, name)}")
        if not 0 <= self.masked < 1:
            raise ValueError(f"masked must be at least 0 and less than 1, not {self.masked}")


class Teaching(nn.Module):
    """HSFE's and HOFE's losses: a student's features pulled to its teacher's.

    A reconstruction: the authors' modules and losses are unpublished. HSFE after the figure, where
    shape features are rebuilt in training only; HOFE by the adapters of the published code.
    Features are compared after a division by the spread of the teacher's, so that weights mean the
    same for all of them.
    """

    def __init__(self, channels: int, coarsest: MeshLevel, weights: TeachingWeights) -> None:
        """coarsest: the level of `lifted`, on which the generator looks at a vertex's spiral."""
        super().__init__()
        self.weights = weights
        self.empty = nn.Parameter(torch.zeros(channels))
        generated = weights.generator == "generator"
        self.generator = (
            nn.Sequential(
                SpiralConv(coarsest, channels, channels), nn.GELU(),
                SpiralConv(coarsest, channels, channels),
            )
            if generated
            else None
        )  # fmt: skip

    def forward(
        self, student: SimaHands, teacher: SimaHands, kept: Tensor, shown: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Weighted parts of the loss of N views, of which the teacher's hands have no gradient.

        shown (N,): visible shares of the views, NaN where unknown, which count as all.
        """
        weights, each = self.weights, None
        if shown is not None and weights.occluded:
            each = 1 + weights.occluded * (1 - shown.nan_to_num(1.0))
            each = each / each.mean()
        mine, theirs = student.features, teacher.features
        parts = {}
        if weights.shape:
            parts["hsfe"] = weights.shape * self._shape(mine, theirs, each)
        if weights.orientation:
            loss = apart(mine.map, theirs.map, each) + apart(mine.latent, theirs.latent, each)
            parts["hofe"] = weights.orientation * (loss + apart(mine.mixed, theirs.mixed, each))
        if weights.vertices:
            told = (student.vertices0[:, kept] - teacher.vertices0[:, kept].detach()).abs()
            parts["told_vertices"] = weights.vertices * weights.unit * _mean(told, each)
        if weights.rotation:
            turn = (student.rotation - teacher.rotation.detach()).square()
            parts["told_rotation"] = weights.rotation * _mean(turn, each)
        return parts

    def _shape(
        self, student: SimaFeatures, teacher: SimaFeatures, each: Tensor | None
    ) -> Tensor:
        mine = student.lifted
        if self.generator is not None:
            if self.training and self.weights.masked:
                gone = torch.rand(mine.shape[:2], device=mine.device) < self.weights.masked
                mine = torch.where(gone[..., None], self.empty, mine)
            mine = mine + self.generator(mine)
        loss = apart(mine, teacher.lifted, each)
        for ours, theirs in zip(student.levels, teacher.levels, strict=True):
            loss = loss + apart(ours, theirs, each)
        return loss


def apart(student: Tensor, teacher: Tensor, each: Tensor | None = None) -> Tensor:
    """Mean absolute difference over the spread of the teacher's features; no gradient to it.

    each (N,): weights of the N views.
    """
    target = teacher.detach()
    return _mean((student - target).abs(), each) / target.std().clamp(min=1e-6)


def _mean(values: Tensor, each: Tensor | None) -> Tensor:
    return values.mean() if each is None else (values.flatten(1).mean(1) * each).mean()
