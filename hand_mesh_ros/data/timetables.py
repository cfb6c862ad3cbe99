"""When which frame of which video was taken: timestamps.csv, or a constant rate."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hand_mesh_ros.data.recordings import BadRecording

_COLUMNS = "sync_index, cam_id, frame_index, frame_time"


class Shot(NamedTuple):
    """One frame: index of its camera, its position in that camera's video, its capture time."""

    camera: int
    position: int
    stamp_ns: int


Timetable = tuple[tuple[Shot, ...], ...]


def constant_rate(counts: Sequence[int], fps: float) -> Timetable:
    """Cameras that started together and keep the same rate; the longest sets the length.

    Frame n is stamped (n + 1) / fps, because a stamp of zero means "unset" in ROS.
    """
    return tuple(
        tuple(
            Shot(camera, n, round((n + 1) * 1e9 / fps))
            for camera, count in enumerate(counts)
            if n < count
        )
        for n in range(max(counts))
    )


def rate_of(timetable: Timetable) -> float:
    """Sets a second: one over the median interval of the sets' capture times (1 for one set)."""
    stamps = [max(shot.stamp_ns for shot in shots) for shots in timetable]
    intervals = np.diff(stamps)
    return float(1e9 / np.median(intervals)) if intervals.size and intervals.any() else 1.0


def read_timestamps(path: Path, frames: Mapping[str, int]) -> Timetable:
    """Frame sets of a timestamps.csv, in time order.

    ``frames`` maps the ids of the cameras wanted, in their order, to the number of frames of their
    videos. Rows of one ``sync_index`` make a set; a camera that has no row there is absent from it.
    ``frame_time`` is in seconds and kept to the nanosecond. Raises :class:`BadRecording`.
    """
    ids = list(frames)
    rows = [row for row in _rows(path) if row.camera in frames]
    positions: dict[tuple[str, int], int] = {}
    for camera, count in frames.items():
        own = sorted((r for r in rows if r.camera == camera), key=lambda r: r.sync)
        where = _positions([r.frame for r in own], count, f"{path}: camera {camera}")
        positions |= {(camera, r.sync): p for r, p in zip(own, where, strict=True)}
    sets: dict[int, list[Shot]] = defaultdict(list)
    for row in rows:
        position = positions[row.camera, row.sync]
        sets[row.sync].append(Shot(ids.index(row.camera), position, row.stamp_ns))
    if not sets:
        raise BadRecording(f"{path}: no row for cameras {', '.join(ids)}")
    timetable = tuple(tuple(sorted(sets[sync])) for sync in sorted(sets))
    times = [max(shot.stamp_ns for shot in shots) for shots in timetable]
    if times != sorted(times):
        raise BadRecording(f"{path}: frame_time does not increase with sync_index")
    return timetable


class _Row(NamedTuple):
    sync: int
    camera: str
    frame: int
    stamp_ns: int


def _rows(path: Path) -> list[_Row]:
    out = []
    try:
        with path.open(newline="") as file:
            for line in csv.DictReader(file):
                if not (line["frame_time"] or "").strip():
                    continue  # the recorder's way of saying that the camera dropped this frame
                camera = line.get("cam_id", line.get("port"))
                # Decimal: seconds since 1970 to the nanosecond do not fit a double.
                stamp = int(round(Decimal(line["frame_time"]) * 10**9))
                out.append(
                    _Row(int(line["sync_index"]), str(camera), int(line["frame_index"]), stamp)
                )
    except (OSError, KeyError, ValueError, TypeError, InvalidOperation, OverflowError) as error:
        raise BadRecording(
            f"{path}: cannot be read after {len(out)} rows ({error!r}); expected the columns "
            f"{_COLUMNS}"
        ) from error
    return out


def _positions(indices: list[int], count: int, source: str) -> list[int]:
    """Where in a video of ``count`` frames the rows with these frame indices lie.

    Recorders number frames from the camera's start and write the video from the first set on, so
    frame 26 may be the video's first. Three arrangements are told apart by the video's length: it
    holds just the rows' frames, all from the first row to the last, or all since the start.
    """
    if not indices:
        return []
    if indices != sorted(set(indices)):
        raise BadRecording(f"{source}: frame_index does not increase with sync_index")
    first, last = indices[0], indices[-1]
    gapless = last - first + 1 == len(indices)
    cut_off = gapless and count < len(indices)
    if count == len(indices) or cut_off:
        return list(range(len(indices)))
    if count == last - first + 1:
        return [index - first for index in indices]
    if count > last:
        return indices
    raise BadRecording(
        f"{source}: {len(indices)} rows with frame_index {first} to {last} do not fit a video of "
        f"{count} frames"
    )
