"""Whether cameras of other machines stamp their frames by the same clock as this one.

An arrival is never before its capture. So of some frames the least delayed tells most: the capture
times' clock is ahead of ours by no less than its stamp is, and hardly more.
"""

from __future__ import annotations

import math
from collections import deque

# Frames of which the least delayed counts: one that a network has held up says nothing.
_WINDOW = 32
# Seconds by which stamps may be ahead of this machine's clock, and behind: that may be the way.
_AHEAD, _BEHIND = 0.02, 1.0
_APART = 1.0
_SILENT_NS = 2_000_000_000


class CaptureClocks:
    """Offsets of N cameras' capture times against this machine's clock, seconds; ahead is positive.

    Recordings that are played without simulated time are off as well, all of them alike: so a
    camera is `astray` only where another one is nearer to this machine's clock.
    """

    def __init__(self, cameras: int) -> None:
        self._offsets: list[deque[float]] = [deque(maxlen=_WINDOW) for _ in range(cameras)]
        self._heard_ns = [0] * cameras

    def note(self, camera: int, stamp_ns: int, now_ns: int) -> None:
        """A frame of ``stamp_ns`` came at ``now_ns`` of this machine's clock; 0: there is none."""
        if now_ns > 0:
            self._offsets[camera].append((stamp_ns - now_ns) * 1e-9)
            self._heard_ns[camera] = now_ns

    def offset(self, camera: int) -> float:
        """Stamps minus this machine's clock, s; NaN before the first frame."""
        return max(self._offsets[camera], default=math.nan)

    def astray(self, camera: int) -> int | None:
        """A camera by which this one's clock is wrong by more than a second, or None.

        It is the one, of those that are heard, whose stamps are nearest to this machine's clock:
        frames of the two can never make a set.
        """
        now_ns = self._heard_ns[camera]
        heard = [
            i
            for i, offsets in enumerate(self._offsets)
            if offsets and abs(now_ns - self._heard_ns[i]) < _SILENT_NS
        ]
        nearest = min(heard, key=lambda i: abs(self.offset(i)), default=camera)
        apart = abs(self.offset(camera) - self.offset(nearest))
        return nearest if apart > _APART else None

    def trouble(self, camera: int) -> str:
        """What is wrong with a camera's clock, in words with the measured offset; '' if nothing."""
        offset = self.offset(camera)
        if math.isnan(offset) or -_BEHIND <= offset <= _AHEAD:
            return ""
        side = "ahead of" if offset > 0 else "behind"
        return (
            f"stamps are {abs(offset):.3f} s {side} this machine's clock: the clocks are not "
            "synchronised (PTP, chrony)"
        )
