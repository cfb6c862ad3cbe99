"""HaMuCo on a real recording in several cameras: leave-one-view-out beside the landmark backend.

There is no truth: a hand made of all views but one is brought into that one, and its landmarks are
measured against what the landmark network marks there. Both backends are asked about the same
views, and nobody's hand is calibrated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.data.recordings import open_recording, part_of, part_range
from hand_mesh_ros.geometry.cameras import project
from hand_mesh_ros.geometry.triangulation import triangulate
from hand_mesh_ros.hand.kinematics import BETAS, GLOBAL_ORIENT, HAND_POSE, NUM_PARAMS, TRANSL
from hand_mesh_ros.hand.landmarks import MEDIAPIPE, landmarks_and_jacobian, marked_by
from hand_mesh_ros.hand.model import HandModel
from hand_mesh_ros.perception.build import build_pipeline
from hand_mesh_ros.perception.estimate import Backend, HandViews, NetworkOptions, create_backend
from hand_mesh_ros.perception.pipeline import PipelineSettings
from hand_mesh_ros.types import HandEstimate, Side, View

Array = NDArray[np.float64]
Progress = Callable[[int, int, str], None]

_SURE = 9.0


def left_out(
    recording: Path, progress: Progress, weights: Path | None = None, every: int = 4,
    begin: float = 0.0, end: float = 1.0,
) -> dict[str, float]:  # fmt: skip
    """Median distances, px, of hands in at least three views, in every `every`-th set of frames

    between two fractions of the recording. Raises ValueError for a part that is none.
    """
    pipeline, models = build_pipeline(pipeline=PipelineSettings(search_every=1))
    backends: dict[str, Backend] = {
        "landmarks": create_backend("landmarks", models),
        "hamuco": create_backend("hamuco", models, NetworkOptions(weights)),
    }
    errors: dict[str, list[Array]] = {name: [] for name in (*backends, "triangulation")}
    hands = 0
    sets = open_recording(recording)
    _, last = part_range(sets, begin, end)
    for number, frames in part_of(sets, begin, end):
        result = pipeline.process(frames)
        progress(number + 1, last, f"leave-one-view-out on {recording.name}")
        if number % every:
            continue
        for hand, views in zip(result.hands, result.observed, strict=True):
            if len(views) > 2:
                hands += 1
                _one(hand.estimate.side, views, backends, models, errors)
    found = {f"loo_px_{name}": _median(each) for name, each in errors.items()}
    return {**found, "loo_hands": hands}


def _one(
    side: Side,
    views: tuple[View, ...],
    backends: Mapping[str, Backend],
    models: Mapping[Side, HandModel],
    errors: dict[str, list[Array]],
) -> None:
    votes = _SURE if side == "right" else -_SURE
    for out in views:
        rest = tuple(view for view in views if view is not out)
        points = {name: _marks(backend.estimate([HandViews(rest, None, votes)])[0], models)
                  for name, backend in backends.items()}  # fmt: skip
        points["triangulation"] = triangulate(
            [v.camera for v in rest], np.stack([v.uv for v in rest]),
            np.stack([v.sigma for v in rest]),
        )  # fmt: skip
        if all(each is not None for each in points.values()):
            for name, each in points.items():
                assert each is not None
                seen = project(out.camera, each)
                errors[name].append(np.linalg.norm(seen - out.uv, axis=-1))


def _marks(estimate: HandEstimate | None, models: Mapping[Side, HandModel]) -> Array | None:
    """Where the landmark network would put its landmarks (21, 3) on the hand."""
    if estimate is None:
        return None
    params = np.zeros((1, NUM_PARAMS))
    mano = estimate.mano
    params[0, GLOBAL_ORIENT], params[0, HAND_POSE] = mano.global_orient, mano.hand_pose
    params[0, BETAS], params[0, TRANSL] = mano.betas, mano.transl
    model = marked_by(models[estimate.side], MEDIAPIPE)
    return np.asarray(landmarks_and_jacobian(model, params)[0][0])


def _median(errors: list[Array]) -> float:
    return round(float(np.nanmedian(np.concatenate(errors))), 3) if errors else float("nan")
