"""How well `calibrate-cell` finds a real cell again: from disturbed poses, and from nothing.

Errors are against the recording's own calibration (a board's), after moving the whole cell rigidly,
without scale, as near as it goes; that calibration has an error of its own. The worst camera
counts. The calibrated hand is measured on the recording with its own calibration; the landmarks
for the cell are found camera by camera, without it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.data.recordings import Recording, open_recording
from hand_mesh_ros.evaluation.cell_report import differences, write
from hand_mesh_ros.evaluation.shape_report import calibrate_recording
from hand_mesh_ros.geometry.rotations import exp_so3, invert_rigid
from hand_mesh_ros.hand.model import HandModel
from hand_mesh_ros.hand.shape import HandShape
from hand_mesh_ros.perception.build import build_observer, build_pipeline
from hand_mesh_ros.perception.cell_calibration import (
    CellCalibration,
    CellSettings,
    calibrate_cell,
)
from hand_mesh_ros.perception.cell_views import CellViews
from hand_mesh_ros.perception.cell_watch import watch
from hand_mesh_ros.perception.pipeline import PipelineSettings
from hand_mesh_ros.types import Camera, FrameSet, Side

Array = NDArray[np.float64]
Progress = Callable[[int, int, str], None]

TURN: Final = np.radians(5.0)
SHIFT: Final = 0.05
_SEEDS: Final = 5
# At 6 frames a second nothing is gained by looking for lost hands now and then only.
_EVERYWHERE: Final = PipelineSettings(search_every=1)


def bench_calibration(
    path: Path, progress: Progress, seeds: int = _SEEDS, out: Path | None = None
) -> dict[str, float]:
    """The `calib_*` figures of `out/bench/cell.json` for a recording with given extrinsics.

    ``out``: folder for the report and the picture of the cell found from nothing.
    """
    recording = open_recording(path)
    views = watch(recording, build_observer(), progress=progress)
    pipeline, models = build_pipeline(pipeline=_EVERYWHERE)
    shape = calibrate_recording(recording, pipeline, models, "both", None, progress)
    figures = measure(views, recording.cameras, models, shape, seeds, progress, out)
    figures["calib_scale_split_percent"] = _split(recording, views, models, progress)
    return figures


def measure(
    views: CellViews,
    given: Sequence[Camera],
    models: Mapping[Side, HandModel],
    shape: HandShape,
    seeds: int,
    progress: Progress,
    out: Path | None = None,
) -> dict[str, float]:
    """Figures from what every camera saw; ``seeds`` disturbances, and every camera as reference."""
    total, disturbed, scratch = seeds + len(given), [], []
    for seed in range(seeds):
        progress(seed, total, "from disturbed poses")
        start = perturbed(given, np.random.default_rng(seed))
        disturbed.append(calibrate_cell(views, start, models, shape))
    for i, camera in enumerate(given):
        progress(seeds + i, total, "from nothing")
        settings = CellSettings(from_nothing=True, reference=camera.name)
        scratch.append(calibrate_cell(views, given, models, shape, settings))
    if out is not None:
        write(scratch[0], None, out)
    progress(total, total, "done")
    figures = _figures("calib", disturbed, given) | _figures("calib_scratch", scratch, given)
    scales = [100 * abs(size_ratio(f.cameras, given) - 1) for f in (*disturbed, *scratch)]
    figures["calib_scale_percent"] = round(max(scales), 2)
    figures["calib_honesty_sigmas"] = round(_in_sigmas(disturbed[0], given), 2)
    return figures


def perturbed(cameras: Sequence[Camera], rng: np.random.Generator) -> list[Camera]:
    """Every camera turned by 5 degrees about some axis and shifted by 5 cm to some side."""
    out = []
    for camera in cameras:
        axis, aside = rng.normal(size=(2, 3))
        T = invert_rigid(camera.T_camera_world)
        T[:3, :3] = exp_so3(TURN * axis / np.linalg.norm(axis)) @ T[:3, :3]
        T[:3, 3] += SHIFT * aside / np.linalg.norm(aside)
        out.append(replace(camera, T_camera_world=invert_rigid(T)))
    return out


def size_ratio(found: Sequence[Camera], given: Sequence[Camera]) -> float:
    """How many times larger the found cell is: root mean square distance from its middle."""
    sizes = [
        np.linalg.norm(c - c.mean(0))
        for c in (np.stack([camera.centre for camera in cell]) for cell in (found, given))
    ]
    return float(sizes[0] / sizes[1])


def _figures(
    name: str, runs: Sequence[CellCalibration], given: Sequence[Camera]
) -> dict[str, float]:
    """Of the runs, the worst one's worst camera, and the median of all."""
    turns, shifts = zip(*(differences(run.cameras, given) for run in runs), strict=True)
    return {
        f"{name}_deg": round(float(np.max(turns)), 3),
        f"{name}_cm": round(float(np.max(shifts)), 3),
        f"{name}_deg_median": round(float(np.median(turns)), 3),
        f"{name}_cm_median": round(float(np.median(shifts)), 3),
    }


def _in_sigmas(found: CellCalibration, given: Sequence[Camera]) -> float:
    """Root mean square heading error over its sigma: 1 if the covariance is honest."""
    turns = np.radians(differences(found.cameras, given)[0])
    variance = np.trace(found.covariance[:, 3:, 3:], axis1=1, axis2=2)
    return float(np.sqrt(np.mean(turns**2 / variance)))


class _Every:
    """Every second frame set of a recording, from ``start`` on."""

    def __init__(self, recording: Recording, start: int) -> None:
        self._recording, self._start = recording, start
        self.name, self.cameras = recording.name, recording.cameras
        self.fps = recording.fps / 2

    def __len__(self) -> int:
        return len(range(self._start, len(self._recording), 2))

    def __iter__(self) -> Iterator[FrameSet]:
        return (f for i, f in enumerate(self._recording) if i % 2 == self._start)


def _split(
    recording: Recording, views: CellViews, models: Mapping[Side, HandModel], progress: Progress
) -> float:
    """Scale error, %, where hand and cell are measured on different frame sets, in turn."""
    pipeline = build_pipeline(pipeline=_EVERYWHERE)[0]
    shape = calibrate_recording(_Every(recording, 0), pipeline, models, "both", None, progress)
    odd = views.at(np.arange(1, len(views.stamps_ns), 2))
    settings = CellSettings(from_nothing=True)
    found = calibrate_cell(odd, recording.cameras, models, shape, settings)
    return round(100 * abs(size_ratio(found.cameras, recording.cameras) - 1), 2)
