"""Benchmarks by name: what is evaluated, in which shape its table is, what is handed in."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hand_mesh_ros.evaluation.records import Sample, Truths, chosen


class BenchmarkError(Exception):
    """A benchmark that is unknown, or whose files are missing or broken; says which and why."""


@dataclass(frozen=True, eq=False)
class Benchmark:
    """Truths of one split, with the samples they are of: none where only the truths are there.

    ``table``: a name of `protocols.TABLES`; ``submission``: of `submissions.WRITERS`, or None;
    ``root``: the joint that errors are relative to.
    """

    name: str
    truths: Truths
    samples: Sequence[Sample] = ()
    table: str = "full"
    submission: str | None = None
    root: int = 0


# name -> "module:function", a function (folder) -> Benchmark; imported when chosen
BENCHMARKS: dict[str, str] = {
    "arrays": "hand_mesh_ros.evaluation.official:arrays",
    "renders-v1": "hand_mesh_ros.evaluation.renders_v1:renders_v1",
    **{
        name: f"hand_mesh_ros.evaluation.dataset_benchmarks:{name}"
        for name in (
            "freihand", "ho3d", "ho3d_v3", "dexycb", "hanco", "interhand",
            "hint_newdays", "hint_visor", "hint_ego4d",
        )
    },
}
# those that need no folder, because they make what they show
WITHOUT_FOLDER: set[str] = {"renders-v1"}


def thinned(benchmark: Benchmark, limit: int | None) -> Benchmark:
    """At most ``limit`` of the samples, spread evenly; it has no submission then."""
    count = len(benchmark.truths)
    if limit is None or limit >= count:
        return benchmark
    keep = np.linspace(0, count - 1, limit).round().astype(int)
    samples = [benchmark.samples[i] for i in keep] if benchmark.samples else ()
    return replace(
        benchmark, truths=chosen(benchmark.truths, keep), samples=samples, submission=None
    )


def open_benchmark(name: str, root: Path | None) -> Benchmark:
    """The benchmark of that name in a folder; `BenchmarkError` says what is wrong otherwise."""
    if name not in BENCHMARKS:
        raise BenchmarkError(
            f"unknown benchmark {name!r}: choose one of {', '.join(sorted(BENCHMARKS))}"
        )
    if root is None and name not in WITHOUT_FOLDER:
        raise BenchmarkError(f"{name} needs --root, the folder of its files")
    if root is not None and not root.is_dir():
        raise BenchmarkError(f"--root {root}: no such folder; it must hold the files of {name}")
    module, _, attribute = BENCHMARKS[name].partition(":")
    make: Callable[[Path | None], Benchmark] = getattr(importlib.import_module(module), attribute)
    try:
        benchmark = make(root)
    except OSError as error:
        raise BenchmarkError(f"{name}: cannot read {error.filename}: {error.strerror}") from error
    if not len(benchmark.truths):
        raise BenchmarkError(f"{name}: {root} holds no samples")
    return benchmark
