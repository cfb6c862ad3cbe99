"""Published data sets as sources: every sample once a pass, what is broken by choice, training."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hand_mesh_ros.data.datasets import BadDataset, BadSample
from hand_mesh_ros.data.samples import HandSample
from hand_mesh_ros.hand.model import load_hand_model
from hand_mesh_ros.training.data import HandData
from hand_mesh_ros.training.examples import Example, UnusableSample, example_of
from hand_mesh_ros.training.sources import open_source

# The writers of small data sets stand beside the readers' tests.
sys.path.append(str(Path(__file__).resolve().parents[1] / "data" / "datasets"))

HANDS = 3
Tiny = Callable[..., Any]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from layout_writers import freihand

    root = tmp_path_factory.mktemp("freihand")
    freihand.write(root, HANDS)
    (root / "training_verts.json").unlink()  # the free hand's vertices are not MANO's 778
    return root


@pytest.fixture
def broken(written: Path, tmp_path: Path) -> Path:
    """The same with one image cut off in the middle of its header, one missing."""
    root = Path(shutil.copytree(written, tmp_path / "broken"))
    (root / "training" / "rgb" / "00000004.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    (root / "training" / "rgb" / "00000006.jpg").unlink()
    return root


def _options(root: Path, **more: Any) -> dict[str, Any]:
    return {"name": "freihand", "root": str(root), "split": "training", **more}


def test_each_pass_has_every_sample_once_in_another_order(written: Path) -> None:
    sample = open_source("dataset", "train", _options(written))
    other = open_source("dataset", "validation", _options(written))
    first, second = ([sample(12 * turn + k).index for k in range(12)] for turn in range(2))
    assert sorted(first) == sorted(second) == list(range(12))
    assert first != second
    assert [other(k).index for k in range(12)] != first
    again = open_source("dataset", "train", _options(written))
    assert [again(k).index for k in (14, 3)] == [second[2], first[3]]


def test_options_are_the_readers(written: Path) -> None:
    sample = open_source("dataset", "train", _options(written, versions=["hom"], hands=[0.0, 0.67]))
    assert sorted(sample(k).name for k in range(2)) == ["training/00000003", "training/00000004"]
    for options, message in (
        ({**_options(written), "shine": 1}, "source 'dataset': .*shine"),
        ({"name": "freihand", "split": "training"}, "source 'dataset': .*root"),
        ({"name": "freihand", "root": str(written)}, "options.split of freihand must be named"),
    ):
        with pytest.raises(ValueError, match=message):
            open_source("dataset", "train", options)
    with pytest.raises(BadDataset, match="no such folder"):
        open_source("dataset", "train", _options(written / "nowhere"))


def test_what_is_broken_stops_or_is_replaced_by_choice(
    broken: Path, tiny: Tiny, caplog: pytest.LogCaptureFixture
) -> None:
    def images(*changes: str) -> list[np.ndarray]:
        options = f"name: freihand, root: '{broken}', split: training"
        recipe = tiny(
            "data.train.source=dataset",
            f"data.train.options={{{', '.join([options, *changes])}}}",
            "data.train.count=12",
        )
        return [b["image"].numpy() for b in HandData(recipe).loader("train")]

    with pytest.raises(BadSample, match=r"0000000[46].jpg"):
        images()
    made = images("on_error: skip")
    assert sum(map(len, made)) == 12
    told = [r.getMessage() for r in caplog.records if "replaced" in r.getMessage()]
    assert any("00000004.jpg" in t for t in told) and any("00000006.jpg" in t for t in told)
    assert all(np.array_equal(a, b) for a, b in zip(made, images("on_error: skip"), strict=True))


def test_a_recipe_trains_on_a_data_set(written: Path, tiny: Tiny, tmp_path: Path) -> None:
    from hand_mesh_ros.training.run import run

    parts = {"train": "[0.0, 0.67]", "validation": "[0.67, 1.0]"}
    changes = [
        f"data.{split}.{key}={value}"
        for split, hands in parts.items()
        for key, value in (
            ("source", "dataset"),
            ("options", f"{{name: freihand, root: '{written}', split: training, hands: {hands}}}"),
        )
    ]
    report = run(tiny("trainer.epochs=2", *changes), tmp_path / "run", quiet=True)
    assert report["steps"] == 4
    assert 0 < report["metrics"]["val_pa_mpjpe"] < 60


def test_the_shipped_recipe_runs_on_a_small_copy(written: Path, tmp_path: Path) -> None:
    from hand_mesh_ros.networks.assets import AssetError, landmark_network_path
    from hand_mesh_ros.training.recipes import read_recipe, smoke
    from hand_mesh_ros.training.run import run

    try:
        landmark_network_path("hand_landmark_full")
    except AssetError as error:
        pytest.skip(str(error))
    hands = {"train": "[0.0, 0.67]", "validation": "[0.67, 1.0]"}
    changes = [f"data.{split}.options.hands={share}" for split, share in hands.items()]
    changes += [f"data.{split}.options.root={written}" for split in hands]
    report = run(smoke(read_recipe("freihand-mano", changes)), tmp_path / "run", quiet=True)
    assert report["steps"] == 4
    assert 0 < report["metrics"]["val_pa_mpjpe"] < 60


def test_parameters_come_with_manos_file(written: Path, tmp_path: Path) -> None:
    """In FreiHAND's files they are relative to MANO's mean pose."""
    from layout_writers.stage import model_of

    model = model_of("right")
    path = tmp_path / "MANO_RIGHT.npz"
    kintree = np.stack([np.where(model.parents < 0, 2**32 - 1, model.parents), np.arange(16)])
    np.savez(
        path,
        v_template=model.v_template,
        shapedirs=model.shapedirs,
        posedirs=model.posedirs.T.reshape(-1, 3, 135),
        J_regressor=model.J_regressor,
        weights=model.lbs_weights,
        kintree_table=kintree.astype(np.uint32),
        f=model.faces,
        hands_mean=model.hands_mean,
        hands_components=model.hands_components,
        tips=model.tips,
    )
    sample = open_source("dataset", "train", _options(written, mano=str(path)))(1)
    ids = frozenset({load_hand_model(path).model_id})
    example = example_of(sample, 64, ids, None, np.random.default_rng(0))
    assert np.isfinite(example["rotations"]).all() and np.isfinite(example["betas"]).all()
    assert np.isnan(_example(sample)["betas"]).all()  # of a model that is not the recipe's


def _example(sample: HandSample) -> Example:
    return example_of(sample, 64, frozenset(), None, np.random.default_rng(0))


def _sample(written: Path) -> HandSample:
    return open_source("dataset", "train", _options(written))(1)


def test_joints_that_do_not_count_are_not_trained_with(written: Path) -> None:
    sample = _sample(written)
    whole = _example(sample)
    counted = np.ones(21, dtype=bool)
    counted[[4, 17]] = False
    part = _example(replace(sample, counted=counted))
    np.testing.assert_array_equal(part["image"], whole["image"])
    for key in ("joints", "uv"):
        np.testing.assert_array_equal(part[key][counted], whole[key][counted])  # type: ignore[literal-required]
        assert np.isnan(part[key][~counted]).all()  # type: ignore[literal-required]
    # nothing in space is known relative to a wrist that does not count
    counted[0] = False
    part = _example(replace(sample, counted=counted))
    assert np.isnan(part["joints"]).all() and np.isfinite(part["uv"][counted]).all()
    with pytest.raises(UnusableSample, match="no joint's place in the image"):
        _example(replace(sample, counted=np.zeros(21, dtype=bool)))


def test_the_place_of_a_hand_has_no_part(written: Path) -> None:
    sample = _sample(written)
    assert sample.joints is not None
    moved = _example(replace(sample, joints=sample.joints + [1.0, 2.0, 3.0], placed=False))
    np.testing.assert_allclose(moved["joints"], _example(sample)["joints"], atol=1e-6)


def test_unknown_landmarks_of_the_palm_leave_the_box(written: Path) -> None:
    sample = _sample(written)
    assert sample.uv is not None
    uv = np.where(np.arange(21)[:, None] == 9, np.nan, sample.uv)
    example = _example(replace(sample, uv=uv))
    known = np.isfinite(example["uv"]).all(-1)
    assert known.sum() == 20 and not known[9]
    # upright, in the middle, and as large as the tight box says
    low, high = example["uv"][known].min(0), example["uv"][known].max(0)
    assert (high - low).max() == pytest.approx(2 / 1.8, rel=1e-3)
    np.testing.assert_allclose((low + high) / 2, 0, atol=0.02)
    pair = example["uv"][[5, 0]] - example["uv"][0], uv[[5, 0]] - uv[0]
    ratio = pair[0][0] / pair[1][0]
    assert ratio[0] == pytest.approx(ratio[1], rel=1e-3) and ratio[0] > 0
    boxed = _example(replace(sample, uv=uv, box=np.array([0.0, 0, 100, 50])))
    assert not np.array_equal(boxed["image"], example["image"])
    one = np.where(np.arange(21)[:, None] == 3, sample.uv, np.nan)
    with pytest.raises(UnusableSample, match="neither box nor joints"):
        _example(replace(sample, uv=one))
