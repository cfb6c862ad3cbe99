"""What a frame set says of its time."""

from __future__ import annotations

import numpy as np
import pytest

from hand_mesh_ros.types import Camera, Frame, FrameSet


def test_a_set_has_the_time_of_its_newest_frame_to_the_nanosecond() -> None:
    image = np.zeros((4, 4, 3), np.uint8)
    stamps = (1_763_700_000_000_000_003, 1_763_700_000_008_000_001, 1_763_700_000_002_000_000)
    frames = FrameSet(
        tuple(Frame(Camera(f"c{i}", 4, 4, np.eye(3)), s, image) for i, s in enumerate(stamps))
    )
    assert frames.stamp_ns == stamps[1]
    assert frames.spread == pytest.approx(0.007999998, abs=1e-12)
    assert [camera.name for camera in frames.cameras] == ["c0", "c1", "c2"]
