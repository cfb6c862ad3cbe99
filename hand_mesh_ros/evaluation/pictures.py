"""What a run looks like: a contact sheet of some of its instants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.render.scene_view import scene_view
from hand_mesh_ros.render.sheet import contact_sheet
from hand_mesh_ros.types import Camera, HandSet, ImageArray, Side


@dataclass(frozen=True, eq=False)
class Instant:
    """One instant: its hands, and each camera's picture with the hands drawn over it."""

    hands: HandSet
    overlays: Mapping[str, ImageArray]


def pick(hand_counts: Sequence[int], count: int) -> list[int]:
    """Indices of up to ``count`` steps, spread over those that show the most hands."""
    counts = np.asarray(hand_counts)
    if not counts.size:
        return []
    good = np.flatnonzero(counts == counts.max())
    if len(good) < count:
        good = np.flatnonzero(counts > 0)
    if not good.size:
        good = np.arange(len(counts))
    return [int(i) for i in np.unique(good[np.linspace(0, len(good) - 1, count).astype(int)])]


def result_sheet(
    instants: Sequence[Instant],
    cameras: Sequence[Camera],
    faces: Mapping[Side, NDArray[np.integer]],
    title: str,
    begin_ns: int,
) -> ImageArray:
    """Rows: instants; columns: every camera with the mesh over its picture, then a 3D view."""
    middles = [
        h.estimate.joints.mean(axis=0) for instant in instants for h in instant.hands.hands
    ]
    focus = np.median(middles, axis=0) if middles else None
    blank = np.full((240, 320, 3), 90, dtype=np.uint8)
    rows, captions = [], []
    for instant in instants:
        scene = scene_view(cameras, instant.hands.hands, faces, focus=focus)
        rows.append([*(instant.overlays.get(c.name, blank) for c in cameras), scene])
        seconds = (instant.hands.stamp_ns - begin_ns) * 1e-9
        told = ", ".join(
            f"{h.estimate.side} #{h.track_id} ({len(h.estimate.view_indices)} view"
            f"{'s' if len(h.estimate.view_indices) != 1 else ''})"
            for h in instant.hands.hands
        )
        captions.append(f"t = {seconds:.2f} s   {told or 'no hand'}")
    return contact_sheet(rows, [*(c.name for c in cameras), "3D"], captions, title=title)
