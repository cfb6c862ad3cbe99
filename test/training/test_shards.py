"""Shards: what is written is what is read, in an order that a seed decides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch.utils.data import DataLoader

from hand_mesh_ros.data.samples import HandSample
from hand_mesh_ros.training.data import HandData
from hand_mesh_ros.training.run import run
from hand_mesh_ros.training.shards import Share, read_shard, shard_files, stream, write_shards
from hand_mesh_ros.training.sources import open_source

Tiny = Callable[..., Any]


def _sample(number: int) -> HandSample:
    return open_source("cell", "train", {"width": 160, "height": 120})(number)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve samples in four files, losslessly."""
    path = tmp_path_factory.mktemp("shards")
    files = write_shards((_sample(k) for k in range(12)), path, per_shard=3, quality=None)
    assert [file.name for file in files] == [f"shard-{k:06d}.tar" for k in range(4)]
    return path


def test_samples_come_back_as_they_were(folder: Path) -> None:
    for number, read in enumerate(read_shard(folder / "shard-000001.tar"), start=3):
        written = _sample(number)
        np.testing.assert_array_equal(read.image, written.image)
        for field in fields(HandSample):
            if field.name in ("load_image", "camera", "mano"):
                continue
            np.testing.assert_equal(getattr(read, field.name), getattr(written, field.name))
        for name in ("camera", "mano"):
            before, after = getattr(written, name), getattr(read, name)
            for field in fields(before):
                np.testing.assert_equal(getattr(after, field.name), getattr(before, field.name))
    assert number == 5


def test_jpeg_is_close(tmp_path: Path) -> None:
    (file,) = write_shards([_sample(0)], tmp_path)
    (read,) = read_shard(file)
    difference = np.abs(read.image.astype(int) - _sample(0).image)
    assert 0 < difference.mean() < 4


def test_a_folder_is_written_once_and_missing_files_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(FileExistsError, match="has shards already"):
        write_shards([_sample(0)], folder)
    with pytest.raises(FileNotFoundError, match="shard-000009.tar"):
        shard_files(str(folder / "shard-{000003..000009}.tar").replace("000003..", "000009.."))
    with pytest.raises(FileNotFoundError, match="no file"):
        shard_files(str(tmp_path))
    assert len(shard_files(str(folder / "shard-{000000..000002}.tar"))) == 3


def test_order_is_the_seeds_and_shares_do_not_overlap(folder: Path) -> None:
    files = shard_files(str(folder))

    def numbers(**how: Any) -> list[int]:
        return [number for number, _ in stream(files, **how)]

    assert numbers() == list(range(12))
    mixed = numbers(seed=1, shuffle=6)
    assert mixed != numbers() and sorted(mixed) == list(range(12))
    assert mixed == numbers(seed=1, shuffle=6) != numbers(seed=2, shuffle=6)
    parts = [numbers(seed=1, shuffle=6, share=Share(k, 3)) for k in range(3)]
    assert sorted(sum(parts, [])) == list(range(12))
    with pytest.raises(ValueError, match="4 shards are too few for 5 readers"):
        numbers(share=Share(4, 5))


def test_epochs_from_shards_have_their_count(tiny: Tiny, folder: Path) -> None:
    def names(dataset: DataLoader[Any]) -> list[int]:
        return [len(batch["image"]) for batch in dataset]

    source = ["data.train.source=null", f"data.train.shards={folder}"]
    data = HandData(tiny(*source, "data.train.count=20"))
    assert names(data.loader("train")) == [4] * 5  # the twelve begin again
    source = ["data.validation.source=null", f"data.validation.shards={folder}"]
    data = HandData(tiny(*source, "data.validation.count=20"))
    assert names(data.loader("validation")) == [4] * 3  # each once


def test_training_from_shards_is_deterministic(tiny: Tiny, folder: Path, tmp_path: Path) -> None:
    recipe = tiny(
        "data.train.source=null", f"data.train.shards={folder}", "trainer.epochs=2"
    )  # fmt: skip
    first = run(recipe, tmp_path / "a", quiet=True)["metrics"]
    assert run(recipe, tmp_path / "b", quiet=True)["metrics"] == first
