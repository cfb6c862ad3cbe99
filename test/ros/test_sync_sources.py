"""message_filters' filters as sources, and its synchroniser as a policy where it is installed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")
from sensor_msgs.msg import Image

from hand_mesh_ros.perception.frame_sets import FrameSetAssembler, SyncSettings
from hand_mesh_ros.perception.set_dispatch import SetDispatch
from hand_mesh_ros.ros.images import nanoseconds
from hand_mesh_ros.ros.sync_sources import (
    ApproximateSets,
    SourceConnections,
    has_message_filters,
    make_sets,
)

PERIOD = 33_000_000
needs_filters = pytest.mark.skipif(
    not has_message_filters(), reason="message_filters is not installed"
)


class Filter:
    """message_filters.SimpleFilter, by its documentation."""

    def __init__(self) -> None:
        self.callbacks: dict[int, tuple[Callable[..., None], tuple[Any, ...]]] = {}

    def registerCallback(self, callback: Callable[..., None], *args: Any) -> int:  # noqa: N802
        self.callbacks[len(self.callbacks)] = callback, args
        return len(self.callbacks) - 1

    def signalMessage(self, *message: Any) -> None:  # noqa: N802
        for callback, args in self.callbacks.values():
            callback(*message, *args)


class ForgettingFilter(Filter):
    """As it is since 2026."""

    def unregisterCallback(self, connection: int) -> None:  # noqa: N802
        self.callbacks.pop(connection, None)


def image(stamp_ns: int) -> Image:
    message = Image()
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, 10**9)
    return message


def test_frame_sets_of_filters() -> None:
    """What the README shows: filters in, sets out."""
    sources = [Filter(), Filter()]
    found: list[dict[int, Image]] = []
    maker: FrameSetAssembler[Image] = FrameSetAssembler(2, SyncSettings())
    dispatch = SetDispatch(maker, found.append, lambda: None, print)
    SourceConnections(sources, lambda i, m: dispatch.add(i, nanoseconds(m.header.stamp), m))
    for n in range(1, 6):
        for i, source in enumerate(sources):
            source.signalMessage(image(n * PERIOD + i * 1_000_000))
    assert [
        [nanoseconds(m.header.stamp) // PERIOD for m in frames.values()] for frames in found
    ] == [[n, n] for n in range(1, 6)]


@pytest.mark.parametrize("kind", [Filter, ForgettingFilter])
def test_closed_connections_hear_nothing(kind: type[Filter]) -> None:
    source, heard = kind(), []
    connections = SourceConnections([source], lambda i, m: heard.append((i, m)))
    source.signalMessage("before")
    connections.close()
    source.signalMessage("after")
    connections.close()
    assert heard == [(0, "before")]
    assert bool(source.callbacks) == (kind is Filter)


def test_what_is_no_filter_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match=r"source 1 \(str\) has no registerCallback"):
        SourceConnections([Filter(), "topic"], print)


def test_the_policy_without_message_filters_names_the_package(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "message_filters", None)
    assert not has_message_filters()
    with pytest.raises(ValueError, match=r"sync\.policy.*ros-\$ROS_DISTRO-message-filters"):
        make_sets("approximate", 2, SyncSettings())
    with pytest.raises(ValueError, match="frame_sets or approximate"):
        make_sets("exact", 2, SyncSettings())
    assert isinstance(make_sets("frame_sets", 2, SyncSettings()), FrameSetAssembler)


@needs_filters
def test_approximate_sets_are_complete_and_within_the_spread() -> None:
    sets = make_sets("approximate", 3, SyncSettings(max_spread=0.01), (0, 0, -5 * PERIOD))
    assert isinstance(sets, ApproximateSets)
    found = []
    for n in range(10, 20):
        for i in range(3):
            if (i, n) != (1, 15):
                stamp = n * PERIOD + i * 1_000_000 + (5 * PERIOD if i == 2 else 0)
                found += sets.add(i, stamp, 0.0, (i, n))
    assert found == [{i: (i, n) for i in range(3)} for n in range(10, 20) if n != 15]
    assert sets.poll(100.0) == []


@needs_filters
def test_a_callback_that_raises_does_not_stop_the_approximate_policy() -> None:
    """In message_filters itself the lock would stay held, and the next message hang for ever."""
    errors: list[Exception] = []

    def on_set(frames: dict[int, str]) -> None:
        raise RuntimeError(frames[0])

    dispatch = SetDispatch(
        make_sets("approximate", 1, SyncSettings()), on_set, lambda: None, errors.append
    )
    for n in range(1, 4):
        dispatch.add(0, n * PERIOD, str(n))
    assert [str(e) for e in errors] == ["1", "2", "3"]


@needs_filters
def test_the_approximate_policy_follows_a_clock_that_goes_back() -> None:
    sets = make_sets("approximate", 2, SyncSettings())
    assert sets.add(0, 10**12, 0.0, "waits") == []
    assert sets.add(0, 10**11, 0.1, "a") == []
    assert sets.add(1, 10**11, 0.2, "b") == [{0: "a", 1: "b"}]
    assert sets.jumps == 1


@needs_filters
def test_message_filters_own_subscriber_is_a_source() -> None:
    import message_filters
    import rclpy
    from rclpy.executors import SingleThreadedExecutor

    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node("sources", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    heard: list[tuple[int, int]] = []
    try:
        sources = [message_filters.Subscriber(node, Image, f"camera_{i}") for i in range(2)]
        SourceConnections(
            sources, lambda i, m: heard.append((i, nanoseconds(m.header.stamp)))
        )
        publishers = [node.create_publisher(Image, f"camera_{i}", 10) for i in range(2)]
        for _ in range(100):
            if all(p.get_subscription_count() for p in publishers):
                break
            executor.spin_once(timeout_sec=0.1)
        for i, publisher in enumerate(publishers):
            publisher.publish(image(10**9 + i))
        for _ in range(50):
            executor.spin_once(timeout_sec=0.1)
            if len(heard) == 2:
                break
    finally:
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown(context=context)
    assert sorted(heard) == [(0, 10**9), (1, 10**9 + 1)]
