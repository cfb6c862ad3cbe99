"""What of a sample is scored: joints that count, and places only where they are known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hand_mesh_ros.data.samples import HandSample
from hand_mesh_ros.evaluation.records import Predictions, Truths, chosen, truths_of
from hand_mesh_ros.evaluation.scores import score
from hand_mesh_ros.types import Camera


@pytest.fixture
def samples(rng: np.random.Generator) -> list[HandSample]:
    camera = Camera("c", 64, 64, np.array([[60.0, 0, 32], [0, 60, 32], [0, 0, 1]]))
    points = rng.normal(0, 0.04, (4, 30, 3)) + [0, 0, 0.5]
    return [
        HandSample(
            "some", "test", str(i), i, camera, "right", Path(),
            load_image=lambda: np.zeros((64, 64, 3), np.uint8),
            joints=p[:21], vertices=p, uv=p[:21, :2] * 100, sequence="s", stamp=i / 30,
        )
        for i, p in enumerate(points)
    ]  # fmt: skip


def _found(truths: Truths, error: np.ndarray) -> Predictions:
    assert truths.vertices is not None and truths.uv is not None
    joints = np.nan_to_num(truths.joints) + error
    sigma = np.broadcast_to(1e-4 * np.eye(3), (*joints.shape, 3))
    return Predictions(joints, truths.vertices + error, np.nan_to_num(truths.uv), sigma)


def test_only_joints_that_count_are_scored(samples: list[HandSample]) -> None:
    counted = np.ones(21, dtype=bool)
    counted[[3, 8]] = False
    truths = truths_of([replace(samples[0], counted=counted), *samples[1:]])
    assert truths.uv is not None
    for points in (truths.joints, truths.uv):
        assert np.isnan(points[0, ~counted]).all()
        assert np.isfinite(points[0, counted]).all() and np.isfinite(points[1:]).all()
    wrong = np.zeros((4, 21, 3))
    wrong[0, 3] = 1.0  # a metre off, where nobody looks
    joints = np.nan_to_num(truths.joints) + wrong
    joints[0, 8] = samples[0].joints[8]  # type: ignore[index]
    figures = score(Predictions(joints), truths).figures
    for name in ("camera_mpjpe_mm", "mpjpe_mm", "pa_mpjpe_proper_mm"):
        assert figures[name] < 1e-9


def test_places_that_are_not_known_are_not_scored(samples: list[HandSample]) -> None:
    """One hand's truth is a metre off, said to be unplaced: as if its place were not asked for."""
    off = np.array([0.0, 0.0, 1.0])
    first = samples[0]
    assert first.joints is not None and first.vertices is not None
    lost = replace(first, joints=first.joints + off, vertices=first.vertices + off, placed=False)
    known, mixed = truths_of(samples), truths_of([lost, *samples[1:]])
    assert known.placed is None and mixed.placed is not None
    assert mixed.placed.tolist() == [False, True, True, True]
    found = _found(known, np.array([0.0, 0.003, 0.004]))
    whole, part = score(found, known).figures, score(found, mixed).figures
    # what is relative counts all four hands, what is not the three that are placed
    relative = ("mpjpe_mm", "pa_mpjpe_mm", "mpvpe_mm", "pa_mpvpe_mm", "f5")
    for name in relative:
        assert part[name] == pytest.approx(whole[name], abs=1e-6), name
    three = score(chosen(found, mixed.placed), chosen(mixed, mixed.placed)).figures
    for name in ("camera_mpjpe_mm", "auc_j_camera", "camera_mpvpe_mm", "nees", "nll",
                 "coverage_95", "f5_unaligned"):  # fmt: skip
        assert part[name] == pytest.approx(three[name], abs=1e-9), name
    assert part["camera_mpjpe_mm"] == pytest.approx(5.0)
    none = score(found, replace(mixed, placed=np.zeros(4, dtype=bool))).figures
    assert all(np.isnan(none[name]) for name in ("camera_mpjpe_mm", "camera_mpvpe_mm", "nees"))
    assert none["mpjpe_mm"] == pytest.approx(whole["mpjpe_mm"], abs=1e-6)
    assert np.isnan(none["acceleration_true"])
