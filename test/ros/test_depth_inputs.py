"""Depth messages and colour images that belong together."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from hand_mesh_ros.data.pixels import BadImage
from hand_mesh_ros.ros.depth_inputs import DepthStream
from hand_mesh_ros.ros.images import decode_depth, encode_depth, nanoseconds

MS = 1_000_000
START = 1_763_700_000_123_456_789
PICTURE = np.ones((2, 3), np.float32)


def stream(depth_ms: list[float], colour_ms: list[float]) -> DepthStream:
    made = DepthStream()
    for at in colour_ms:
        made.colour(START + round(at * MS))
    for at in depth_ms:
        made.add(encode_depth(PICTURE, START + round(at * MS), "camera"))
    return made


def found(made: DepthStream, at_ms: float) -> float | None:
    """Milliseconds after the start of the message that belongs to an image, or None."""
    message = made.nearest(START + round(at_ms * MS))
    return None if message is None else (nanoseconds(message.header.stamp) - START) / MS


def test_the_nearest_within_half_a_period() -> None:
    made = stream([3, 36, 69, 102], [0, 33, 66, 99])
    assert found(made, 33) == pytest.approx(36)
    assert found(made, 66) == pytest.approx(69)
    assert found(made, -40) is None


def test_equal_stamps_need_no_period() -> None:
    made = stream([0], [0])
    assert found(made, 0) == 0
    assert found(made, 1) is None


def test_slow_depth_serves_only_the_images_that_it_shows() -> None:
    """At half the rate, the images in between have none: it would be half a period old."""
    made = stream([0, 66, 132], [0, 33, 66, 99, 132])
    assert [found(made, at) for at in (0, 33, 66, 99, 132)] == [0, None, 66, None, 132]


def test_a_stopped_stream_delays_nothing() -> None:
    made = stream([0, 1000, 2000], [0, 1000, 2000, 3000, 4000, 5000])
    begin = time.monotonic()
    assert found(made, 5000) is None
    assert time.monotonic() - begin < 0.25  # waiting would have taken 0.5 s


def test_depth_that_is_announced_is_waited_for() -> None:
    """Its image is worked on before it comes; without waiting it would never be used."""
    made = stream([0, 1000, 2000], [0, 1000, 2000, 3000])
    late = encode_depth(PICTURE, START + 3000 * MS, "camera")
    timer = threading.Timer(0.1, made.add, [late])
    timer.start()
    assert found(made, 3000) == 3000
    timer.join()


def test_a_clock_that_went_back_forgets_the_future() -> None:
    made = stream([5000, 5033, 5066], [5000, 5033, 5066])
    made.colour(START)
    made.add(encode_depth(PICTURE, START, "camera"))
    assert found(made, 0) == 0
    assert found(made, 5033) is None


@pytest.mark.parametrize(("encoding", "tolerance"), [("16UC1", 5.1e-4), ("32FC1", 0)])
def test_depth_survives_the_message(encoding: str, tolerance: float) -> None:
    depth = np.array([[0.4567, 1.0, 0.0], [np.nan, np.inf, 60.0]], np.float32)
    message = encode_depth(depth, START, "camera", encoding)  # type: ignore[arg-type]
    assert (message.encoding, message.width, message.height) == (encoding, 3, 2)
    assert nanoseconds(message.header.stamp) == START
    back = decode_depth(message, "/depth")
    known = np.isfinite(depth) & (depth > 0)
    assert (np.isfinite(back) == known).all()
    np.testing.assert_allclose(back[known], depth[known], atol=tolerance)


def test_depth_of_a_wrong_shape_is_refused() -> None:
    with pytest.raises(BadImage, match="shape"):
        encode_depth(np.zeros((2, 2, 3), np.float32), START, "camera")
