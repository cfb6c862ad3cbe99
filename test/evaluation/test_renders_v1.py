"""`renders-v1`: splits that share nothing, the same images for everyone, files that agree."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from hand_mesh_ros.evaluation import renders_v1
from hand_mesh_ros.evaluation.benchmarks import (
    BENCHMARKS,
    WITHOUT_FOLDER,
    BenchmarkError,
    open_benchmark,
)
from hand_mesh_ros.evaluation.metrics.occlusion import bin_of
from hand_mesh_ros.evaluation.records import truths_of

pytest.importorskip("warp", reason="warp-lang is missing")


def test_no_person_environment_or_thing_is_in_two_splits() -> None:
    seen = {}
    for split in renders_v1.SPLITS:
        listed = renders_v1.entries(split, renders_v1.PARTS)
        for what in ("person", "environment", "thing", "seed"):
            seen[split, what] = {getattr(e.spec, what) for e in listed}
    for a, b in (("train", "validation"), ("train", "test"), ("validation", "test")):
        for what in ("person", "environment", "thing", "seed"):
            assert not seen[a, what] & seen[b, what]


def test_the_test_split_has_both_sides_all_occluders_and_all_bins() -> None:
    listed = renders_v1.entries("test")
    assert len(listed) == 500
    assert len({(e.name, e.view) for e in listed}) == 500
    assert {e.spec.side for e in listed} == {"left", "right"}
    shares = renders_v1.recipe()["occluders"]
    for occluder, share in shares.items():
        assert abs(np.mean([e.spec.occluder == occluder for e in listed]) - share) < 0.08
    some = renders_v1.RenderedSamples([e for e in listed if e.spec.occluder != "none"][:70])
    bins = bin_of(np.array([s.visible_share for s in some]))
    assert {1, 2, 3} <= set(bins.tolist())


def test_the_benchmark_is_what_was_published() -> None:
    """Positions noted when the benchmark was made: a change of the renderer's geometry shows."""
    noted = yaml.safe_load(Path(__file__).with_name("renders_v1_noted.yaml").read_text())
    samples = renders_v1.RenderedSamples(renders_v1.entries("test"))
    for number, expected in noted.items():
        sample = samples[number]
        assert sample.name == expected["name"]
        np.testing.assert_allclose(sample.uv[[0, 4, 8, 20]], expected["uv"], atol=0.02)
        assert sample.visible_share == pytest.approx(expected["visible_share"], abs=0.01)
        assert sample.image.mean() == pytest.approx(expected["mean"], abs=1.0)


def test_files_hold_what_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    single, multi = (renders_v1.entries("test", (part,)) for part in ("single", "multi"))
    few = [*single[:2], *multi[:2]]
    monkeypatch.setattr(renders_v1, "entries", lambda split, parts=(): few)
    steps: list[tuple[int, int, str]] = []
    labels = renders_v1.write(tmp_path, "test", ("single",), lambda *a: steps.append(a))
    assert steps[-1][:2] == (4, 4)
    drawn = renders_v1.RenderedSamples(few)
    written = renders_v1.renders_v1(tmp_path)
    with np.load(labels) as stored:
        assert stored["name"].tolist() == [s.name for s in drawn] == list(written.truths.names)
        np.testing.assert_allclose(stored["joints"], np.stack([s.joints for s in drawn]))
        assert stored["vertex_visibility"].dtype == bool
    for sample, read in zip(drawn, written.samples, strict=True):
        np.testing.assert_array_equal(read.image, sample.image)
    import cv2

    first = renders_v1.picture_path(tmp_path, drawn[0].name)
    mask = cv2.imread(str(first.with_suffix(".mask.png")), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(mask & 127 == 1, drawn[0].hand_mask)
    np.testing.assert_array_equal(mask >= 128, drawn[0].extras["load_amodal_mask"]())
    depth = cv2.imread(str(first.with_suffix(".depth.png")), cv2.IMREAD_UNCHANGED)
    np.testing.assert_allclose(depth / 1e4, drawn[0].depth, atol=6e-5)


def test_truths_of_several_cameras_are_grouped() -> None:
    samples = list(renders_v1.RenderedSamples(renders_v1.entries("test", ("multi",))[:4]))
    assert len({s.group for s in samples}) == 1
    truths = truths_of(samples)
    assert truths.vertices is not None and np.isfinite(truths.joints).all()
    assert truths.visible_share is not None and (truths.visible_share <= 1).all()


def test_motion_is_a_sequence_in_time() -> None:
    samples = list(renders_v1.RenderedSamples(renders_v1.entries("test", ("motion",))[:5]))
    truths = truths_of(samples)
    assert truths.sequence is not None and truths.stamps is not None
    np.testing.assert_allclose(np.diff(truths.stamps), 1 / 15)


def test_it_is_registered_and_needs_no_folder() -> None:
    assert "renders-v1" in BENCHMARKS and "renders-v1" in WITHOUT_FOLDER
    with pytest.raises(BenchmarkError, match="no such folder"):
        open_benchmark("renders-v1", Path("/nowhere/at/all"))
    with pytest.raises(BenchmarkError, match="splits train, validation, test"):
        renders_v1.entries("evaluation")  # type: ignore[arg-type]
