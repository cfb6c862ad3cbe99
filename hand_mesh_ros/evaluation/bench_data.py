"""Figures of the renderer and of `renders-v1`: how fast, how like photographs of hands.

Realism is judged by networks that were taught on photographs only: do they find rendered hands,
and are their landmarks about as good there as on photographs?
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.evaluation.metrics.alignment import similarity_aligned
from hand_mesh_ros.evaluation.renders_v1 import RenderedSamples, entries
from hand_mesh_ros.geometry.cameras import project
from hand_mesh_ros.hand.kinematics import points_and_jacobian
from hand_mesh_ros.hand.landmarks import load_landmark_model
from hand_mesh_ros.hand.mirror import mirror_points
from hand_mesh_ros.hand.model import load_hand_model
from hand_mesh_ros.perception.observe import LandmarkObserver
from hand_mesh_ros.render.scenes import SceneSpec
from hand_mesh_ros.render.training_views import DrawSettings, SceneViews
from hand_mesh_ros.types import Camera, Frame, ManoParameters, View

Array = NDArray[np.float64]
Progress = Callable[[int, int, str], None]

# A hand is found where the landmarks are this near to the truth, in sides of its box.
_FOUND = 0.3
_WHOLE = 0.9  # visible share of a hand that is not occluded
_CHUNK = 10
# Photographs whose triangulated truth is worse than this are left out, pixels.
_REPROJECTION_PX = 6.0


def measure(
    progress: Progress, photographs: Path | None = None, images: int = 500, pictures: int = 60
) -> dict[str, float]:
    """Figures for `out/bench/data.json`.

    ``photographs``: the recording four-cameras with its landmarks.npz; without it there is no
    error on photographs. ``images`` of the benchmark are evaluated, ``pictures`` drawn for speed.
    """
    from hand_mesh_ros.perception.build import build_observer

    figures = render_speed(progress, pictures)
    observer = build_observer()
    figures |= found_on_renders(observer, progress)
    if photographs is not None:
        figures |= found_on_photographs(observer, photographs, progress)
        for name, unit in (("landmark_error", "mm"), ("landmark_error_2d", "percent")):
            ratio = figures[f"{name}_renders_{unit}"] / figures[f"{name}_photographs_{unit}"]
            figures[f"{name}_ratio"] = ratio
    return figures | interior() | evaluation_time(progress, images)


def render_speed(progress: Progress, pictures: int = 60) -> dict[str, float]:
    """Images a second at 256 x 256 of one hand with a held thing, light and background.

    One process a core: ``render_images_per_s`` with two, ``render_images_per_s_one`` with one.
    Posing, grasp, light, shadows, lens, noise and JPEG are included; a first picture, with which
    kernels are compiled or loaded, is not.
    """
    progress(0, 2, "drawing, one process")
    draw_some(0)
    one = _CHUNK * (pictures // _CHUNK) / _timed(lambda: _draw_all(pictures, map))
    progress(1, 2, "drawing, two processes")
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        list(pool.map(draw_some, range(4)))  # both have loaded what they need
        two = _CHUNK * (pictures // _CHUNK) / _timed(lambda: _draw_all(pictures, pool.map))
    progress(2, 2, "drawing")
    return {"render_images_per_s": two, "render_images_per_s_one": one}


def draw_some(chunk: int) -> int:
    """Draw ten pictures; returns how many."""
    for number in range(chunk * _CHUNK, (chunk + 1) * _CHUNK):
        spec = SceneSpec(number, number, number, number, "held")
        SceneViews(spec, DrawSettings()).picture(0)
    return _CHUNK


def found_on_renders(observer: LandmarkObserver, progress: Progress) -> dict[str, float]:
    """Recall on the unoccluded test images, side and errors of what is found.

    Unoccluded: nothing is before the hand and all of it is in the picture.
    """
    samples = RenderedSamples([e for e in entries("test") if e.spec.occluder == "none"])
    errors, planar, right = [], [], []
    asked = 0
    for number, sample in enumerate(samples):
        progress(number, len(samples), "finding rendered hands")
        assert sample.visibility is not None and sample.box is not None and sample.mano is not None
        if not np.isfinite(sample.visibility).all() or (sample.visible_share or 0) < _WHOLE:
            continue
        asked += 1
        truth = marked(sample.mano)
        pixels = _projected(sample.camera, truth)
        views = observer([Frame(sample.camera, 0, sample.image)], (), [0])
        best = _nearest(views, pixels, sample.box)
        if best is not None:
            errors.append(_aligned_error(best.world, truth))
            planar.append(_planar_error(best.uv, pixels, sample.box))
            right.append((best.right > 0.5) == (sample.side == "right"))
    return {
        "detector_recall": len(errors) / max(asked, 1),
        "detector_images": float(asked),
        "detector_side_right": float(np.mean(right)),
        "landmark_error_renders_mm": float(np.mean(errors)),
        "landmark_error_2d_renders_percent": float(np.mean(planar)),
    }


def found_on_photographs(
    observer: LandmarkObserver, folder: Path, progress: Progress
) -> dict[str, float]:
    """The same errors on a cell's photographs, against triangulated landmarks."""
    from hand_mesh_ros.data.videos import open_camera_array

    recording = open_camera_array(folder)
    with np.load(folder / "landmarks.npz") as stored:
        kept = stored["reproj_px"] < _REPROJECTION_PX
        frame, xyz, uv = (stored[name][kept] for name in ("frame", "xyz_m", "uv_px"))
    errors, planar = [], []
    for index, frames in enumerate(recording):
        progress(index, len(recording), "finding photographed hands")
        hands = np.flatnonzero(frame == index)
        if not len(hands):
            continue
        views = observer(list(frames.frames), (), list(range(len(frames.frames))))
        for hand, camera in ((h, c) for h in hands for c in range(len(frames.frames))):
            if not np.isfinite(uv[hand, camera]).all():
                continue
            model = recording.cameras[camera]
            truth = xyz[hand] @ model.T_camera_world[:3, :3].T + model.T_camera_world[:3, 3]
            pixels = _projected(model, truth)
            box = np.array([*pixels.min(0), *pixels.max(0)])
            best = _nearest([v for v in views if v.index == camera], pixels, box)
            if best is not None:
                errors.append(_aligned_error(best.world, truth))
                planar.append(_planar_error(best.uv, pixels, box))
    return {
        "landmark_error_photographs_mm": float(np.mean(errors)),
        "landmark_error_2d_photographs_percent": float(np.mean(planar)),
        "photographed_views": float(len(errors)),
    }


def interior() -> dict[str, float]:
    """Share of interior pixels that DEODR draws equal to 1 %; nothing where it is not installed."""
    from hand_mesh_ros.evaluation.raster_agreement import deodr_agreement

    try:
        share, pixels = deodr_agreement()
    except ModuleNotFoundError:
        return {}
    return {"interior_equal_deodr": share, "interior_pixels": float(pixels)}


def evaluation_time(progress: Progress, images: int = 500) -> dict[str, float]:
    """Seconds that `hand-mesh evaluate renders-v1 --backend landmarks` takes, all included."""
    from hand_mesh_ros.evaluation import evaluate
    from hand_mesh_ros.evaluation.benchmarks import open_benchmark, thinned
    from hand_mesh_ros.evaluation.predict import PredictSettings

    start = time.perf_counter()
    benchmark = thinned(open_benchmark("renders-v1", None), images)
    made = evaluate.predictions_of(benchmark, "landmarks", PredictSettings(), progress)
    judged = evaluate.judge(benchmark, "landmarks", made)
    with tempfile.TemporaryDirectory() as folder:
        evaluate.write(judged, Path(folder))
    return {
        "evaluate_renders_s": time.perf_counter() - start,
        "evaluate_renders_images": float(len(made)),
        "renders_pa_mpjpe_mm": judged.all.figures["pa_mpjpe_mm"],
        "renders_found_percent": 100 * float(made.found.mean()),
    }


def marked(mano: ManoParameters) -> Array:
    """Where a landmark network means its points to be on a hand, (21, 3): not quite its joints."""
    offsets = load_landmark_model().offsets
    model = load_hand_model(side=mano.side)
    offsets = offsets if mano.side == "right" else mirror_points(offsets)
    params = np.concatenate([mano.global_orient, mano.hand_pose, mano.betas, mano.transl])
    return np.asarray(points_and_jacobian(model, params[None], offsets).points[0])


def _draw_all(pictures: int, run: Callable[..., Iterator[int]]) -> None:
    for _ in run(draw_some, range(pictures // _CHUNK)):
        pass


def _timed(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _projected(camera: Camera, points: Array) -> Array:
    """Pixels (21, 2) of points in a camera's own axes."""
    return project(replace(camera, T_camera_world=np.eye(4)), points)


def _nearest(views: Sequence[View], uv: Array, box: Array) -> View | None:
    """The view of the hand at ``uv`` (21, 2), if one is near enough."""
    near = [(_planar_error(view.uv, uv, box) / 100, k) for k, view in enumerate(views)]
    if not near or min(near)[0] > _FOUND:
        return None
    return views[min(near)[1]]


def _planar_error(found: Array, true: Array, box: Array) -> float:
    """Mean distance in percent of the box's longest side."""
    side = float(np.ptp(box.reshape(2, 2), axis=0).max())
    return 100 * float(np.linalg.norm(found - true, axis=1).mean()) / side


def _aligned_error(found: Array, true: Array) -> float:
    """PA-MPJPE, millimetres."""
    moved = similarity_aligned(found[None], true[None])[0]
    return 1e3 * float(np.linalg.norm(moved - true, axis=1).mean())

