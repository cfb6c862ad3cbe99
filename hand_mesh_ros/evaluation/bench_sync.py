"""How frame sets are made of a cell's streams: completeness, mixing, cost, and a lost camera.

Everything runs in virtual time: frames are captured and arrive at simulated times, and only the
work of the set maker costs real time.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from hand_mesh_ros.perception.frame_sets import FrameSetAssembler, SyncSettings
from hand_mesh_ros.perception.set_dispatch import SetMaker

Progress = Callable[[int, int, str], None]
MakerOf = Callable[[int, SyncSettings], SetMaker["SimulatedFrame"]]

_CAMERAS, _RATE, _SECONDS = 8, 30.0, 120.0
_EPOCH_NS = 1_700_000_000_000_000_000
# As the node does.
_POLLS_PER_WAIT = 4
_GONE = 2.0
# Arrival clock at the first instant's nominal time.
_START = 1.0


@dataclass(frozen=True, slots=True)
class SimulatedFrame:
    """A frame: whose, of which instant, captured (ns) and arriving (s) when."""

    stream: int
    instant: int
    stamp_ns: int
    arrival: float


@dataclass(frozen=True, slots=True)
class ClosedSet:
    """Frames of a set and the simulated time at which it was made."""

    frames: tuple[SimulatedFrame, ...]
    when: float


@dataclass(frozen=True)
class Cell:
    """Cameras that capture together: ``jitter`` (s) either way, ``drops`` of the frames lost.

    Camera i's transport takes ``delays[i]`` seconds and an exponential rest of mean ``queueing``;
    frames of a camera never overtake each other.
    """

    cameras: int = _CAMERAS
    rate: float = _RATE
    drops: float = 0.02
    jitter: float = 0.005
    delays: tuple[float, ...] = tuple(np.linspace(0.003, 0.04, _CAMERAS).tolist())
    queueing: float = 0.002

    def frames(
        self, seconds: float, seed: int, gone: Mapping[int, tuple[float, float]] | None = None
    ) -> list[SimulatedFrame]:
        """All frames that arrive, by arrival; camera i captures none between ``gone[i]`` (s)."""
        rng = np.random.default_rng([seed, 11])
        shape = self.cameras, round(seconds * self.rate)
        instants = np.arange(shape[1]) / self.rate
        captured = instants + rng.uniform(-self.jitter, self.jitter, shape)
        took = np.array(self.delays)[:, None] + rng.exponential(self.queueing, shape)
        arrival = np.maximum.accumulate(_START + captured + took, axis=1)
        kept = rng.random(shape) >= self.drops
        for camera, (start, end) in (gone or {}).items():
            kept[camera] &= (captured[camera] < start) | (captured[camera] >= end)
        stamps = _EPOCH_NS + np.rint(captured * 1e9).astype(np.int64)
        found = [
            SimulatedFrame(int(i), int(k), int(stamps[i, k]), float(arrival[i, k]))
            for i, k in np.argwhere(kept)
        ]
        return sorted(found, key=lambda frame: frame.arrival)


def measure(progress: Progress, others: Mapping[str, MakerOf] | None = None) -> dict[str, float]:
    """The figures of frame sets; those of ``others`` have their name and _ before them.

    ``mixed_sets``: sets with frames of two instants, or half a period apart;
    ``complete_delivered``: fraction of the instants of which every frame arrived that came out
    whole; ``instants_delivered``: fraction of all instants of which a set, whole or not, came out;
    ``sync_core_percent`` of one core. ``dropout_gap_ms``: longest time between two sets when
    a camera has been unplugged; ``dropout_rate``: fraction of the instants of which a set was made
    meanwhile; ``replug_sets``: most sets from the arrival of its first new frame until an
    unplugged camera was in one again.
    """
    makers: dict[str, MakerOf] = {"": FrameSetAssembler}
    makers |= {f"{name}_": maker for name, maker in (others or {}).items()}
    figures: dict[str, float] = {}
    total = len(makers) * (_CAMERAS + 1)
    done = 0
    for prefix, maker in makers.items():
        progress(done, total, f"{prefix or 'own '}frame sets".replace("_", " "))
        found = _steady(Cell(), maker)
        done += 1
        outages = []
        for camera in range(_CAMERAS):
            progress(done, total, "a camera unplugged")
            outages.append(_outage(Cell(), maker, camera))
            done += 1
        gaps, rates, returns = zip(*outages, strict=True)
        found["dropout_gap_ms"] = round(1e3 * max(gaps), 1)
        found["dropout_rate"] = round(min(rates), 4)
        found["replug_sets"] = max(returns)
        figures |= {prefix + name: value for name, value in found.items()}
    progress(total, total, "done")
    return figures


def play(
    frames: Iterable[SimulatedFrame], maker: SetMaker[SimulatedFrame], poll: float
) -> list[ClosedSet]:
    """Let frames arrive, with a poll every ``poll`` seconds; every set that is made."""
    closed: list[ClosedSet] = []
    next_poll = now = 0.0
    for frame in frames:
        next_poll = max(next_poll, frame.arrival - poll)
        while next_poll < frame.arrival:
            now = next_poll
            closed += [ClosedSet(tuple(s.values()), now) for s in maker.poll(now)]
            next_poll += poll
        now = frame.arrival
        made = maker.add(frame.stream, frame.stamp_ns, now, frame)
        closed += [ClosedSet(tuple(s.values()), now) for s in made]
    for _ in range(round(1.0 / poll)):
        now += poll
        closed += [ClosedSet(tuple(s.values()), now) for s in maker.poll(now)]
    return closed


def mixed(sets: Sequence[ClosedSet], rate: float) -> int:
    """Sets with frames of two instants, or captured half a period apart."""
    return sum(
        len({frame.instant for frame in found.frames}) > 1
        or _spread(found) * rate >= 0.5
        for found in sets
    )


def complete_delivered(
    frames: Iterable[SimulatedFrame], sets: Sequence[ClosedSet], cameras: int
) -> float:
    """Of the instants whose frames all arrived, the fraction that came out whole."""
    arrived: dict[int, int] = {}
    for frame in frames:
        arrived[frame.instant] = arrived.get(frame.instant, 0) + 1
    complete = {instant for instant, count in arrived.items() if count == cameras}
    whole = {found.frames[0].instant for found in sets if len(found.frames) == cameras}
    return len(complete & whole) / len(complete)


def _spread(found: ClosedSet) -> float:
    stamps = [frame.stamp_ns for frame in found.frames]
    return (max(stamps) - min(stamps)) * 1e-9


def _steady(cell: Cell, maker_of: MakerOf) -> dict[str, float]:
    sync = SyncSettings()
    frames = cell.frames(_SECONDS, seed=1)
    maker = maker_of(cell.cameras, sync)
    begin = time.process_time()
    sets = play(frames, maker, sync.max_wait / _POLLS_PER_WAIT)
    took = time.process_time() - begin
    return {
        "mixed_sets": mixed(sets, cell.rate),
        "complete_delivered": round(complete_delivered(frames, sets, cell.cameras), 6),
        "instants_delivered": round(
            len({found.frames[0].instant for found in sets}) / round(_SECONDS * cell.rate), 6
        ),
        "sync_core_percent": round(100 * took / _SECONDS, 3),
    }


def _outage(cell: Cell, maker_of: MakerOf, camera: int) -> tuple[float, float, int]:
    """Longest gap (s) and rate of the sets while a camera is gone, and sets until it is back."""
    sync = SyncSettings()
    start = 2.0 + 0.37 * camera / cell.rate
    end = start + _GONE
    frames = cell.frames(end + 2.0, seed=100 + camera, gone={camera: (start, end)})
    sets = play(frames, maker_of(cell.cameras, sync), sync.max_wait / _POLLS_PER_WAIT)
    # An output that never came again is a gap to the end of the outage.
    times = [s.when - _START for s in sets]
    during = [max(t for t in times if t < start), *(t for t in times if start <= t < end), end]
    gap = max(b - a for a, b in pairwise(during))
    missed = range(math.ceil(start * cell.rate), int(end * cell.rate))
    shown = {s.frames[0].instant for s in sets}
    rate = sum(k in shown for k in missed) / len(missed)
    first = min(
        f.arrival for f in frames if f.stream == camera and f.stamp_ns >= _EPOCH_NS + end * 1e9
    )
    later = [s for s in sets if s.when >= first]
    back = next(
        (n for n, s in enumerate(later, 1) if any(f.stream == camera for f in s.frames)),
        len(later) + 1,
    )
    return gap, rate, back
