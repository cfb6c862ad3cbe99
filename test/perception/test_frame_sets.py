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
def test_a_silent_stream_costs_a_few_waits(max_wait: float) -> None:
    frames = [Captured(0, n, n * PERIOD + 1, n * 0.033) for n in range(20)]
    emitted, counters = play(frames, 2, SyncSettings(max_wait=max_wait))
    assert [list(found.frames) for found in emitted] == [[0]] * 20
    waits = [found.when - found.frames[0].arrival for found in emitted]
    assert max(waits) <= max_wait + 2 * STEP
    assert max(waits[8:]) == 0, "a stream that gives nothing is still waited for"
    assert counters["incomplete"] == 20
    assert counters["timed_out"] == 5


def regular(
    streams: int, count: int, delays: tuple[float, ...] = (), period: int = PERIOD
) -> list[Captured]:
    """Streams without jitter, stream i arriving ``delays[i]`` seconds after the capture."""
    delays = delays or (0.01,) * streams
    return [
        Captured(i, n, 10**18 + n * period, n * period * 1e-9 + delays[i])
        for i in range(streams)
        for n in range(count)
    ]


@pytest.mark.parametrize("camera", [0, 1, 2])
def test_a_stream_that_returns_is_in_the_next_sets(camera: int) -> None:
    frames = [
        f
        for f in regular(3, 90, (0.005, 0.02, 0.045))
        if f.stream != camera or not 30 <= f.number < 60
    ]
    emitted, _ = play(frames, 3, SyncSettings())
    shown = {n: set(s.frames) for s in emitted for n in {f.number for f in s.frames.values()}}
    assert sorted(shown) == list(range(90))
    assert all(shown[n] == {0, 1, 2} for n in [*range(30), *range(62, 90)])
    assert all(shown[n] == {0, 1, 2} - {camera} for n in range(30, 60))
    gaps = [b.when - a.when for a, b in pairwise(emitted)]
    assert max(gaps) <= 0.1


def test_the_silent_streams_are_named() -> None:
    assembler: FrameSetAssembler[int] = FrameSetAssembler(3, SyncSettings())
    for f in sorted(regular(3, 60), key=lambda f: f.arrival):
        if f.stream != 1 or f.number < 30:
            assembler.add(f.stream, f.stamp_ns, f.arrival, f.number)
    assert assembler.silent == (1,)


def test_a_slow_stream_is_waited_for_when_it_is_due() -> None:
    slow = [Captured(1, 3 * f.number, f.stamp_ns, f.arrival) for f in regular(2, 60, (), 3 * PERIOD)
            if f.stream == 1]  # fmt: skip
    fast = [f for f in regular(2, 180) if f.stream == 0]
    emitted, _ = play(fast + slow, 2, SyncSettings())
    assert len(emitted) == 180
    assert sum(len(s.frames) == 2 for s in emitted) == 60
    late = [s for s in emitted if s.frames[0].number > 60 and len(s.frames) == 1]
    assert max(s.when - s.frames[0].arrival for s in late) == 0


def test_a_stream_that_is_always_too_late_holds_nobody_up() -> None:
    emitted, counters = play(regular(2, 60, (0.01, 0.3)), 2, SyncSettings())
    assert [list(s.frames) for s in emitted] == [[0]] * 60
    assert counters["late"] == 60
    assert emitted[-1].when == emitted[-1].frames[0].arrival


def test_bursts_fill_their_sets() -> None:
    """A stream that delivers three frames at a time."""
    frames = [
        f
        if f.stream == 0
        else Captured(1, f.number, f.stamp_ns, f.number // 3 * 0.099 + 0.08 + f.number % 3 * 1e-4)
        for f in regular(2, 60)
    ]
    emitted, counters = play(frames, 2, SyncSettings(max_wait=0.2))
    assert [{f.number for f in s.frames.values()} for s in emitted] == [{n} for n in range(60)]
    assert all(len(s.frames) == 2 for s in emitted)
    assert not counters


def test_frames_that_overtook_others_are_sorted_in() -> None:
    """A stream that delivers two frames at a time, the younger first, before the other stream."""
    frames = [f for f in regular(2, 60, (0.1, 0.0)) if f.stream == 0]
    for n in range(60):
        arrival = (n // 2 * 2 + 1.2 - n % 2 / 10) * 0.033
        frames.append(Captured(1, n, frames[n].stamp_ns, arrival))
    emitted, counters = play(frames, 2, SyncSettings(max_wait=0.2))
    assert [{f.number for f in s.frames.values()} for s in emitted] == [{n} for n in range(60)]
    assert all(len(s.frames) == 2 for s in emitted)
    assert counters == {"out_of_order": 30}


def test_duplicates_are_known_after_their_set_has_gone() -> None:
    assembler: FrameSetAssembler[int] = FrameSetAssembler(1, SyncSettings())
    assert assembler.add(0, 5 * PERIOD, 0.0, 1) == [{0: 1}]
    assert assembler.add(0, 5 * PERIOD, 0.01, 2) == []
    assert assembler.counters == assembler.stream_counters[0] == {"duplicate": 1}


@given(
    offsets=st.lists(st.integers(-500, 500).map(lambda x: x * MS), min_size=2, max_size=5),
    count=st.integers(1, 8),
)
@settings(max_examples=50, deadline=None)
def test_offsets_bring_stamps_to_the_capture_time(offsets: list[int], count: int) -> None:
    assembler: FrameSetAssembler[int] = FrameSetAssembler(len(offsets), SyncSettings(), offsets)
    found: list[dict[int, int]] = []
    for n in range(count):
        for i, offset in enumerate(offsets):
            found += assembler.add(i, 10**18 + n * PERIOD - offset, n * 0.033, n)
    assert found == [dict.fromkeys(range(len(offsets)), n) for n in range(count)]


@given(decent_streams(), st.data())
@settings(max_examples=100, deadline=None)
def test_bad_stamps_cost_their_own_frames_only(
    case: tuple[list[Captured], int, int], data: st.DataObject
) -> None:
    """Some frames of one camera, never two in a row, are of another age."""
    frames, streams, count = case
    camera = data.draw(st.integers(0, streams - 1))
    bad = {n for n in range(1, count, 2) if data.draw(st.booleans())}
    step = data.draw(st.sampled_from([-(10**18), -10**10, -2 * 10**9, 2 * 10**9, 10**17]))
    frames = [
        Captured(f.stream, f.number, f.stamp_ns + step, f.arrival)
        if f.stream == camera and f.number in bad
        else f
        for f in frames
    ]
    if count % 2 == 0:  # what is held at the end has not been judged yet
        frames += regular_end(frames, camera)
    emitted, counters = play(frames, streams, SyncSettings(max_spread=0.016))
    whole = [s for s in emitted if len(s.frames) == streams]
    assert {s.frames[camera].number for s in whole} >= set(range(count)) - bad
    others = {n for s in emitted for i, f in s.frames.items() if i != camera for n in [f.number]}
    assert streams == 1 or others >= set(range(count))
    assert counters["bad_stamp"] == len(bad)


def regular_end(frames: list[Captured], camera: int) -> list[Captured]:
    """One more good frame of a stream, after all others."""
    count = 1 + max(f.number for f in frames)
    arrival = max([count * PERIOD * 1e-9, *(f.arrival for f in frames)]) + 0.001
    return [Captured(camera, count, 10**18 + count * PERIOD, arrival)]


@given(decent_streams(), decent_streams(), st.sampled_from([-(10**17), -5 * 10**9, 10**12]))
@settings(max_examples=100, deadline=None)
def test_a_clock_that_jumps_is_followed(
    before: tuple[list[Captured], int, int], after: tuple[list[Captured], int, int], step: int
) -> None:
    """Simulated time is reset, or a bag loops: all that comes then is delivered."""
    streams = min(before[1], after[1])
    first = [f for f in before[0] if f.stream < streams]
    second = [
        Captured(f.stream, 1000 + f.number, f.stamp_ns + step, f.arrival + 1.0)
        for f in after[0]
        if f.stream < streams
    ]
    emitted, counters = play(first + second, streams, SyncSettings(max_spread=0.016))
    numbers = [{f.number for f in s.frames.values()} for s in emitted]
    new = range(after[2])
    if len(second) > 1:  # one frame alone may as well have a wrong stamp
        assert numbers == [{n} for n in [*range(before[2]), *(1000 + n for n in new)]]
        assert set(counters) == set()
        assert all(len(s.frames) == streams for s in emitted)


def test_a_jump_is_counted_and_what_waited_is_forgotten() -> None:
    assembler: FrameSetAssembler[str] = FrameSetAssembler(2, SyncSettings())
    assembler.add(0, 10**12, 0.0, "waits")
    assert assembler.add(0, 10**11, 0.01, "held") == []
    assert assembler.jumps == 0
    assert assembler.add(1, 10**11, 0.02, "tells") == [{0: "held", 1: "tells"}]
    assert assembler.jumps == 1
    assert assembler.counters == {"reset": 1}


def test_one_stream_of_two_with_another_clock_is_left_out() -> None:
    """Its frames are dropped and counted; when the other stops, its time is the time."""
    frames = [
        Captured(f.stream, f.number, f.stamp_ns + f.stream * 10**13, f.arrival)
        for f in sorted(regular(2, 120), key=lambda f: (f.arrival, f.stream))
        if f.stream == 1 or f.number < 60
    ]
    emitted, counters = play(frames, 2, SyncSettings())
    assert [s.frames[0].number for s in emitted if 0 in s.frames] == list(range(60))
    alone = [s.frames[1].number for s in emitted if 1 in s.frames]
    assert alone == list(range(alone[0], 120))
    assert alone[0] < 60 + 35
    assert counters["bad_stamp"] == alone[0]


@pytest.mark.parametrize("period", [0.05, 2.5])
def test_playback_faster_than_life_loses_nothing(period: float) -> None:
    """Lockstep playback: stamps advance by seconds while milliseconds pass."""
    assembler: FrameSetAssembler[int] = FrameSetAssembler(2, SyncSettings())
    found = []
    for n in range(100):
        for i in range(2):
            found += assembler.add(i, 10**15 + round(n * period * 1e9), n * 0.002, n)
    assert [s[0] for s in found] == list(range(100))


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
