"""One thread that always works on the newest there is."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

T = TypeVar("T")


class Worker(Generic[T]):
    """Calls ``work(item)`` for items in order, in a thread of its own.

    At most ``depth`` items wait; a newer one pushes the oldest out (counted in ``dropped``).
    ``failed(error, item)`` hears of an exception and the next item is worked on all the same.
    """

    def __init__(
        self, work: Callable[[T], None], failed: Callable[[Exception, T], None], depth: int
    ) -> None:
        self._work, self._failed, self._depth = work, failed, depth
        self._items: deque[T] = deque()
        self._condition = threading.Condition()
        self._running = True
        self.dropped = 0
        self._thread = threading.Thread(target=self._run, name="hand_mesh_worker", daemon=True)
        self._thread.start()

    def put(self, items: Iterable[T]) -> None:
        """Hand items over, oldest first."""
        with self._condition:
            self._items.extend(items)
            while len(self._items) > self._depth:
                self._items.popleft()
                self.dropped += 1
            self._condition.notify()

    @property
    def waiting(self) -> int:
        """Items that have not been begun."""
        return len(self._items)

    def stop(self, timeout: float = 10.0) -> None:
        """Let the current item finish, drop the rest, end the thread."""
        with self._condition:
            self._running = False
            self._items.clear()
            self._condition.notify()
        self._thread.join(timeout)

    def _run(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._items or not self._running)
                if not self._running:
                    return
                item = self._items.popleft()
            try:
                self._work(item)
            except Exception as error:  # a bad set must not end the node
                self._failed(error, item)
