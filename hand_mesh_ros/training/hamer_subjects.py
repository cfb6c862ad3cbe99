"""What the task `hamer` trains: each network with its batches, and what is true of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import lightning
import torch
from torch import Tensor, nn

from hand_mesh_ros.networks.crop_sampler import standardised
from hand_mesh_ros.networks.discriminator import Discriminator
from hand_mesh_ros.networks.evidence import CROP
from hand_mesh_ros.networks.hamer import HamerConfig
from hand_mesh_ros.networks.hamer_small import HamerSmall, HamerSmallConfig, Seen
from hand_mesh_ros.networks.mano_decoder import DecoderConfig
from hand_mesh_ros.networks.reconstruction import Reconstruction
from hand_mesh_ros.networks.vit import ViTConfig
from hand_mesh_ros.training.data import hand_model_of
from hand_mesh_ros.training.hamer_data import HamerData
from hand_mesh_ros.training.hamer_losses import HamerTruth
from hand_mesh_ros.training.hamer_networks import HamerOn, TrainedHamer
from hand_mesh_ros.training.instant_data import InstantData, Views
from hand_mesh_ros.training.recipes import Recipe
from hand_mesh_ros.training.settings import RecipeError, settings_from

Batch = Mapping[str, Tensor]


class Subject(Protocol):
    """A network and how it is asked. judge: its own discriminator, where it has one."""

    @property
    def network(self) -> nn.Module: ...
    @property
    def judge(self) -> Discriminator | None: ...

    def answer(self, batch: Batch) -> tuple[Reconstruction, dict[str, Tensor]]:
        """The answer, and other places in the crop (B, 21, 2) that it should have, by a name."""
        ...

    def truth(self, batch: Batch) -> HamerTruth: ...
    def slow(self) -> Iterable[nn.Parameter]: ...
    def data(self) -> lightning.LightningDataModule: ...


class SmallSubject:
    """`HamerSmall` on stores of instants. sizes: of `HamerSmallConfig`."""

    store_fields: Sequence[str] = (
        "middle", "coarse", "landmarks", "world", "presence", "right",
        "joints", "uv", "rotations", "betas", "K", "crop_matrix",
    )  # fmt: skip
    store_views: Views = "one"
    judge = None

    def __init__(self, recipe: Recipe, sizes: Mapping[str, Any]) -> None:
        if not recipe.data.train.counts:
            raise RecipeError(
                f"{recipe.file}: data.train.store must be given: the small network sees stored "
                "evidence, no crops"
            )
        config = settings_from(HamerSmallConfig, sizes, recipe.file, "model")
        self.network = HamerSmall(hand_model_of(recipe), config)
        self._recipe = recipe

    def answer(self, batch: Batch) -> tuple[Reconstruction, dict[str, Tensor]]:
        said, projected = self.network.answer(seen_of(batch), surface=False)
        return said, {"projected": projected}

    def truth(self, batch: Batch) -> HamerTruth:
        return truth_of(batch)

    def slow(self) -> Iterable[nn.Parameter]:
        return ()

    def data(self) -> lightning.LightningDataModule:
        return InstantData(self._recipe, self)


def seen_of(batch: Batch) -> Seen:
    """What `HamerSmall` is shown of a store's single views."""
    given = {name: batch[name] for name in Seen._fields if name != "field"}
    side = CROP * torch.linalg.det(batch["crop_matrix"][:, :, :2]).abs().sqrt()
    focal = torch.linalg.det(batch["K"][:, :2, :2]).abs().sqrt()
    return Seen(**given, field=side / 2 / focal)


def truth_of(batch: Batch) -> HamerTruth:
    """The truth of an `Example`'s fields; NaN is unknown, without a wrist all of 3D is."""

    def sure(points: Tensor) -> Tensor:
        known = points.isfinite().all(-1, keepdim=True)
        return torch.cat([points.masked_fill(~known, 0.0), known.to(points.dtype)], dim=-1)

    joints = torch.where(batch["joints"][:, :1].isfinite(), batch["joints"], torch.nan)
    rotations, betas = batch["rotations"], batch["betas"]
    turned = rotations.isfinite().flatten(1).all(1).float()
    shaped = betas.isfinite().all(1).float()
    return HamerTruth(
        sure(batch["uv"] / 2), sure(joints), rotations.nan_to_num(), betas.nan_to_num(),
        turned, turned, shaped,
    )  # fmt: skip


@dataclass(frozen=True)
class CropSettings:
    """The recipe's `model` of a network that sees crops.

    backbone: sizes of HaMeR's vision transformer (`ViTConfig`), or the name of any other backbone
    (`create_backbone`). backbone_weights: the file that either reads, at first. decoder: sizes of
    `DecoderConfig` but its context's. box_scale: see `MakeHamerExample`.
    """

    backbone: Any = field(default_factory=dict)
    backbone_weights: str | None = None
    decoder: Mapping[str, Any] = field(default_factory=dict)
    box_scale: float = 2.0


class CropSubject:
    """HaMeR on crops: as published, or on another backbone (`HamerOn`)."""

    def __init__(self, recipe: Recipe, sizes: Mapping[str, Any]) -> None:
        if recipe.data.train.counts:
            raise RecipeError(
                f"{recipe.file}: data.train.source or shards must be given: a store holds no crops"
            )
        self._how = settings_from(CropSettings, sizes, recipe.file, "model")
        self._recipe = recipe
        self.network: TrainedHamer | HamerOn
        how, model = self._how, hand_model_of(recipe)
        if isinstance(how.backbone, str):
            decoder = settings_from(
                DecoderConfig, {**how.decoder, "context_dim": 1}, recipe.file, "model.decoder"
            )
            self.network = HamerOn(model, how.backbone, how.backbone_weights, decoder)
        else:
            vit = settings_from(ViTConfig, how.backbone, recipe.file, "model.backbone")
            wide = {"context_dim": vit.width, **how.decoder}
            decoder = settings_from(DecoderConfig, wide, recipe.file, "model.decoder")
            try:
                config = HamerConfig(vit, decoder)
            except ValueError as error:
                raise RecipeError(f"{recipe.file}: model: {error}") from error
            self.network = TrainedHamer(model, config, how.backbone_weights)
        self.judge = getattr(self.network, "discriminator", None)

    def answer(self, batch: Batch) -> tuple[Reconstruction, dict[str, Tensor]]:
        said: Reconstruction = self.network(standardised(batch["image"].float()))
        return said, {}

    def truth(self, batch: Batch) -> HamerTruth:
        truth = truth_of(batch)
        known = truth.keypoints_2d.clone()
        known[..., 2] *= batch["confidence"]
        return truth._replace(keypoints_2d=known).with_usual_betas()

    def slow(self) -> Iterable[nn.Parameter]:
        return self.network.backbone.parameters()

    def data(self) -> lightning.LightningDataModule:
        return HamerData(self._recipe, self._how.box_scale)
