"""`hand-mesh bench hamer`: the fused path beside the plain network, in numbers and in seconds."""

from __future__ import annotations

import gc
import os
import platform
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

from hand_mesh_ros.evaluation.hamer_cost import Seconds, alternating, cpu_rates, operations
from hand_mesh_ros.evaluation.random_networks import random_crops, random_network
from hand_mesh_ros.networks.checkpoints import Kind, open_reconstructor
from hand_mesh_ros.networks.fused import fused
from hand_mesh_ros.networks.fused_linear import Precision, fastest, has_int8
from hand_mesh_ros.networks.hamer import HAMER, Hamer, HamerConfig
from hand_mesh_ros.networks.mano_decoder import DecoderConfig
from hand_mesh_ros.networks.reconstruction import Reconstruction
from hand_mesh_ros.networks.vit import ViTConfig
from hand_mesh_ros.networks.wilor import WILOR, Wilor, WilorConfig

Progress = Callable[[int, int, str], None]
Config = HamerConfig | WilorConfig

_FULL: Final[dict[Kind, Config]] = {"hamer": HAMER, "wilor": WILOR}
_CROPS: Final = 4  # a network for equality


class Compared(NamedTuple):
    """The fused path beside the plain network.

    max_rel: largest difference of an output's numbers, of its largest number. mean_mm, max_mm: of
    the joints. spread_mm: mean of how far joints are from their mean over the crops, to show that
    the picture matters to the network.
    """

    max_rel: float
    mean_mm: float
    max_mm: float
    spread_mm: float


@torch.no_grad()
def compare(network: Hamer | Wilor, precision: Precision, crops: Tensor) -> Compared:
    plain: Reconstruction = network(crops)
    fast = fused(network, "cpu", precision)(crops)
    relative = max(
        float((ours - theirs).abs().max() / theirs.abs().max())
        for ours, theirs in zip(fast, plain, strict=True)
    )
    apart = 1e3 * (fast.joints - plain.joints).norm(dim=2)
    spread = 1e3 * (plain.joints - plain.joints.mean(0)).norm(dim=2).mean()
    return Compared(relative, float(apart.mean()), float(apart.max()), float(spread))


def small_configs() -> dict[str, Config]:
    """Random networks for equality, of two sizes and both kinds."""
    found: dict[str, Config] = {}
    for name, width, depth in (("tiny", 64, 3), ("small", 384, 12)):
        vit = ViTConfig(width=width, depth=depth, heads=width // 16)
        found[f"hamer {name}"] = HamerConfig(vit, DecoderConfig(width, dim=width))
        found[f"wilor {name}"] = WilorConfig(vit)
    return found


def measure(
    progress: Progress,
    weights: Sequence[Path] = (),
    kind: Kind = "hamer",
    batches: Sequence[int] = (1,),
    repetitions: int = 7,
    seeds: int = 3,
    config: Config | None = None,
) -> dict[str, Any]:
    """All figures; see `_headline` for those with names of their own.

    weights: files of trained networks that are compared beside the random ones. config: the
    network whose time is taken, by default `kind`'s published size with random weights.
    Raises AssetError for a file that is none of HaMeR's or WiLoR's.
    """
    config = config or _FULL[kind]
    steps = len(small_configs()) * seeds + len(weights) + len(batches) * (repetitions + 1) + 2
    done = 0

    def step(what: str) -> None:
        nonlocal done
        progress(done, steps, what)
        done += 1

    before = os.getloadavg()
    step("this machine's products")
    machine = _machine() | {"gflops": {k: round(v, 1) for k, v in cpu_rates().items()}}
    equality = _equality(weights, seeds, step)
    step(f"{kind} in full size")
    network = random_network(config)
    speed = _speed(network, config, batches, repetitions, lambda: step(f"{kind}, in turns"))
    del network
    gc.collect()
    gpu = _gpu(config, repetitions)
    progress(steps, steps, "done")
    return {
        **_headline(equality, speed, gpu),
        "kind": kind,
        "machine": machine | {"load_before": before, "load_after": os.getloadavg()},
        "equality": {k: {p: c._asdict() for p, c in v.items()} for k, v in equality.items()},
        "cpu": speed,
        "gpu": gpu or "not measured: no CUDA device here",
    }


def _headline(
    equality: dict[str, dict[str, Compared]],
    speed: dict[str, dict[str, Any]],
    gpu: dict[str, float] | None,
) -> dict[str, float | None]:
    """half_joint_mm is the mean over a network's joints, of the network where it is largest."""
    half = _name(_half())
    figures: dict[str, float | None] = {
        "cpu_speedup": speed["1"]["speedup"] if "1" in speed else None,
        "gpu_speedup": gpu["speedup"] if gpu else None,
        "gpu_model_flops_utilisation": gpu["utilisation"] if gpu else None,
        "fused_max_rel": max(found["float32"].max_rel for found in equality.values()),
    }
    for prefix, name in (("half", half), ("int8", "int8")):
        kept = [found[name] for found in equality.values() if name in found]
        figures[f"{prefix}_joint_mm"] = max((c.mean_mm for c in kept), default=None)
        figures[f"{prefix}_joint_max_mm"] = max((c.max_mm for c in kept), default=None)
    return figures


def _equality(
    weights: Sequence[Path], seeds: int, step: Callable[[str], None]
) -> dict[str, dict[str, Compared]]:
    found = {}
    precisions: list[Precision] = [torch.float32, _half()]
    if has_int8():
        precisions.append("int8")
    random: dict[str, Callable[[], Hamer | Wilor]] = {
        f"{name} {seed}": partial(random_network, config, seed)
        for name, config in small_configs().items()
        for seed in range(seeds)
    }
    trained: dict[str, Callable[[], Hamer | Wilor]] = {
        path.name: partial(open_reconstructor, path) for path in weights
    }
    for name, make in (random | trained).items():
        step(f"equality: {name}")
        network = make()
        crops = random_crops(_CROPS, network.config.backbone.image[0])
        found[name] = {_name(p): compare(network, p, crops) for p in precisions}
    return found


def _speed(
    network: Hamer | Wilor,
    config: Config,
    batches: Sequence[int],
    repetitions: int,
    tick: Callable[[], None],
) -> dict[str, dict[str, Any]]:
    """Seconds of the plain network in float32 and of the fused one, by batch."""
    fast = fused(network, "cpu")
    eight = fused(network, "cpu", "int8") if has_int8() else None
    found: dict[str, dict[str, Any]] = {}
    for batch in batches:
        crops = random_crops(batch, config.backbone.image[0])
        runs: dict[str, Callable[[], object]] = {
            "plain": partial(torch.no_grad()(network), crops),
            "fused": partial(fast, crops),
        }
        if eight is not None:
            runs["int8"] = partial(eight, crops)
        seconds = alternating(runs, repetitions, tick)
        work = operations(config, batch)
        found[str(batch)] = {
            "precision": _name(fast.precision),
            "gflop": work / 1e9,
            **{f"seconds_{name}": round(s.wall, 4) for name, s in seconds.items()},
            **{f"processor_seconds_{name}": round(s.processor, 4) for name, s in seconds.items()},
            **{f"gflops_{name}": round(1e-9 * work / s.wall, 1) for name, s in seconds.items()},
            "speedup": _times(seconds, "fused"),
            "speedup_int8": _times(seconds, "int8") if eight is not None else None,
        }
    return found


def _times(seconds: dict[str, Seconds], name: str) -> float:
    return round(seconds["plain"].wall / seconds[name].wall, 3)


def _gpu(config: Config, repetitions: int) -> dict[str, float] | None:
    if not torch.cuda.is_available():
        return None
    from hand_mesh_ros.evaluation.hamer_gpu import measure_gpu

    return measure_gpu(config, repetitions=max(repetitions, 20))


def _machine() -> dict[str, Any]:
    return {
        "processor": platform.machine(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "fastest": _name(fastest("cpu")),
    }


def _half() -> torch.dtype:
    """The half precision of this CPU, or bfloat16, emulated, where it has none."""
    chosen = fastest("cpu")
    return torch.bfloat16 if chosen == torch.float32 else chosen


def _name(precision: Precision) -> str:
    return str(precision).removeprefix("torch.")
