"""A benchmark, a backend, a report: what `hand-mesh evaluate` runs and writes."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hand_mesh_ros.evaluation.benchmarks import Benchmark, BenchmarkError
from hand_mesh_ros.evaluation.curves import draw
from hand_mesh_ros.evaluation.official import read_predictions
from hand_mesh_ros.evaluation.predict import PredictSettings, Progress, predict
from hand_mesh_ros.evaluation.published import published_rows, zero_predictor
from hand_mesh_ros.evaluation.records import Predictions, Truths, zero_predictions
from hand_mesh_ros.evaluation.scores import Scores, by_visibility, score, score_found
from hand_mesh_ros.evaluation.submissions import WRITERS, SubmissionError

if TYPE_CHECKING:
    from hand_mesh_ros.perception.estimate import NetworkOptions

ZERO = "zero"
"""The backend that says every point is at the camera: the benchmarks' own check."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Predictions of a benchmark with their scores: of all hands, and of those found.

    Papers' tables are of all hands; ``found`` is None where none was lost.
    """

    benchmark: Benchmark
    backend: str
    predictions: Predictions
    all: Scores
    found: Scores | None
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def rows(self) -> dict[str, dict[str, float]]:
        """Our rows of a table, by name."""
        if self.found is None:
            return {self.backend: self.all.figures}
        count = int(self.predictions.found.sum())
        return {
            f"{self.backend}, lost hands as zeros": self.all.figures,
            f"{self.backend}, the {count} of {len(self.predictions)} found": self.found.figures,
        }

    @property
    def by_visibility(self) -> dict[str, dict[str, float]]:
        """Mean errors in bins of the visible share; empty where that is unknown."""
        return by_visibility(self.all, self.benchmark.truths)


def predictions_of(
    benchmark: Benchmark,
    backend: str,
    settings: PredictSettings,
    progress: Progress,
    hand_model: Path | None = None,
    network: NetworkOptions | None = None,
) -> Predictions:
    """Run a backend on a benchmark's images; ``zero`` needs none.

    Raises BenchmarkError where there are no images, and what building the backend raises.
    """
    if backend == ZERO:
        return zero_predictions(benchmark.truths)
    if not benchmark.samples:
        raise BenchmarkError(
            f"{benchmark.name} is here without images: give --predictions, a file of them, or "
            f"--backend {ZERO}"
        )
    # Late, so that judging a file loads no network.
    from hand_mesh_ros.perception.build import build_backend, build_observer

    made, models = build_backend(backend, hand_model, network)
    return predict(benchmark.samples, made, build_observer(), models, settings, progress)


def read(path: Path, benchmark: Benchmark) -> Predictions:
    """Predictions from a file; BenchmarkError says what is wrong with it."""
    try:
        return read_predictions(path, benchmark)
    except ValueError as error:
        raise BenchmarkError(f"{path}: {error}") from error


def judge(
    benchmark: Benchmark,
    backend: str,
    predictions: Predictions,
    settings: dict[str, Any] | None = None,
) -> Evaluation:
    """Score predictions, made with ``settings``; BenchmarkError if they are of other samples."""
    try:
        scores = score(predictions, benchmark.truths, benchmark.root)
    except ValueError as error:
        raise BenchmarkError(f"{benchmark.name}: {error}") from error
    found = predictions.found
    some = None
    if found.any() and not found.all():
        some = score_found(predictions, benchmark.truths, benchmark.root)
    return Evaluation(benchmark, backend, predictions, scores, some, settings or {})


def write(evaluation: Evaluation, folder: Path) -> tuple[list[Path], list[str]]:
    """Write `scores.json`, `samples.csv`, `predictions.npz`, `curves.png` and the submission.

    Returns the files, and notes on what could not be compared or written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    benchmark, predictions = evaluation.benchmark, evaluation.predictions
    notes = list(evaluation.all.notes)
    files = [folder / n for n in ("scores.json", "samples.csv", "predictions.npz", "curves.png")]
    _write_csv(evaluation.all, predictions, benchmark.truths, files[1])
    arrays = {k: v for k, v in vars(predictions).items() if v is not None}
    np.savez_compressed(files[2], **arrays)
    title = f"{benchmark.name}: {evaluation.backend}, {len(predictions)} samples"
    draw(evaluation.all, predictions, benchmark.truths, title, files[3])
    if benchmark.submission is not None:
        try:
            files += WRITERS[benchmark.submission](predictions, benchmark.truths, folder)
        except SubmissionError as error:
            notes.append(f"no submission written: {error}")
    files[0].write_text(json.dumps(_report(evaluation, notes), indent=2) + "\n")
    return files, notes


def _report(evaluation: Evaluation, notes: list[str]) -> dict[str, Any]:
    name = evaluation.benchmark.name
    report: dict[str, Any] = {
        "benchmark": name,
        "backend": evaluation.backend,
        "settings": evaluation.settings,
        "figures": evaluation.all.figures,
        "figures_of_found": evaluation.found.figures if evaluation.found else None,
        "by_visible_share": evaluation.by_visibility,
        "notes": notes,
        "published": [asdict(row) for row in published_rows(name)],
    }
    if evaluation.backend == ZERO:
        report["published_of_zero"] = zero_predictor(name)
    return {key: _plain(value) for key, value in report.items()}


def _plain(value: Any) -> Any:
    """JSON has no NaN: unknown is null."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _write_csv(scores: Scores, predictions: Predictions, truths: Truths, path: Path) -> None:
    columns = list(scores.samples)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["sample", "found", *columns])
        for i, (name, found) in enumerate(zip(truths.names, predictions.found, strict=True)):
            values = (scores.samples[c][i] for c in columns)
            shown = ["" if math.isnan(v) else f"{v:.4f}" for v in values]
            writer.writerow([name, int(found), *shown])
