"""Depth messages kept until the colour image of the same instant is worked on."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any

import numpy as np

from hand_mesh_ros.ros.images import nanoseconds

# Enough for what waits for processing; a message is a megabyte or so.
_KEPT = 12


class DepthStream:
    """The last depth messages of one camera, to be found by capture time.

    A depth message belongs to a colour image if no more than half a period of the faster of the two
    streams lies between their stamps. Depth often arrives a little after its colour image, and a
    hand with depth in every other frame would jump; so `nearest` waits for a message that the
    stream's own rhythm announces, at most half a period. It waits for nothing else: a stream that
    stopped, or has half the colour's rate, delays no image.
    """

    def __init__(self) -> None:
        self._messages: deque[tuple[int, Any]] = deque(maxlen=_KEPT)
        self._colour: deque[int] = deque(maxlen=_KEPT)
        self._condition = threading.Condition()

    def add(self, message: Any) -> None:
        """Take a depth message in; one without a stamp cannot be found again and is dropped."""
        stamp_ns = nanoseconds(message.header.stamp)
        with self._condition:
            if self._messages and stamp_ns < self._messages[-1][0]:
                self._messages.clear()  # a clock that went back
            if stamp_ns:
                self._messages.append((stamp_ns, message))
            self._condition.notify_all()

    def colour(self, stamp_ns: int) -> None:
        """Tell of a colour image that arrived: its stream's period counts."""
        with self._condition:
            if self._colour and stamp_ns < self._colour[-1]:
                self._colour.clear()
            self._colour.append(stamp_ns)

    def nearest(self, stamp_ns: int) -> Any | None:
        """The depth message of a colour image's capture time, or None. Any thread may call."""
        with self._condition:
            tolerance = self._tolerance()
            if self._due(stamp_ns, tolerance):
                self._condition.wait_for(
                    lambda: not self._due(stamp_ns, tolerance), timeout=tolerance * 1e-9
                )
            stamps = np.array([stamp for stamp, _ in self._messages], dtype=np.int64)
            if not len(stamps):
                return None
            apart = np.abs(stamps - stamp_ns)
            best = int(np.argmin(apart))
            return self._messages[best][1] if apart[best] <= tolerance else None

    def _tolerance(self) -> int:
        """Half the shorter period, nanoseconds; equal stamps only, until a period is known."""
        depth, colour = _period([stamp for stamp, _ in self._messages]), _period(self._colour)
        return min((period // 2 for period in (depth, colour) if period), default=0)

    def _due(self, stamp_ns: int, tolerance: int) -> bool:
        """Whether the next depth message should be the one, and has not come yet."""
        stamps = [stamp for stamp, _ in self._messages]
        period = _period(stamps)
        if not period or stamps[-1] >= stamp_ns - tolerance:
            return False
        return abs(stamps[-1] + period - stamp_ns) <= tolerance


def _period(stamps: Any) -> int:
    """Median distance of consecutive stamps, nanoseconds; 0 with fewer than two."""
    return int(np.median(np.diff(np.array(stamps, dtype=np.int64)))) if len(stamps) > 1 else 0
