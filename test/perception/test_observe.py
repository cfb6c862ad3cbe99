"""Regions to views, with the real networks on a rendered hand."""

from __future__ import annotations

import numpy as np
import pytest

from hand_mesh_ros.geometry.cameras import project
from hand_mesh_ros.networks.assets import fetch_landmark_networks
from hand_mesh_ros.networks.landmarks import HandLandmarker, rois_from_landmarks
from hand_mesh_ros.networks.palm import PalmDetector
from hand_mesh_ros.perception.observe import LandmarkObserver, ObserveSettings
from hand_mesh_ros.render.synthetic import SyntheticCell
from hand_mesh_ros.types import FrameSet


@pytest.fixture(scope="module")
def observer() -> LandmarkObserver:
    fetch_landmark_networks()
    return LandmarkObserver(PalmDetector(), HandLandmarker(), ObserveSettings())


@pytest.fixture(scope="module")
def scene() -> tuple[FrameSet, np.ndarray, np.ndarray]:
    """Frames of two cameras, and in the first one true pixels (21, 2) and region (4,)."""
    cell = SyntheticCell(cameras=2, hands=("right",), seconds=1)
    frames = cell.frame_set(0)
    uv = project(frames.cameras[0], cell.ground_truth(0)[0].joints)
    return frames, uv, rois_from_landmarks(uv)[0]


def test_a_search_finds_the_hand_once(
    observer: LandmarkObserver, scene: tuple[FrameSet, np.ndarray, np.ndarray]
) -> None:
    frames, uv, _ = scene
    views = observer(frames.frames, [], [0])
    assert [view.index for view in views] == [0]
    assert np.median(np.linalg.norm(views[0].uv - uv, axis=-1)) < 10
    assert views[0].right > 0.5 and views[0].frame is frames.frames[0]
    assert views[0].sigma.shape == (21,) and (views[0].sigma > 0).all()


def test_two_regions_and_a_search_of_one_hand_give_one_view(
    observer: LandmarkObserver, scene: tuple[FrameSet, np.ndarray, np.ndarray]
) -> None:
    frames, _, roi = scene
    hints = [(0, roi), (0, roi + [4.0, -3.0, 6.0, 0.05])]
    assert len(observer(frames.frames, hints, [])) == 1
    assert len(observer(frames.frames, hints, [0])) == 1
    # The same place in another camera's frame is another view.
    both = observer(frames.frames, hints, [1])
    assert sorted(view.index for view in both) == [0, 1]


def test_a_region_without_a_hand_gives_nothing(
    observer: LandmarkObserver, scene: tuple[FrameSet, np.ndarray, np.ndarray]
) -> None:
    frames, _, roi = scene
    assert observer(frames.frames, [(0, np.array([40.0, 40.0, roi[2] / 2, 0.0]))], []) == []
    assert observer(frames.frames, [], []) == []
