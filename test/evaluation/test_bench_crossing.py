"""Two hands that cross keep their numbers; the bench that counts it can also tell a swap."""

from __future__ import annotations

from dataclasses import replace

from hand_mesh_ros.evaluation.bench_crossing import measure, run, tally
from hand_mesh_ros.evaluation.crossing_cell import Crossing, CrossingSettings


def test_ten_crossings_without_a_swap() -> None:
    steps: list[int] = []
    figures = measure(lambda done, total, what: steps.append(done), crossings=10)
    assert figures["id_swaps"] == 0
    assert figures["id_changes"] <= 1
    assert figures["crossing_found_percent"] > 90
    assert figures["crossing_error_mm"] < 8
    assert steps == list(range(11))


def test_a_swap_is_counted() -> None:
    crossing = Crossing(1, CrossingSettings(seconds=0.6))
    answers = run(crossing)
    middle = len(answers) // 2
    both = [a for a in answers[:middle] if len(a.hands) == 2]
    one, two = sorted({hand.track_id for hand in both[-1].hands})
    other = {one: two, two: one}
    swapped = [
        answer
        if k < middle
        else replace(
            answer,
            hands=tuple(
                replace(hand, track_id=other.get(hand.track_id, hand.track_id))
                for hand in answer.hands
            ),
        )
        for k, answer in enumerate(answers)
    ]
    assert tally(crossing, answers).swaps == 0
    assert tally(crossing, swapped).swaps == 2
    assert tally(crossing, swapped).changes == 2


def test_hands_of_one_side_and_of_both_are_drawn() -> None:
    sides = [tuple(hand.side for hand in Crossing(seed).hands) for seed in range(8)]
    assert all((a == b) == bool(seed % 2) for seed, (a, b) in enumerate(sides))
    assert {a for a, _ in sides} == {"left", "right"}
