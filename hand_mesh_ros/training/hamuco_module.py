"""The task `hamuco`: hands learnt from several views of them, without any 3D label.

The truth of a store is read in validation only, to measure; no loss and no label knows it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import lightning
import numpy as np
import torch
from torch import Tensor
from torchmetrics import MeanMetric

from hand_mesh_ros.evaluation.metrics.alignment import similarity_aligned
from hand_mesh_ros.networks.hamuco import Hamuco, ViewHands
from hand_mesh_ros.networks.view_fusion import fuse, relative_rotations
from hand_mesh_ros.training.data import hand_model_of, steps_per_epoch
from hand_mesh_ros.training.hamuco_losses import (
    HamucoWeights,
    bone_loss,
    confident_places,
    consistency_loss,
    distillation_loss,
    label_points_loss,
    pose_losses,
    shape_loss,
)
from hand_mesh_ros.training.instants import LABEL_FIELDS, crop_cameras
from hand_mesh_ros.training.optimise import planned
from hand_mesh_ros.training.recipes import Recipe
from hand_mesh_ros.training.settings import settings_from

Batch = dict[str, Tensor]

_PLACE = ("K", "T_camera_world", "R_crop_camera", "crop_matrix", "left")
_PICTURE = 256


@dataclass(frozen=True)
class HamucoModelSettings:
    """The recipe's `model`.

    features: "evidence" (small) or a ResNet's name (as published), whose `weights` are that file.
    cross: changes of `CrossSettings`. surface: vertices that consistency and distillation know.
    labels: "landmarks", the landmark network's places in each view, with its presence and their
    agreement with the other views as confidence where the cameras are known; or "fitted",
    `pseudo_labels`, in addition. rotations: of the cameras in consistency, known or estimated.
    calibrated: share of the batches whose cameras the network itself is told.
    masked: share of the instants of which it sees a random part of the views.
    sigma: of a fitted label, m, above which it counts little.
    """

    features: str = "evidence"
    weights: str | None = None
    cross: Mapping[str, Any] = field(default_factory=dict)
    hidden: int = 512
    layers: int = 2
    surface: int = 64
    labels: Literal["landmarks", "fitted"] = "landmarks"
    rotations: Literal["known", "estimated"] = "known"
    calibrated: float = 0.8
    masked: float = 0.5
    sigma: float = 0.0025

    def __post_init__(self) -> None:
        for name in ("calibrated", "masked"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a share, 0 to 1")
        if self.sigma <= 0:
            raise ValueError("sigma must be positive")


class HamucoModule(lightning.LightningModule):
    """Trains a `Hamuco`. Logs `train_loss` and its parts; `val_pa_mpjpe` of all views together,

    `val_cross_pa_mpjpe` of each view that knows the others, `val_single_pa_mpjpe` of each alone,
    mm, and `val_uv`, the single views' distance to the landmark network's places, which is no
    truth. Checkpoints may be chosen by truth; the weights that are kept are the last, which are
    not.
    """

    store_views = "all"

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.recipe = recipe
        how = self.how = settings_from(HamucoModelSettings, recipe.model, recipe.file, "model")
        self.weights = settings_from(HamucoWeights, recipe.losses, recipe.file, "losses")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            self.network = Hamuco(
                hand_model_of(recipe), how.features, how.weights, how.cross, how.hidden,
                how.layers, how.surface,
            )  # fmt: skip
        labels = LABEL_FIELDS if how.labels == "fitted" else ()
        read = (*self.network.inputs, "landmarks", "presence", *_PLACE, *labels, "joints")
        self.store_fields = tuple(dict.fromkeys(read))
        self.val_pa, self.val_cross, self.val_single = MeanMetric(), MeanMetric(), MeanMetric()
        self.val_uv = MeanMetric()

    def training_step(self, batch: Batch, index: int) -> Tensor:
        parts = self.losses(batch, even=self.global_step % 2 == 0, masked=True)
        loss = torch.stack(list(parts.values())).sum()
        self.log("train_loss", loss, prog_bar=True)
        self.log_dict({f"train_{name}": value.detach() for name, value in parts.items()})
        return loss

    def losses(self, batch: Batch, even: bool, masked: bool = False) -> dict[str, Tensor]:
        """Weighted parts of the loss; `even`: see `consistency_loss`; `masked`: views and

        calibration are dropped at random. Reads no truth.
        """
        mask, weights, how = batch["valid"], self.weights, self.how
        axes, field, centres = _cameras(batch)
        kept, known = mask, True
        if masked:
            kept = _some_views(mask, how.masked)
            known = bool(torch.rand(()) < how.calibrated)
        # all views are answered alone; those kept answer together
        told, where = (axes, centres) if known else (None, None)
        single, cross = self.network(self._inputs(batch), kept, told, field, centres=where)
        R = relative_rotations(axes)
        surfaces = [torch.cat([h.points.joints, h.points.surface], 2) for h in (single, cross)]
        trust = cross.sure.mean(-1).detach()
        known_R = R if how.rotations == "known" else None
        pairs = ((single, mask), (cross, kept))
        poses = [pose_losses(hands.rotations, seen) for hands, seen in pairs]
        parts = {
            "uv": sum(self._uv(hands, seen, batch) for hands, seen in pairs),
            "shape": shape_loss(single.betas, mask),
            "pose": poses[0][0] + poses[1][0],
            "limits": poses[0][1] + poses[1][1],
            "consistency": consistency_loss(surfaces[1], kept, known_R, even, sure=trust),
            "distill": distillation_loss(surfaces[0], surfaces[1], kept, known_R, trust),
            "bones": bone_loss(single.betas, mask),
        }
        if how.labels == "fitted":
            parts["points"] = self._points(single, mask, batch)
            parts["points_cross"] = self._points(cross, kept, batch)
        return {
            name: getattr(weights, name) * value
            for name, value in parts.items()
            if getattr(weights, name)
        }

    def validation_step(self, batch: Batch, index: int) -> None:
        mask = batch["valid"]
        axes, field, centres = _cameras(batch)
        single, cross = self.network(self._inputs(batch), mask, axes, field, centres=centres)
        together = fuse(cross.points.joints, mask, relative_rotations(axes), cross.sure.mean(-1))
        true = batch["joints"]
        told = mask & true.isfinite().flatten(2).any(-1)  # a video has no truth
        if told.any():
            self.val_pa.update(_pa_mm(together[told], true[told]))
            self.val_cross.update(_pa_mm(cross.points.joints[told], true[told]))
            self.val_single.update(_pa_mm(single.points.joints[told], true[told]))
        places = (single.marks_uv - batch["landmarks"][..., :2]).norm(dim=-1)
        self.val_uv.update(places[mask])
        size = len(mask)
        self.log("val_pa_mpjpe", self.val_pa, prog_bar=True, batch_size=size)
        self.log("val_cross_pa_mpjpe", self.val_cross, batch_size=size)
        self.log("val_single_pa_mpjpe", self.val_single, prog_bar=True, batch_size=size)
        self.log("val_uv", self.val_uv, batch_size=size)

    def configure_optimizers(self) -> Any:
        network, slow = self.network, []
        if self.how.features != "evidence":
            slow = list(network.single.backbone.parameters())  # type: ignore[union-attr]
        of_backbone = {id(p) for p in slow}
        fast = [p for p in network.parameters() if id(p) not in of_backbone]
        world = self.trainer.world_size if self._trainer is not None else 1
        steps = steps_per_epoch(self.recipe, world) * self.recipe.trainer.epochs
        return planned(fast, slow, self.recipe.optimiser, steps)

    def _inputs(self, batch: Batch) -> Batch:
        if "image" not in self.network.inputs:
            return batch
        images = batch["image"].flatten(0, 1).permute(0, 3, 1, 2).float() / 255
        images = torch.nn.functional.interpolate(images, size=_PICTURE, mode="bilinear")
        return {"image": images.unflatten(0, batch["valid"].shape)}

    def _uv(self, hands: ViewHands, mask: Tensor, batch: Batch) -> Tensor:
        """To the landmark network's places, or where there are fitted ones, mostly to those."""
        seen = mask[..., None]
        said, trust = batch["landmarks"][..., :2], batch["presence"][..., None].expand(-1, -1, 21)
        if self.how.labels == "landmarks":
            return confident_places(hands.marks_uv, said, trust * seen)
        label = batch["label_uv"]
        sure = self._sure(batch) * seen
        # as far as the views agree with the network, its own eyes are sharper than the fit
        apart = (said - label).norm(dim=-1)
        agreed = torch.where(apart.isfinite(), 1 / (1 + (apart / 0.06).square()), 0.1)
        loss = confident_places(hands.marks_uv, said, 0.5 * trust * agreed * seen)
        return loss + confident_places(hands.marks_uv, label, sure)

    def _points(self, hands: ViewHands, mask: Tensor, batch: Batch) -> Tensor:
        sure = self._sure(batch) * mask[..., None]
        return label_points_loss(hands.points.marks, batch["label_points"], sure)

    def _sure(self, batch: Batch) -> Tensor:
        sigma = batch["label_sigma"]
        return 1 / (1 + (sigma.mean(-1, keepdim=True) / self.how.sigma) ** 4).expand_as(sigma)


def _cameras(batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """`crop_cameras` of a batch."""
    fields = {name: batch[name].cpu().numpy() for name in (*_PLACE, "valid")}
    axes, field, centres = (
        torch.from_numpy(x).to(batch["valid"].device) for x in crop_cameras(fields)
    )
    return axes, field, centres


def _some_views(mask: Tensor, share: float) -> Tensor:
    """Of `share` of the instants only a random part of the views (B, V), one at least."""
    order = torch.rand(mask.shape, device=mask.device).masked_fill(~mask, 2.0).argsort(1).argsort(1)
    count = mask.sum(1).clamp(min=1)
    wanted = 1 + (torch.rand(len(mask), device=mask.device) * count).long()
    wanted = torch.where(torch.rand(len(mask), device=mask.device) < share, wanted, count)
    return mask & (order < wanted[:, None])


def _pa_mm(predicted: Tensor, true: Tensor) -> Tensor:
    a, b = (x.detach().cpu().double().numpy() for x in (predicted, true))
    distance = np.linalg.norm(similarity_aligned(a, b, proper=True) - b, axis=-1)
    return torch.from_numpy(1e3 * np.nanmean(distance, axis=-1))
