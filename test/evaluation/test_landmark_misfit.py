"""How far landmarks err together, measured on renders."""

from __future__ import annotations

import pytest

pytest.importorskip("warp", reason="the training renderer needs warp-lang")

from hand_mesh_ros.evaluation.landmark_misfit import measure_misfit
from hand_mesh_ros.hand.landmarks import load_landmark_model


@pytest.mark.usefixtures("landmark_networks")
def test_what_ships_is_what_renders_ask_for() -> None:
    """Of a few images, within the scatter of so few."""
    ships = load_landmark_model()
    told: list[tuple[int, int]] = []
    one, several = measure_misfit(ships, 48, lambda *count: told.append(count))
    assert 0.25 < one / ships.misfit[0] < 4
    assert 0.25 < several / ships.misfit[1] < 4
    assert told[0][0] == 0 and told[-1] == (48, 48)
