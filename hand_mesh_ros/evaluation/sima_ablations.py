"""`hand-mesh bench sima --ablations`: SiMA-Hand with and without each of its modules.

Short trainings on a part of the store `train`, all alike but for the one switch; errors on
`validation`. They tell which modules matter at this size and length, and no more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from hand_mesh_ros.evaluation.sima_figures import ERRORS, Progress, ViewErrors, store_errors
from hand_mesh_ros.hand.model import load_hand_model
from hand_mesh_ros.networks.sima_weights import Kind, open_sima
from hand_mesh_ros.training.instant_sources import folder_of
from hand_mesh_ros.training.instants import InstantStore
from hand_mesh_ros.training.recipes import read_recipe

_ONLY: Final = ("losses.teaching.vertices=0", "losses.teaching.rotation=0", "losses.hidden=0")
_NO_HSFE: Final = "losses.teaching.shape=0"
_NO_HOFE: Final = ("losses.teaching.orientation=0", "model.adapters=false")


@dataclass(frozen=True)
class Row:
    """One network: the recipe's kind, what it is called, and what is set in its recipe."""

    kind: Kind
    name: str
    changes: tuple[str, ...]


ROWS: Final[Sequence[Row]] = (
    Row("sima_mvr", "IFF + JFF + VFF", ()),
    Row("sima_mvr", "without IFF", ("model.image=false",)),
    Row("sima_mvr", "without JFF", ("model.joint=false",)),
    Row("sima_mvr", "without VFF", ("model.vertex=false",)),
    Row("sima_mvr", "none", ("model.image=false", "model.joint=false", "model.vertex=false")),
    Row("sima_svr", "HSFE + HOFE", _ONLY),
    Row("sima_svr", "without HSFE", (*_ONLY, _NO_HSFE)),
    Row("sima_svr", "without HOFE", (*_ONLY, *_NO_HOFE)),
    Row("sima_svr", "neither", (*_ONLY, _NO_HSFE, *_NO_HOFE)),
)


@dataclass(frozen=True)
class Size:
    """Instants an epoch, epochs, and seeds of each row."""

    instants: int = 1000
    epochs: int = 4
    seeds: int = 1


def ablate(
    progress: Progress,
    out: Path,
    size: Size,
    rows: Sequence[Row] = ROWS,
    store: InstantStore | None = None,
) -> dict[str, list[dict[str, float]]]:
    """Errors of every row and seed by "KIND: NAME"; trainings that `out` has are not repeated.

    The students' teacher is the shipped one, and they begin with their own first weights. Errors
    are of `store`, by default `validation`.
    """
    from hand_mesh_ros.training.run import run

    model = load_hand_model()
    store = InstantStore(folder_of("validation")) if store is None else store
    found: dict[str, list[dict[str, float]]] = {}
    for number, row in enumerate(rows):
        for seed in range(size.seeds):
            progress(number * size.seeds + seed, len(rows) * size.seeds, row.name)
            amount = f"{size.instants}x{size.epochs}"
            folder = out / f"{row.kind}-{number}-{seed}-{amount}"
            weights = folder / "weights.safetensors"
            if not weights.is_file():
                recipe = read_recipe(f"{row.kind.replace('_', '-')}-renders", [
                    f"seed={seed}", f"trainer.epochs={size.epochs}",
                    f"data.train.count={size.instants}", "data.validation.count=50",
                    *(("model.begin=false",) if row.kind == "sima_svr" else ()), *row.changes,
                ])  # fmt: skip
                run(recipe, folder, resume=True, quiet=True)
            errors: ViewErrors = store_errors(open_sima(row.kind, model, weights), model, store)
            hidden = errors.shown < 0.75
            figures = {name: round(errors.mean(name), 3) for name in ERRORS}
            figures["pa_mpjpe_occluded"] = round(float(errors.errors["pa_mpjpe"][hidden].mean()), 3)
            found.setdefault(f"{row.kind}: {row.name}", []).append(figures)
    return found


def table(found: dict[str, list[dict[str, float]]]) -> list[tuple[str, dict[str, float]]]:
    """Means over seeds and, of several, `_std` over them."""
    rows = []
    for name, runs in found.items():
        values = {key: np.array([run[key] for run in runs]) for key in runs[0]}
        row = {key: round(float(own.mean()), 2) for key, own in values.items()}
        if len(runs) > 1:
            row |= {f"{key}_std": round(float(own.std()), 2) for key, own in values.items()}
        rows.append((name, row))
    return rows


def draw(found: dict[str, list[dict[str, float]]], path: Path) -> Path:
    """A bar a row for MPJPE and PA-MPJPE, the seeds as points."""
    from matplotlib.figure import Figure

    names = list(found)
    figure = Figure(figsize=(9, 4.5), layout="constrained")
    for place, key in enumerate(("mpjpe", "pa_mpjpe")):
        axes = figure.add_subplot(1, 2, place + 1)
        means = [np.mean([r[key] for r in found[name]]) for name in names]
        colours = ["C0" if name.startswith("sima_mvr") else "C1" for name in names]
        axes.barh(names, means, color=colours)
        for row, name in enumerate(names):
            axes.plot([r[key] for r in found[name]], [row] * len(found[name]), "k.")
        axes.invert_yaxis()
        axes.set_xlabel(f"{key.replace('_', '-').upper()}, mm")
        if place:
            axes.set_yticklabels([])
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    return path
