"""HaMuCo without its parts: short trainings that differ in one switch, a table and a plot."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from hand_mesh_ros.evaluation.hamuco_figures import Errors, errors_of
from hand_mesh_ros.hand.model import load_hand_model
from hand_mesh_ros.perception.hamuco_network import open_hamuco
from hand_mesh_ros.training.instant_sources import folder_of
from hand_mesh_ros.training.instants import InstantStore
from hand_mesh_ros.training.recipes import read_recipe
from hand_mesh_ros.training.run import run

Progress = Callable[[int, int, str], None]

VARIANTS: Final[Mapping[str, Sequence[str]]] = {
    "full": (),
    "without cross-view attention": ("model.cross.cva=false",),
    "without view-shared features": ("model.cross.vsf=false",),
    "without consistency": ("losses.consistency=0",),
    "without distillation": ("losses.distill=0",),
    "without calibration in the network": ("model.cross.agreed=false",),
    "rotations estimated": ("model.rotations=estimated",),
    "landmarks as they are": (
        "model.labels=landmarks", "losses.points=0", "losses.points_cross=0",
    ),
}  # fmt: skip
"""Changes of the recipe `hamuco-renders`."""
COLUMNS: Final = ("single", "multi", "multi_two", "single_occluded", "multi_occluded")


def ablate(
    progress: Progress,
    out: Path,
    instants: int = 2000,
    epochs: int = 3,
    seeds: Sequence[int] = (0, 1, 2),
    changes: Sequence[str] = (),
) -> dict[str, dict[str, float]]:
    """Mean errors on `validation`, mm, over the seeds of each variant, and `_std` over them.

    Runs are kept in `out` by name and seed, and not run again if they are there.
    """
    store = InstantStore(folder_of("validation"))
    table: dict[str, dict[str, float]] = {}
    for number, (name, switches) in enumerate(VARIANTS.items()):
        rows = []
        for seed in seeds:
            progress(number, len(VARIANTS), f"{name}, seed {seed}")
            folder = out / name.replace(" ", "-") / f"seed-{seed}"
            if not (folder / "report.json").is_file():
                short = (f"data.train.count={instants}", f"trainer.epochs={epochs}",
                         "trainer.ema=0.98", "trainer.keep=0", "data.validation.count=32",
                         f"seed={seed}")  # fmt: skip
                recipe = read_recipe("hamuco-renders", (*short, *switches, *changes))
                run(recipe, folder, resume=True, quiet=True)
            network = open_hamuco(folder / "weights.safetensors", load_hand_model())
            rows.append(_row(errors_of(network, store, baselines=False)))
        table[name] = {c: round(float(np.mean([r[c] for r in rows])), 3) for c in COLUMNS}
        table[name] |= {
            f"{c}_std": round(float(np.std([r[c] for r in rows])), 3) for c in COLUMNS
        }
    out.mkdir(parents=True, exist_ok=True)
    (out / "ablations.json").write_text(json.dumps(table, indent=2) + "\n")
    draw(table, out / "ablations.png")
    return table


def _row(errors: Errors) -> dict[str, float]:
    from hand_mesh_ros.evaluation.bench_hamuco import OCCLUDED

    hidden = errors.shown < OCCLUDED
    return {
        "single": float(np.nanmean(errors.single)),
        "multi": float(np.nanmean(errors.multi[:, -1])),
        "multi_two": float(np.nanmean(errors.multi[:, 1])),
        "single_occluded": float(np.nanmean(errors.single[hidden])),
        "multi_occluded": float(np.nanmean(errors.multi[hidden, -1])),
    }


def draw(table: Mapping[str, Mapping[str, float]], path: Path) -> None:
    """A PNG: bars of each variant, with the spread over seeds."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 0.6 * len(table) + 1.6), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    names, height = list(table), 0.4
    for k, (column, label) in enumerate((("single", "one view"), ("multi", "four views"))):
        axis.barh(
            np.arange(len(names)) + (k - 0.5) * height, [table[n][column] for n in names], height,
            xerr=[table[n][f"{column}_std"] for n in names], label=label,
        )  # fmt: skip
    axis.set(yticks=range(len(names)), yticklabels=names, xlabel="PA-MPJPE, mm")
    axis.set_title("HaMuCo, short trainings that differ in one switch")
    axis.invert_yaxis()
    axis.legend(loc="lower right")
    figure.savefig(path, dpi=110)
