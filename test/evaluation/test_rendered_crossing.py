"""Pictures of two hands that pass each other, through the real networks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from hand_mesh_ros.networks.assets import AssetError, fetch_landmark_networks
from hand_mesh_ros.perception.build import build_pipeline
from hand_mesh_ros.render.studio import CENTRE
from hand_mesh_ros.render.synthetic import SyntheticCell
from hand_mesh_ros.types import FrameSet, HandEstimate


class CrossingCell(SyntheticCell):
    """A right and a left hand, one behind the other, that pass each other at ``at`` seconds."""

    def __init__(self, seed: int, at: float, seconds: float) -> None:
        super().__init__(3, ("right", "left"), seconds, seed=seed)
        phase = -2 * np.pi / 6.1 * at  # of the path's y, whose period is 6.1 s
        self._paths = tuple(
            replace(
                path,
                centre=CENTRE + np.array([sign * 0.05, 0, 0]),
                reach=np.array([0, sign * 0.25, 0]),
                phases=np.concatenate([[0, phase, 0], path.phases[3:]]),
            )
            for path, sign in zip(self._paths, (1, -1), strict=True)
        )

    def instants(self) -> Iterator[tuple[FrameSet, tuple[HandEstimate, ...]]]:
        for index in range(len(self)):
            yield self.frame_set(index), self.ground_truth(index)


def test_hands_that_cross_in_pictures_keep_their_numbers() -> None:
    try:
        fetch_landmark_networks()
    except AssetError as error:
        pytest.skip(f"no landmark networks: {error}")
    pipeline, _ = build_pipeline(num_threads=1)
    cell = CrossingCell(seed=3, at=0.8, seconds=1.6)
    numbers: dict[str, set[int]] = {"right": set(), "left": set()}
    closest, found = np.inf, 0
    for frames, truth in cell.instants():
        closest = min(closest, np.linalg.norm(truth[0].joints[9] - truth[1].joints[9]))
        for hand in pipeline.process(frames).hands:
            gap = [np.linalg.norm(hand.estimate.joints - t.joints, axis=-1).mean() for t in truth]
            nearest = truth[int(np.argmin(gap))]
            if min(gap) < 0.05 and not hand.extrapolated:
                numbers[nearest.side].add(hand.track_id)
                found += 1
    assert closest < 0.14
    assert found > 0.9 * 2 * len(cell)
    assert len(numbers["right"]) == len(numbers["left"]) == 1
    assert not numbers["right"] & numbers["left"]
