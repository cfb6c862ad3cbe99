"""What HaMeR and WiLoR cost: operations by count, and what a machine's own products reach."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from hand_mesh_ros.networks.fused_linear import linear
from hand_mesh_ros.networks.hamer import Hamer, HamerConfig
from hand_mesh_ros.networks.wilor import Wilor, WilorConfig


class Seconds(NamedTuple):
    """Medians of wall and of processor time. The latter is of all threads, also waiting ones."""

    wall: float
    processor: float


def operations(config: HamerConfig | WilorConfig, batch: int = 1) -> int:
    """FLOPs of products and convolutions up to `RawMano`, two for a multiplication and addition.

    As the plain network computes them: what the fused path saves does not count as its work.
    """
    from torch.utils.flop_counter import FlopCounterMode

    height, width = config.backbone.image
    crops = torch.empty(batch, 3, height, width, device="meta")
    with torch.device("meta"):
        network = Hamer(config) if isinstance(config, HamerConfig) else Wilor(config)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        if isinstance(network, Hamer):
            network.regress(network.features(crops))
        else:  # sampling and the readouts behind it are not worth counting
            network.refine_net.deconv(network.coarse(crops).features)
    return int(counter.get_total_flops())


@torch.inference_mode()
def cpu_rates(rows: int = 192, width: int = 1280, repetitions: int = 7) -> dict[str, float]:
    """GFLOP/s of this CPU in products of ViT-H's shape, as they are called and with packed weights.

    As many matrices as do not fit into the caches, since a network's do not.
    """
    hidden = 4 * width
    weights = [torch.randn(hidden, width) for _ in range(6)]
    runs: dict[str, Callable[[], object]] = {}
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        x = torch.randn(rows, width, dtype=dtype)
        maps = [linear(weight, None, dtype, rows) for weight in weights]
        theirs = [weight.to(dtype) for weight in weights]
        runs[f"{name}_eager"] = _each([partial(functional.linear, weight=w) for w in theirs], x)
        runs[f"{name}_packed"] = _each(maps, x)
    work = 2e-9 * rows * hidden * width * len(weights)
    return {name: work / s.wall for name, s in alternating(runs, repetitions).items()}


def alternating(
    runs: dict[str, Callable[[], object]], repetitions: int, tick: Callable[[], None] | None = None
) -> dict[str, Seconds]:
    """Each function in turn, again and again, so that other load on the machine meets all alike.

    The first turn is not counted.
    """
    walls: dict[str, list[float]] = {name: [] for name in runs}
    processors: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(repetitions + 1):
        for name, run in runs.items():
            wall, processor = time.perf_counter(), time.process_time()
            run()
            if turn:
                walls[name].append(time.perf_counter() - wall)
                processors[name].append(time.process_time() - processor)
        if tick is not None:
            tick()
    return {name: Seconds(median(walls[name]), median(processors[name])) for name in runs}


def _each(maps: Sequence[Callable[[Tensor], Tensor]], x: Tensor) -> Callable[[], object]:
    return lambda: [run(x) for run in maps]
