"""`hand-mesh bench parity`: HaMeR and WiLoR beside the published networks' own outputs."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import torch

from hand_mesh_ros.evaluation.parity_outputs import Compared, hamer_outputs, wilor_outputs
from hand_mesh_ros.networks.checkpoint_mano import CheckpointMano
from hand_mesh_ros.networks.hamer import Hamer
from hand_mesh_ros.networks.wilor import Wilor

if TYPE_CHECKING:
    from rich.table import Table

Progress = Callable[[int, int, str], None]

LIMIT: Final = 1e-4
"""Largest relative difference that counts as the same, in single precision."""

_TITLES: Final = {"hamer": "HaMeR", "wilor": "WiLoR"}


class FullSize(NamedTuple):
    """One crop through a published size: seconds, parameters, bytes of state, outputs' shapes."""

    seconds: float
    parameters: int
    size: int
    shapes: dict[str, tuple[int, ...]]


def measure(fixtures: Path, progress: Progress) -> dict[str, list[Compared]]:
    """Every output by network, "hamer" and "wilor"; see `parity_outputs`."""
    progress(0, 2, "HaMeR")
    hamer = hamer_outputs(fixtures)
    progress(1, 2, "WiLoR")
    wilor = wilor_outputs(fixtures)
    progress(2, 2, "done")
    return {"hamer": hamer, "wilor": wilor}


def figures(outputs: Mapping[str, list[Compared]]) -> dict[str, float]:
    """`hamer_max_rel` and `wilor_max_rel`: the largest of all outputs' `Compared.max_rel`."""
    return {f"{name}_max_rel": max(row.max_rel for row in rows) for name, rows in outputs.items()}


def tables(outputs: Mapping[str, list[Compared]]) -> list[Table]:
    """One a network, a row an output."""
    from rich.table import Column, Table

    found = []
    for name, rows in outputs.items():
        output = Column("output", overflow="fold")
        table = Table(output, "shape", "max. difference", "relative", title=_TITLES[name])
        for row in rows:
            style = None if row.max_rel <= LIMIT else "red"
            shape = " x ".join(map(str, row.published.shape)) or "1"
            table.add_row(row.name, shape, f"{row.max_abs:.2e}", f"{row.max_rel:.2e}", style=style)
        found.append(table)
    return found


def full_size(make: type[Hamer] | type[Wilor], seed: int = 0) -> FullSize:
    """A network of the published size with random weights, fp32, on one crop on the CPU."""
    torch.manual_seed(seed)
    with torch.device("meta"):
        network = make()
    network.to_empty(device="cpu").eval()
    _fill(network)
    crop = torch.randn(1, 3, 256, 256)
    with torch.no_grad():
        started = time.perf_counter()
        hands = network(crop)
        seconds = time.perf_counter() - started
    state = network.state_dict().values()
    shapes = {name: tuple(value.shape) for name, value in hands._asdict().items()}
    parameters = sum(p.numel() for p in network.parameters())
    return FullSize(seconds, parameters, sum(v.nbytes for v in state), shapes)


def full_sizes(progress: Progress) -> dict[str, FullSize]:
    """Both networks, one after the other: 2.7 GB each."""
    found = {}
    for done, (name, make) in enumerate({"hamer": Hamer, "wilor": Wilor}.items()):
        progress(done, 2, f"{_TITLES[name]} in full size")
        found[name] = full_size(make)
        gc.collect()  # before the next is made
    progress(2, 2, "done")
    return found


def _fill(network: Hamer | Wilor) -> None:
    """Numbers about as large as a trained network's; the hand model is a random cloud."""
    network.mano = CheckpointMano()
    for name, value in network.state_dict().items():
        if name.endswith("running_var") or ("norm" in name and name.endswith("weight")):
            value.fill_(1)
        elif value.is_floating_point():
            value.normal_(std=0.02)
