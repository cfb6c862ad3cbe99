"""`hand-mesh bench amvur --experiments`: what is claimed about AMVUR, each with its rule.

Relative claims, on renders, by trainings that are short and alike but for one thing, and by the
weights that ship; none of the published absolute numbers is reproduced. A claim that fails is told
as such.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hand_mesh_ros.evaluation.amvur_outcomes import Outcome, Row, markdown, write_whole
from hand_mesh_ros.evaluation.amvur_seeds import Amount, Trained, gathered, run_trials
from hand_mesh_ros.evaluation.amvur_shipped_claims import shipped_claims
from hand_mesh_ros.evaluation.amvur_silhouette import need_outlines
from hand_mesh_ros.evaluation.amvur_trained_claims import SHARES, trained_claims, trials

Progress = Callable[[int, int, str], None]


def run_all(progress: Progress, folder: Path, do: Amount) -> list[Outcome]:
    """Train, judge, and write `experiments.json`, `.md`, `.png` and `silhouettes.png`.

    Trainings that are there are kept, and those of other seeds are taken in, too. Raises StoreError
    without the stores `train` and `validation`, ModuleNotFoundError without DEODR.
    """
    need_outlines()  # now, not after hours of training
    listed = trials()
    run_trials(progress, folder, listed, do)
    found = gathered(folder, listed, do)
    outcomes = [*trained_claims(found), *shipped_claims(progress, folder / "silhouettes.png")]
    write_report(folder, found, outcomes, do)
    return outcomes


def write_report(folder: Path, found: Trained, outcomes: Sequence[Outcome], do: Amount) -> None:
    """The files that tell the outcomes; each appears whole."""
    made = {"seeds": found.seeds, "steps": do.steps, "views": do.views}
    told = made | {"outcomes": [asdict(outcome) for outcome in outcomes]}
    write_whole(folder / "experiments.json", json.dumps(told, indent=1) + "\n")
    seeds = f"{len(found.seeds)} seed{'s' if len(found.seeds) > 1 else ''}"
    note = (
        f"Trainings: {seeds} of each, {do.steps} steps on {do.views} views; rows are means over "
        "seeds, `_se` their standard errors. The rest is of the weights that ship."
    )
    write_whole(folder / "experiments.md", markdown(outcomes, note))
    scratch = folder / f".experiments.{os.getpid()}.png"
    _draw({name: found.mean(name) for name in found.rows}, scratch)
    os.replace(scratch, folder / "experiments.png")


def _draw(rows: Mapping[str, Row], path: Path) -> None:
    """Errors by the share of labels, and of all other trials; bars of standard errors."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4), layout="constrained")
    FigureCanvasAgg(figure)
    labels, bars = figure.subplots(1, 2, width_ratios=(1, 1.6))
    shares: Any = [100 * s for s in SHARES]
    for kind, key, label in (
        ("tied", "pa", "regressor with prior"), ("alone", "pa", "regressor alone"),
        ("tied", "prior_pa", "the prior"),
    ):  # fmt: skip
        some = [rows[f"{kind} {s:.0%}"] for s in SHARES]
        values, spread = [row[f"{key}_mm"] for row in some], [row.get(f"{key}_se") for row in some]
        off: Any = None if None in spread else spread
        labels.errorbar(shares, values, off, fmt="o-", capsize=3, label=label)
    labels.set(xscale="log", xlabel="of the labels, percent", ylabel="PA-MPJPE, mm")
    labels.legend()
    others = {n: row for n, row in rows.items() if "%" not in n or n == "tied 100%"}
    values = [row["pa_mm"] for row in others.values()]
    bars.barh(list(others), values, xerr=[row.get("pa_se", 0.0) for row in others.values()])
    bars.set(xlabel="PA-MPJPE, mm", xlim=(0.8 * min(values), None))
    figure.savefig(path, dpi=110)
