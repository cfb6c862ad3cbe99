"""Sets of frames that show one instant, from streams that jitter, drop and stop.

Pure Python: capture times are integer nanoseconds, arrival times are whatever monotonic clock the
caller passes in, so every behaviour can be tested without waiting.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from hand_mesh_ros.perception.stream_clock import StreamClock, Timeline

T = TypeVar("T")

# Of the fastest stream's period: frames that are further apart may show different instants.
_MOST_SPREAD = 0.49


@dataclass(frozen=True)
class SyncSettings:
    """``min_views`` frames make a set; their capture times lie within ``max_spread`` seconds,

    and within half a period of the fastest stream once that is known. A set waits at most
    ``max_wait`` seconds (from the arrival of its first frame) for the rest. ``depth`` frames of a
    stream may wait; the oldest gives way.
    """

    min_views: int = 1
    max_spread: float = 0.02
    max_wait: float = 0.1
    depth: int = 8


@dataclass(slots=True)
class _Entry(Generic[T]):
    stamp_ns: int
    arrival: float
    item: T


class FrameSetAssembler(Generic[T]):
    """Groups items of N streams by capture time; output is monotonic in time.

    The oldest waiting frame opens a set. The set is complete when every stream has given a frame
    within the spread or has already moved past that instant (it dropped a frame). A stream that
    has given neither is waited for as long as its frames have been late before, and a little more,
    never beyond ``max_wait``; one that is slower than the rest is waited for when its next frame
    is due; one that is missing again and again is silent, and not waited for until it returns.

    ``offsets_ns`` (one a stream) are added to the stamps: their sum is the capture time.

    Stamps that go back by more than a second, or ahead of time, on most streams are a clock that
    jumped: everything that waits is forgotten (`jumps` counts it) and the new time goes on. On a
    few streams they are wrong stamps, and only those frames are dropped.

    ``counters`` says how many frames were dropped and why, ``stream_counters`` the same by stream:
    ``late`` (its set had gone), ``duplicate``, ``overflow`` (more than ``depth`` waited),
    ``too_few_views``, ``bad_stamp``, ``reset`` (waited when the clock jumped). ``counters`` also
    has ``out_of_order`` frames, and sets that were ``incomplete`` or ``timed_out``.

    Not thread-safe; see `hand_mesh_ros.perception.set_dispatch`.
    """

    def __init__(
        self, streams: int, settings: SyncSettings, offsets_ns: Sequence[int] | None = None
    ) -> None:
        if not 1 <= settings.min_views <= streams:
            raise ValueError(f"min_views is {settings.min_views}, with {streams} streams")
        self.settings = settings
        self.offsets_ns = tuple(offsets_ns) if offsets_ns is not None else (0,) * streams
        if len(self.offsets_ns) != streams:
            raise ValueError(f"{len(self.offsets_ns)} offsets_ns, with {streams} streams")
        self.counters: Counter[str] = Counter()
        self.stream_counters: tuple[Counter[str], ...] = tuple(Counter() for _ in range(streams))
        self.jumps = 0
        self._forget()

    @property
    def silent(self) -> tuple[int, ...]:
        """Streams that are not waited for because nothing has come of them for some sets."""
        return tuple(i for i, clock in enumerate(self._clocks) if clock.silent)

    def reset(self) -> None:
        """Forget every waiting frame, the last output time and the streams' rates."""
        for stream, queue in enumerate(self._queues):
            self._drop(stream, "reset", len(queue))
        for stream in range(len(self._queues)):
            self._drop(stream, "reset", self._timeline.release(stream))
        self._forget()

    def add(self, stream: int, stamp_ns: int, arrival: float, item: T) -> list[dict[int, T]]:
        """Take a frame in; returns the sets this closes, oldest first, as stream -> item."""
        entry = _Entry(stamp_ns + self.offsets_ns[stream], arrival, item)
        if self._timeline.admits(
            stream, entry.stamp_ns, arrival, self._clocks[stream].period
        ):
            self._drop(stream, "bad_stamp", self._timeline.release(stream))
            self._take(stream, entry)
        else:
            self._drop(stream, "bad_stamp", self._timeline.hold(stream, entry))
            if held := self._timeline.jumped(arrival):
                self._jump(held)
        return self.poll(arrival)

    def poll(self, now: float) -> list[dict[int, T]]:
        """Sets that are complete, or have waited long enough, at arrival-clock time ``now``."""
        closed: list[dict[int, T]] = []
        while True:
            heads = [queue[0] for queue in self._queues if queue]
            if not heads:
                return closed
            start_ns = min([entry.stamp_ns for entry in heads])
            if len(heads) < len(self._queues):
                first = min([entry.arrival for entry in heads])
                absent = self._absent(start_ns)
                if any(now - first < self._clocks[i].patience for i in absent):
                    return closed
                for i in absent:
                    self._clocks[i].miss()
                if absent:
                    self.counters["timed_out"] += 1
            if found := self._close(start_ns):
                closed.append(found)

    def _forget(self) -> None:
        streams, settings = len(self.offsets_ns), self.settings
        self._queues: list[deque[_Entry[T]]] = [deque() for _ in range(streams)]
        self._clocks = [StreamClock(settings.max_wait) for _ in range(streams)]
        self._timeline: Timeline[_Entry[T]] = Timeline(streams)
        self._spread_ns = int(settings.max_spread * 1e9)
        # Frames of a stream up to here come too late: their set has gone.
        self._floor_ns: list[int | None] = [None] * streams
        # Arrival minus capture of the first frame of the last set: lateness is counted from it.
        self._delay: float | None = None

    def _jump(self, held: list[tuple[int, _Entry[T]]]) -> None:
        for stream, queue in enumerate(self._queues):
            self._drop(stream, "reset", len(queue))
        self._forget()
        self.jumps += 1
        for stream, entry in sorted(held, key=lambda h: h[1].arrival):
            if self._timeline.admits(stream, entry.stamp_ns, entry.arrival, None):
                self._drop(stream, "bad_stamp", self._timeline.release(stream))
                self._take(stream, entry)
            else:
                self._drop(stream, "bad_stamp", self._timeline.hold(stream, entry))

    def _take(self, stream: int, entry: _Entry[T]) -> None:
        clock, queue, stamp_ns = self._clocks[stream], self._queues[stream], entry.stamp_ns
        if clock.repeats(stamp_ns):
            return self._drop(stream, "duplicate")
        delay = entry.arrival - stamp_ns * 1e-9
        known = clock.period
        clock.take(stamp_ns, None if self._delay is None else delay - self._delay)
        if clock.period != known:
            self._limit_spread()
        floor_ns = self._floor_ns[stream]
        if floor_ns is not None and stamp_ns <= floor_ns:
            return self._drop(stream, "late")
        place = len(queue)
        while place and queue[place - 1].stamp_ns > stamp_ns:
            place -= 1
        if place < len(queue):
            self.counters["out_of_order"] += 1
            # An old frame that comes late must not make newer ones wait anew.
            entry.arrival = min(entry.arrival, queue[place].arrival)
        queue.insert(place, entry)
        if len(queue) > self.settings.depth:
            queue.popleft()
            self._drop(stream, "overflow")
        return None

    def _limit_spread(self) -> None:
        periods = [clock.period for clock in self._clocks if clock.period is not None]
        most = min([self.settings.max_spread, *(_MOST_SPREAD * p for p in periods)])
        self._spread_ns = int(most * 1e9)

    def _absent(self, start_ns: int) -> list[int]:
        """Streams that have given nothing for the set that opens at ``start_ns``, but may yet."""
        return [
            i
            for i, (queue, clock) in enumerate(zip(self._queues, self._clocks, strict=True))
            if not (queue or clock.silent) and clock.due(start_ns, self._spread_ns)
        ]

    def _close(self, start_ns: int) -> dict[int, T]:
        """The set that opens at ``start_ns``; empty where it had too few views."""
        limit_ns = start_ns + self._spread_ns
        members: dict[int, _Entry[T]] = {}
        for i, queue in enumerate(self._queues):
            if queue and queue[0].stamp_ns <= limit_ns:
                members[i] = queue.popleft()
        self._delay = min([e.arrival for e in members.values()]) - start_ns * 1e-9
        if len(members) < self.settings.min_views:
            for i in members:
                self._drop(i, "too_few_views")
            return {}
        if len(members) < len(self._queues):
            self.counters["incomplete"] += 1
        newest_ns = max([entry.stamp_ns for entry in members.values()])
        for i, queue in enumerate(self._queues):
            # What a stream still has to say of this instant would be a second set of it.
            self._floor_ns[i] = newest_ns if i in members else limit_ns
            while queue and queue[0].stamp_ns <= newest_ns:
                queue.popleft()
                self._drop(i, "late")
        return {i: entry.item for i, entry in members.items()}

    def _drop(self, stream: int, reason: str, count: int = 1) -> None:
        if count:
            self.counters[reason] += count
            self.stream_counters[stream][reason] += count
