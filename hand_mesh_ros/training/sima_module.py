"""The tasks `sima-mvr` and `sima-svr`: SiMA-Hand's teacher of several views, and its student."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from torch import Tensor
from torchmetrics import MeanMetric

from hand_mesh_ros.evaluation.metrics.alignment import similarity_aligned
from hand_mesh_ros.evaluation.metrics.position import by_sample, distances
from hand_mesh_ros.networks.mano_layer import ManoLayer
from hand_mesh_ros.networks.sima import Sima, SimaHands, SimaSettings
from hand_mesh_ros.networks.sima_weights import hierarchy_cache, open_sima
from hand_mesh_ros.training.data import hand_model_of, steps_per_epoch
from hand_mesh_ros.training.optimise import planned
from hand_mesh_ros.training.recipes import Recipe
from hand_mesh_ros.training.settings import settings_from
from hand_mesh_ros.training.sima_losses import (
    HandTruth,
    SimaWeights,
    Teaching,
    TeachingWeights,
    sima_losses,
)

Batch = dict[str, Tensor]

_TRUTH = ("joints", "uv", "rotations", "betas", "visible_share")
_PLACE = ("T_camera_world", "R_crop_camera", "left")


@dataclass(frozen=True)
class SimaTraining:
    """The recipe's `losses`.

    hand: of truths. teaching: of a teacher. hidden: share of the views of a single-view network
    that have some of their evidence taken away in training (`hidden_evidence`), which the teacher
    sees. missing: share of the views that a multi-view network is not shown in training.
    """

    hand: SimaWeights = field(default_factory=SimaWeights)
    teaching: TeachingWeights = field(default_factory=TeachingWeights)
    hidden: float = 0.0
    missing: float = 0.0

    def __post_init__(self) -> None:
        for name in ("hidden", "missing"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 0 and less than 1")


class _SimaModule(lightning.LightningModule):
    """What both have: truths, losses, validation by the project's own metrics.

    Logs `val_mpjpe`, `val_mpvpe` (relative to the wrist), `val_pa_mpjpe`, `val_pa_mpvpe` (rotations
    only, no reflection), mm.
    """

    store_views = "all"

    def __init__(self, recipe: Recipe, settings: SimaSettings) -> None:
        super().__init__()
        self.recipe = recipe
        self.how = settings_from(SimaTraining, recipe.losses, recipe.file, "losses")
        model = hand_model_of(recipe)
        # first weights are the recipe's too, whatever ran before in this process
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            self.network = Sima(model, settings, hierarchy_cache())
        self.layer = ManoLayer(model)
        self.val_mpjpe, self.val_mpvpe = MeanMetric(), MeanMetric()
        self.val_pa_mpjpe, self.val_pa_mpvpe = MeanMetric(), MeanMetric()

    @property
    def store_fields(self) -> tuple[str, ...]:
        return (*dict.fromkeys((*self.network.reads, *_TRUTH, *_PLACE)),)

    def validation_step(self, batch: Batch, index: int) -> None:
        mask = batch["valid"]
        hands = self.network.together(batch, mask, crop_axes_of(batch))
        truth, vertices = self._truth(batch, mask, whole=True)
        for name, values in errors_of(hands, truth, vertices).items():
            metric: MeanMetric = getattr(self, f"val_{name}")
            metric.update(torch.from_numpy(values))
            shown = name == "pa_mpjpe"
            self.log(f"val_{name}", metric, prog_bar=shown, batch_size=int(mask.sum()))

    def configure_optimizers(self) -> Any:
        world = self.trainer.world_size if self._trainer is not None else 1
        steps = steps_per_epoch(self.recipe, world) * self.recipe.trainer.epochs
        trained = [p for p in self.parameters() if p.requires_grad]
        return planned(trained, [], self.recipe.optimiser, steps)

    def _told(self, parts: Mapping[str, Tensor]) -> Tensor:
        loss = torch.stack(list(parts.values())).sum()
        self.log("train_loss", loss, prog_bar=True)
        self.log_dict({f"train_{name}": value.detach() for name, value in parts.items()})
        return loss

    def _losses(self, hands: SimaHands, truth: HandTruth) -> dict[str, Tensor]:
        network, weights = self.network, self.how.hand
        epoch = self.trainer.current_epoch if self._trainer is not None else weights.first_epochs
        return sima_losses(
            hands, truth, network.head_vertices, network.head_faces, weights,
            oriented=epoch >= weights.first_epochs,
        )  # fmt: skip

    @torch.no_grad()
    def _truth(self, batch: Batch, mask: Tensor, whole: bool = False) -> tuple[HandTruth, Tensor]:
        """`truth_of`, of the vertices of the decoder's last level, or of the `whole` mesh."""
        truth, vertices = truth_of(batch, mask, self.layer)
        if whole:
            return truth, vertices
        kept = vertices[:, self.network.head_vertices]
        return truth._replace(vertices0=kept), kept


class SimaMvrModule(_SimaModule):
    """The teacher: all views of an instant together; some are missing in training."""

    def __init__(self, recipe: Recipe) -> None:
        settings = settings_from(SimaSettings, recipe.model, recipe.file, "model")
        super().__init__(recipe, replace(settings, multi=True))

    def training_step(self, batch: Batch, index: int) -> Tensor:
        mask = some_missing(batch["valid"], self.how.missing)
        hands = self.network.together(batch, mask, crop_axes_of(batch))
        truth, _ = self._truth(batch, mask)
        return self._told(self._losses(hands, truth))


class SimaSvrModule(_SimaModule):
    """The student, of one view; with a `teacher` it learns from that too, else from truths alone.

    model.teacher: a file of `sima-mvr`'s weights, "shipped", or none. model.begin: True begins with
    what the teacher's network has of the same shape (its trunk and branches).
    """

    def __init__(self, recipe: Recipe) -> None:
        values = dict(recipe.model)
        teacher, begin = values.pop("teacher", None), bool(values.pop("begin", False))
        settings = settings_from(SimaSettings, values, recipe.file, "model")
        super().__init__(recipe, replace(settings, multi=False))
        self.teaching: Teaching | None = None
        self._teacher: list[Sima] = []  # not a part of what is trained, averaged and kept
        if teacher is None:
            return
        path = None if teacher == "shipped" else Path(str(teacher)).expanduser()
        taught_by = open_sima("sima_mvr", hand_model_of(recipe), path)
        taught_by.eval().requires_grad_(False)
        self._teacher.append(taught_by)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed + 1)
            channels = self.network.trunk.joint_channels
            self.teaching = Teaching(channels, self.network.coarsest, self.how.teaching)
        if begin:
            own = self.network.state_dict()
            same = {
                key: value for key, value in taught_by.state_dict().items()
                if key in own and own[key].shape == value.shape
            }  # fmt: skip
            self.network.load_state_dict(own | same)

    def training_step(self, batch: Batch, index: int) -> Tensor:
        mask = batch["valid"]
        seen = hidden_evidence(batch, self.how.hidden) if self.how.hidden else batch
        hands = self.network.together(seen, mask)
        truth, _ = self._truth(batch, mask)
        parts = self._losses(hands, truth)
        if self.teaching is not None:
            with torch.no_grad():
                teacher = self._teacher[0].to(mask.device)
                target = teacher.together(batch, mask, crop_axes_of(batch))
            shown = batch["visible_share"][mask]
            parts |= self.teaching(hands, target, self.network.head_vertices, shown)
        return self._told(parts)


def crop_axes_of(batch: Mapping[str, Tensor]) -> Tensor:
    """(B, V, 3, 3) from the world to each crop's axes; of mirrored ones, for left hands."""
    axes = batch["R_crop_camera"] @ batch["T_camera_world"][..., :3, :3]
    mirror = torch.tensor([-1.0, 1, 1], dtype=axes.dtype, device=axes.device)
    mirrored = axes * mirror[:, None] * mirror
    return torch.where(batch["left"].bool()[:, None, None, None], mirrored, axes)


def truth_of(batch: Batch, mask: Tensor, layer: ManoLayer) -> tuple[HandTruth, Tensor]:
    """Truths of the N views that `mask` (B, V) has, and their whole meshes (N, V, 3), unturned.

    What is the same for all views of a hand is made once: pose and shape of its first view.
    """
    hands, first = torch.arange(len(mask), device=mask.device), mask.int().argmax(1)
    rotations, betas = batch["rotations"][hands, first].clone(), batch["betas"][hands, first]
    rotations[:, 0] = torch.eye(3, device=rotations.device)
    posed = layer(rotations, betas)
    of = hands[:, None].expand_as(mask)[mask]
    truth = HandTruth(
        posed.vertices[of], posed.joints[of], batch["joints"][mask],
        batch["rotations"][mask][:, 0], batch["uv"][mask],
    )  # fmt: skip
    return truth, truth.vertices0


def some_missing(valid: Tensor, share: float) -> Tensor:
    """The mask (B, V) without a random `share` of its views, but never without all of them."""
    if not share:
        return valid
    kept = valid & (torch.rand(valid.shape, device=valid.device) >= share)
    return torch.where(kept.any(1, keepdim=True), kept, valid)


def hidden_evidence(batch: Batch, share: float) -> Batch:
    """As if something were before `share` of the views: part of their maps is gone.

    A random rectangle of up to half a side of both maps becomes their mean, and the landmarks in it
    are moved at random: what the landmark network does where it sees nothing.
    """
    coarse, middle = batch["coarse"], batch["middle"]
    leading = coarse.shape[:2]
    device = coarse.device
    centre = 1.4 * torch.rand(*leading, 1, 2, device=device) - 0.7
    half = 0.2 + 0.4 * torch.rand(*leading, 1, 2, device=device)
    struck = torch.rand(*leading, 1, device=device) < share

    def within(places: Tensor) -> Tensor:
        return ((places - centre).abs() < half).all(-1) & struck

    def blanked(maps: Tensor) -> Tensor:
        size = maps.shape[2]
        line = (torch.arange(size, device=device) + 0.5) * 2 / size - 1
        places = torch.stack(torch.meshgrid(line, line, indexing="xy"), -1).flatten(0, 1)
        gone = within(places[None, None]).unflatten(-1, (size, size)).unsqueeze(-1)
        return torch.where(gone, maps.mean((2, 3), keepdim=True), maps)

    gone = within(batch["landmarks"][..., :2]).unsqueeze(-1)
    step = torch.randn_like(batch["landmarks"])
    return {
        **batch,
        "coarse": blanked(coarse),
        "middle": blanked(middle),
        "landmarks": batch["landmarks"] + torch.where(gone, 0.15 * step, 0.0),
        "world": batch["world"] + torch.where(gone, 0.012 * step, 0.0),
    }


def errors_of(hands: SimaHands, truth: HandTruth, vertices0: Tensor) -> dict[str, np.ndarray]:
    """The four errors (N,) of N views, mm, by the project's metrics; of what is known."""
    true_vertices = (vertices0 - truth.joints0[:, :1]) @ truth.rotation.mT
    pairs = {
        "j": (hands.joints - hands.joints[:, :1], truth.joints),
        "v": (hands.vertices - hands.joints[:, :1], true_vertices),
    }
    out = {}
    for name, (predicted, true) in pairs.items():
        ours, theirs = (t.detach().cpu().double().numpy() for t in (predicted, true))
        kept = np.isfinite(theirs).all(-1).any(-1)
        ours, theirs = ours[kept], theirs[kept]
        out[f"mp{name}pe"] = 1e3 * by_sample(distances(ours, theirs))
        aligned = similarity_aligned(ours, theirs, proper=True)
        out[f"pa_mp{name}pe"] = 1e3 * by_sample(distances(aligned, theirs))
    return out
