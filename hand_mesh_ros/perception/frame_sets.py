"""Sets of frames that show one instant, from streams that jitter, drop and stop.

Pure Python: capture times are integer nanoseconds, arrival times are whatever monotonic clock the
caller passes in, so every behaviour can be tested without waiting.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class SyncSettings:
    """``min_views`` frames make a set; their capture times lie within ``max_spread`` seconds.

    A set waits at most ``max_wait`` seconds (from the arrival of its first frame) for the rest.
    """

    min_views: int = 1
    max_spread: float = 0.02
    max_wait: float = 0.1
    depth: int = 8


@dataclass(frozen=True)
class _Entry(Generic[T]):
    stamp_ns: int
    arrival: float
    item: T


class FrameSetAssembler(Generic[T]):
    """Groups items of N streams by capture time; output is monotonic in time.

    The oldest waiting frame opens a set. The set is complete when every stream has given a frame
    within ``max_spread`` or has already moved past that instant (it dropped a frame), and it is
    closed as it is after ``max_wait``. ``counters`` says what was dropped and why.
    """

    def __init__(self, streams: int, settings: SyncSettings) -> None:
        if not 1 <= settings.min_views <= streams:
            raise ValueError(f"min_views is {settings.min_views}, with {streams} streams")
        self.settings = settings
        self.counters: Counter[str] = Counter()
        self._streams: list[deque[_Entry[T]]] = [deque() for _ in range(streams)]
        self._last_ns: int | None = None

    def reset(self) -> None:
        """Forget every waiting frame and the last output time (a clock jumped, a bag looped)."""
        for stream in self._streams:
            stream.clear()
        self._last_ns = None

    def add(self, stream: int, stamp_ns: int, arrival: float, item: T) -> list[dict[int, T]]:
        """Take a frame in; returns the sets this closes, oldest first, as stream -> item."""
        queue = self._streams[stream]
        if self._last_ns is not None and stamp_ns <= self._last_ns:
            self.counters["late"] += 1
        elif any(entry.stamp_ns == stamp_ns for entry in queue):
            self.counters["duplicate"] += 1
        else:
            if len(queue) >= self.settings.depth:
                queue.popleft()
                self.counters["overflow"] += 1
            queue.append(_Entry(stamp_ns, arrival, item))
            if len(queue) > 1 and queue[-2].stamp_ns > stamp_ns:
                self.counters["out_of_order"] += 1
                self._streams[stream] = deque(sorted(queue, key=lambda e: e.stamp_ns))
        return self.poll(arrival)

    def poll(self, now: float) -> list[dict[int, T]]:
        """Sets that are complete, or have waited long enough, at arrival-clock time ``now``."""
        closed: list[dict[int, T]] = []
        while True:
            waiting = [queue[0].stamp_ns for queue in self._streams if queue]
            if not waiting:
                return closed
            found = self._close(min(waiting), now)
            if found is None:
                return closed
            if found:
                closed.append(found)

    def _close(self, start_ns: int, now: float) -> dict[int, T] | None:
        """The set that opens at ``start_ns``: None = wait, empty = too few views, dropped."""
        limit_ns = start_ns + int(self.settings.max_spread * 1e9)
        heads = {i: queue[0] for i, queue in enumerate(self._streams) if queue}
        members = {i: entry for i, entry in heads.items() if entry.stamp_ns <= limit_ns}
        if len(heads) < len(self._streams):
            # Of all that wait: an old frame that comes late must not make newer ones wait anew.
            first = min(entry.arrival for queue in self._streams for entry in queue)
            if now - first < self.settings.max_wait:
                return None
            self.counters["timed_out"] += 1
        for i in members:
            self._streams[i].popleft()
        newest = max(entry.stamp_ns for entry in members.values())
        if len(members) < self.settings.min_views:
            self.counters["too_few_views"] += len(members)
            return {}
        if len(members) < len(self._streams):
            self.counters["incomplete"] += 1
        self._last_ns = newest
        self._drop_until(newest)
        return {i: entry.item for i, entry in members.items()}

    def _drop_until(self, stamp_ns: int) -> None:
        """Drop what waits and is not newer: a set of it would go back in time."""
        for queue in self._streams:
            while queue and queue[0].stamp_ns <= stamp_ns:
                queue.popleft()
                self.counters["late"] += 1
