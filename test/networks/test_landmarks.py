"""Landmarks: the ROI rules, the frames results come in, and recorded hands."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hand_mesh_ros.networks.landmarks import (
    HandLandmarker,
    rois_from_landmarks,
    rois_from_palms,
)
from hand_mesh_ros.networks.palm import PalmDetections, PalmDetector


def _upright_hand() -> np.ndarray:
    """21 points of an open hand seen upright: wrist at the origin, fingers towards -v."""
    hand = np.zeros((21, 2))
    for finger, column in enumerate([-40, -20, 0, 20, 40]):
        for joint in range(4):
            hand[1 + 4 * finger + joint] = [column, -60 - 25 * joint]
    return hand


def test_a_palm_makes_the_published_roi() -> None:
    keypoints = np.zeros((1, 7, 2))
    keypoints[0, 0], keypoints[0, 2] = [100, 100], [160, 100]  # pointing right
    palms = PalmDetections(np.array([[90.0, 80, 150, 120]]), keypoints, np.array([0.9]))
    # half of the box's height towards the fingers, 2.6 times its longer side, a quarter turn
    np.testing.assert_allclose(rois_from_palms(palms), [[140, 100, 2.6 * 60, np.pi / 2]])
    none = PalmDetections(np.empty((0, 4)), np.empty((0, 7, 2)), np.empty(0))
    assert rois_from_palms(none).shape == (0, 4)


@given(st.floats(-3.1, 3.1), st.floats(0.1, 10), st.floats(-1000, 1000), st.floats(-1000, 1000))
def test_the_roi_of_landmarks_moves_with_the_hand(
    angle: float, scale: float, u: float, v: float
) -> None:
    hand = _upright_hand()
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    still = rois_from_landmarks(hand)[0]
    moved = rois_from_landmarks(scale * hand @ turn.T + [u, v])[0]
    np.testing.assert_allclose(moved[:2], scale * turn @ still[:2] + [u, v], atol=1e-6)
    assert moved[2] == pytest.approx(scale * still[2])
    assert np.cos(moved[3] - still[3] - angle) == pytest.approx(1)


def test_an_upright_hand_is_not_turned() -> None:
    u, v, side, angle = rois_from_landmarks(_upright_hand())[0]
    # the palm's landmarks span 80 x 110 from the wrist up, the thumb's third joint being highest
    assert (u, angle) == (0, pytest.approx(0))
    assert side == pytest.approx(2 * 110)
    assert v == pytest.approx(-55 - 0.1 * 110)


def test_turning_the_image_turns_the_result(
    landmark_networks: None, drawn_hand: np.ndarray
) -> None:
    detector, landmarker = PalmDetector(), HandLandmarker()
    turned = np.ascontiguousarray(np.rot90(drawn_hand))  # anticlockwise: (u, v) -> (v, 639 - u)
    (palms,) = detector.detect([drawn_hand])
    rois = rois_from_palms(palms)
    upright = landmarker(drawn_hand, rois)
    rois_turned = np.column_stack(
        [rois[:, 1], 639 - rois[:, 0], rois[:, 2], rois[:, 3] - np.pi / 2]
    )
    side = landmarker(turned, rois_turned)
    assert upright.presence[0] > 0.5
    expected = np.stack([upright.uv[..., 1], 639 - upright.uv[..., 0]], axis=-1)
    np.testing.assert_allclose(side.uv, expected, atol=0.3)
    np.testing.assert_allclose(side.world[..., 0], upright.world[..., 1], atol=1e-3)
    np.testing.assert_allclose(side.world[..., 1], -upright.world[..., 0], atol=1e-3)
    np.testing.assert_allclose(side.world[..., 2], upright.world[..., 2], atol=1e-3)


def test_fingertips_of_a_drawn_hand(
    landmark_networks: None, drawn_hand: np.ndarray, drawn_fingertips: np.ndarray
) -> None:
    landmarker = HandLandmarker()
    (palms,) = PalmDetector().detect([drawn_hand])
    first = landmarker(drawn_hand, rois_from_palms(palms))
    found = landmarker(drawn_hand, rois_from_landmarks(first.uv))
    assert found.presence[0] > 0.8
    assert np.linalg.norm(found.uv[0, 4::4] - drawn_fingertips, axis=-1).mean() < 10
    mirrored = landmarker(
        np.ascontiguousarray(drawn_hand[:, ::-1]),
        rois_from_landmarks([639, 0] + [-1, 1] * found.uv),
    )
    assert found.right[0] < 0.3 and mirrored.right[0] > 0.7


def test_regions_of_several_images(landmark_networks: None, drawn_hand: np.ndarray) -> None:
    landmarker = HandLandmarker()
    other = np.full((300, 200, 3), 128, np.uint8)
    roi = [320, 280, 420, 0.1]
    both = landmarker([other, drawn_hand], [roi, [100, 100, 90, 0]], index=[1, 0])
    alone = landmarker(drawn_hand, roi)
    np.testing.assert_array_equal(both.uv[0], alone.uv[0])
    assert both.presence[1] < 0.5 < both.presence[0]
    with pytest.raises(ValueError, match="index"):
        landmarker([other, drawn_hand], [roi])
    assert landmarker(drawn_hand, np.empty((0, 4))).uv.shape == (0, 21, 2)


@pytest.mark.parametrize(
    ("recording", "videos", "landmarks", "limit_px"),
    [
        ("four-cameras", ["cam_0.mp4", "cam_1.mp4", "cam_2.mp4", "cam_3.mp4"], "uv_px", 3.0),
        ("two-cameras", ["cam0_test.mp4", "cam1_test.mp4"], "uv_detect", 2.0),
    ],
)
def test_recorded_hands_are_where_mediapipe_sees_them(
    landmark_networks: None,
    shared_data: Path,
    recording: str,
    videos: list[str],
    landmarks: str,
    limit_px: float,
) -> None:
    stored = np.load(shared_data / recording / "landmarks.npz")
    numbers = stored["frame"] if "frame" in stored else np.arange(len(stored[landmarks]))
    detector, landmarker = PalmDetector(), HandLandmarker()
    distances, rights = [], []
    for view, video in enumerate(videos):
        for number, image in _frames(shared_data / recording / video, every=15):
            ours = landmarker(image, rois_from_palms(detector.detect([image])[0]))
            for hand in np.flatnonzero(numbers == number):
                theirs = stored[landmarks][hand, view]
                if np.isfinite(theirs).all() and len(ours):
                    apart = np.linalg.norm(ours.uv - theirs, axis=-1).mean(axis=-1)
                    distances.append(apart.min())
                    score = stored["right_score"][hand] if "right_score" in stored else 1.0
                    rights.append((ours.right[apart.argmin()] > 0.5) == (score > 0.5))
    assert len(distances) > 30
    assert np.median(distances) < limit_px
    assert np.mean(rights) > 0.95


def _frames(path: Path, every: int) -> list[tuple[int, np.ndarray]]:
    capture, frames = cv2.VideoCapture(str(path)), []
    number = 0
    while capture.grab():
        if number % every == 0:
            _, image = capture.retrieve()
            frames.append((number, np.ascontiguousarray(image[..., ::-1])))
        number += 1
    return frames
