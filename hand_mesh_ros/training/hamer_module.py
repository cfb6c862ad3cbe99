"""The task `hamer`: HaMeR's losses, its discriminator, and whichever of its networks is named."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import lightning
import numpy as np
import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric

from hand_mesh_ros.evaluation.metrics.alignment import similarity_aligned
from hand_mesh_ros.evaluation.metrics.position import by_sample, distances
from hand_mesh_ros.networks.discriminator import Discriminator
from hand_mesh_ros.networks.reconstruction import Reconstruction
from hand_mesh_ros.training.data import steps_per_epoch
from hand_mesh_ros.training.hamer_losses import (
    HamerTruth,
    HamerWeights,
    Reduction,
    adversarial_loss,
    discriminator_loss,
    hamer_parts,
)
from hand_mesh_ros.training.hamer_subjects import CropSubject, SmallSubject, Subject
from hand_mesh_ros.training.mocap import Recorded
from hand_mesh_ros.training.optimise import planned
from hand_mesh_ros.training.recipes import Recipe
from hand_mesh_ros.training.settings import settings_from

Batch = dict[str, Tensor]
_CROP = 224


@dataclass(frozen=True)
class HamerTaskSettings:
    """The recipe's `model` beside the network's own sizes.

    network: "small" (`networks.hamer_small`, on stores) or "published" (`networks.hamer`, on
    crops). reduction: how losses of a batch's samples are taken together, "sum" as published.
    mocap: file of recorded poses for the discriminator (`mocap.Recorded`); None: the batch's own
    true ones. judge_rate: the discriminator's learning rate as a share of the network's.
    """

    network: Literal["small", "published"] = "small"
    reduction: Reduction = "sum"
    mocap: str | None = None
    judge_rate: float = 1.0

    def __post_init__(self) -> None:
        if not self.judge_rate > 0:
            raise ValueError(f"judge_rate must be greater than 0, not {self.judge_rate}")


class HamerModule(lightning.LightningModule):
    """Trains a network and the discriminator that judges it in turns, each by its own optimiser.

    Logs `train_loss`, its weighted parts and `train_judge`; `val_loss`, `val_mpjpe` (relative to
    the wrist) and `val_pa_mpjpe`, mm, and `val_uv_px`, pixels of a crop of 224.
    """

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.recipe = recipe
        mine = {field.name for field in fields(HamerTaskSettings)}
        chosen = {k: v for k, v in recipe.model.items() if k in mine}
        sizes = {k: v for k, v in recipe.model.items() if k not in mine}
        self.settings = settings_from(HamerTaskSettings, chosen, recipe.file, "model")
        self.loss_weights = settings_from(HamerWeights, recipe.losses, recipe.file, "losses")
        # the first weights are the recipe's too, whatever ran before in this process
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            small = self.settings.network == "small"
            self.subject: Subject = (
                SmallSubject(recipe, sizes) if small else CropSubject(recipe, sizes)
            )
            self.network: nn.Module = self.subject.network
            self.judge = self.subject.judge or Discriminator()
        self.recorded = Recorded(self.settings.mocap, recipe.file)
        self.val_mpjpe, self.val_pa_mpjpe, self.val_uv_px = (MeanMetric() for _ in range(3))

    def data(self) -> lightning.LightningDataModule:
        """The network's own batches."""
        return self.subject.data()

    def training_step(self, batch: Batch, index: int) -> None:
        accumulate = self.recipe.trainer.accumulate
        step = (index + 1) % accumulate == 0 or self.trainer.is_last_batch
        optimisers: Any = self.optimizers()
        by_network, by_judge = optimisers
        truth = self.subject.truth(batch)
        self.toggle_optimizer(by_network)
        predicted, parts = self._parts(batch, truth)
        if self.loss_weights.adversarial:
            verdicts = self.judge(predicted.rotations[:, 1:], predicted.betas)
            parts["adversarial"] = self.loss_weights.adversarial * adversarial_loss(verdicts)
        loss = torch.stack(list(parts.values())).sum()
        self.manual_backward(loss / accumulate)
        self._stepped(by_network, step)
        if self.loss_weights.adversarial:
            self.toggle_optimizer(by_judge)
            judged = self._judged(predicted, truth)
            self.manual_backward(judged * self.loss_weights.adversarial / accumulate)
            self._stepped(by_judge, step)
            self.log("train_judge", judged.detach())
        if step:
            schedules: Any = self.lr_schedulers()
            for schedule in schedules if self.loss_weights.adversarial else schedules[:1]:
                schedule.step()
        self.log("train_loss", loss.detach(), prog_bar=True)
        self.log_dict({f"train_{name}": value.detach() for name, value in parts.items()})

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        """Clips, which Lightning leaves to those who step by hand; gradients are unscaled here."""
        clip = self.recipe.optimiser.clip
        if clip:
            for group in optimizer.param_groups:
                nn.utils.clip_grad_norm_(group["params"], clip)

    def validation_step(self, batch: Batch, index: int) -> None:
        truth = self.subject.truth(batch)
        predicted, parts = self._parts(batch, truth)
        points, known = truth.keypoints_3d.split([3, 1], dim=-1)
        true = _numbers(torch.where(known > 0, points - points[:, :1], torch.nan))
        joints = _numbers(predicted.joints - predicted.joints[:, :1])
        self.val_mpjpe.update(_of_samples(joints, true, 1e3))
        self.val_pa_mpjpe.update(
            _of_samples(similarity_aligned(joints, true, proper=True), true, 1e3)
        )
        uv, seen = truth.keypoints_2d.split([2, 1], dim=-1)
        places = _numbers(torch.where(seen > 0, uv, torch.nan))
        self.val_uv_px.update(_of_samples(_numbers(predicted.joints_2d), places, _CROP))
        size = len(joints)
        loss = torch.stack(list(parts.values())).sum()
        self.log("val_loss", loss, batch_size=size, sync_dist=True)
        self.log("val_mpjpe", self.val_mpjpe, batch_size=size)
        self.log("val_pa_mpjpe", self.val_pa_mpjpe, prog_bar=True, batch_size=size)
        self.log("val_uv_px", self.val_uv_px, batch_size=size)

    def configure_optimizers(self) -> Any:
        world = self.trainer.world_size if self._trainer is not None else 1
        steps = steps_per_epoch(self.recipe, world) * self.recipe.trainer.epochs
        how = self.recipe.optimiser
        slow = [p for p in self.subject.slow() if p.requires_grad]
        apart = {id(p) for p in slow} | {id(p) for p in self.judge.parameters()}
        fast = [p for p in self.network.parameters() if id(p) not in apart and p.requires_grad]
        judge = type(how)(**{**asdict(how), "rate": how.rate * self.settings.judge_rate})
        return [
            planned(fast, slow, how, steps),
            planned(self.judge.parameters(), [], judge, steps),
        ]

    def _stepped(self, optimiser: Any, now: bool) -> None:
        if now:
            optimiser.step()
            optimiser.zero_grad()
        self.untoggle_optimizer(optimiser)

    def _parts(self, batch: Batch, truth: HamerTruth) -> tuple[Reconstruction, dict[str, Tensor]]:
        """The answer and the parts of its loss, each times its weight."""
        predicted, others = self.subject.answer(batch)
        how = self.settings.reduction
        parts = hamer_parts(predicted, truth, how)
        for name, places in others.items():
            also = hamer_parts(predicted._replace(joints_2d=places), truth, how)
            parts[name] = also["keypoints_2d"]
        weights, usual = vars(self.loss_weights), self.loss_weights.keypoints_2d
        return predicted, {k: weights.get(k, usual) * value for k, value in parts.items()}

    def _judged(self, predicted: Reconstruction, truth: HamerTruth) -> Tensor:
        fake = self.judge(predicted.rotations[:, 1:].detach(), predicted.betas.detach())
        rotations, betas = self.recorded.draw(truth)
        return discriminator_loss(fake, self.judge(rotations, betas))


def _numbers(values: Tensor) -> np.ndarray:
    return values.detach().cpu().double().numpy()


def _of_samples(predicted: np.ndarray, true: np.ndarray, scale: float) -> Tensor:
    """Mean error of each sample of which some joint is known."""
    errors = by_sample(distances(predicted, true))
    return torch.from_numpy(scale * errors[np.isfinite(errors)])
