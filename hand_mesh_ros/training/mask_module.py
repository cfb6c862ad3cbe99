"""The task `hand-mask`: evidence of a crop to where the hand itself is seen in it."""

from __future__ import annotations

from typing import Any

import lightning
import torch
from torch import Tensor
from torchmetrics import MeanMetric

from hand_mesh_ros.networks.hand_mask import HandMask
from hand_mesh_ros.render.scenes import HAND
from hand_mesh_ros.training.data import steps_per_epoch
from hand_mesh_ros.training.optimise import planned
from hand_mesh_ros.training.recipes import Recipe

AMODAL = 128  # added to the owner's number where the whole hand would be seen


class HandMaskModule(lightning.LightningModule):
    """Binary cross-entropy by pixel; logs `val_iou` of the masks at one half, in percent."""

    best_by = "val_loss"
    store_fields = ("fine", "middle", "coarse", "owner")
    store_views = "one"

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.recipe = recipe
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            self.network = HandMask(**recipe.model)
        self.val_iou = MeanMetric()

    def training_step(self, batch: dict[str, Tensor], index: int) -> Tensor:
        logits, truth = self._answer(batch)
        loss = nn_loss(logits, truth)
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: dict[str, Tensor], index: int) -> None:
        logits, truth = self._answer(batch)
        found, true = logits > 0, truth > 0.5
        both, either = (found & true).sum((1, 2)), (found | true).sum((1, 2))
        self.val_iou.update(100 * both / either.clamp(min=1))
        size = len(logits)
        self.log("val_loss", nn_loss(logits, truth), batch_size=size)
        self.log("val_iou", self.val_iou, prog_bar=True, batch_size=size)

    def configure_optimizers(self) -> Any:
        steps = steps_per_epoch(self.recipe) * self.recipe.trainer.epochs
        return planned(self.network.parameters(), [], self.recipe.optimiser, steps)

    def _answer(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        logits = self.network(batch["fine"], batch["middle"], batch["coarse"])
        return logits, ((batch["owner"].long() % AMODAL) == HAND + 1).float()


def nn_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """Mean binary cross-entropy of logits and 0 or 1."""
    return torch.nn.functional.binary_cross_entropy_with_logits(logits, truth)
