"""What is known of the time of streams: their rate, how late they come, whether a stamp can be.

Stamps are capture times in integer nanoseconds; arrivals are seconds of any monotonic clock.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")

# Frames after which a stream's rate is known: enough to average the jitter out.
_WINDOW = 16
# Sets without a frame of a stream after which it is no longer waited for.
_MISSES = 5
# Seconds by which a frame may be later than those before it were.
_HICCUP = 0.04
_DECAY = 0.99
# A stamp this far behind the newest one, s, is of another clock: a bag looped, time was reset.
_BEHIND = 1.0
# ... and this far ahead of the time that has passed, unless the stream itself is slower.
_AHEAD, _AHEAD_UNKNOWN, _AHEAD_PERIODS = 0.25, 1.0, 3.0
# Seconds after which a stream that gave no frame has no say in what time it is.
_LIVE = 1.0
_HELD = 4


class StreamClock:
    """Rate, lateness and silence of one stream."""

    def __init__(self, max_wait: float) -> None:
        self._max_wait = max_wait
        self._stamps: deque[int] = deque(maxlen=_WINDOW)
        self._until_known = _WINDOW
        self._late = 0.0
        self._misses = 0
        self.period: float | None = None
        self.newest_ns: int | None = None

    @property
    def silent(self) -> bool:
        """Whether the stream has been missed so often that sets do not wait for it."""
        return self._misses >= _MISSES

    @property
    def patience(self) -> float:
        """Seconds to wait for this stream after the first frame of a set has come."""
        known = self.period is not None
        return min(self._max_wait, self._late + _HICCUP) if known else self._max_wait

    def repeats(self, stamp_ns: int) -> bool:
        """Whether one of the last frames had this stamp."""
        return stamp_ns in self._stamps

    def take(self, stamp_ns: int, lateness: float | None) -> None:
        """A frame came, ``lateness`` seconds after the first of its set should have come."""
        self._stamps.append(stamp_ns)
        self._until_known -= 1
        if self._until_known <= 0:
            self._until_known = _WINDOW // 2
            self.period = _period(self._stamps)
        if self.newest_ns is None or stamp_ns > self.newest_ns:
            self.newest_ns = stamp_ns
        if lateness is None:
            self._misses = 0
        elif lateness < self._max_wait:
            # One that always comes too late is not worth the wait.
            self._misses = 0
            self._late = max(lateness, _DECAY * self._late)

    def miss(self) -> None:
        """A set was closed without a frame of this stream, though one was due."""
        self._misses += 1

    def due(self, start_ns: int, spread_ns: int) -> bool:
        """Whether a frame of this stream can be expected in a set that opens at ``start_ns``."""
        if self.period is None or self.newest_ns is None:
            return True
        return self.newest_ns + self.period * 1e9 - 1.5 * spread_ns <= start_ns


def _period(stamps: deque[int]) -> float | None:
    """Mean seconds between frames, where a gap of n median intervals counts as n of them."""
    ordered = sorted(stamps)
    intervals = [b - a for a, b in zip(ordered, ordered[1:]) if b > a]  # noqa: B905
    if not intervals:
        return None
    median = sorted(intervals)[len(intervals) // 2]
    return sum(intervals) / sum(max(1, round(i / median)) for i in intervals) * 1e-9


class Timeline(Generic[T]):
    """Tells a wrong stamp from a clock that has jumped.

    A stamp far from the others' is held back. Once the last frames of most live streams, and two
    frames at the least, are out of line, it is the clock that has changed: `jumped` hands back
    what was held.
    """

    def __init__(self, streams: int) -> None:
        self._seen = [float("-inf")] * streams
        self._held: dict[int, list[T]] = {}
        self._newest_ns: int | None = None
        self._newest_arrival = 0.0

    def admits(self, stream: int, stamp_ns: int, arrival: float, period: float | None) -> bool:
        """Whether a stamp belongs to the time that the streams share."""
        if self._newest_ns is None:
            self._newest_ns, self._newest_arrival = stamp_ns, arrival
        else:
            ahead = (stamp_ns - self._newest_ns) * 1e-9
            passed = max(arrival - self._newest_arrival, 0.0)
            limit = _AHEAD_UNKNOWN if period is None else max(_AHEAD, _AHEAD_PERIODS * period)
            if not -_BEHIND <= ahead <= passed + limit:
                return False
            if ahead > 0:
                self._newest_ns, self._newest_arrival = stamp_ns, arrival
        self._seen[stream] = arrival
        return True

    def release(self, stream: int) -> int:
        """Give up what is held of a stream that is in line again; how many frames that is."""
        return len(self._held.pop(stream, ())) if self._held else 0

    def hold(self, stream: int, frame: T) -> int:
        """Keep a frame that was not admitted; how many older ones of its stream are given up."""
        held = self._held.setdefault(stream, [])
        held.append(frame)
        return 0 if len(held) <= _HELD else len([held.pop(0)])

    def jumped(self, now: float) -> list[tuple[int, T]]:
        """What is held, as (stream, frame), if the clock has jumped to it; else nothing."""
        live = sum(i in self._held or now - seen < _LIVE for i, seen in enumerate(self._seen))
        held = [(i, frame) for i, frames in self._held.items() for frame in frames]
        return held if 2 * len(self._held) > live and len(held) > 1 else []
