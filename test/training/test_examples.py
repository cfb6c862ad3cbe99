"""Crops and truths: what a network sees is where its truth says, for right hands and left."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from hand_mesh_ros.data.samples import HandSample
from hand_mesh_ros.evaluation.renders_v1 import recipe
from hand_mesh_ros.hand.mirror import mirror_model
from hand_mesh_ros.hand.model import load_hand_model
from hand_mesh_ros.networks.mano_layer import ManoLayer
from hand_mesh_ros.training.data import HandData
from hand_mesh_ros.training.examples import Example, UnusableSample, example_of
from hand_mesh_ros.training.recipes import Augmentation
from hand_mesh_ros.training.sources import open_source

MODEL = load_hand_model()
IDS = frozenset({MODEL.model_id, mirror_model(MODEL).model_id})


def _cell(seed: int) -> HandSample:
    return open_source("cell", "train", {"width": 320, "height": 240})(seed)


def _example(sample: HandSample, augmentation: Augmentation | None = None) -> Example:
    return example_of(sample, 96, IDS, augmentation, np.random.default_rng(3))


def _turned(angle: float) -> Augmentation:
    return Augmentation(0.0, 0.0, angle, 0.0, 0.0)


@pytest.mark.parametrize("seed", [1, 9])  # a right hand's, a left hand's
@pytest.mark.parametrize("augmentation", [None, Augmentation(rotation=1.0)])
def test_parameters_pose_the_joints(seed: int, augmentation: Augmentation | None) -> None:
    example = _example(_cell(seed), augmentation)
    assert _cell(seed).side == ("right", "left")[seed // 8]
    rotations, betas = (torch.from_numpy(example[k])[None] for k in ("rotations", "betas"))
    joints = ManoLayer(MODEL)(rotations, betas).joints[0]
    np.testing.assert_allclose(joints - joints[:1], example["joints"], atol=1e-5)


@pytest.mark.parametrize("seed", [1, 9])
@pytest.mark.parametrize("augmentation", [None, Augmentation(scale=0.2, shift=0.1, rotation=1.0)])
def test_joints_seen_in_the_crop_are_its_pixels(
    seed: int, augmentation: Augmentation | None
) -> None:
    """By weak perspective, whose scale and place are fitted; the rest is perspective and lens."""
    example = _example(_cell(seed), augmentation)
    xy, uv = example["joints"][:, :2].astype(float), example["uv"].astype(float)
    design = np.zeros((42, 3))
    design[:, 0], design[::2, 1], design[1::2, 2] = xy.ravel(), 1, 1
    (scale, *_), *_ = np.linalg.lstsq(design, uv.ravel(), rcond=None)
    fitted = (design @ np.linalg.lstsq(design, uv.ravel(), rcond=None)[0]).reshape(21, 2)
    assert scale > 0
    # the spread of joints in the crop is about 0.4
    assert np.abs(fitted - uv).max() < 0.12
    assert np.sqrt(np.mean((fitted - uv) ** 2)) < 0.04


@pytest.mark.parametrize("seed", [1, 9])
def test_skin_is_where_joints_are(seed: int) -> None:
    """The image is cropped, turned and mirrored as the joints are: they lie on skin colour."""
    example = _example(_cell(seed), _turned(0.5))
    pixels = np.clip(np.rint(((example["uv"] + 1) * 96 - 1) / 2).astype(int), 0, 95)
    palm = pixels[[1, 5, 9, 13, 17]]
    red, _, blue = example["image"][:, palm[:, 1], palm[:, 0]].astype(int)
    assert np.median(red - blue) > 15
    corner_red, _, corner_blue = example["image"][:, :4, :4].reshape(3, -1).astype(int)
    assert np.median(corner_red - corner_blue) < np.median(red - blue)


def test_augmentation_depends_on_the_generator_only() -> None:
    sample = _cell(2)
    one, same = (_example(sample, Augmentation()) for _ in range(2))
    for key in one:
        np.testing.assert_array_equal(one[key], same[key])  # type: ignore[literal-required]
    other = example_of(sample, 96, IDS, Augmentation(), np.random.default_rng(4))
    assert np.abs(other["uv"] - one["uv"]).max() > 0.01


def test_parameters_of_another_model_are_unknown() -> None:
    sample = _cell(0)
    assert sample.mano is not None
    foreign = replace(sample, mano=replace(sample.mano, model_id="another"))
    example = _example(foreign)
    assert np.isnan(example["rotations"]).all() and np.isnan(example["betas"]).all()
    assert np.isfinite(example["joints"]).all()


def test_samples_without_joints_are_refused_by_name() -> None:
    sample = _cell(0)
    with pytest.raises(UnusableSample, match="train/00000000: no joints"):
        _example(replace(sample, joints=None))
    blind = replace(sample.camera, K=np.full((3, 3), np.nan))
    with pytest.raises(UnusableSample, match="intrinsics"):
        _example(replace(sample, camera=blind))


def test_workers_make_what_one_process_makes(tiny: Callable[..., Any]) -> None:
    def images(*changes: str) -> torch.Tensor:
        return torch.cat([b["image"] for b in HandData(tiny(*changes)).loader("train", 1)])

    alone = images()
    assert torch.equal(alone, images("data.workers=2"))
    assert not torch.equal(alone, images("seed=1"))
    assert len(alone) == 8


def test_renders_of_the_splits_and_of_the_benchmark_share_no_person() -> None:
    pytest.importorskip("warp", reason="the training renderer needs warp-lang")
    samples = {s: open_source("renders", s, {"size": 64}) for s in ("train", "validation")}  # type: ignore[arg-type]
    persons = {
        split: {sample(k).extras["person"] for k in range(12)} for split, sample in samples.items()
    }
    assert max(persons["train"]) < min(persons["validation"])
    benchmark = recipe()["splits"]["test"]
    assert min(persons["train"]) >= max(benchmark[k][1] for k in ("people", "things"))
    again = open_source("renders", "train", {"size": 64})(5)
    np.testing.assert_array_equal(again.image, samples["train"](5).image)
    with pytest.raises(ValueError, match="source 'renders': .*shine"):
        open_source("renders", "train", {"shine": 1})
    with pytest.raises(ValueError, match="occluders are shares of none, held"):
        open_source("renders", "train", {"occluders": {"cloud": 1.0}})
