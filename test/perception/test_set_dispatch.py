"""Sets handed out by many threads: in order, one at a time, whatever the callback does."""

from __future__ import annotations

import threading
from itertools import pairwise

import pytest

from hand_mesh_ros.perception.frame_sets import FrameSetAssembler, SyncSettings
from hand_mesh_ros.perception.set_dispatch import SetDispatch

PERIOD = 33_000_000


def make(streams: int, on_set, on_jump=lambda: None, failed=None) -> SetDispatch[int]:
    def refuse(error: Exception) -> None:
        raise error

    maker: FrameSetAssembler[int] = FrameSetAssembler(streams, SyncSettings())
    return SetDispatch(maker, on_set, on_jump, failed or refuse)


def test_threads_deliver_in_order_and_one_at_a_time() -> None:
    found: list[int] = []
    inside = threading.Semaphore(1)

    def on_set(frames: dict[int, int]) -> None:
        assert inside.acquire(blocking=False), "two at a time"
        found.append(max(frames.values()))
        inside.release()

    dispatch = make(4, on_set)
    start = threading.Barrier(4)

    def feed(stream: int) -> None:
        start.wait()
        for n in range(300):
            # Within a third of a second: no thread gets so far ahead that the clock jumps.
            dispatch.add(stream, 10**18 + n * 1_000_000, n)

    threads = [threading.Thread(target=feed, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found
    assert all(a < b for a, b in pairwise(found))


def test_a_callback_that_raises_costs_its_own_set() -> None:
    found, errors = [], []

    def on_set(frames: dict[int, int]) -> None:
        if frames[0] == 1:
            raise RuntimeError("bad set")
        found.append(frames[0])

    dispatch = make(1, on_set, failed=errors.append)
    for n in range(4):
        dispatch.add(0, (n + 1) * PERIOD, n)
    assert found == [0, 2, 3]
    assert [str(e) for e in errors] == ["bad set"]


def test_what_the_failure_handler_raises_reaches_the_caller_and_harms_nothing_else() -> None:
    found = []

    def on_set(frames: dict[int, int]) -> None:
        if frames[0] == 1:
            raise RuntimeError("bad set")
        found.append(frames[0])

    dispatch = make(1, on_set)
    dispatch.add(0, PERIOD, 0)
    with pytest.raises(RuntimeError, match="bad set"):
        dispatch.add(0, 2 * PERIOD, 1)
    dispatch.add(0, 3 * PERIOD, 2)
    assert found == [0, 2]


def test_a_callback_may_feed_frames_in() -> None:
    """No lock is held: a callback that adds a frame gets its set after this one."""
    found: list[int] = []

    def on_set(frames: dict[int, int]) -> None:
        n = frames[0]
        if n < 3:
            dispatch.add(0, (n + 2) * PERIOD, n + 1)
        found.append(n)

    dispatch = make(1, on_set)
    dispatch.add(0, PERIOD, 0)
    assert found == [0, 1, 2, 3]


def test_a_jump_is_told_before_the_sets_of_the_new_time() -> None:
    heard: list[object] = []
    dispatch = make(2, heard.append, lambda: heard.append("jump"))
    for stamp in (10**12, 10**11):
        for stream in range(2):
            dispatch.add(stream, stamp, stamp)
    assert heard == [{0: 10**12, 1: 10**12}, "jump", {0: 10**11, 1: 10**11}]


def test_a_poll_closes_what_has_waited() -> None:
    now, found = [0.0], []
    maker: FrameSetAssembler[int] = FrameSetAssembler(2, SyncSettings())
    dispatch = SetDispatch(maker, found.append, lambda: None, print, clock=lambda: now[0])
    dispatch.add(0, PERIOD, 7)
    dispatch.poll()
    assert found == []
    now[0] = 0.11
    dispatch.poll()
    assert found == [{0: 7}]
