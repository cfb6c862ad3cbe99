"""Frame sets for many threads: streams feed them in, one callback gets them in order."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

T = TypeVar("T")


class SetMaker(Protocol[T]):
    """What makes sets of frames: `FrameSetAssembler`, or anything that behaves like it."""

    jumps: int
    counters: Counter[str]
    stream_counters: tuple[Counter[str], ...]

    @property
    def silent(self) -> tuple[int, ...]: ...

    def reset(self) -> None: ...

    def add(self, stream: int, stamp_ns: int, arrival: float, item: T) -> list[dict[int, T]]: ...

    def poll(self, now: float) -> list[dict[int, T]]: ...


class SetDispatch(Generic[T]):
    """A set maker behind a lock, and a callback that is called outside of it.

    ``on_set(frames)`` gets every set (stream -> item), oldest first, never two at a time, in the
    thread of whoever closed it or is delivering at that moment. ``on_jump()`` is called before
    the first set of a new time. What either raises goes to ``failed(error)`` and the next set is
    delivered all the same; what that raises reaches the caller of `add` or `poll`, and harms
    nothing else.
    """

    def __init__(
        self,
        maker: SetMaker[T],
        on_set: Callable[[dict[int, T]], Any],
        on_jump: Callable[[], Any],
        failed: Callable[[Exception], Any],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.maker = maker
        self._on_set, self._on_jump, self._failed, self._clock = on_set, on_jump, failed, clock
        self._lock = threading.Lock()
        self._waiting: deque[Callable[[], Any]] = deque()
        self._delivering = False

    def add(self, stream: int, stamp_ns: int, item: T) -> None:
        """Take a frame in that has just arrived."""
        with self._lock:
            before = self.maker.jumps
            # The time is read under the lock, so that it never runs backwards for the maker.
            closed = self.maker.add(stream, stamp_ns, self._clock(), item)
            if self.maker.jumps != before:
                self._waiting.append(self._on_jump)
            self._queue(closed)
        self._deliver()

    def poll(self) -> None:
        """Close what has waited long enough; to be called now and then."""
        with self._lock:
            self._queue(self.maker.poll(self._clock()))
        self._deliver()

    def _queue(self, closed: list[dict[int, T]]) -> None:
        self._waiting.extend(partial(self._on_set, found) for found in closed)

    def _deliver(self) -> None:
        """Empty the queue, unless another thread is at it (or this one, from a callback)."""
        while True:
            with self._lock:
                if self._delivering or not self._waiting:
                    return
                self._delivering = True
                call = self._waiting.popleft()
            try:
                call()
            except Exception as error:
                self._failed(error)
            finally:
                with self._lock:
                    self._delivering = False
