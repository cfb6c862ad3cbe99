"""SiMA-Hand's way from joint features to a mesh: lifting, spiral convolutions, joints of vertices.

Source: X. Chen et al., MobRecon (CVPR 2022), as H. Xu et al., H2ONet (CVPR 2023) and Y. Wang et
al., SiMA-Hand (AAAI 2024) use it; Gong et al., SpiralNet++ (2019) for the convolution.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import embedding_bag, gelu

from hand_mesh_ros.hand.carry import carrying
from hand_mesh_ros.hand.layout import MANO_TO_OPENPOSE
from hand_mesh_ros.hand.mesh_hierarchy import MeshHierarchy, MeshLevel
from hand_mesh_ros.hand.model import HandModel

_CARRIERS: Final = 10
_UNIT: Final = 0.03


@dataclass(frozen=True)
class DecoderSettings:
    """The published decoder, by default.

    channels: of the coarsest level's vertices and after each finer one's convolution. If there are
    fewer than the mesh has levels, the head is at the last one that there is a number for, and what
    it says is carried to all vertices: by "barycentric" weights, or by those of `hand.carry`
    ("fitted"). lifting: "uniform" begins with 0.01 everywhere, as published; "near" with what is
    near a vertex in the hand at rest. template: the head tells what is to be added to the model's
    mean shape, in units of three centimetres (False, as published: the vertices themselves, in
    metres), and its activation is a smooth one: narrow layers of ReLU, whose answers begin metres
    off, are dead after some steps.
    """

    channels: tuple[int, ...] = (256, 256, 128, 64, 32)
    lifting: Literal["uniform", "near"] = "uniform"
    template: bool = False
    carry: Literal["barycentric", "fitted"] = "barycentric"

    def __post_init__(self) -> None:
        if len(self.channels) < 1 or min(self.channels) < 1:
            raise ValueError(f"channels must be positive numbers, not {self.channels}")
        if self.lifting not in ("uniform", "near"):
            raise ValueError(f"lifting must be uniform or near, not {self.lifting!r}")
        if self.carry not in ("barycentric", "fitted"):
            raise ValueError(f"carry must be barycentric or fitted, not {self.carry!r}")
        if self.carry == "fitted" and not self.template:
            raise ValueError("carry 'fitted' is of displacements: it needs template true")


class SpiralConv(nn.Module):
    """One linear layer over a vertex's spiral: (N, V, before) to (N, V, after)."""

    spirals: Tensor

    def __init__(self, level: MeshLevel, before: int, after: int) -> None:
        super().__init__()
        spirals = torch.from_numpy(np.array(level.spirals))
        self.register_buffer("spirals", spirals.flatten(), persistent=False)
        self.layer = nn.Linear(spirals.shape[1] * before, after)
        nn.init.xavier_uniform_(self.layer.weight)
        nn.init.zeros_(self.layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        around = x.index_select(1, self.spirals)
        return torch.as_tensor(self.layer(around.view(*x.shape[:2], -1)))


class UpSample(nn.Module):
    """Barycentric up-sampling to the next finer level: (N, V, C) to (N, W, C)."""

    corners: Tensor
    weights: Tensor

    def __init__(self, level: MeshLevel) -> None:
        super().__init__()
        corners = torch.from_numpy(np.array(level.up_vertices))
        weights = torch.tensor(level.up_weights, dtype=torch.float32)
        self.register_buffer("corners", corners, persistent=False)
        self.register_buffer("weights", weights, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        made = x.index_select(1, self.corners[:, 0]) * self.weights[:, :1]
        for k in (1, 2):
            made = made + x.index_select(1, self.corners[:, k]) * self.weights[:, k : k + 1]
        return made


class SpiralDecoder(nn.Module):
    """Vertex features of the coarsest level (N, V_4, channels[0]) to vertices (N, V_0, 3), metres.

    Without the hand's global rotation, in the hand model's own place.
    """

    template: Tensor

    def __init__(self, model: HandModel, levels: MeshHierarchy, settings: DecoderSettings) -> None:
        super().__init__()
        channels = settings.channels
        coarse_to_fine = levels.levels[::-1]
        if len(channels) > len(coarse_to_fine):
            raise ValueError(
                f"channels {channels} are for {len(channels)} levels, and the mesh has "
                f"{len(coarse_to_fine)}"
            )
        self.ups = nn.ModuleList(UpSample(level) for level in coarse_to_fine[:-1])
        self.convs = nn.ModuleList(
            SpiralConv(level, before, after)
            for level, before, after in zip(
                coarse_to_fine[1:], channels, channels[1:], strict=False
            )
        )
        last = coarse_to_fine[len(channels) - 1]
        self.head = SpiralConv(last, channels[-1], 3)
        self.carry = Carry(model, last) if settings.carry == "fitted" else None
        template = torch.tensor(np.array(model.v_template), dtype=torch.float32)
        self.register_buffer("template", template * float(settings.template), persistent=False)
        self.smooth = settings.template
        self.unit = _UNIT if settings.template else 1.0

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The vertices, and the features of every level after its convolution, coarse to fine."""
        features = []
        for up, conv in zip(self.ups, self.convs, strict=False):
            x = conv(up(x))
            x = gelu(x) if self.smooth else torch.relu(x)
            features.append(x)
        offsets = self.unit * self.head(x)
        if self.carry is not None:
            return self.carry(offsets) + self.template, features
        for up in self.ups[len(self.convs) :]:
            offsets = up(offsets)
        return offsets + self.template, features


class Carry(nn.Module):
    """Displacements of a level's vertices (N, K, 3) to all the model's (N, V, 3); it is fixed."""

    near: Tensor
    weights: Tensor

    def __init__(self, model: HandModel, level: MeshLevel) -> None:
        super().__init__()
        near, weights = carrying(model, level.vertices, _CARRIERS)
        self.register_buffer("near", torch.from_numpy(near).contiguous(), persistent=False)
        weights = weights.astype(np.float32)
        self.register_buffer("weights", torch.from_numpy(weights).contiguous(), persistent=False)

    def forward(self, offsets: Tensor) -> Tensor:
        columns = offsets.transpose(0, 1)
        carried = embedding_bag(
            self.near, columns.flatten(1), mode="sum", per_sample_weights=self.weights
        )
        return carried.unflatten(1, columns.shape[1:]).transpose(0, 1)


class Lifting(nn.Module):
    """Joint features (N, 21, C) to the coarsest level's vertices (N, V_4, C): one dense matrix."""

    def __init__(self, model: HandModel, levels: MeshHierarchy, settings: DecoderSettings) -> None:
        super().__init__()
        coarsest = levels.levels[-1].vertices
        start = torch.full((len(coarsest), 21), 0.01)
        if settings.lifting == "near":
            joints = rest_joints(model)
            away = np.linalg.norm(model.v_template[coarsest][:, None] - joints[None], axis=-1)
            start = torch.tensor(away / -0.015, dtype=torch.float32).softmax(-1)
        self.matrix = nn.Parameter(start)

    def forward(self, joints: Tensor) -> Tensor:
        return self.matrix @ joints


class JointsOfVertices(nn.Module):
    """Joints (N, 21, 3) in OpenPose order of vertices (N, V, 3): the model's regressor and tips.

    It is fixed. (The published code has it among the parameters that are trained.) Of a bent hand
    it is some millimetres off at the knuckles, as MANO's own is.
    """

    matrix: Tensor

    def __init__(self, model: HandModel) -> None:
        super().__init__()
        self.register_buffer(
            "matrix", torch.tensor(_regressor(model), dtype=torch.float32), persistent=False
        )

    def forward(self, vertices: Tensor) -> Tensor:
        return self.matrix @ vertices


def rest_joints(model: HandModel) -> np.ndarray:
    """Joints (21, 3), OpenPose order, of the mean shape at rest."""
    return np.asarray(_regressor(model) @ model.v_template)


def _regressor(model: HandModel) -> np.ndarray:
    tips = np.eye(model.num_vertices)[model.tips]
    return np.concatenate([model.J_regressor, tips])[np.asarray(MANO_TO_OPENPOSE)]
