"""Frame sets: what holds for every stream that jitters, drops, repeats itself or falls silent."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hand_mesh_ros.perception.frame_sets import FrameSetAssembler, SyncSettings

MS = 1_000_000
PERIOD = 33 * MS
STEP = 0.005  # s between two polls


@dataclass(frozen=True)
class Captured:
    """A frame: its stream, number in the stream, capture time and time of arrival (s)."""

    stream: int
    number: int
    stamp_ns: int
    arrival: float


@dataclass(frozen=True)
class Emitted:
    frames: dict[int, Captured]
    when: float

    @property
    def stamps(self) -> list[int]:
        return [frame.stamp_ns for frame in self.frames.values()]


def play(
    frames: list[Captured], streams: int, sync: SyncSettings
) -> tuple[list[Emitted], Counter[str]]:
    """Let the frames arrive, with polls in between and at the end."""
    assembler: FrameSetAssembler[Captured] = FrameSetAssembler(streams, sync)
    emitted: list[Emitted] = []
    now = 0.0
    for frame in sorted(frames, key=lambda f: f.arrival):
        while now + STEP < frame.arrival:
            now += STEP
            emitted += [Emitted(found, now) for found in assembler.poll(now)]
        now = frame.arrival
        closed = assembler.add(frame.stream, frame.stamp_ns, now, frame)
        emitted += [Emitted(found, now) for found in closed]
    for _ in range(int(sync.max_wait / STEP) + 2):
        now += STEP
        emitted += [Emitted(found, now) for found in assembler.poll(now)]
    return emitted, assembler.counters


@st.composite
def wild_streams(draw: st.DrawFn) -> tuple[list[Captured], int, SyncSettings]:
    """Frames of one to four streams with everything that goes wrong."""
    streams = draw(st.integers(1, 4))
    frames: list[Captured] = []
    for stream in range(streams):
        offset = draw(st.integers(-30, 30)) * MS
        for number in range(draw(st.integers(0, 12))):
            jitter = draw(st.integers(-20 * MS, 20 * MS))
            stamp = 10**12 + number * PERIOD + offset + jitter
            delay = draw(st.floats(0, 0.15))
            arrival = (stamp - 10**12) * 1e-9 + 0.1 + delay
            if draw(st.booleans()) or draw(st.booleans()):  # one in four is dropped
                frames.append(Captured(stream, number, stamp, arrival))
            if draw(st.integers(0, 9)) == 0:
                frames.append(Captured(stream, number + 1000, stamp, arrival + 0.01))
    sync = SyncSettings(
        min_views=draw(st.integers(1, streams)),
        max_spread=draw(st.sampled_from([0.0, 0.005, 0.015, 0.05])),
        max_wait=draw(st.sampled_from([0.0, 0.05, 0.1])),
        depth=draw(st.integers(1, 8)),
    )
    return frames, streams, sync


# Two frames of stream 0 within the spread of one frame of stream 1: the second must not follow
# as a set of its own, older than the one before.
_TWO_FOR_ONE = (
    [
        Captured(0, 0, 10 * MS, 0.0),
        Captured(0, 1, 15 * MS, 0.001),
        Captured(1, 0, 20 * MS, 0.002),
        Captured(1, 1, 53 * MS, 0.03),
    ],
    2,
    SyncSettings(),
)


@given(wild_streams())
@example(_TWO_FOR_ONE)
@settings(max_examples=200, deadline=None)
def test_sets_of_wild_streams(case: tuple[list[Captured], int, SyncSettings]) -> None:
    frames, streams, sync = case
    emitted, counters = play(frames, streams, sync)
    newest = [max(found.stamps) for found in emitted]
    assert all(a < b for a, b in pairwise(newest)), "not monotonic"
    for found in emitted:
        assert max(found.stamps) - min(found.stamps) <= sync.max_spread * 1e9
        assert len(found.frames) >= sync.min_views
        assert all(frame.stream == stream for stream, frame in found.frames.items())
        for frame in found.frames.values():
            assert found.when <= frame.arrival + sync.max_wait + 2 * STEP, "stalled"
    used = [(f.stream, f.number) for found in emitted for f in found.frames.values()]
    assert len(used) == len(set(used)), "a frame was used twice"
    dropped = sum(counters[k] for k in ("late", "duplicate", "overflow", "too_few_views"))
    assert len(used) + dropped == len(frames), f"frames unaccounted for: {dict(counters)}"


@st.composite
def decent_streams(draw: st.DrawFn) -> tuple[list[Captured], int, int]:
    """Complete streams whose capture times stay within half the spread of 16 ms."""
    streams, count = draw(st.integers(1, 5)), draw(st.integers(1, 10))
    frames = []
    for stream in range(streams):
        offset = draw(st.integers(-4 * MS, 4 * MS))
        delay = draw(st.floats(0, 0.05))
        for number in range(count):
            stamp = 10**18 + number * PERIOD + offset + draw(st.integers(-4 * MS, 4 * MS))
            arrival = number * PERIOD * 1e-9 + 0.02 + delay + draw(st.floats(0, 0.015))
            frames.append(Captured(stream, number, stamp, arrival))
    return frames, streams, count


@given(decent_streams())
@settings(max_examples=100, deadline=None)
def test_every_instant_of_decent_streams_is_complete(
    case: tuple[list[Captured], int, int],
) -> None:
    frames, streams, count = case
    emitted, counters = play(frames, streams, SyncSettings(max_spread=0.016, max_wait=0.1))
    numbers = [{f.number for f in found.frames.values()} for found in emitted]
    assert numbers == [{number} for number in range(count)]
    assert all(len(found.frames) == streams for found in emitted)
    assert not counters


@given(decent_streams(), st.data())
@settings(max_examples=60, deadline=None)
def test_dropped_frames_cost_their_own_view_only(
    case: tuple[list[Captured], int, int], data: st.DataObject
) -> None:
    frames, streams, _ = case
    kept = [frame for frame in frames if data.draw(st.integers(0, 9))]
    emitted, counters = play(kept, streams, SyncSettings(max_spread=0.016, max_wait=0.1))
    for found in emitted:
        (number,) = {f.number for f in found.frames.values()}  # never of two instants
        assert set(found.frames) == {f.stream for f in kept if f.number == number}
    assert sum(len(found.frames) for found in emitted) == len(kept)
    assert set(counters) <= {"incomplete", "timed_out"}


@pytest.mark.parametrize("max_wait", [0.02, 0.1])
def test_a_silent_stream_costs_the_wait_and_no_more(max_wait: float) -> None:
    frames = [Captured(0, n, n * PERIOD + 1, n * 0.033) for n in range(20)]
    emitted, counters = play(frames, 2, SyncSettings(max_wait=max_wait))
    assert [list(found.frames) for found in emitted] == [[0]] * 20
    waits = [found.when - found.frames[0].arrival for found in emitted]
    assert max(waits) <= max_wait + 2 * STEP
    assert counters["timed_out"] == counters["incomplete"] == 20


def test_too_few_views_are_dropped_and_counted() -> None:
    frames = [Captured(0, n, n * PERIOD + 1, n * 0.033) for n in range(5)]
    emitted, counters = play(frames, 2, SyncSettings(min_views=2))
    assert emitted == []
    assert counters["too_few_views"] == 5


def test_after_a_reset_old_frames_are_new() -> None:
    assembler: FrameSetAssembler[str] = FrameSetAssembler(2, SyncSettings())
    assert assembler.add(0, 10 * PERIOD, 0.0, "a") == []
    assert assembler.add(1, 10 * PERIOD, 0.0, "b") == [{0: "a", 1: "b"}]
    assert assembler.add(0, PERIOD, 0.1, "late") == []
    assert assembler.counters["late"] == 1
    assembler.reset()
    assert assembler.add(0, PERIOD, 0.2, "c") == []
    assert assembler.add(1, PERIOD, 0.2, "d") == [{0: "c", 1: "d"}]


@pytest.mark.parametrize("min_views", [0, 3])
def test_impossible_settings_are_refused(min_views: int) -> None:
    with pytest.raises(ValueError, match="min_views"):
        FrameSetAssembler(2, SyncSettings(min_views=min_views))
