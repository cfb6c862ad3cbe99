"""What a teacher is worth to SiMA-Hand's student: pairs of students that differ in nothing else.

Each pair is of one seed: first weights, order of the samples and steps are the same, and only one
of the two had the teacher's losses. What is gained is told with its spread over the seeds, by how
much of the hand a view shows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.evaluation.sima_figures import BINS, ERRORS, ViewErrors, store_errors
from hand_mesh_ros.hand.model import load_hand_model
from hand_mesh_ros.networks.sima_weights import open_sima
from hand_mesh_ros.training.instants import InstantStore

Array = NDArray[np.float64]
Progress = Callable[[int, int, str], None]


def compare(
    store: InstantStore, untaught: Sequence[Path], taught: Sequence[Path], progress: Progress
) -> dict[str, Any]:
    """Errors, mm, of both kinds on a store's views, a number a seed, and the gain by occlusion.

    `errors`: KIND -> error -> one mean a seed. `gain`: PA-MPJPE that teaching takes away, by
    "shown LOW-HIGH": one a seed, their mean and its standard error over the seeds (NaN of one), and
    how many views. Raises ValueError for lists of other lengths, AssetError as `open_sima`.
    """
    if len(untaught) != len(taught) or not taught:
        raise ValueError(
            f"{len(untaught)} untaught and {len(taught)} taught weights: give one of each a seed"
        )
    model = load_hand_model()
    found: dict[str, list[ViewErrors]] = {"untaught": [], "taught": []}
    kinds = {"untaught": untaught, "taught": taught}
    paths = [(kind, path) for kind, of in kinds.items() for path in of]
    for number, (kind, path) in enumerate(paths):
        progress(number, len(paths), str(path))
        found[kind].append(store_errors(open_sima("sima_svr", model, path), model, store))
    errors = {
        kind: {name: [round(e.mean(name), 3) for e in of] for name in ERRORS}
        for kind, of in found.items()
    }
    shown = found["taught"][0].shown
    gains = np.stack([
        a.errors["pa_mpjpe"] - b.errors["pa_mpjpe"]
        for a, b in zip(found["untaught"], found["taught"], strict=True)
    ])  # fmt: skip
    return {"errors": errors, "gain": _by_shown(gains, shown)}


def _by_shown(gains: Array, shown: Array) -> dict[str, dict[str, Any]]:
    """Of gains (S, N) of S seeds and N views."""
    rows: dict[str, dict[str, Any]] = {}
    for low, high in (*zip(BINS, BINS[1:], strict=False), (BINS[0], BINS[-1])):
        which = (shown >= low) & (shown < high)
        if not which.any():
            continue
        each = gains[:, which].mean(1)
        error = each.std(ddof=1) / np.sqrt(len(each)) if len(each) > 1 else np.nan
        rows[f"shown {low:.0%}-{min(high, 1):.0%}"] = {
            "views": int(which.sum()),
            "seeds_mm": [round(float(x), 3) for x in each],
            "mean_mm": round(float(each.mean()), 3),
            "standard_error_mm": round(float(error), 3),
        }
    return rows


def show(found: Mapping[str, Any]) -> None:
    """Both tables on the terminal."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    errors = Table("mm, mean (each seed)", *(name.upper().replace("_", "-") for name in ERRORS))
    for kind, of in found["errors"].items():
        cells = (f"{np.mean(of[n]):.2f} ({', '.join(f'{x:.2f}' for x in of[n])})" for n in ERRORS)
        errors.add_row(kind, *cells)
    console.print(errors)
    gain = Table("gain by teaching, PA-MPJPE", "views", "mm", "standard error", "each seed")
    for name, row in found["gain"].items():
        each = ", ".join(f"{x:.2f}" for x in row["seeds_mm"])
        gain.add_row(name, str(row["views"]), f"{row['mean_mm']:.2f}",
                     f"{row['standard_error_mm']:.2f}", each)  # fmt: skip
    console.print(gain)


def draw(found: Mapping[str, Any], path: Path) -> Path:
    """A PNG: the gain in each bin of what a view shows, with its standard error and the seeds."""
    from matplotlib.figure import Figure

    rows = list(found["gain"].items())[:-1]
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    places = np.arange(len(rows))
    means = [row["mean_mm"] for _, row in rows]
    bars = [row["standard_error_mm"] for _, row in rows]
    axes.errorbar(places, means, bars, fmt="o-", capsize=4, label="mean and standard error")
    for place, (_, row) in zip(places, rows, strict=True):
        axes.plot(np.full(len(row["seeds_mm"]), place), row["seeds_mm"], "k.", ms=4)
    axes.axhline(0, color="grey", lw=1)
    axes.set_xticks(places, [f"{name[6:]}\n{row['views']} views" for name, row in rows])
    axes.set_xlabel("share of the hand that the view shows")
    axes.set_ylabel("gain by teaching, PA-MPJPE, mm")
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    return path
