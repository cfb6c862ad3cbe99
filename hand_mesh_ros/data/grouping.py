"""Recorded capture times of several cameras to sets that show one instant."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def median_period(stamps: Sequence[Sequence[int]]) -> float:
    """Shortest of the cameras' median intervals, nanoseconds; infinite with no two frames."""
    intervals = [np.diff(np.sort(np.asarray(own))) for own in stamps if len(own) > 1]
    return float(min((np.median(i) for i in intervals), default=np.inf))


def group(stamps: Sequence[Sequence[int]]) -> list[dict[int, int]]:
    """Sets, oldest first, as camera -> index into that camera's stamps (nanoseconds, any order).

    Newest first: the newest frame that has no set yet anchors one, and every other camera adds its
    newest free frame taken no more than half a period before. Every frame lands in exactly one set,
    and no set holds two frames of a camera; with half a period as limit, a dropped frame leaves a
    gap instead of pulling in the frame before.
    """
    limit = median_period(stamps) / 2
    waiting = [
        [(int(own[i]), i) for i in np.argsort(np.asarray(own, dtype=np.int64), kind="stable")]
        for own in stamps
    ]
    sets = []
    while any(waiting):
        newest = max(queue[-1][0] for queue in waiting if queue)
        sets.append(
            {
                camera: queue.pop()[1]
                for camera, queue in enumerate(waiting)
                if queue and newest - queue[-1][0] <= limit
            }
        )
    return sets[::-1]
