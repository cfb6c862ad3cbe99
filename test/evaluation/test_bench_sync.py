"""The bench of frame sets: what its figures must be, and that they can be otherwise."""

from __future__ import annotations

import pytest

from hand_mesh_ros.evaluation.bench_sync import (
    Cell,
    SimulatedFrame,
    complete_delivered,
    measure,
    mixed,
    play,
)
from hand_mesh_ros.perception.frame_sets import FrameSetAssembler, SyncSettings


class Eager:
    """Makes a set of whatever came last from every stream, as naive synchronisation does."""

    jumps = 0

    def __init__(self, streams: int, settings: SyncSettings) -> None:
        self._streams = streams
        self._last: dict[int, SimulatedFrame] = {}

    def add(self, stream: int, stamp_ns: int, arrival: float, item: SimulatedFrame):
        self._last[stream] = item
        return [dict(self._last)] if stream == 0 and len(self._last) == self._streams else []

    def poll(self, now: float) -> list[dict[int, SimulatedFrame]]:
        return []


def test_figures_of_the_cell() -> None:
    steps: list[tuple[int, int]] = []
    figures = measure(lambda done, total, what: steps.append((done, total)), {"eager": Eager})
    assert figures["mixed_sets"] == 0
    assert figures["complete_delivered"] == 1.0
    assert figures["instants_delivered"] == 1.0
    assert figures["dropout_gap_ms"] <= 100
    assert figures["dropout_rate"] == 1.0
    assert figures["replug_sets"] <= 3
    assert figures["sync_core_percent"] > 0
    assert steps[-1][0] == steps[-1][1]
    # The same cell through something naive: the measure sees it.
    assert figures["eager_mixed_sets"] > 100
    assert figures["eager_complete_delivered"] < 1
    # Stopped for as long as a camera is gone, if that is the one it listens to.
    assert figures["eager_dropout_gap_ms"] > 1000
    assert figures["eager_dropout_rate"] < 0.1


@pytest.mark.parametrize("seed", range(3))
def test_other_drops_and_jitters(seed: int) -> None:
    cell = Cell(drops=0.1, jitter=0.006)
    frames = cell.frames(20.0, seed)
    sets = play(frames, FrameSetAssembler(cell.cameras, SyncSettings()), 0.025)
    assert mixed(sets, cell.rate) == 0
    assert complete_delivered(frames, sets, cell.cameras) == 1.0
