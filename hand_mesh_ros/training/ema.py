"""The moving average of weights that is validated and kept: Lightning's, with a warm-up."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor


class MovingAverage(WeightAveraging):
    """Exponential moving average of the weights, updated after every step.

    The decay of update n (from 1) is `min(decay, n / (n + 9))`: an average over the last tenth of
    a short run, which does not remember the first, random weights. (As tf.train's
    ExponentialMovingAverage with num_updates.) Weights that are not trained are left alone.
    During validation the average is in the model's place; it is the `state_dict` of checkpoints.
    """

    def __init__(self, decay: float = 0.999) -> None:
        super().__init__(use_buffers=False, avg_fn=_Average(decay))


class _Average:
    """A class, not a closure, so that it can be pickled and copied."""

    def __init__(self, decay: float) -> None:
        self._decay = decay

    def __call__(self, average: Tensor, current: Tensor, count: Any) -> Tensor:
        # torch copies the first update itself, then counts 1, 2, ...
        n = float(count) + 1
        return torch.lerp(average, current, 1 - min(self._decay, n / (n + 9)))
