"""The worker: newest first served, nothing stops it but being told."""

from __future__ import annotations

import threading

from hand_mesh_ros.ros.worker import Worker

PATIENCE = 20.0


class Work:
    """Work that can be held up, and says when it is in hand."""

    def __init__(self) -> None:
        self.done: list[int] = []
        self.failed: list[tuple[str, int]] = []
        self.begun, self.go = threading.Semaphore(0), threading.Semaphore(0)
        self.finished = threading.Semaphore(0)

    def __call__(self, item: int) -> None:
        self.begun.release()
        assert self.go.acquire(timeout=PATIENCE)
        if item < 0:
            self.finished.release()
            raise ValueError(f"item {item}")
        self.done.append(item)
        self.finished.release()

    def fail(self, error: Exception, item: int) -> None:
        self.failed.append((str(error), item))

    def allow(self, count: int) -> None:
        """Let ``count`` items through and wait until they are."""
        for _ in range(count):
            self.go.release()
            assert self.finished.acquire(timeout=PATIENCE)


def test_items_are_worked_on_in_order_by_another_thread() -> None:
    names: list[str] = []
    finished = threading.Semaphore(0)

    def work(item: int) -> None:
        names.append(f"{item} {threading.current_thread().name}")
        finished.release()

    worker = Worker(work, print, depth=8)
    worker.put([1, 2])
    worker.put([3])
    for _ in range(3):
        assert finished.acquire(timeout=PATIENCE)
    worker.stop()
    assert names == [f"{i} hand_mesh_worker" for i in (1, 2, 3)]
    assert worker.dropped == 0


def test_the_newest_waits_and_the_rest_is_dropped_and_counted() -> None:
    work = Work()
    worker: Worker[int] = Worker(work, work.fail, depth=1)
    worker.put([1])
    assert work.begun.acquire(timeout=PATIENCE)  # 1 is in hand; what comes now must wait
    worker.put([2, 3])
    worker.put([4])
    assert worker.dropped == 2
    assert worker.waiting == 1
    work.allow(2)
    worker.stop()
    assert work.done == [1, 4]
    assert not work.failed


def test_a_failure_is_reported_and_the_next_item_is_worked_on() -> None:
    work = Work()
    heard = threading.Event()

    def failed(error: Exception, item: int) -> None:
        work.fail(error, item)
        heard.set()

    worker: Worker[int] = Worker(work, failed, depth=4)
    worker.put([-1, 2])
    work.allow(2)
    assert heard.wait(PATIENCE)
    worker.stop()
    assert work.failed == [("item -1", -1)]
    assert work.done == [2]


def test_stopping_finishes_the_item_in_hand_and_drops_what_waits() -> None:
    work = Work()
    worker: Worker[int] = Worker(work, work.fail, depth=4)
    worker.put([1, 2, 3])
    assert work.begun.acquire(timeout=PATIENCE)
    stopping = threading.Thread(target=worker.stop)
    stopping.start()
    while worker._running:  # until `stop` has been told, so that 2 must not be begun
        stopping.join(0.001)
    work.go.release()
    stopping.join(PATIENCE)
    assert not stopping.is_alive()
    assert not worker._thread.is_alive()
    assert work.done == [1]
    worker.put([4])  # too late, and harmless
    assert work.done == [1]
