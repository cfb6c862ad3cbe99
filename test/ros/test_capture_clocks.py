"""Offsets between the clocks of cameras and of this machine."""

from __future__ import annotations

import math

import pytest

from hand_mesh_ros.ros.capture_clocks import CaptureClocks

SECOND = 1_000_000_000
NOW = 1_763_700_000 * SECOND
LATENCY = 0.03


def clocks(*offsets: float, frames: int = 40) -> CaptureClocks:
    """Cameras whose clocks are ahead of ours by ``offsets``, s, after some frames of each."""
    made = CaptureClocks(len(offsets))
    for number in range(frames):
        for camera, offset in enumerate(offsets):
            now = NOW + number * SECOND // 30
            late = LATENCY + 0.02 * (number % 3)
            made.note(camera, now + int((offset - late) * SECOND), now)
    return made


def test_an_offset_is_that_of_the_least_delayed_frame() -> None:
    made = clocks(0.0, 5.0, -3.0)
    assert [made.offset(i) for i in range(3)] == pytest.approx(
        [0 - LATENCY, 5 - LATENCY, -3 - LATENCY], abs=1e-6
    )


def test_frames_that_were_held_up_are_no_other_clock() -> None:
    """A network that stalls for 3 s and then delivers all at once."""
    made = clocks(0.0, 0.0, frames=10)
    for number in range(20):
        made.note(1, NOW + SECOND // 3 + number * SECOND // 30, NOW + 3 * SECOND)
    assert made.offset(1) == pytest.approx(-LATENCY, abs=1e-6)
    assert made.trouble(1) == "" and made.astray(1) is None


@pytest.mark.parametrize(
    ("offset", "words"),
    [(0.0, ""), (-0.9, ""), (-1.5, "1.530 s behind"), (0.2, "0.170 s ahead of"), (0.04, "")],
)
def test_trouble_is_told_with_the_measured_offset(offset: float, words: str) -> None:
    told = clocks(offset).trouble(0)
    assert (words in told) if words else told == ""
    if words:
        assert "not synchronised (PTP, chrony)" in told


@pytest.mark.parametrize("wrong", [5.0, -5.0])
def test_the_one_that_is_off_is_astray_not_the_others(wrong: float) -> None:
    made = clocks(0.0, wrong, 0.01)
    assert made.astray(1) in (0, 2)
    assert made.astray(0) is None and made.astray(2) is None


def test_of_two_the_one_nearer_to_this_machine_is_believed() -> None:
    made = clocks(-40.0, 0.0)
    assert (made.astray(0), made.astray(1)) == (1, None)


def test_a_recording_is_off_as_a_whole_and_nobody_is_astray() -> None:
    made = clocks(-1e8, -1e8 + 0.01)
    assert made.astray(0) is None and made.astray(1) is None
    assert "behind this machine's clock" in made.trouble(0)


def test_a_camera_that_fell_silent_has_no_say() -> None:
    made = clocks(0.0, -5.0, frames=5)
    for number in range(5):
        now = NOW + (10 * 30 + number) * SECOND // 30
        made.note(1, now - 5 * SECOND, now)
    assert made.astray(1) is None


def test_a_clock_that_was_set_right_is_believed_again() -> None:
    made = clocks(0.0, 5.0)
    for number in range(40):
        now = NOW + (40 + number) * SECOND // 30
        for camera in range(2):
            made.note(camera, now - 30_000_000, now)
    assert made.astray(1) is None and made.trouble(1) == ""


def test_without_a_clock_nothing_is_known() -> None:
    """Simulated time before the first /clock is 0."""
    made = CaptureClocks(2)
    made.note(0, NOW, 0)
    assert math.isnan(made.offset(0))
    assert made.trouble(0) == "" and made.astray(0) is None
