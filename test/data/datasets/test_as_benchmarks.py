"""The data sets' evaluation splits through `evaluate`: opened by name, judged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layout_writers import freihand, hanco, hint, ho3d, interhand

from hand_mesh_ros.evaluation.benchmarks import BENCHMARKS, BenchmarkError, open_benchmark
from hand_mesh_ros.evaluation.dataset_benchmarks import split_of
from hand_mesh_ros.evaluation.records import Predictions
from hand_mesh_ros.evaluation.scores import score

SPLITS: dict[str, tuple[Any, str, dict[str, Any]]] = {
    "freihand": (freihand.write, "evaluation", {}),
    "ho3d_v3": (ho3d.write, "evaluation", {}),
    "hanco": (hanco.write, "test", {}),
    "interhand": (interhand.write, "train", {}),
}


@pytest.mark.parametrize("name", SPLITS)
def test_a_split_is_judged(name: str, tmp_path: Path, models: dict) -> None:
    write, split, options = SPLITS[name]
    write(tmp_path)
    benchmark = split_of(name, name, tmp_path, split, "full", models=models,
                         on_error="skip", **options)  # fmt: skip
    truths = benchmark.truths
    assert truths.names == tuple(sample.name for sample in benchmark.samples)
    assert np.isfinite(truths.joints).any()
    shifted = truths.joints + np.array([0.0, 0.0, 0.01])
    found = score(Predictions(np.nan_to_num(shifted)), truths)
    assert found.figures["camera_mpjpe_mm"] == pytest.approx(10.0, abs=1e-6)
    assert found.figures["mpjpe_mm"] == pytest.approx(0.0, abs=1e-6)


def test_landmarks_alone_are_judged_too(tmp_path: Path) -> None:
    hint.write(tmp_path)
    benchmark = open_benchmark("hint_newdays", tmp_path)
    assert benchmark.table == "hint"
    assert benchmark.truths.uv is not None and np.isfinite(benchmark.truths.uv).any()


def test_what_is_broken_is_refused_by_name(tmp_path: Path) -> None:
    """The free hand's meshes are not MANO's, which FreiHAND's files must hold."""
    freihand.write(tmp_path)
    with pytest.raises(BenchmarkError, match="evaluation_verts.json: element 0"):
        open_benchmark("freihand", tmp_path)


@pytest.mark.parametrize("name", sorted(set(BENCHMARKS) - {"arrays", "renders-v1"}))
def test_an_empty_folder_is_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match=str(tmp_path)):
        open_benchmark(name, tmp_path)
