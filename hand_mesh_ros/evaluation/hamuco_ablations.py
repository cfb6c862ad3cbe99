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

_CVA, _MVC, _DIST = "model.cross.cva=false", "losses.consistency=0", "losses.distill=0"
_PLAIN = ("model.labels=landmarks", "losses.points=0", "losses.points_cross=0")
_UNKNOWN = ("model.calibrated=0", "model.rotations=estimated")
VARIANTS: Final[Mapping[str, Sequence[str]]] = {
    "full": (),
    "full, no cross-view attention": (_CVA,),
    "full, no consistency": (_MVC,),
    "full, no distillation": (_DIST,),
    "landmarks only": _PLAIN,
    "landmarks only, no cross-view attention": (*_PLAIN, _CVA),
    "landmarks only, no consistency": (*_PLAIN, _MVC),
    "landmarks only, no distillation": (*_PLAIN, _DIST),
    "landmarks only, cameras unknown": (*_PLAIN, *_UNKNOWN),
}
"""Changes of the recipe `hamuco-renders`. "Landmarks only" is what the paper learns from: each
view's own 2D landmarks, without the fit to all views, which says itself what views agree on."""
COLUMNS: Final = ("single", "multi", "single_occluded", "multi_occluded")


def ablate(
    progress: Progress,
    out: Path,
    instants: int = 2000,
    epochs: int = 2,
    seeds: Sequence[int] = (0, 1, 2),
    changes: Sequence[str] = (),
) -> dict[str, dict[str, float]]:
    """Mean errors on `validation`, mm, over the seeds of each variant, and `_std` over them.

    Runs are kept in `out` by name, amount and seed, and not run again if they are there.
    """
    store = InstantStore(folder_of("validation"))
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in VARIANTS}
    table: dict[str, dict[str, float]] = {}
    done, total = 0, len(seeds) * len(VARIANTS)
    for seed in seeds:
        for name, switches in VARIANTS.items():
            progress(done, total, f"{name}, seed {seed}")
            done += 1
            amount = f"{instants}x{epochs}"
            folder = out / name.replace(",", "").replace(" ", "-") / amount / f"seed-{seed}"
            if not (folder / "report.json").is_file():
                short = (f"data.train.count={instants}", f"trainer.epochs={epochs}",
                         "trainer.ema=0.98", "trainer.keep=0", "data.validation.count=32",
                         "optimiser.warmup_steps=20", f"seed={seed}")  # fmt: skip
                recipe = read_recipe("hamuco-renders", (*short, *switches, *changes))
                run(recipe, folder, resume=True, quiet=True)
            network = open_hamuco(folder / "weights.safetensors", load_hand_model())
            rows[name].append(_row(errors_of(network, store, all_of_it=False)))
        # what is known so far, for whoever does not wait for all seeds
        table = {name: _statistics(own) for name, own in rows.items()}
        out.mkdir(parents=True, exist_ok=True)
        (out / "ablations.json").write_text(json.dumps(table, indent=2) + "\n")
        draw(table, out / "ablations.png")
    return table


def _statistics(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    values = {column: [row[column] for row in rows] for column in COLUMNS}
    means = {column: round(float(np.mean(own)), 3) for column, own in values.items()}
    means["seeds"] = len(rows)
    return means | {f"{c}_std": round(float(np.std(own)), 3) for c, own in values.items()}


def _row(errors: Errors) -> dict[str, float]:
    from hand_mesh_ros.evaluation.bench_hamuco import OCCLUDED

    hidden = errors.shown < OCCLUDED
    return {
        "single": float(np.nanmean(errors.single)),
        "multi": float(np.nanmean(errors.multi[:, -1])),
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
