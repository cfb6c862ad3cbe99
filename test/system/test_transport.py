"""The shared-memory profile: raw images of four cameras get through with it, and not without."""

from __future__ import annotations

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from hand_mesh_ros.ros.transport_check import Traffic, measure


def test_four_raw_cameras_get_through_with_the_profile() -> None:
    """Counted, not timed; by default more than half of them are lost, here and on other machines.

    Several times, because a machine that is busy with other things loses images as well.
    """
    traffic = Traffic(count=45)
    for _ in range(3):
        with_profile, without = measure(traffic, True), measure(traffic, False)
        if with_profile.fraction > 0.95 and without.fraction < 0.9:
            break
    assert len(with_profile.received) == 4
    assert with_profile.fraction > 0.95
    assert without.fraction < with_profile.fraction
