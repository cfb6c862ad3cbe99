"""A hand shape out of a recording, and in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.data.recordings import Recording
from hand_mesh_ros.hand.landmarks import load_landmark_model
from hand_mesh_ros.hand.layout import BONES, JOINT_NAMES
from hand_mesh_ros.hand.model import HandModel
from hand_mesh_ros.hand.shape import HandShape, bone_lengths, palm_length
from hand_mesh_ros.perception.pipeline import HandPipeline
from hand_mesh_ros.perception.shape_calibration import CalibrationSettings, ShapeCollector
from hand_mesh_ros.types import SIDES, Side

if TYPE_CHECKING:
    from rich.table import Table

Array = NDArray[np.float64]
Progress = Callable[[int, int, str], None]
# More would only cost time: neighbouring frames say the same.
_MOST = 400


def calibrate_recording(
    recording: Recording,
    pipeline: HandPipeline,
    models: Mapping[Side, HandModel],
    side: str,
    max_frames: int | None,
    progress: Progress,
) -> HandShape:
    """The shape of the hands in a recording; ``side`` is left, right or both (of one person).

    ``max_frames`` sets are looked at, spread evenly. Raises ``ValueError`` where too few hands are
    seen by two cameras or more.
    """
    sides = SIDES if side == "both" else tuple(s for s in SIDES if s == side)
    total = len(recording)
    chosen = set(np.linspace(0, total - 1, min(total, max_frames or total)).astype(int).tolist())
    # Both hands of an instant count, and the gap spreads what is kept over the recording.
    gap = total / recording.fps / (_MOST / len(sides))
    collector = ShapeCollector(CalibrationSettings(hands=_MOST, gap=max(gap, 0.1), sides=sides))
    for index, frames in enumerate(recording):
        if index in chosen:
            collector.add(pipeline.process(frames))
        progress(index + 1, total, f"{len(collector.sightings)} hands")
    progress(total, total, f"calibrating on {len(collector.sightings)} hands")
    return collector.calibrate(models)


def shape_tables(shape: HandShape, model: HandModel) -> list[Table]:
    """Size and landmarks, betas, and bone lengths, each with one sigma, for a terminal."""
    from rich.table import Table

    palm, palm_sigma = palm_length(model, shape.betas, shape.covariance)
    size = Table("size", "value", title=f"hand shape ({shape.model_id})")
    size.add_row("wrist to middle knuckle, mm", f"{1e3 * palm:.1f} +- {1e3 * palm_sigma:.1f}")
    size.add_row("hands seen (worth independent ones)", f"{shape.hands} ({shape.effective:.0f})")
    if shape.offsets is not None and shape.offsets_sigma is not None:
        moved = 1e3 * _rms(shape.offsets - load_landmark_model(shape.landmarks).offsets)
        known = 1e3 * _rms(shape.offsets_sigma)
        size.add_row("landmarks off their usual places, mm", f"{moved:.1f} +- {known:.1f}")
        size.add_row("landmarks' noise, of what is usual", f"{100 * shape.noise.mean():.0f} %")
    betas = Table("beta", "mean", "sigma")
    for i, (mean, sigma) in enumerate(
        zip(shape.betas, np.sqrt(np.diag(shape.covariance)), strict=True)
    ):
        betas.add_row(str(i), f"{mean:+.2f}", f"{sigma:.2f}")
    bones = Table("bone", "length, mm", "sigma, mm")
    lengths, sigmas = bone_lengths(model, shape.betas, shape.covariance)
    for (start, end), length, sigma in zip(BONES, lengths, sigmas, strict=True):
        name = f"{JOINT_NAMES[start]} - {JOINT_NAMES[end]}"
        bones.add_row(name, f"{1e3 * length:.1f}", f"{1e3 * sigma:.1f}")
    return [size, betas, bones]


def _rms(vectors: Array) -> float:
    """Root mean square length of vectors (..., 3)."""
    return float(np.sqrt(np.square(vectors).sum(-1).mean()))
