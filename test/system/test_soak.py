"""The fault campaign in short; `hand-mesh bench soak` runs it in full."""

from __future__ import annotations

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from hand_mesh_ros.ros.bench_soak import _growth, run


def test_every_fault_once_and_no_promise_broken(landmark_networks: None) -> None:
    told: list[str] = []
    figures, wrong = run(350, seed=1, report=lambda done, total, what: told.append(what))
    assert wrong == []
    assert figures["soak_sets"] >= 350
    assert figures["soak_faults"] >= 12
    assert len(set(told)) >= 12
    assert figures["soak_sets_with_hands"] > 0.7 * figures["soak_sets"]


def test_growth_leaves_the_beginning_out() -> None:
    filling = [(i, 100.0 + min(i, 10) * 10) for i in range(100)]
    assert _growth(filling) == 0.0
    leaking = [(i, 100.0 + 0.5 * i) for i in range(100)]
    assert _growth(leaking) == pytest.approx(0.5 * 80)
