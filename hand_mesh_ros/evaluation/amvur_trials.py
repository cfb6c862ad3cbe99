"""Short trainings of AMVUR that differ in one thing, for `amvur_experiments`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hand_mesh_ros.evaluation.metrics.alignment import similarity_aligned
from hand_mesh_ros.evaluation.metrics.uncertainty import coverage, nees, negative_log_likelihood
from hand_mesh_ros.hand.model import load_hand_model
from hand_mesh_ros.networks.amvur import AmvurNetwork, AmvurSettings
from hand_mesh_ros.training.amvur_losses import landmark_sigma
from hand_mesh_ros.training.amvur_module import PRIOR_VERTICES, AmvurModule, cues_of
from hand_mesh_ros.training.amvur_objectives import AmvurWeights, supervised, weak
from hand_mesh_ros.training.instant_sources import folder_of
from hand_mesh_ros.training.instants import InstantStore

Array = NDArray[np.float64]
Batch = dict[str, Tensor]
_MAPS: Final = ("middle", "coarse")
_BATCH = 64
_RATE = 2e-3
_TIPS = (4, 8)  # of thumb and index finger: a pinch


@dataclass(frozen=True, eq=False)
class Views:
    """Stored views in memory, `batch` (N, ...), with the visible share of each hand (N,)."""

    batch: Batch
    shown: Array

    def __len__(self) -> int:
        return len(self.shown)

    def take(self, which: Tensor | slice) -> Batch:
        """Some of them, in single precision."""
        return {
            name: x[which].float() if x.is_floating_point() else x[which]
            for name, x in self.batch.items()
        }


@dataclass(frozen=True)
class Trial:
    """What a training is: the network, the objective and the share of the views that it sees."""

    settings: AmvurSettings = AmvurSettings()
    weights: AmvurWeights = AmvurWeights()
    share: float = 1.0


@dataclass(frozen=True, eq=False)
class Judged:
    """Errors of N views, m: joints (N, 21, 3) of the regressor and of the prior, after a

    similarity, as means (N,); covariance (N, 20, 3, 3), and pinch (N, 3) error of the vector from
    thumb's to index finger's tip with its covariance (N, 3, 3), as by the joint covariance.
    """

    pa: Array
    prior_pa: Array
    error: Array
    covariance: Array
    pinch: Array
    pinch_covariance: Array

    @property
    def row(self) -> dict[str, float]:
        """The numbers of a table; lengths in mm, coverages in percent."""
        shares = 100 * coverage(self.error, self.covariance)
        numbers = {
            "pa_mm": 1e3 * self.pa.mean(),
            "prior_pa_mm": 1e3 * self.prior_pa.mean(),
            "nll": negative_log_likelihood(self.error, self.covariance).mean(),
            "nees": nees(self.error, self.covariance).mean() / 3,
            "coverage_68": shares[1],
            "pinch_nees": nees(self.pinch, self.pinch_covariance).mean() / 3,
        }
        return {name: round(float(value), 3) for name, value in numbers.items()}


def load_views(name: str, count: int) -> Views:
    """About `count` views of a store's first instants. Raises StoreError."""
    fields = tuple(dict.fromkeys((*_MAPS, *AmvurModule.store_fields)))
    store = InstantStore(folder_of(name), {*fields, "valid", "visible_share"})
    instants = np.arange(min(len(store), -(-count // store.views)))
    read = store.read(instants, [*fields, "valid", "visible_share"])
    valid = read.pop("valid")
    shown = read.pop("visible_share")[valid].astype(np.float64)
    return Views({k: torch.from_numpy(x[valid]) for k, x in read.items()}, shown)


def train(
    trial: Trial, views: Views, steps: int, seed: int, tick: Callable[[], None]
) -> AmvurNetwork:
    """A network after `steps` batches of 64 by AdamW with one warm-up and decay."""
    torch.manual_seed(seed)
    network = AmvurNetwork(load_hand_model(), replace(trial.settings, maps=_MAPS))
    optimiser = torch.optim.AdamW(network.parameters(), lr=_RATE, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, _RATE, steps, pct_start=0.1)
    count = max(int(trial.share * len(views)), 1)
    for step in range(steps):
        batch = views.take(torch.randint(count, (_BATCH,)))
        ramp = float(np.clip(step / steps / max(trial.weights.warm, 1e-6) - 1, 0, 1))
        loss = torch.stack(list(_losses(network, batch, trial.weights, ramp).values())).sum()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        tick()
    return network.eval()


def judge(network: AmvurNetwork, views: Views) -> Judged:
    """A network's answers to views that it was not trained on."""
    columns: list[tuple[Array, ...]] = []
    for first in range(0, len(views), _BATCH):
        batch = views.take(slice(first, first + _BATCH))
        with torch.inference_mode():
            hands = network(cues_of(batch, _MAPS))
            marginal = network.joint_covariance(hands)
            full = hands.covariance.full().unflatten(2, (20, 3)).unflatten(1, (20, 3))
        a, b = (tip - 1 for tip in _TIPS)
        apart = full[:, a, :, a] + full[:, b, :, b] - full[:, a, :, b] - full[:, b, :, a]
        error = hands.joints - batch["joints"]
        pinch = error[:, _TIPS[1]] - error[:, _TIPS[0]]
        true = _numpy(batch["joints"])
        moved = [
            np.linalg.norm(similarity_aligned(_numpy(x), true, proper=True) - true, axis=-1).mean(1)
            for x in (hands.joints, hands.base.points[:, :21])
        ]
        columns.append((*moved, *(_numpy(x) for x in (error[:, 1:], marginal, pinch, apart))))
    return Judged(*(np.concatenate(column) for column in zip(*columns, strict=True)))


def _losses(
    network: AmvurNetwork, batch: Batch, weights: AmvurWeights, ramp: float
) -> dict[str, Tensor]:
    cues = cues_of(batch, _MAPS)
    hands = network(cues, 21 + PRIOR_VERTICES)
    if weights.objective == "weak":
        seen, sigma = batch["landmarks"][..., :2], landmark_sigma(batch["presence"])
        return weak(network, hands, cues, seen, sigma, weights, ramp)
    return supervised(network, hands, cues, batch, weights, ramp)


def _numpy(x: Tensor) -> Array:
    return x.double().numpy()
