"""Palms: anchors, the way back from the canvas, merging, and the second look."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hand_mesh_ros.networks.palm import (
    PalmDetections,
    PalmDetector,
    anchors,
    box_overlaps,
    decode,
    letterbox,
    weighted_nms,
)


def _palms(boxes: list[list[float]], scores: list[float]) -> PalmDetections:
    corners = np.array(boxes, dtype=float).reshape(-1, 4)
    keypoints = np.repeat(corners[:, None, :2], 7, axis=1)
    return PalmDetections(corners, keypoints, np.array(scores, dtype=float))


def test_anchors_are_the_cells_of_the_four_layers() -> None:
    centres = anchors(192)
    assert centres.shape == (2016, 2)
    np.testing.assert_array_equal(centres[:3], [[4, 4], [4, 4], [12, 4]])
    np.testing.assert_array_equal(centres[1152], [8, 8])
    np.testing.assert_array_equal(centres[-1], [184, 184])


@given(st.integers(20, 2000), st.integers(20, 2000), st.sampled_from([0.0, 0.25, 0.5]))
def test_the_canvas_leads_back_to_the_image(height: int, width: int, border: float) -> None:
    _, scale, offset = letterbox(np.zeros((height, width, 3), np.uint8), 192, border)
    corners = np.array([[0, 0], [192, 192]]) * scale + offset
    # the whole image is inside; canvas and image share their middle, to the rounding of a pixel
    assert (corners[0] <= -0.5 + 1e-9).all()
    assert (corners[1] >= np.array([width, height]) - 0.5 - 1e-9).all()
    middle = corners.mean(axis=0) - (np.array([width, height]) - 1) / 2
    assert (np.abs(middle) <= 0.5 * scale + 1e-9).all()


def test_letterbox_borders() -> None:
    white = np.full((100, 200, 3), 255, np.uint8)
    plain, _, _ = letterbox(white, 192)
    assert plain.shape == (192, 192, 3)
    assert plain[0].max() == 0 and plain[96].min() == 255
    assert letterbox(white, 192, 0.25)[0].min() == 255


def test_decoding_adds_the_anchor_and_leaves_the_canvas() -> None:
    regression = np.zeros((2016, 18), np.float32)
    regression[5, :4] = [1, 2, 20, 40]
    regression[5, 4:6] = [3, -3]
    logits = np.full(2016, -200, np.float32)
    logits[5] = 0.1
    palms = decode(regression, logits, anchors(192), 192, 0.5, np.array([2, 4]), np.array([-1, 1]))
    assert len(palms) == 1
    np.testing.assert_allclose(palms.scores, 1 / (1 + np.exp(-0.1)), rtol=1e-6)
    # anchor 5 is at (20, 4)
    np.testing.assert_allclose(palms.boxes, [[2 * 11 - 1, -4 * 14 + 1, 2 * 31 - 1, 4 * 26 + 1]])
    np.testing.assert_allclose(palms.keypoints[0, 0], [2 * 23 - 1, 4 * 1 + 1])


def test_overlapping_palms_become_their_weighted_mean() -> None:
    palms = weighted_nms(
        _palms([[200, 0, 210, 10], [0, 0, 10, 10], [1, 0, 11, 10]], [0.6, 0.9, 0.3])
    )
    np.testing.assert_allclose(palms.scores, [0.9, 0.6])
    np.testing.assert_allclose(palms.boxes, [[0.25, 0, 10.25, 10], [200, 0, 210, 10]])
    np.testing.assert_allclose(palms.keypoints[0], np.tile([0.25, 0], (7, 1)))


def test_nothing_found_has_the_right_shapes() -> None:
    palms = weighted_nms(_palms([], []))
    assert (palms.boxes.shape, palms.keypoints.shape, len(palms)) == ((0, 4), (0, 7, 2), 0)


def test_overlaps_are_intersection_over_union() -> None:
    overlaps = box_overlaps(np.array([[0, 0, 2, 2], [1, 0, 3, 2], [5, 5, 6, 6.0]]))
    np.testing.assert_allclose(overlaps, [[1, 1 / 3, 0], [1 / 3, 1, 0], [0, 0, 1]])


def test_a_drawn_hand_is_found_where_it_is(landmark_networks: None, drawn_hand: np.ndarray) -> None:
    blank = np.zeros((100, 300, 3), np.uint8)
    nothing, palms = PalmDetector().detect([blank, drawn_hand])
    assert len(nothing) == 0
    assert len(palms) == 1
    assert np.linalg.norm(palms.keypoints[0, 0] - [322, 355]) < 40  # wrist
    assert np.linalg.norm(palms.keypoints[0, 2] - [307, 240]) < 40  # middle finger's root


def test_a_hand_that_fills_the_image_needs_the_second_look(
    landmark_networks: None, drawn_hand: np.ndarray
) -> None:
    close = np.ascontiguousarray(drawn_hand[120:380, 180:440])
    assert len(PalmDetector(border=0).detect([close])[0]) == 0
    assert len(PalmDetector().detect([close])[0]) == 1


def test_no_images_are_no_error(landmark_networks: None) -> None:
    assert PalmDetector().detect([]) == []


@pytest.mark.parametrize(("runtime", "device"), [("onnx", "cpu"), ("litert", "cuda")])
def test_a_runtime_that_cannot_be_is_named(runtime: str, device: str) -> None:
    with pytest.raises(ValueError, match=runtime):
        PalmDetector(runtime, device)  # type: ignore[arg-type]
