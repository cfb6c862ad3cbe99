"""A recording through the pipeline without ROS: hands as JSON lines, overlays, sheet, report."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from hand_mesh_ros.data.recordings import Recording
from hand_mesh_ros.evaluation.pictures import Instant, pick, result_sheet
from hand_mesh_ros.evaluation.run_report import Observed, RunStep, run_report, spread_of
from hand_mesh_ros.evaluation.texture_files import write_texture
from hand_mesh_ros.hand.model import HandModel
from hand_mesh_ros.perception.hand_texture import HandTextures
from hand_mesh_ros.perception.pipeline import HandPipeline
from hand_mesh_ros.perception.surface import with_meshes
from hand_mesh_ros.render.overlay import draw_hands
from hand_mesh_ros.render.sheet import write_image
from hand_mesh_ros.types import FrameSet, HandSet, ImageArray, Side, TrackedHand

Progress = Callable[[int, int, str], None]
_ROWS = 5
_STRIP_HEIGHT = 360


def reconstruct(
    recording: Recording,
    pipeline: HandPipeline,
    models: Mapping[Side, HandModel],
    out: Path,
    video: bool,
    progress: Progress,
    texture: bool = False,
) -> dict[str, Any]:
    """Process every frame set; returns the report that is also in ``out/report.json``.

    ``texture``: every track's skin is written too, see `texture_files`.
    """
    out.mkdir(parents=True, exist_ok=True)
    faces = {side: model.faces for side, model in models.items()}
    steps: list[RunStep] = []
    kept: dict[int, Instant] = {}
    # Instants for the sheet are chosen in the end; until then a thin choice over time is kept.
    stride = max(1, len(recording) // 40)
    textures = HandTextures(models) if texture else None
    film: Any = None
    seconds = []
    with (out / "hands.jsonl").open("w") as lines:
        for index, frames in enumerate(recording):
            begin = time.perf_counter()
            hands = pipeline.process(frames)
            seconds.append(time.perf_counter() - begin)
            lines.write(json.dumps(as_json(hands)) + "\n")
            steps.append(RunStep(_light(hands), _observed(hands)))
            if textures is not None and index % stride == 0:
                textures.add(hands)
            if video or index % stride == 0:
                hands = with_meshes(hands, models)
                drawn = {
                    f.camera.name: draw_hands(f.image, f.camera, hands.hands, faces)
                    for f in frames.frames
                }
                if index % stride == 0:
                    kept[index] = Instant(hands, drawn)
                if video:
                    film = film or _film(out / "overlay.mp4", recording.fps)
                    film(_strip(frames, drawn))
            progress(index + 1, len(recording), "reconstructing")
    if film is not None:
        film(None)
    cameras = {camera.name: camera for camera in recording.cameras}
    report = {"source": recording.name, **run_report(steps, cameras)}
    report["processing_ms"] = spread_of(1e3 * np.array(seconds))
    if textures is not None:
        report["textures"] = [
            write_texture(out, textures.textured(track), models)[0].name
            for track in textures.track_ids
        ]
    (out / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    indices = sorted(kept)
    chosen = [kept[indices[i]] for i in pick([len(kept[k].hands.hands) for k in indices], _ROWS)]
    begin_ns = steps[0].hands.stamp_ns if steps else 0
    sheet = result_sheet(chosen, recording.cameras, faces, recording.name, begin_ns)
    write_image(out / "sheet.png", sheet)
    return report


def as_json(hands: HandSet) -> dict[str, Any]:
    """A result as plain numbers: seconds, metres, radians; joints in OpenPose-21 order."""
    return {
        "stamp_ns": hands.stamp_ns,
        "sync_spread": hands.spread,
        "views": list(hands.views),
        "hands": [_hand_as_json(hand) for hand in hands.hands],
    }


def _hand_as_json(hand: TrackedHand) -> dict[str, Any]:
    e = hand.estimate
    sigma = np.sqrt(np.trace(e.covariance, axis1=-2, axis2=-1) / 3)
    return {
        "track_id": hand.track_id,
        "side": e.side,
        "confidence": round(e.confidence, 4),
        "views": list(e.view_indices),
        "scale_source": e.scale_source,
        "joints": np.round(e.joints, 5).tolist(),
        "joint_sigma": np.round(sigma, 5).tolist(),
        "mano": {
            "model_id": e.mano.model_id,
            "global_orient": np.round(e.mano.global_orient, 5).tolist(),
            "hand_pose": np.round(e.mano.hand_pose, 5).tolist(),
            "betas": np.round(e.mano.betas, 4).tolist(),
            "transl": np.round(e.mano.transl, 5).tolist(),
        },
    }


def _light(hands: HandSet) -> HandSet:
    """Without meshes and pictures, so that long recordings fit into memory."""
    slim = tuple(
        replace(h, estimate=replace(h.estimate, vertices=None)) for h in hands.hands
    )
    return replace(hands, hands=slim, observed=(), unmatched=())


def _observed(hands: HandSet) -> tuple[Observed, ...]:
    return tuple(
        Observed(view.camera.name, hand.track_id, view.uv)
        for hand, views in zip(hands.hands, hands.observed, strict=True)
        for view in views
    )


def _strip(frames: FrameSet, drawn: Mapping[str, ImageArray]) -> ImageArray:
    """All cameras side by side at one height."""
    import cv2

    def scaled(image: ImageArray) -> ImageArray:
        height, width = image.shape[:2]
        size = round(width * _STRIP_HEIGHT / height / 2) * 2, _STRIP_HEIGHT
        return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)

    return np.concatenate([scaled(drawn[f.camera.name]) for f in frames.frames], axis=1)


def _film(path: Path, fps: float) -> Callable[[ImageArray | None], None]:
    """A function that appends RGB pictures of one size to a video, and ends it with None."""
    import cv2

    writer: Any = None

    def append(image: ImageArray | None) -> None:
        nonlocal writer
        if image is None:
            if writer is not None:
                writer.release()
            return
        height, width = image.shape[:2]
        if writer is None:
            code = cv2.VideoWriter.fourcc(*"mp4v")
            writer = cv2.VideoWriter(str(path), code, max(fps, 1.0), (width, height))
        if image.shape[:2] == (height, width):
            writer.write(np.ascontiguousarray(image[..., ::-1]))

    return append
