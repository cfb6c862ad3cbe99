"""The task `mano`: one crop to MANO's parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import lightning
import numpy as np
import torch
from torch import Tensor
from torchmetrics import MeanMetric

from hand_mesh_ros.evaluation.metrics.alignment import similarity_aligned
from hand_mesh_ros.evaluation.metrics.position import by_sample, distances
from hand_mesh_ros.networks.mano_network import ManoNetwork
from hand_mesh_ros.training.data import hand_model_of, steps_per_epoch
from hand_mesh_ros.training.losses import ManoWeights, mano_losses
from hand_mesh_ros.training.optimise import planned
from hand_mesh_ros.training.recipes import Recipe
from hand_mesh_ros.training.settings import settings_from

Batch = dict[str, Tensor]


@dataclass(frozen=True)
class ManoModelSettings:
    """The recipe's `model`: a backbone by name, whether it stays as it is, and the head's size.

    weights: the file that the backbone reads, of those that read one (`create_backbone`).
    """

    backbone: str = "landmark_trunk"
    frozen: bool = False
    channels: int = 64
    hidden: int = 512
    weights: str | None = None

    def __post_init__(self) -> None:
        for name in ("channels", "hidden"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")


class ManoModule(lightning.LightningModule):
    """Trains a `ManoNetwork`; validates it by the project's own metrics.

    Logs `train_loss` and its parts; `val_loss`, `val_mpjpe` (relative to the wrist) and
    `val_pa_mpjpe` (rotations only, no reflection), both mm.
    """

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.recipe = recipe
        settings = settings_from(ManoModelSettings, recipe.model, recipe.file, "model")
        self.weights = settings_from(ManoWeights, recipe.losses, recipe.file, "losses")
        # the head's first weights are the recipe's too, whatever ran before in this process
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            self.network = ManoNetwork(hand_model_of(recipe), **vars(settings))
        self.val_mpjpe, self.val_pa_mpjpe = MeanMetric(), MeanMetric()

    def training_step(self, batch: Batch, index: int) -> Tensor:
        parts, _ = self._losses(batch)
        loss = torch.stack(list(parts.values())).sum()
        self.log("train_loss", loss, prog_bar=True)
        self.log_dict({f"train_{name}": value.detach() for name, value in parts.items()})
        return loss

    def validation_step(self, batch: Batch, index: int) -> None:
        parts, joints = self._losses(batch)
        predicted, true = _metres(joints - joints[:, :1]), _metres(batch["joints"])
        aligned = similarity_aligned(predicted, true, proper=True)
        self.val_mpjpe.update(_millimetres(predicted, true))
        self.val_pa_mpjpe.update(_millimetres(aligned, true))
        size = len(joints)
        self.log("val_loss", torch.stack(list(parts.values())).sum(), batch_size=size,
                 sync_dist=True)  # fmt: skip
        self.log("val_mpjpe", self.val_mpjpe, batch_size=size)
        self.log("val_pa_mpjpe", self.val_pa_mpjpe, prog_bar=True, batch_size=size)

    def configure_optimizers(self) -> Any:
        slow = [p for p in self.network.backbone.parameters() if p.requires_grad]
        world = self.trainer.world_size if self._trainer is not None else 1
        steps = steps_per_epoch(self.recipe, world) * self.recipe.trainer.epochs
        return planned(self.network.head.parameters(), slow, self.recipe.optimiser, steps)

    def _losses(self, batch: Batch) -> tuple[dict[str, Tensor], Tensor]:
        output, hands = self.network(batch["image"])
        return mano_losses(output, hands.joints, batch, self.weights), hands.joints


def _metres(joints: Tensor) -> np.ndarray:
    return joints.detach().cpu().double().numpy()


def _millimetres(predicted: np.ndarray, true: np.ndarray) -> Tensor:
    """Mean error of each sample of which some joint is known, (M,) mm."""
    errors = by_sample(distances(predicted, true))
    return torch.from_numpy(1e3 * errors[np.isfinite(errors)])
