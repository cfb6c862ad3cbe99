"""The solver on real multi-view recordings: leave-one-view-out, and one view against all.

There is no ground truth. Left-out views judge the fit against linear triangulation of the same
landmarks; the fit of all views judges the fit of one; how far fits of different views are apart
judges the covariances of both. A person is calibrated on every other second
of a recording and measured in the seconds between, and the other way round, so that no hand is
judged by a calibration that has seen it. ``*_shape_only`` are the same figures with the person's
shape alone, where landmarks lie and err as on anybody; ``*_later`` are those of the recording's
second half after a calibration on its first, ``*_anybody`` without one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.data.recordings import open_recording
from hand_mesh_ros.evaluation.metrics.alignment import similarity_aligned
from hand_mesh_ros.evaluation.metrics.position import by_sample, distances
from hand_mesh_ros.evaluation.metrics.uncertainty import coverage
from hand_mesh_ros.geometry.triangulation import reprojection_errors, triangulate
from hand_mesh_ros.hand.landmarks import landmarks_and_jacobian
from hand_mesh_ros.hand.layout import BONES
from hand_mesh_ros.hand.model import HandModel
from hand_mesh_ros.hand.shape_fusion import FusionSettings
from hand_mesh_ros.perception.build import build_pipeline
from hand_mesh_ros.perception.estimate import HandViews
from hand_mesh_ros.perception.landmark_fit import LandmarkFit
from hand_mesh_ros.perception.pipeline import PipelineSettings
from hand_mesh_ros.perception.shape_calibration import CalibrationSettings, ShapeCollector
from hand_mesh_ros.types import HandEstimate, HandSet, Side, View

Array = NDArray[np.float64]
Models = Mapping[Side, HandModel]
# More hands than any recording has.
_ALL = 100_000
_SHAPE_ONLY = FusionSettings(landmark_bias=0.0)


@dataclass(frozen=True, eq=False)
class Seen:
    """One hand at one instant, with the side that the whole recording gives it."""

    side: Side
    views: tuple[View, ...]


@dataclass(frozen=True, eq=False)
class Trial:
    """Hands to measure, and a backend that knows the person from other instants."""

    hands: list[Seen]
    backend: LandmarkFit


def bench_recordings(
    four_cameras: Path, two_cameras: Path, progress: Callable[[int, int, str], None]
) -> dict[str, float]:
    """The real-video figures of `out/bench/solver.json`, by its names."""
    total = 6
    progress(0, total, "watching four-cameras")
    four, models = _watch(four_cameras)
    progress(1, total, "four views, person calibrated")
    trials = between(four, models)
    report = leave_one_out(trials) | one_view(trials) | promises(trials)
    anybody = [Trial(trial.hands, LandmarkFit(models)) for trial in trials]
    report |= {f"{name}_anybody": value for name, value in promises(anybody).items()}
    progress(2, total, "four views, shape calibrated")
    trials = between(four, models, _SHAPE_ONLY)
    report |= _named(leave_one_out(trials) | one_view(trials), "shape_only")
    progress(3, total, "the second half")
    trials = later(four, models)
    report |= _named(leave_one_out(trials) | one_view(trials), "later")
    progress(4, total, "watching two-cameras")
    two, models = _watch(two_cameras)
    progress(5, total, "two views")
    report |= two_views(between(two, models))
    report |= _named(two_views(between(two, models, _SHAPE_ONLY)), "shape_only")
    report |= _named(two_views(later(two, models)), "later")
    progress(total, total, "done")
    return report


def _watch(path: Path) -> tuple[list[HandSet], Models]:
    pipeline, models = build_pipeline(pipeline=PipelineSettings(search_every=1))
    return [pipeline.process(frames) for frames in open_recording(path)], models


def between(
    sets: Sequence[HandSet], models: Models, settings: FusionSettings | None = None
) -> list[Trial]:
    """Calibrated on every other second, to be measured in those between; both ways."""
    odd, even = ([s for s in sets if s.stamp_ns // 10**9 % 2 == rest] for rest in (1, 0))
    return [_trial(a, b, models, settings) for a, b in ((odd, even), (even, odd))]


def later(sets: Sequence[HandSet], models: Models) -> list[Trial]:
    """Calibrated on the first half of the recording, to be measured in the second."""
    middle = len(sets) // 2
    return [_trial(sets[:middle], sets[middle:], models, None)]


def _trial(
    known: Sequence[HandSet],
    asked: Sequence[HandSet],
    models: Models,
    settings: FusionSettings | None,
) -> Trial:
    collector = ShapeCollector(CalibrationSettings(hands=_ALL, fusion=settings))
    for each in known:
        collector.add(each)
    hands = [
        Seen(hand.estimate.side, views)
        for each in asked
        for hand, views in zip(each.hands, each.observed, strict=True)
        if len(views) > 1
    ]
    return Trial(hands, LandmarkFit(models, shape=collector.calibrate(models)))


def _named(figures: Mapping[str, float], what: str) -> dict[str, float]:
    """The figures under their names with ``what`` added; counts and baselines stay behind."""
    kept = ("loo_px", "loo_px_dlt", "single_view_pa_mm", "single_view_wrist_mm", "two_cameras_px")
    return {f"{name}_{what}": value for name, value in figures.items() if name in kept}


def _fit(backend: LandmarkFit, hand: Seen, views: Sequence[View]) -> HandEstimate | None:
    votes = 9.0 if hand.side == "right" else -9.0
    return backend.estimate([HandViews(tuple(views), right_votes=votes)])[0]


def _marks(backend: LandmarkFit, estimate: HandEstimate) -> Array:
    """Where the fitted hand has its landmarks, (21, 3)."""
    mano = estimate.mano
    params = np.concatenate([mano.global_orient, mano.hand_pose, mano.betas, mano.transl])
    return np.asarray(landmarks_and_jacobian(backend.worn(estimate.side), params[None])[0][0])


def _hands(trials: Sequence[Trial]) -> Iterator[tuple[LandmarkFit, Seen]]:
    return ((trial.backend, hand) for trial in trials for hand in trial.hands)


def _without(views: Sequence[View]) -> Iterator[tuple[View, list[View]]]:
    for left_out in views:
        yield left_out, [view for view in views if view is not left_out]


def leave_one_out(trials: Sequence[Trial]) -> dict[str, float]:
    """Fit on all views but one, measured in that one; hands with at least three views."""
    fitted: list[Array] = []
    linear: list[Array] = []
    for backend, hand in _hands(trials):
        if len(hand.views) < 3:
            continue
        for left_out, rest in _without(hand.views):
            estimate = _fit(backend, hand, rest)
            if estimate is None:
                continue
            uv, sigma = np.stack([v.uv for v in rest]), np.stack([v.sigma for v in rest])
            points = triangulate([v.camera for v in rest], uv, sigma)
            for errors, world in ((fitted, _marks(backend, estimate)), (linear, points)):
                errors.append(reprojection_errors([left_out.camera], world, left_out.uv[None]))
    return {
        "loo_px": _median(fitted),
        "loo_px_dlt": _median(linear),
        "loo_views": len(fitted),
    }


def one_view(trials: Sequence[Trial]) -> dict[str, float]:
    """Each view alone against the fit of all four."""
    aligned, wrist, network = [], [], []
    for backend, hand in _hands(trials):
        if len(hand.views) < 4:
            continue
        best = _fit(backend, hand, hand.views)
        if best is None:
            continue
        for view in hand.views:
            alone = _fit(backend, hand, [view])
            if alone is None:
                continue
            aligned.append(_aligned(alone.joints, best.joints))
            network.append(_aligned(view.world, _marks(backend, best)))
            wrist.append(np.linalg.norm(alone.joints[0] - best.joints[0]))
    return {
        "single_view_pa_mm": round(1e3 * float(np.mean(aligned)), 2),
        "single_view_pa_mm_network": round(1e3 * float(np.mean(network)), 2),
        "single_view_wrist_mm": round(1e3 * float(np.median(wrist)), 2),
        "single_views": len(wrist),
    }


def two_views(trials: Sequence[Trial]) -> dict[str, float]:
    """Reprojection of the fit of two views, and how constant a person's bones are."""
    errors, linear = [], []
    bones: dict[LandmarkFit, list[list[float]]] = {}
    for backend, hand in _hands(trials):
        estimate = _fit(backend, hand, hand.views)
        if estimate is None:
            continue
        errors.append(estimate.residual_px)
        joints = estimate.joints
        lengths = [float(np.linalg.norm(joints[b] - joints[a])) for a, b in BONES if b % 4 != 0]
        bones.setdefault(backend, []).append(lengths)
        uv, sigma = np.stack([v.uv for v in hand.views]), np.stack([v.sigma for v in hand.views])
        points = triangulate([v.camera for v in hand.views], uv, sigma)
        linear.append(reprojection_errors([v.camera for v in hand.views], points, uv))
    spread = max(float(np.std(lengths, axis=0).max()) for lengths in bones.values())
    return {
        "two_cameras_px": _median(errors),
        "two_cameras_px_dlt": _median(linear),
        "two_cameras_bone_std_mm": round(1e3 * spread, 6),
        "two_cameras_hands": len(errors),
    }


def promises(trials: Sequence[Trial]) -> dict[str, float]:
    """Shares, percent, of joints as near to those of other views as both covariances promise.

    Of hands in four views: two views against the other two, and one against the other three.
    """
    figures: dict[str, float] = {}
    for name, chosen in (("two_views", [[0, 1]]), ("one_view", [[0], [1], [2], [3]])):
        error, covariance = [], []
        for backend, hand in _hands(trials):
            if len(hand.views) != 4:
                continue
            for which in chosen:
                a = _fit(backend, hand, [hand.views[i] for i in which])
                b = _fit(backend, hand, [v for i, v in enumerate(hand.views) if i not in which])
                if a is not None and b is not None:
                    error.append(a.joints - b.joints)
                    covariance.append(a.covariance + b.covariance)
        shares = 100 * coverage(np.stack(error), np.stack(covariance), (0.68, 0.95))
        for level, share in zip((68, 95), shares, strict=True):
            figures[f"{name}_inside_{level}"] = round(float(share), 1)
    return figures


def _aligned(joints: Array, truth: Array) -> float:
    """Mean joint distance, m, after the best similarity (proper rotation)."""
    moved = similarity_aligned(joints[None], truth[None], proper=True)
    return float(by_sample(distances(moved, truth[None]))[0])


def _median(errors: Sequence[Array]) -> float:
    return round(float(np.nanmedian(np.concatenate([e.reshape(-1) for e in errors]))), 3)
