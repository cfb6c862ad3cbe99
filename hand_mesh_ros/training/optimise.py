"""AdamW with a warm-up and a cosine: what a recipe's `optimiser` means."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import partial
from typing import Any

from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from hand_mesh_ros.training.recipes import OptimiserSettings


def planned(
    fast: Iterable[nn.Parameter],
    slow: Iterable[nn.Parameter],
    settings: OptimiserSettings,
    steps: int,
) -> dict[str, Any]:
    """Optimiser and schedule over `steps`, as Lightning wants them.

    `slow` parameters, those of a pretrained backbone, have `backbone_rate` times the rate.
    """
    groups = [{"params": list(fast)}, {"params": list(slow)}]
    groups[1]["lr"] = settings.rate * settings.backbone_rate  # type: ignore[assignment]
    groups = [group for group in groups if group["params"]]
    optimiser = AdamW(groups, lr=settings.rate, weight_decay=settings.weight_decay)
    schedule = LambdaLR(optimiser, partial(rate_at, settings=settings, steps=steps))
    return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def rate_at(step: int, settings: OptimiserSettings, steps: int) -> float:
    """Share of the rate at a step: linear up to 1, then a cosine down to `final` at `steps`."""
    warm = min(settings.warmup_steps, steps)
    if step < warm:
        return (step + 1) / warm
    done = min((step - warm) / max(steps - warm, 1), 1.0)
    return settings.final + (1 - settings.final) * 0.5 * (1 + math.cos(math.pi * done))
