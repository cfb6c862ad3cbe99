"""The moving average, by hand."""

from __future__ import annotations

import lightning
import pytest
import torch
from torch.utils.data import DataLoader

from hand_mesh_ros.training.ema import MovingAverage


class OneWeight(lightning.LightningModule):
    """A weight that starts at 0; every step of this gradient adds 1."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen: list[float] = []

    def training_step(self, batch: torch.Tensor, index: int) -> torch.Tensor:
        return -self.weight.sum()

    def validation_step(self, batch: torch.Tensor, index: int) -> None:
        self.seen.append(self.weight.item())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1.0)


def _fitted(decay: float, steps: int) -> OneWeight:
    module = OneWeight()
    trainer = lightning.Trainer(
        max_steps=steps, accelerator="cpu", devices=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
        callbacks=[MovingAverage(decay)],
    )  # fmt: skip
    batches = DataLoader(torch.zeros(steps, 1))
    trainer.fit(module, batches, DataLoader(torch.zeros(1, 1)))
    return module


def test_average_by_hand() -> None:
    # weights 1, 2, 3, 4; decays: the first is copied, then 2/11, 3/12, 4/13
    average = 1.0
    average = 2 / 11 * average + 9 / 11 * 2
    average = 3 / 12 * average + 9 / 12 * 3
    average = 4 / 13 * average + 9 / 13 * 4
    module = _fitted(0.999, 4)
    assert module.weight.item() == pytest.approx(average, rel=1e-6)
    assert module.seen == [pytest.approx(average, rel=1e-6)]  # and validation saw it


def test_decay_is_at_most_what_was_asked_for() -> None:
    average = 1.0
    for weight in (2.0, 3.0, 4.0):
        average = 0.1 * average + 0.9 * weight
    assert _fitted(0.1, 4).weight.item() == pytest.approx(average, rel=1e-6)
