"""message_filters, where it exists: its filters as sources, its synchroniser as a policy.

A source is whatever has ``registerCallback(callback, *args)``, as every filter of message_filters
has (``Subscriber``, ``Cache``, ``Chain`` and one's own). Nothing in here needs message_filters but
the policy ``approximate``.
"""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any, Generic, Protocol, TypeVar

from builtin_interfaces.msg import Time

from hand_mesh_ros.perception.frame_sets import FrameSetAssembler, SyncSettings
from hand_mesh_ros.perception.set_dispatch import SetMaker

T = TypeVar("T")

POLICIES = ("frame_sets", "approximate")
# A capture time this far before the newest one is a clock that jumped or a bag that looped.
_JUMP_NS = 1_000_000_000


class MessageSource(Protocol):
    """The protocol of message_filters.SimpleFilter."""

    def registerCallback(self, callback: Callable[..., None], *args: Any) -> Any:  # noqa: N802
        """Have ``callback(message, *args)`` called for every message."""
        ...


class SourceConnections:
    """Messages of some sources, handed to ``take(index, message)`` until `close`.

    message_filters calls back in the thread that spins; what ``take`` raises reaches that thread.
    """

    def __init__(
        self, sources: Sequence[MessageSource], take: Callable[[int, Any], None]
    ) -> None:
        for index, source in enumerate(sources):
            if not callable(getattr(source, "registerCallback", None)):
                raise TypeError(
                    f"source {index} ({type(source).__name__}) has no registerCallback: pass a "
                    "message_filters.Subscriber or another filter"
                )
        self._take: Callable[[int, Any], None] | None = take
        self._connected = [
            (source, source.registerCallback(partial(self._on_message, index)))
            for index, source in enumerate(sources)
        ]

    def close(self) -> None:
        """Hear no more. Older releases of message_filters cannot forget a callback: it is inert."""
        self._take = None
        for source, connection in self._connected:
            if callable(forget := getattr(source, "unregisterCallback", None)):
                forget(connection)
        self._connected.clear()

    def _on_message(self, index: int, message: Any, *_: Any) -> None:
        if self._take is not None:
            self._take(index, message)


class ApproximateSets(Generic[T]):
    """The distribution's ``ApproximateTimeSynchronizer`` as a maker of frame sets.

    It behaves as that does: only complete sets come out, none while a stream is silent;
    ``max_wait`` and ``min_views`` have no meaning, and what it drops it does not tell. Items may be
    anything; stamps plus ``offsets_ns`` are what it sees. What it sets free is handed back by
    `add`, outside of its lock, so that nothing can raise while it is held (where it would be held
    for ever). Python's synchroniser knows no jumping clock: stamps that go back by a second make a
    new one.

    ``ImportError`` names the package to install where there is no message_filters.
    """

    def __init__(
        self, streams: int, settings: SyncSettings, offsets_ns: Sequence[int] | None = None
    ) -> None:
        self._synchroniser_class = _message_filters().ApproximateTimeSynchronizer
        self.settings = settings
        self.offsets_ns = tuple(offsets_ns) if offsets_ns is not None else (0,) * streams
        if len(self.offsets_ns) != streams:
            raise ValueError(f"{len(self.offsets_ns)} offsets_ns, with {streams} streams")
        self.counters: Counter[str] = Counter()
        self.stream_counters: tuple[Counter[str], ...] = tuple(Counter() for _ in range(streams))
        self.jumps = 0
        self.silent: tuple[int, ...] = ()
        self.reset()

    def reset(self) -> None:
        """Forget every waiting frame."""
        self._inlets = [_Inlet() for _ in self.offsets_ns]
        self._found: list[dict[int, T]] = []
        self._newest_ns: int | None = None
        made = self._synchroniser_class(
            self._inlets, self.settings.depth, self.settings.max_spread
        )
        made.registerCallback(self._on_set)
        self._synchroniser = made

    def add(self, stream: int, stamp_ns: int, arrival: float, item: T) -> list[dict[int, T]]:
        """Take a frame in; returns the sets this completes, as stream -> item."""
        stamp_ns += self.offsets_ns[stream]
        if self._newest_ns is not None and stamp_ns < self._newest_ns - _JUMP_NS:
            self.reset()
            self.jumps += 1
        self._newest_ns = max(stamp_ns, self._newest_ns or stamp_ns)
        stamp = Time(sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
        self._inlets[stream].signal(SimpleNamespace(header=SimpleNamespace(stamp=stamp), item=item))
        found, self._found = self._found, []
        return found

    def poll(self, now: float) -> list[dict[int, T]]:
        """Nothing: this policy waits for frames, not for time."""
        return []

    def _on_set(self, *messages: Any) -> None:
        self._found.append({i: message.item for i, message in enumerate(messages)})


def make_sets(
    policy: str, streams: int, settings: SyncSettings, offsets_ns: Sequence[int] | None = None
) -> SetMaker[Any]:
    """The maker of frame sets that ``sync.policy`` names.

    ``ValueError`` for an unknown policy, or for ``approximate`` without message_filters; it says
    what to install.
    """
    if policy not in POLICIES:
        raise ValueError(f"parameter sync.policy is {policy!r}: it is {' or '.join(POLICIES)}")
    if policy == "frame_sets":
        return FrameSetAssembler(streams, settings, offsets_ns)
    try:
        return ApproximateSets(streams, settings, offsets_ns)
    except ImportError as error:
        raise ValueError(f"parameter sync.policy is 'approximate', but {error}") from error


def has_message_filters() -> bool:
    """Whether the policy ``approximate`` can be had."""
    try:
        _message_filters()
    except ImportError:
        return False
    return True


def _message_filters() -> Any:
    try:
        return importlib.import_module("message_filters")
    except ImportError as error:
        raise ImportError(
            f"message_filters cannot be imported ({error}): install ros-$ROS_DISTRO-message-filters"
            " with the distribution's packages and source its setup file, or use the policy "
            "'frame_sets', which needs nothing"
        ) from error


class _Inlet:
    """A source that one feeds by hand."""

    def __init__(self) -> None:
        self._callbacks: list[tuple[Callable[..., None], tuple[Any, ...]]] = []

    def registerCallback(self, callback: Callable[..., None], *args: Any) -> int:  # noqa: N802
        self._callbacks.append((callback, args))
        return len(self._callbacks) - 1

    def signal(self, message: Any) -> None:
        for callback, args in self._callbacks:
            callback(message, *args)
