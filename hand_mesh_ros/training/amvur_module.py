"""The task `amvur`: a crop's evidence to a probabilistic hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lightning
import numpy as np
import torch
from torch import Tensor
from torchmetrics import MeanMetric

from hand_mesh_ros.evaluation.metrics.alignment import similarity_aligned
from hand_mesh_ros.evaluation.metrics.uncertainty import LEVELS, nees
from hand_mesh_ros.networks.amvur import AmvurNetwork, AmvurSettings
from hand_mesh_ros.networks.amvur_prior import Cues, evidence_cues
from hand_mesh_ros.networks.evidence import CROP
from hand_mesh_ros.training.amvur_losses import landmark_sigma
from hand_mesh_ros.training.amvur_objectives import (
    AmvurWeights,
    published,
    supervised,
    weak,
)
from hand_mesh_ros.training.data import hand_model_of, steps_per_epoch
from hand_mesh_ros.training.instant_data import Views
from hand_mesh_ros.training.optimise import planned
from hand_mesh_ros.training.recipes import Recipe
from hand_mesh_ros.training.settings import RecipeError, settings_from

Batch = dict[str, Tensor]
PRIOR_VERTICES = 8  # of which the prior's covariance is told in training
_WITHIN = (2.366, 3.506, 7.815)  # chi-squared with three degrees of freedom at `LEVELS`


class AmvurModule(lightning.LightningModule):
    """Trains an `AmvurNetwork` on stores by the recipe's objective; validates by 3D truth.

    Logs `train_loss` and its parts; `val_mpjpe`, `val_pa_mpjpe` and `val_prior_pa_mpjpe`, mm;
    `val_nees` (of three, so 1 is right) and `val_coverage_68`, before any calibration.
    """

    store_fields: tuple[str, ...] = (
        "coarse", "landmarks", "world", "joints", "uv", "rotations", "betas", "visibility",
        "presence", "K", "crop_matrix",
    )  # fmt: skip
    store_views: Views = "one"

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.recipe = recipe
        settings = settings_from(AmvurSettings, recipe.model, recipe.file, "model")
        self.weights = settings_from(AmvurWeights, recipe.losses, recipe.file, "losses")
        if settings.features != "evidence":
            raise RecipeError(
                f"{recipe.file}: model.features is {settings.features!r}; stores hold evidence"
            )
        if (settings.covariance == "sampled") != (self.weights.objective == "published"):
            raise RecipeError(
                f"{recipe.file}: losses.objective published and model.covariance sampled need each "
                "other"
            )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            self.network = AmvurNetwork(hand_model_of(recipe), settings)
        self.store_fields = tuple(dict.fromkeys((*settings.maps, *self.store_fields)))
        self.val_mpjpe, self.val_pa_mpjpe = MeanMetric(), MeanMetric()
        self.val_prior_pa_mpjpe, self.val_nees = MeanMetric(), MeanMetric()
        self.val_coverage_68 = MeanMetric()

    def training_step(self, batch: Batch, index: int) -> Tensor:
        parts = self.losses(batch, self._ramp())
        loss = torch.stack(list(parts.values())).sum()
        self.log("train_loss", loss, prog_bar=True)
        self.log_dict({f"train_{name}": value.detach() for name, value in parts.items()})
        return loss

    def losses(self, batch: Batch, ramp: float = 1.0) -> dict[str, Tensor]:
        """Weighted parts of the objective."""
        cues = cues_of(batch, self.network.settings.maps)
        hands = self.network(cues, 21 + PRIOR_VERTICES)
        if self.weights.objective == "published":
            return published(self.network, hands, cues, batch)
        if self.weights.objective == "weak":
            seen, sigma = batch["landmarks"][..., :2], landmark_sigma(batch["presence"])
            return weak(self.network, hands, cues, seen, sigma, self.weights, ramp)
        return supervised(self.network, hands, cues, batch, self.weights, ramp)

    def validation_step(self, batch: Batch, index: int) -> None:
        hands = self.network(cues_of(batch, self.network.settings.maps))
        true = _metres(batch["joints"])
        predicted, prior = _metres(hands.joints), _metres(hands.base.points[:, :21])
        covariance = _metres(self.network.joint_covariance(hands))
        squared = torch.from_numpy(nees((predicted - true)[:, 1:], covariance))
        figures = {
            "val_mpjpe": _millimetres(predicted, true),
            "val_pa_mpjpe": _millimetres(similarity_aligned(predicted, true, proper=True), true),
            "val_prior_pa_mpjpe": _millimetres(similarity_aligned(prior, true, proper=True), true),
            "val_nees": squared.mean(1) / 3,
            "val_coverage_68": (squared < _WITHIN[LEVELS.index(0.68)]).double().mean(1),
        }
        for name, values in figures.items():
            metric = getattr(self, name)
            metric.update(values)
            self.log(name, metric, prog_bar=name == "val_pa_mpjpe", batch_size=len(true))

    def configure_optimizers(self) -> Any:
        world = self.trainer.world_size if self._trainer is not None else 1
        steps = steps_per_epoch(self.recipe, world) * self.recipe.trainer.epochs
        return planned(self.parameters(), [], self.recipe.optimiser, steps)

    def _ramp(self) -> float:
        """How much likelihoods count: nothing at first, all of it twice as late."""
        done = self.trainer.global_step / max(float(self.trainer.estimated_stepping_batches), 1.0)
        warm = self.weights.warm
        return float(np.clip(done / warm - 1, 0, 1)) if warm else 1.0


def cues_of(batch: Batch, maps: Sequence[str]) -> Cues:
    """Of a batch of a store's views."""
    area = torch.linalg.det(batch["K"][..., :2, :2]).abs()
    side = CROP * torch.linalg.det(batch["crop_matrix"][..., :2]).abs().sqrt()
    return evidence_cues(batch, (area.sqrt() / (side / 2)).float(), maps)


def _metres(points: Tensor) -> np.ndarray:
    return points.detach().cpu().double().numpy()


def _millimetres(predicted: np.ndarray, true: np.ndarray) -> Tensor:
    return torch.from_numpy(1e3 * np.linalg.norm(predicted - true, axis=-1).mean(-1))
