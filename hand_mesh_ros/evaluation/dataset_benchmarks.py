"""The data sets' own evaluation splits as benchmarks, from the folders their authors publish."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hand_mesh_ros.data.datasets import open_dataset
from hand_mesh_ros.data.datasets.base import BadDataset, BadSample
from hand_mesh_ros.evaluation import official
from hand_mesh_ros.evaluation.benchmarks import Benchmark, BenchmarkError
from hand_mesh_ros.evaluation.records import truths_of


def freihand(root: Path) -> Benchmark:
    """FreiHAND's 3,960 evaluation images; without images, the official files of truths alone."""
    if not (root / "evaluation").is_dir():
        return official.freihand(root)
    return split_of("freihand", "freihand", root, "evaluation", submission="freihand")


def ho3d(root: Path) -> Benchmark:
    """HO3D v2's evaluation split; without images, the official files of truths alone."""
    if not (root / "evaluation").is_dir():
        return official.ho3d(root)
    return split_of("ho3d", "ho3d_v2", root, "evaluation", table="ho3d", submission="ho3d")


def ho3d_v3(root: Path) -> Benchmark:
    """HO3D v3's evaluation split."""
    return split_of("ho3d_v3", "ho3d_v3", root, "evaluation", table="ho3d", submission="ho3d")


def dexycb(root: Path) -> Benchmark:
    """DexYCB's S0 test split. Its submission counts on all subjects being there."""
    return split_of("dexycb", "dexycb", root, "test", submission="dexycb", setup="s0")


def hanco(root: Path) -> Benchmark:
    """HanCo's test sequences, background merged in."""
    return split_of("hanco", "hanco", root, "test", variant="rgb_merged")


def interhand(root: Path) -> Benchmark:
    """InterHand2.6M's test split, each hand by itself."""
    return split_of("interhand", "interhand", root, "test", table="full")


def hint_newdays(root: Path) -> Benchmark:
    """HInt's New Days of Hands, test split; a focal length is assumed, because none is told."""
    return _hint("hint_newdays", root, "newdays_img")


def hint_visor(root: Path) -> Benchmark:
    """HInt's Epic-Kitchens VISOR, test split."""
    return _hint("hint_visor", root, "epick_img")


def hint_ego4d(root: Path) -> Benchmark:
    """HInt's Ego4D, test split."""
    return _hint("hint_ego4d", root, "ego4d_img")


def _hint(name: str, root: Path, subset: str) -> Benchmark:
    return split_of(
        name, "hint", root, "TEST", table="hint", subsets=(subset,), assume_intrinsics=True
    )


def split_of(
    name: str,
    dataset: str,
    root: Path,
    split: str,
    table: str | None = None,
    submission: str | None = None,
    **options: Any,
) -> Benchmark:
    """A split of a data set as a benchmark; ``options`` are those of `open_dataset`.

    By default the first broken annotation is refused: ``on_error="skip"`` leaves it out.
    """
    try:
        # Each read once; their images stay on the disk.
        samples = list(open_dataset(dataset, root, split, **options))
        truths = truths_of(samples)
    except (BadDataset, BadSample) as error:
        raise BenchmarkError(str(error)) from error
    return Benchmark(name, truths, samples, table or name, submission)
