"""SiMA-Hand: one view's hand in two branches, shape and orientation; several views together.

Source: Y. Wang et al., SiMA-Hand: Boosting 3D Hand-Mesh Reconstruction by Single-to-Multi-View
Adaptation (AAAI 2024). The single-view network is built as published; the multi-view one is
unpublished, and `sima_fusion` is a reconstruction of it.
Figures of `published()`: parameters of the trunk with the shape branch 8.58 M (less 1.05 M of the
paper's code that it never uses), of the rotation regressor 62.18 M, of the spiral decoder 0.978 M,
with a hand of 778 vertices about 78 M in all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from hand_mesh_ros.hand.mesh_hierarchy import mesh_hierarchy
from hand_mesh_ros.hand.model import HandModel
from hand_mesh_ros.networks.sima_decoder import (
    DecoderSettings,
    JointsOfVertices,
    Lifting,
    SpiralDecoder,
)
from hand_mesh_ros.networks.sima_fusion import POOLS, Fusion, Pool, RelativeViews
from hand_mesh_ros.networks.sima_orientation import (
    Adapter,
    RegressorSettings,
    RotationRegressor,
    SmallAdapter,
    map_encoder,
)
from hand_mesh_ros.networks.sima_views import DenseStackTrunk, LandmarkTrunk, ViewFeatures

Cameras = Literal["none", "relative"]
SMALL_DECODER = DecoderSettings((32, 24), "near", True, "fitted")
SMALL_REGRESSOR = RegressorSettings(4, 16, (32,), (128,), 0.0)


@dataclass(frozen=True)
class SimaSettings:
    """A network; by default the small one, on what the landmark network says, of one view.

    channels, joint_channels, layers: of the small trunk. multi: several views together, with
    fusion at `image`, `joint` and `vertex` level, each a switch; `pool` and `views` as in
    `sima_fusion.Fusion`, `cameras` as in `RelativeViews`. adapters: what stands for other views in
    a network of one (HOFE's part of the answer). spiral: vertices of a spiral.
    """

    trunk: Literal["landmarks", "densestack"] = "landmarks"
    multi: bool = False
    image: bool = True
    joint: bool = True
    vertex: bool = True
    pool: Pool = "weighted"
    views: int = 4
    cameras: Cameras = "relative"
    adapters: bool = True
    channels: int = 64
    joint_channels: int = 32
    layers: int = 2
    spiral: int = 9
    levels: int = 5
    decoder: DecoderSettings = field(default_factory=lambda: SMALL_DECODER)
    regressor: RegressorSettings = field(default_factory=lambda: SMALL_REGRESSOR)

    def __post_init__(self) -> None:
        for name in ("channels", "joint_channels", "layers", "views", "spiral", "levels"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        choices: dict[str, tuple[str, ...]] = {
            "trunk": ("landmarks", "densestack"), "pool": POOLS, "cameras": ("none", "relative"),
        }  # fmt: skip
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is {getattr(self, name)!r}: choose of {', '.join(known)}")
        joints = 256 if self.trunk == "densestack" else self.joint_channels
        if self.decoder.channels[0] != joints:
            raise ValueError(
                f"decoder.channels begin with {self.decoder.channels[0]}, and joints have {joints}"
            )


def published(multi: bool = False, pool: Pool = "set") -> SimaSettings:
    """The published sizes; of several views, our reconstruction without cameras, of 8 views."""
    return SimaSettings(
        trunk="densestack", multi=multi, pool=pool, views=8, cameras="none",
        decoder=DecoderSettings(), regressor=RegressorSettings(),
    )  # fmt: skip


class SimaFeatures(NamedTuple):
    """What a teacher has to tell: `lifted` (N, V_4, C), features of the coarsest vertices; `levels`

    of the decoder; `map` (N, C, H, W) and `latent` (N, T, D), as the orientation branch reads them;
    `mixed` (N, T, D), what its attention makes of them.
    """

    lifted: Tensor
    levels: list[Tensor]
    map: Tensor
    latent: Tensor
    mixed: Tensor


class SimaHands(NamedTuple):
    """Right hands of N views, metres. `vertices0` (N, V, 3), `joints0` (N, 21, 3): without global

    rotation, in the model's own place; `vertices`, `joints`: turned by `rotation` (N, 3, 3) about
    the wrist, in the crop's axes. `uv` (N, 21, 2): -1..1 from edge to edge of the crop.
    """

    vertices0: Tensor
    joints0: Tensor
    rotation: Tensor
    vertices: Tensor
    joints: Tensor
    uv: Tensor
    features: SimaFeatures


class Sima(nn.Module):
    """Single- or multi-view; `forward` takes views one by one, `together` those of one hand.

    `head_vertices` (K,), `head_faces` (F, 3): the finest level that the decoder itself speaks of,
    by numbers in the mesh, and the faces among these.
    """

    head_vertices: Tensor
    head_faces: Tensor

    def __init__(
        self, model: HandModel, settings: SimaSettings, cache: Path | None = None
    ) -> None:
        """cache: a folder for the mesh hierarchy, which takes seconds to make."""
        super().__init__()
        self.settings = settings
        small = settings.trunk == "landmarks"
        levels = mesh_hierarchy(
            model.v_template, model.faces, settings.levels, settings.spiral, cache
        )
        self.coarsest = levels.levels[-1]
        self.trunk: LandmarkTrunk | DenseStackTrunk
        if small:
            self.trunk = LandmarkTrunk(
                model, settings.channels, settings.joint_channels, settings.layers
            )
        else:
            self.trunk = DenseStackTrunk()
        trunk = self.trunk
        latent = trunk.latent_channels
        self.lifting = Lifting(model, levels, settings.decoder)
        self.decoder = SpiralDecoder(model, levels, settings.decoder)
        self.joints_of = JointsOfVertices(model)
        head = levels.levels[len(levels.levels) - len(settings.decoder.channels)]
        self.register_buffer("head_vertices", torch.tensor(head.vertices), persistent=False)
        self.register_buffer("head_faces", torch.tensor(head.faces), persistent=False)
        self.geometry = (
            nn.Linear(trunk.geometry_channels, latent) if trunk.geometry_channels else None
        )
        self.map_encoder = map_encoder(trunk.shared_channels, not small)
        self.regressor = RotationRegressor(21 if small else 16, latent, settings.regressor)
        make = SmallAdapter if small else Adapter
        single = settings.adapters and not settings.multi
        self.map_adapter = make(trunk.shared_channels) if single else None
        self.latent_adapter = make(latent) if single else None

        def fusion(channels: int, wanted: bool) -> Fusion | None:
            used = settings.multi and wanted
            return Fusion(channels, settings.pool, settings.views) if used else None

        self.map_fusion = fusion(trunk.shared_channels, settings.image)
        self.latent_fusion = fusion(latent, settings.image)
        self.joint_fusion = fusion(trunk.joint_channels, settings.joint)
        self.vertex_fusion = fusion(trunk.joint_channels, settings.vertex)
        told = self.latent_fusion is not None and settings.cameras == "relative"
        self.relative = RelativeViews(latent) if told else None

    @property
    def reads(self) -> tuple[str, ...]:
        """Names of the fields of views that it reads, see `training.instants`."""
        return tuple(self.trunk.reads)

    def forward(self, views: Mapping[str, Tensor]) -> SimaHands:
        """Hands of N views (N, ...), each alone."""
        some = next(iter(views.values()))
        if self.settings.multi:
            mask = torch.ones(len(some), 1, dtype=torch.bool, device=some.device)
            axes = torch.eye(3, device=some.device).expand(len(some), 1, 3, 3)
            return self.together({k: v[:, None] for k, v in views.items()}, mask, axes)
        return self._hands(self.trunk(views), None)

    def together(
        self, views: Mapping[str, Tensor], mask: Tensor, axes: Tensor | None = None
    ) -> SimaHands:
        """Hands of the N views that `mask` (B, V) has, in its order, of B hands' views (B, V, ...).

        axes (B, V, 3, 3): from one world, the same for all of a hand's views, to each crop's axes;
        without them (and without `cameras`) each view's rotation is its own.
        """
        if self.settings.multi and self.relative is not None and axes is None:
            raise ValueError("this network was trained with cameras: it needs their axes")
        group = _Views(mask, mask.flatten().nonzero()[:, 0], axes)
        features = self.trunk({name: group.rows(views[name]) for name in self.reads})
        return self._hands(features, group if self.settings.multi else None)

    def weights(self) -> dict[str, Tensor]:
        """All that is trained or was counted in training."""
        return dict(self.state_dict())

    def load_weights(self, weights: dict[str, Tensor]) -> None:
        """What `weights` gave; RuntimeError for another network's."""
        self.load_state_dict(weights)

    def _hands(self, seen: ViewFeatures, group: _Views | None) -> SimaHands:
        joints = _fused(self.joint_fusion, seen.joints, group)
        lifted = _fused(self.vertex_fusion, self.lifting(joints), group)
        vertices0, levels = self.decoder(lifted)
        joints0 = self.joints_of(vertices0)
        rotation, told = self._rotation(seen, group)
        vertices, joints3d = turned(vertices0, joints0, rotation)
        features = SimaFeatures(lifted, levels, *told)
        return SimaHands(vertices0, joints0, rotation, vertices, joints3d, seen.uv, features)

    def _rotation(
        self, seen: ViewFeatures, group: _Views | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
        latent, image = seen.latent.detach(), seen.shared.detach()
        if self.geometry is not None and seen.geometry is not None:
            latent = latent + self.geometry(seen.geometry)
        if self.map_adapter is not None and self.latent_adapter is not None:
            image = self.map_adapter(image)
            latent = self.latent_adapter(latent.transpose(1, 2)).transpose(1, 2)
        pixels = _fused(self.map_fusion, image.flatten(2).transpose(1, 2), group)
        image = pixels.transpose(1, 2).view_as(image)
        latent = _fused(self.latent_fusion, latent, group, self.relative, seen.start)
        places = self.map_encoder(image).flatten(2).transpose(1, 2)
        change, mixed = self.regressor(latent, places)
        return seen.start @ change, (image, latent, mixed)


class _Views(NamedTuple):
    mask: Tensor  # (B, V)
    where: Tensor  # (N,) of those that there are, among all B * V
    axes: Tensor | None

    def rows(self, grid: Tensor) -> Tensor:
        """(N, ...) of (B, V, ...)."""
        return grid.flatten(0, 1).index_select(0, self.where)

    def grid(self, rows: Tensor) -> Tensor:
        """(B, V, ...) of (N, ...), with zeros where there is no view."""
        out = rows.new_zeros((self.mask.numel(), *rows.shape[1:]))
        return out.index_copy(0, self.where, rows).unflatten(0, self.mask.shape)


def _fused(
    fusion: Fusion | None,
    rows: Tensor,
    group: _Views | None,
    relative: RelativeViews | None = None,
    start: Tensor | None = None,
) -> Tensor:
    if fusion is None or group is None:
        return rows
    grid = group.grid(rows)
    pooled = grid
    if relative is not None and start is not None and group.axes is not None:
        pooled = relative(grid, group.grid(start), group.axes.to(grid.dtype))
    return torch.as_tensor(group.rows(fusion(grid, pooled, group.mask)))


def turned(vertices0: Tensor, joints0: Tensor, rotation: Tensor) -> tuple[Tensor, Tensor]:
    """Vertices (N, V, 3) and joints (N, 21, 3) about the wrist: V = (V0 - J0) R^T + J0.

    What is turned carries no gradient but by the rotation, and the wrist's place its own: losses of
    turned hands train the orientation, those of unturned ones the shape.
    """
    root = joints0[:, :1]

    def of(points: Tensor) -> Tensor:
        return (points - root).detach() @ rotation.mT + root

    return of(vertices0), of(joints0)
