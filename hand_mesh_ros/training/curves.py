"""Loss and errors of a run by epoch, drawn: how it learnt can be seen by whoever uses it."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

FILE = "history.csv"
_PARTS = "parts of the training loss"
Columns = Mapping[str, Sequence[float]]


def write_history(rows: Sequence[Mapping[str, float]], run: Path) -> None:
    """`history.csv` in a run's folder: a line an epoch; what a row does not have is empty."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    with (run / FILE).open("w", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows({name: f"{value:.6g}" for name, value in row.items()} for row in rows)


def read_history(run: Path) -> dict[str, list[float]]:
    """Columns of a run's `history.csv`, NaN where a line has none; FileNotFoundError without."""
    with (run / FILE).open(newline="") as file:
        reader = csv.DictReader(file)
        columns: dict[str, list[float]] = {name: [] for name in reader.fieldnames or ()}
        for row in reader:
            for name in columns:
                columns[name].append(float(row[name] or "nan"))
    return columns


def draw_curves(columns: Columns, path: Path, title: str = "") -> None:
    """Write a PNG of a history: the loss, its parts, and what validation measured; by epoch.

    `train_X` and `val_X` of the same X share a panel; losses are drawn by logarithms where all of
    them are greater than 0.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = _panels(columns)
    count = min(len(panels), 3)
    rows = -(-len(panels) // max(count, 1))
    figure = Figure(figsize=(4.6 * max(count, 1), 3.3 * max(rows, 1)), layout="constrained")
    FigureCanvasAgg(figure)
    if title:
        figure.suptitle(title)
    for number, (name, lines) in enumerate(panels.items(), 1):
        axis = figure.add_subplot(rows, count, number)
        for label, column in lines.items():
            axis.plot(columns["epoch"], columns[column], ".-", label=label)
        _finish(axis, name, [columns[column] for column in lines.values()])
    figure.savefig(path, dpi=110)


def _panels(columns: Columns) -> dict[str, dict[str, str]]:
    """Title of each panel: label of each line: its column; loss first, then errors, then parts."""
    known = {name for name in columns if np.isfinite(columns[name]).any()}
    parts = sorted(name for name in known if name.startswith(("train_", "val_")))
    panels: dict[str, dict[str, str]] = {}
    for name in parts:
        which, _, what = name.partition("_")
        alone = which == "train" and f"val_{what}" not in known
        of = _PARTS if alone and what != "loss" else what
        label = what if of == _PARTS else {"train": "training", "val": "validation"}[which]
        panels.setdefault(of, {})[label] = name
    order = {"loss": 0, "pa_mpjpe": 1, "mpjpe": 2, _PARTS: 9}
    return {of: panels[of] for of in sorted(panels, key=lambda of: (order.get(of, 5), of))}


def _finish(axis: Any, name: str, lines: Sequence[Sequence[float]]) -> None:
    from matplotlib.ticker import MaxNLocator, ScalarFormatter

    values = np.concatenate([np.asarray(line, dtype=np.float64) for line in lines])
    values = values[np.isfinite(values)]
    if "loss" in name and (values > 0).all():
        axis.set_yscale("log")
        if values.max() < 10 * values.min():  # numbers that can be read within one power of ten
            for which in (axis.yaxis.set_major_formatter, axis.yaxis.set_minor_formatter):
                which(ScalarFormatter())
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    unit = ", mm" if name.endswith(("mpjpe", "mpvpe")) else ""
    axis.set(xlabel="epoch", title=f"{name.replace('_', ' ')}{unit}")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=6.5, framealpha=0.6, ncols=1 + len(lines) // 5)
