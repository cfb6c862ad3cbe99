"""Two hands that pass each other before three or more cameras: does each keep its number?

The real pipeline runs, from association to tracking, on the landmarks of `crossing_cell`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from hand_mesh_ros.evaluation.crossing_cell import Crossing, CrossingSettings, hand_models
from hand_mesh_ros.perception.estimate import create_backend
from hand_mesh_ros.perception.pipeline import HandPipeline, PipelineSettings
from hand_mesh_ros.types import HandSet

Array = NDArray[np.float64]
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Tally:
    """Of one crossing: ``swaps``, a hand that got the number of the other; ``changes`` of number

    of any kind; ``found`` of ``asked`` hands; ``errors`` (n,) mean joint errors in metres.
    """

    swaps: int
    changes: int
    found: int
    asked: int
    errors: tuple[float, ...]


def measure(
    progress: Progress, crossings: int = 100, settings: CrossingSettings | None = None
) -> dict[str, float]:
    """Numbers of ``crossings`` crossings, half of them of two hands of one side.

    ``id_swaps`` and ``id_changes``, beside ``id_swaps_nearest`` of each hand taking the number of
    the nearest hand in the set before; ``crossing_found_percent`` of the hands published;
    ``crossing_error_mm``, the median of their mean joint errors.
    """
    tallies, nearest = [], 0
    for seed in range(crossings):
        progress(seed, crossings, "crossings")
        crossing = Crossing(seed, settings)
        answers = run(crossing)
        tallies.append(tally(crossing, answers))
        nearest += swaps_of_nearest(crossing, answers)
    progress(crossings, crossings, "crossings")
    errors = [error for t in tallies for error in t.errors]
    return {
        "id_swaps": float(sum(t.swaps for t in tallies)),
        "id_changes": float(sum(t.changes for t in tallies)),
        "id_swaps_nearest": float(nearest),
        "crossing_found_percent": 100.0 * sum(t.found for t in tallies)
        / max(sum(t.asked for t in tallies), 1),
        "crossing_error_mm": 1e3 * float(np.median(errors)) if errors else float("nan"),
    }


def run(crossing: Crossing) -> list[HandSet]:
    """The pipeline's answers to all frame sets of a crossing."""
    pipeline = HandPipeline(
        crossing.observe, create_backend("landmarks", models=hand_models()), PipelineSettings()
    )
    return [pipeline.process(crossing.frame_set(i)) for i in range(crossing.instants)]


def tally(crossing: Crossing, answers: Sequence[HandSet]) -> Tally:
    """Count what became of the two hands' numbers."""
    last: list[int | None] = [None, None]
    owner: dict[int, int] = {}
    swaps = changes = found = 0
    errors: list[float] = []
    for answer in answers:
        shown = [hand for hand in answer.hands if not hand.extrapolated]
        for number, place, error in _paired(crossing, answer):
            name = shown[place].track_id
            if owner.setdefault(name, number) != number:
                swaps += 1
                owner[name] = number
            changes += last[number] not in (None, name)
            last[number] = name
            found += 1
            errors.append(error)
    return Tally(swaps, changes, found, 2 * len(answers), tuple(errors))


def swaps_of_nearest(crossing: Crossing, answers: Sequence[HandSet]) -> int:
    """Swaps if every hand took the number of the one that was nearest in the set before."""
    known: dict[int, Array] = {}
    owner: dict[int, int] = {}
    swaps = 0
    for answer in answers:
        shown = [h.estimate.joints.mean(0) for h in answer.hands if not h.extrapolated]
        truth = {place: number for number, place, _ in _paired(crossing, answer)}
        names = list(known)
        taken: dict[int, int] = {}
        if names and shown:
            gap = np.array([[np.linalg.norm(c - known[n]) for n in names] for c in shown])
            taken = {int(i): names[j] for i, j in zip(*linear_sum_assignment(gap), strict=True)}
        for place, centre in enumerate(shown):
            name = taken.get(place, max(owner, default=0) + 1)
            known[name] = centre
            if place in truth and owner.setdefault(name, truth[place]) != truth[place]:
                swaps += 1
                owner[name] = truth[place]
    return swaps


def _paired(crossing: Crossing, answer: HandSet) -> list[tuple[int, int, float]]:
    """True hand, its place among those that were not extrapolated, and mean joint error in m."""
    shown = [hand.estimate.joints for hand in answer.hands if not hand.extrapolated]
    if not shown:
        return []
    truth = crossing.joints(answer.stamp_ns)
    gap = np.linalg.norm(truth[:, None] - np.stack(shown)[None], axis=-1).mean(-1)
    pairs = zip(*linear_sum_assignment(gap), strict=True)
    return [(int(i), int(j), float(gap[i, j])) for i, j in pairs if gap[i, j] < 0.1]
