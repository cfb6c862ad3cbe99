"""AMVUR's short trainings, a file for each trial and seed, so that seeds can be added at any time.

Processes may share a folder: what is there is kept, and files appear whole.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.evaluation.amvur_outcomes import Row, standard_error, write_whole
from hand_mesh_ros.evaluation.amvur_trials import Judged, Trial, Views, judge, load_views, train

Array = NDArray[np.float64]
Progress = Callable[[int, int, str], None]

BINS = (0.0, 0.7, 0.95, 1.01)
"""Edges of bins of the share of a hand that is seen."""
BIN_NAMES = tuple(
    f"seen {low:.0%} to {min(high, 1):.0%}" for low, high in zip(BINS, BINS[1:], strict=False)
)
_HELD_OUT = 800


@dataclass(frozen=True)
class Amount:
    """How much is trained: on about `views` stored views, in `steps` batches, of `seeds`."""

    views: int
    steps: int
    seeds: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Trained:
    """Numbers of all trials by the seeds that all of them have.

    rows: of a trial, a row by seed. bins: mean errors (S, B), mm, of S seeds in `BINS`.
    """

    seeds: tuple[int, ...]
    rows: Mapping[str, Sequence[Row]]
    bins: Mapping[str, Array]

    def mean(self, trial: str) -> Row:
        """Of a trial over its seeds; with `pa_se` and so on, standard errors, of two seeds on."""
        rows = self.rows[trial]
        columns = {key: np.array([row[key] for row in rows]) for key in rows[0]}
        found = {key: float(values.mean()) for key, values in columns.items()}
        if len(rows) > 1:
            found |= {
                f"{key.removesuffix('_mm')}_se": float(standard_error(values))
                for key, values in columns.items()
            }
        return found


def run_trials(progress: Progress, folder: Path, listed: Mapping[str, Trial], do: Amount) -> None:
    """Train and judge what has no file yet, one seed after the other.

    Raises StoreError without the stores `train` and `validation`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    data: list[Views] = []
    jobs = [(seed, name) for seed in do.seeds for name in listed]
    total = len(jobs) * do.steps
    for number, (seed, name) in enumerate(jobs):
        path = _file(folder, name, do, seed)
        done = number * do.steps
        progress(done, total, f"seed {seed}: {name}")
        if path.is_file():
            continue
        if not data:
            data = [load_views("train", do.views), load_views("validation", _HELD_OUT)]
        told = _Steps(progress, done, total, f"seed {seed}: {name}")
        found = judge(train(listed[name], data[0], do.steps, seed, told), data[1])
        content = {
            "row": found.row, "bins": _binned(found, data[1]), "seed": seed,
            "trained_views": len(data[0]), "held_out_views": len(data[1]),
        }  # fmt: skip
        write_whole(path, json.dumps(content, indent=1) + "\n")
    progress(total, total, "trainings")


def gathered(folder: Path, listed: Mapping[str, Trial], do: Amount) -> Trained:
    """All that files of so many views and steps say, whichever process wrote them.

    Only seeds that all trials have, so that rows can be compared. Raises ValueError without one.
    """
    known = [
        {int(p.stem.rpartition("seed")[2]) for p in folder.glob(_file(folder, n, do, "*").name)}
        for n in listed
    ]
    seeds = tuple(sorted(set.intersection(*known)))
    if not seeds:
        raise ValueError(f"{folder}: no seed has files of all trials")
    read = {
        name: [json.loads(_file(folder, name, do, seed).read_text()) for seed in seeds]
        for name in listed
    }
    return Trained(
        seeds=seeds,
        rows={name: [told["row"] for told in some] for name, some in read.items()},
        bins={name: np.array([told["bins"] for told in some]) for name, some in read.items()},
    )


class _Steps:
    """Counts the steps of one training in a progress of all."""

    def __init__(self, progress: Progress, done: int, total: int, what: str) -> None:
        self._progress, self._done, self._total, self._what = progress, done, total, what

    def __call__(self) -> None:
        self._done += 1
        self._progress(self._done, self._total, self._what)


def _file(folder: Path, name: str, do: Amount, seed: int | str) -> Path:
    plain = name.replace(" ", "-").replace("%", "")
    return folder / f"{plain}-{do.views}-{do.steps}-seed{seed}.json"


def _binned(found: Judged, views: Views) -> list[float]:
    """Mean error, mm, in bins of the share of the hand that is seen."""
    place = np.digitize(views.shown, BINS) - 1
    return [round(float(1e3 * found.pa[place == i].mean()), 3) for i in range(len(BIN_NAMES))]
