"""What each camera of a recording sees, camera by camera: no pose of any camera is looked at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from hand_mesh_ros.data.recordings import Recording
from hand_mesh_ros.perception.cell_views import CellViews, gather
from hand_mesh_ros.perception.observe import Observer
from hand_mesh_ros.types import FloatArray, View

Progress = Callable[[int, int, str], None]


def watch(
    recording: Recording,
    observer: Observer,
    max_frames: int | None = None,
    hands: int = 2,
    progress: Progress | None = None,
) -> CellViews:
    """Views of a recording; ``max_frames`` sets are looked at, spread evenly.

    A hand is looked for where its own camera last saw it; a camera with fewer than ``hands`` is
    searched whole.
    """
    total = len(recording)
    chosen = set(np.linspace(0, total - 1, min(total, max_frames or total)).astype(int).tolist())
    names = [camera.name for camera in recording.cameras]
    last: dict[str, list[FloatArray]] = {}
    seen: list[tuple[int, Sequence[View]]] = []
    for number, frames in enumerate(recording):
        if progress is not None:
            progress(number + 1, total, "watching")
        if number not in chosen:
            continue
        named = [frame.camera.name for frame in frames.frames]
        hints = [(i, roi) for i, name in enumerate(named) for roi in last.get(name, [])]
        search = [i for i, name in enumerate(named) if len(last.get(name, [])) < hands]
        views = observer(frames.frames, hints, search)
        last = {name: [v.roi for v in views if v.camera.name == name] for name in named}
        seen.append((frames.stamp_ns, [replace(v, frame=None) for v in views]))
    return gather(seen, names)
