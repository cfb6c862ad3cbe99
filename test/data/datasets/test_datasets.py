"""What all data sets have in common: one record, opened by name, fit for loaders and scores."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layout_writers import (
    dexycb,
    freihand,
    hamer_evaluation,
    hamer_tars,
    hanco,
    hint,
    ho3d,
    interhand,
)

from hand_mesh_ros.data.datasets import DATASETS, HandDataset, open_dataset
from hand_mesh_ros.data.datasets.files import JsonRows
from hand_mesh_ros.evaluation.records import Sample, truths_of

# name: (writer, split, needs models for its meshes)
SETS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "freihand": (freihand.write, ("evaluation",)),
    "ho3d_v2": (lambda root: ho3d.write(root, images="png"), ("train",)),
    "ho3d_v3": (ho3d.write, ("evaluation",)),
    "dexycb": (dexycb.write, ("train",)),
    "hanco": (hanco.write, ("test",)),
    "interhand": (interhand.write, ("train",)),
    "hint": (hint.write, ("TEST",)),
    "hamer_evaluation": (hamer_evaluation.write, ("TEST_newdays_img_vis",)),
    "hamer_tars": (hamer_tars.write, ()),
}


@pytest.fixture(scope="module", params=SETS)
def opened(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, models: dict
) -> tuple[str, HandDataset]:
    name = request.param
    root = tmp_path_factory.mktemp(name)
    write, split = SETS[name]
    write(root)
    options = {} if name == "hint" else {"models": models}
    return name, open_dataset(name, root, *split, on_error="skip", **options)


def test_every_name_is_tried() -> None:
    assert SETS.keys() == DATASETS.keys()


def test_records_are_of_one_kind(opened: tuple[str, HandDataset]) -> None:
    name, data = opened
    samples = list(data)
    assert samples and len({s.name for s in samples}) == len(samples)
    for sample in samples:
        assert sample.dataset in name and sample.source.exists()
        assert sample.side in ("left", "right")
        shapes = {"joints": (21, 3), "uv": (21, 2), "visibility": (21,), "counted": (21,),
                  "box": (4,)}  # fmt: skip
        for field, shape in shapes.items():
            value = getattr(sample, field)
            assert value is None or value.shape == shape
        image = sample.image
        assert image.flags.c_contiguous and image.dtype == np.uint8
        assert image.shape == (sample.camera.height, sample.camera.width, 3)
        if sample.joints is not None and sample.placed and sample.calibrated:
            front = sample.joints[np.isfinite(sample.joints).all(-1)]
            assert (front[:, 2] > 0.1).all() and (front[:, 2] < 2).all()  # metres, z forward
        if sample.mano is not None:
            assert sample.mano.side == sample.side and sample.mano.hand_pose.shape == (45,)


def test_scores_can_be_made_of_them(opened: tuple[str, HandDataset]) -> None:
    _, data = opened
    samples: Sequence[Sample] = list(data)
    truths = truths_of(samples)
    assert len(truths) == len(samples)
    assert truths.uv is not None and truths.uv.shape == (len(samples), 21, 2)


def test_workers_may_have_them(opened: tuple[str, HandDataset]) -> None:
    _, data = opened
    usable = data.checked()
    again = pickle.loads(pickle.dumps(usable))
    last = len(usable) - 1
    np.testing.assert_array_equal(again[last].uv, usable[-1].uv)
    copied = pickle.loads(pickle.dumps(usable[0]))
    np.testing.assert_array_equal(copied.image, usable[0].image)
    assert [s.name for s in usable[::2]] == [s.name for s in list(usable)[::2]]


def test_nothing_is_read_on_opening(tmp_path: Path) -> None:
    """Listing waits until something is asked for: an empty folder can be opened."""
    for name, (_, split) in SETS.items():
        data = open_dataset(name, tmp_path, *split)
        with pytest.raises(ValueError):
            len(data)


def test_importing_is_light() -> None:
    """Neither torch nor OpenCV nor YAML are imported before a data set is opened."""
    code = (
        "import sys, hand_mesh_ros.data.datasets as d; "
        "print([m for m in ('torch', 'cv2', 'smplx', 'yaml', 'PIL') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_unknown_choices_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="on_error is 'ignore'"):
        open_dataset("hint", tmp_path, on_error="ignore")


@pytest.mark.parametrize("separators", [(", ", ": "), (",", ":")])
def test_rows_of_a_json_list(tmp_path: Path, separators: tuple[str, str]) -> None:
    """Both ways to write a list; any element, and one alone."""
    import json

    rows = np.random.default_rng(0).normal(size=(5, 3, 2))
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(rows.tolist(), separators=separators) + "\n")
    found = JsonRows(path, (3, 2))
    assert len(found) == 5
    np.testing.assert_array_equal(np.stack(found[0:5]), rows)
    np.testing.assert_array_equal(found[4], rows[4])
    path.write_text(json.dumps(rows[:1].tolist(), separators=separators))
    np.testing.assert_array_equal(JsonRows(path, (3, 2))[0], rows[0])
    assert len(JsonRows(path, (3, 2))) == 1
