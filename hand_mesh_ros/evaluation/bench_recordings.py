"""The solver on real multi-view recordings: leave-one-view-out, and one view against all.

There is no ground truth. Left-out views judge the fit against linear triangulation of the same
landmarks; the fit of all views judges the fit of one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.data.recordings import open_recording
from hand_mesh_ros.geometry.alignment import procrustes
from hand_mesh_ros.geometry.cameras import project
from hand_mesh_ros.geometry.triangulation import triangulate
from hand_mesh_ros.hand.landmarks import landmarks_and_jacobian
from hand_mesh_ros.hand.layout import BONES
from hand_mesh_ros.hand.shape import HandShape
from hand_mesh_ros.perception.build import build_pipeline
from hand_mesh_ros.perception.estimate import HandViews
from hand_mesh_ros.perception.landmark_fit import LandmarkFit
from hand_mesh_ros.perception.pipeline import PipelineSettings
from hand_mesh_ros.perception.shape_calibration import CalibrationSettings, ShapeCollector
from hand_mesh_ros.types import HandEstimate, Side, View

Array = NDArray[np.float64]
_CHUNKS = 1000


@dataclass(frozen=True, eq=False)
class _Seen:
    """One hand at one instant, with the side that the whole recording gives it."""

    side: Side
    views: tuple[View, ...]


def bench_recordings(
    four_cameras: Path, two_cameras: Path, progress: Callable[[int, int, str], None]
) -> dict[str, float]:
    """The real-video figures of `out/bench/solver.json`, by its names."""
    report: dict[str, float] = {}
    progress(0, 4, "watching four-cameras")
    hands, backend = _watch(four_cameras)
    progress(1, 4, "leave one view out")
    report |= _leave_one_out(hands, backend)
    progress(2, 4, "one view against all")
    report |= _one_view(hands, backend)
    progress(3, 4, "watching two-cameras")
    hands, backend = _watch(two_cameras)
    report |= _two_views(hands, backend)
    progress(4, 4, "done")
    return report


def _watch(path: Path) -> tuple[list[_Seen], LandmarkFit]:
    """Every hand of a recording, and a backend that knows the person's shape."""
    pipeline, models = build_pipeline(pipeline=PipelineSettings(search_every=1))
    collector = ShapeCollector(CalibrationSettings(hands=_CHUNKS))
    hands: list[_Seen] = []
    for frames in open_recording(path):
        result = pipeline.process(frames)
        collector.add(result)
        for hand, views in zip(result.hands, result.observed, strict=True):
            if len(views) > 1:
                hands.append(_Seen(hand.estimate.side, views))
    shape: HandShape = collector.calibrate(models)
    return hands, LandmarkFit(models, shape=shape)


def _fit(backend: LandmarkFit, hand: _Seen, views: Sequence[View]) -> HandEstimate | None:
    votes = 9.0 if hand.side == "right" else -9.0
    return backend.estimate([HandViews(tuple(views), right_votes=votes)])[0]


def _marks(backend: LandmarkFit, estimate: HandEstimate) -> Array:
    """Where the fitted hand has its landmarks, (21, 3)."""
    mano = estimate.mano
    params = np.concatenate([mano.global_orient, mano.hand_pose, mano.betas, mano.transl])
    return np.asarray(landmarks_and_jacobian(backend.models[estimate.side], params[None])[0][0])


def _without(views: Sequence[View]) -> Iterator[tuple[View, list[View]]]:
    for left_out in views:
        yield left_out, [view for view in views if view is not left_out]


def _leave_one_out(hands: Sequence[_Seen], backend: LandmarkFit) -> dict[str, float]:
    """Fit on all views but one, measured in that one; hands with at least three views."""
    fitted: list[Array] = []
    linear: list[Array] = []
    for hand in hands:
        if len(hand.views) < 3:
            continue
        for left_out, rest in _without(hand.views):
            estimate = _fit(backend, hand, rest)
            if estimate is None:
                continue
            uv, sigma = np.stack([v.uv for v in rest]), np.stack([v.sigma for v in rest])
            points = triangulate([v.camera for v in rest], uv, sigma)
            for errors, world in ((fitted, _marks(backend, estimate)), (linear, points)):
                seen = project(left_out.camera, world)
                errors.append(np.linalg.norm(seen - left_out.uv, axis=-1))
    return {
        "loo_px": _median(fitted),
        "loo_px_dlt": _median(linear),
        "loo_views": len(fitted),
    }


def _one_view(hands: Sequence[_Seen], backend: LandmarkFit) -> dict[str, float]:
    """Each view alone against the fit of all four."""
    aligned, wrist, network = [], [], []
    for hand in hands:
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


def _two_views(hands: Sequence[_Seen], backend: LandmarkFit) -> dict[str, float]:
    errors, bones, linear = [], [], []
    for hand in hands:
        estimate = _fit(backend, hand, hand.views)
        if estimate is None:
            continue
        errors.append(estimate.residual_px)
        joints = estimate.joints
        bones.append([np.linalg.norm(joints[b] - joints[a]) for a, b in BONES if b % 4 != 0])
        uv, sigma = np.stack([v.uv for v in hand.views]), np.stack([v.sigma for v in hand.views])
        points = triangulate([v.camera for v in hand.views], uv, sigma)
        again = np.stack([project(v.camera, points) for v in hand.views])
        linear.append(np.linalg.norm(again - uv, axis=-1))
    lengths = np.array(bones)
    return {
        "two_cameras_px": _median(errors),
        "two_cameras_px_dlt": _median(linear),
        "two_cameras_bone_std_mm": round(1e3 * float(lengths.std(axis=0).max()), 6),
        "two_cameras_hands": len(errors),
    }


def _aligned(joints: Array, truth: Array) -> float:
    """Mean joint distance, m, after the best similarity (proper rotation)."""
    scale, R, t = procrustes(joints, truth, with_scale=True)
    return float(np.linalg.norm(scale * joints @ R.T + t - truth, axis=-1).mean())


def _median(errors: Sequence[Array]) -> float:
    return round(float(np.nanmedian(np.concatenate([e.reshape(-1) for e in errors]))), 3)
