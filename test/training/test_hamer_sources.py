"""HaMeR's training data: tars by weight, every hand of a tar as often, and what a hand becomes."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hand_mesh_ros.data.datasets.hamer_tars import open_hamer_tars
from hand_mesh_ros.data.samples import HandSample
from hand_mesh_ros.geometry.published_crops import square_crops
from hand_mesh_ros.hand.model import load_hand_model
from hand_mesh_ros.networks.crop_sampler import standardised
from hand_mesh_ros.networks.mano_layer import ManoLayer
from hand_mesh_ros.training.examples import UnusableSample
from hand_mesh_ros.training.hamer_examples import hamer_example_of
from hand_mesh_ros.training.mixture_source import BLOCK, shares
from hand_mesh_ros.training.recipes import Augmentation
from hand_mesh_ros.training.sources import open_source

# The writers of small data sets stand beside the readers' tests.
sys.path.append(str(Path(__file__).resolve().parents[1] / "data" / "datasets"))

IDS = frozenset({"mano_right", "mano_left"})  # whose model stands in for MANO in the tars
TURNED = Augmentation(scale=0.0, shift=0.0, rotation=0.5, gain=0.0, noise=0.0)


@pytest.fixture(scope="module")
def tars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from layout_writers import hamer_tars

    root = tmp_path_factory.mktemp("tars")
    hamer_tars.write(root)
    return root


def _part(weight: float, pattern: str) -> dict[str, Any]:
    return {"weight": weight, "source": "hamer_tars", "options": {"pattern": pattern}}


def test_tars_are_mixed_by_weight(tars: Path) -> None:
    parts = {"one": _part(0.25, "freihand-train/*.tar"), "both": _part(0.1, "coco-train/*.tar")}
    sample = open_source("mixture", "train", {"root": str(tars), "parts": parts})
    first = [sample(number).split for number in range(60)]
    assert set(first) == {"freihand-train", "coco-train"}
    assert first == [sample(number).split for number in range(60)]
    other = open_source("mixture", "validation", {"root": str(tars), "parts": parts})
    assert first != [other(number).split for number in range(60)]


def test_every_thousand_has_its_shares_and_parts_count_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "counting_source.py").write_text(
        "def make(use, *, name, step=1):\n    return lambda number: (name, step * number)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))

    def part(name: str, weight: float) -> dict[str, Any]:
        where = "counting_source:make"
        return {"weight": weight, "source": where, "options": {"name": name}}

    parts = {name: part(name, weight) for name, weight in {"a": 5.0, "b": 3.0, "c": 0.0}.items()}
    mixed: Any = open_source("mixture", "train", {"parts": parts, "step": 2})
    drawn = [mixed(number) for number in range(2 * BLOCK)]
    for block in range(2):
        names = Counter(name for name, _ in drawn[block * BLOCK : (block + 1) * BLOCK])
        assert names == {"a": 625, "b": 375}
    # each part's own numbers, times the common option, follow one another
    for name, count in (("a", 1250), ("b", 750)):
        assert [n for which, n in drawn if which == name] == [2 * k for k in range(count)]
    assert [name for name, _ in drawn[:BLOCK]] != [name for name, _ in drawn[BLOCK:]]


@pytest.mark.parametrize("weights", [[1.0], [1.0, 1.0, 1.0], [0.25, 0.25, *[0.05] * 10], [1, 1e-9]])
def test_shares_are_whole_and_near(weights: list[float]) -> None:
    array = np.array(weights)
    made = shares(array)
    assert made.sum() == BLOCK
    assert (np.abs(made - BLOCK * array / array.sum()) < 1).all()


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({}, "need weights"),
        ({"a": {"weight": -1, "source": "renders"}}, "parts.a.weight is -1"),
        ({"a": {"weight": 1}}, "parts.a is a mapping"),
        ({"a": {"weight": 1, "source": "renders", "wight": 2}}, "wight"),
        ({"a": {"weight": 1, "source": "nothing"}}, "nothing"),
    ],
)
def test_bad_mixtures_are_told(parts: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        open_source("mixture", "train", {"parts": parts})


def test_every_hand_of_the_tars_comes_as_often(tars: Path) -> None:
    options = {"root": str(tars), "window": 2, "visit": 4}
    sample = open_source("hamer_tars", "train", options)
    block = [sample(number).name for number in range(8)]
    # four visits of a tar of two hands and of one with one
    assert sorted(Counter(block).values()) == [2, 2, 4]
    assert block == [sample(number).name for number in range(8)]
    again = [sample(number).name for number in range(8, 16)]
    assert sorted(again) == sorted(block) and again != block
    with pytest.raises(ValueError, match="holds no nothing"):
        open_source("hamer_tars", "train", {"root": str(tars), "pattern": "nothing/*.tar"})
    with pytest.raises(ValueError, match="at least 1"):
        open_source("hamer_tars", "train", {"root": str(tars), "window": 0})


def test_a_crop_is_the_one_that_the_network_is_shown(tars: Path) -> None:
    for sample in open_hamer_tars(tars):
        example = hamer_example_of(sample, IDS, None, np.random.default_rng(0), 1.5)
        left, top, right, bottom = sample.box
        side = 1.5 * max(right - left, bottom - top)
        centre = [(left + right) / 2, (top + bottom) / 2]
        expected = square_crops(sample.image, centre, side, sample.side == "left", blur=False)
        image = standardised(torch.from_numpy(example["image"][None]).float())
        np.testing.assert_allclose(image, expected, atol=1e-5)


@pytest.mark.parametrize("augmentation", [None, TURNED])
def test_rotations_joints_and_places_are_of_one_hand(
    tars: Path, augmentation: Augmentation | None
) -> None:
    """Left hands, which are mirrored, too; the model of the tars stands in for MANO."""
    layer, turned = ManoLayer(load_hand_model()), []
    for number, sample in enumerate(open_hamer_tars(tars)):
        rng = np.random.default_rng(number)
        example = hamer_example_of(sample, IDS, augmentation, rng)
        plain = hamer_example_of(sample, IDS, None, rng)
        given = {key: torch.from_numpy(example[key][None]) for key in ("rotations", "betas")}
        joints = layer(given["rotations"], given["betas"]).joints[0].numpy()
        np.testing.assert_allclose(joints - joints[0], example["joints"], atol=1e-5)
        # places turn about the crop's middle by as much as the joints about the wrist
        a, b = (e["joints"][9, :2] @ [1, 1j] for e in (example, plain))
        uv = plain["uv"] @ np.array([1, 1j]) * (a / b / abs(a / b))
        np.testing.assert_allclose(example["uv"], np.stack([uv.real, uv.imag], -1), atol=1e-4)
        turned.append(abs(np.angle(a / b)))
    assert (max(turned) > 0.1) == (augmentation is not None)


def test_unknown_parts_are_unknown_and_useless_samples_refused(tars: Path) -> None:
    sample: HandSample = open_hamer_tars(tars)[0]
    rng = np.random.default_rng(0)
    example = hamer_example_of(sample, frozenset({"another"}), None, rng)
    assert np.isnan(example["rotations"]).all() and np.isnan(example["betas"]).all()
    assert np.isfinite(example["joints"]).all()
    hidden = np.arange(21) != 4
    some = hamer_example_of(replace(sample, counted=hidden), IDS, None, rng)
    assert (np.isfinite(some["uv"]).all(1) == hidden).all()
    assert ((some["confidence"] > 0) == hidden).all()
    for bad in (
        replace(sample, uv=None),
        replace(sample, side=None),
        replace(sample, box=np.zeros(4)),
        replace(sample, box=None, uv=np.full((21, 2), np.nan)),
    ):
        with pytest.raises(UnusableSample):
            hamer_example_of(bad, IDS, None, rng)


def test_augmentation_stays_within_the_published_bounds(tars: Path) -> None:
    from hand_mesh_ros.training.hamer_examples import coloured, jittered

    how = Augmentation(scale=0.3, shift=0.02, rotation=0.5, gain=0.2, noise=0.0)
    rng = np.random.default_rng(0)
    roi = np.array([[50.0, 60.0, 100.0, 0.0]])
    many = np.concatenate([jittered(roi, how, rng) for _ in range(2000)])
    low, high = many.min(0), many.max(0)
    np.testing.assert_allclose(low, [48, 58, 70, -1.0], atol=1e-9)
    np.testing.assert_allclose(high, [52, 62, 130, 1.0], atol=1e-9)
    assert (many[:, 3] == 0).mean() == pytest.approx(0.4, abs=0.03)
    grey = np.full((4, 4, 3), 100, np.uint8)
    levels = np.stack([coloured(grey, how, rng)[0, 0] for _ in range(300)])
    assert (levels.min(), levels.max()) == (80, 119)


def test_the_published_recipe_runs_on_tars_at_a_small_size(tars: Path, tmp_path: Path) -> None:
    from hand_mesh_ros.training.recipes import read_recipe, smoke
    from hand_mesh_ros.training.run import run

    roots = [f"data.{split}.options.root={tars}" for split in ("train", "validation")]
    recipe = read_recipe("hamer")
    parts = recipe.data.train.options["parts"]
    assert sum(part["weight"] for part in parts.values()) == pytest.approx(1)
    assert len(parts) == 10
    of_ours = {"freihand": parts["freihand"], "coco": _part(0.1, "coco-train/*.tar")}
    small = [
        f"data.train.options.parts={of_ours}",
        "model.backbone={width: 16, depth: 1, heads: 2, mlp_ratio: 2}",
        "model.decoder={dim: 16, depth: 1, heads: 2, dim_head: 8, mlp_dim: 16}",
    ]
    report = run(smoke(read_recipe("hamer", roots + small)), tmp_path / "run", quiet=True)
    assert report["metrics"]["val_pa_mpjpe"] > 0
