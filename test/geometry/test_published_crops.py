"""The published crop rule: squares, mirroring, blur, and the fixture's pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from hand_mesh_ros.geometry.crops import invert_affine, transform_points
from hand_mesh_ros.geometry.published_crops import (
    DEVIATION,
    MEAN,
    TRAINING,
    BoxRule,
    blur_sigma,
    box_squares,
    square_crops,
    square_matrix,
)


def test_crops_are_the_published_ones(shared_data: Path) -> None:
    """A right hand, a left one that is blurred, and one that is partly outside of the image."""
    fixture = np.load(shared_data / "parity" / "hamer_tiny_io.npz")
    centres, sides = box_squares(fixture["pp.boxes_xyxy"])
    np.testing.assert_array_equal(centres, fixture["pp.box_center"])
    np.testing.assert_array_equal(sides, fixture["pp.box_size"])
    assert (blur_sigma(sides) > 0).tolist() == [False, True, False]
    image = np.ascontiguousarray(fixture["pp.image_bgr"][..., ::-1])
    crops = square_crops(image, centres, sides, fixture["pp.right"] == 0)
    assert crops.dtype == np.float32
    np.testing.assert_allclose(crops, fixture["pp.crops"], atol=1e-6)
    unblurred = square_crops(image, centres, sides, fixture["pp.right"] == 0, blur=False)
    assert np.abs(unblurred[1] - crops[1]).max() > 0.01
    np.testing.assert_array_equal(unblurred[[0, 2]], crops[[0, 2]])


def test_boxes_become_squares() -> None:
    wide, tall = (100, 100, 200, 150), (100, 100, 150, 200)
    centres, sides = box_squares([wide, tall])
    np.testing.assert_array_equal(centres, [[150, 125], [125, 150]])
    np.testing.assert_allclose(sides, [2 * 100 * 4 / 3, 2 * 100])  # grown to 192:256 first
    np.testing.assert_allclose(box_squares([wide, tall], TRAINING)[1], [200, 200])
    np.testing.assert_allclose(box_squares([tall], BoxRule(rescale=2.5))[1], [250])
    with pytest.raises(ValueError, match="rescale must be positive, not 0"):
        BoxRule(rescale=0)


def test_where_the_squares_pixels_lie() -> None:
    """The centre at (128, 128) of 256, and mirrored ones as if the whole image were."""
    width = 640
    centre, side = np.array([[200.0, 120.0]]), np.array([300.0])
    plain = square_matrix(centre, side)
    points = centre + np.array([[0, 0], [0, side[0] / 2], [side[0] / 2, 0]])
    expected = [[[128, 128], [128, 256], [256, 128]]]
    np.testing.assert_allclose(transform_points(invert_affine(plain), points[None]), expected)
    mirrored = square_matrix(centre, side, True)
    flipped_centre = centre * [-1, 1] + [width - 1, 0]
    of_flipped = square_matrix(flipped_centre, side)
    crop = np.random.default_rng(0).uniform(0, 256, (1, 5, 2))
    in_flipped = transform_points(of_flipped, crop)
    np.testing.assert_allclose(
        transform_points(mirrored, crop), in_flipped * [-1, 1] + [width - 1, 0]
    )
    assert np.linalg.det(mirrored[0, :, :2]) < 0 < np.linalg.det(plain[0, :, :2])


def test_the_blur_of_a_part_is_that_of_the_whole_image(rng: np.random.Generator) -> None:
    """Also at the image's border, and for a square that lies outside of it."""
    height, width = 1100, 1200
    image = rng.integers(0, 256, (height, width, 3), np.uint8)
    for centre, side in (((600.0, 550.0), 1024.0), ((1190.0, 8.0), 768.0), ((-900.0, 50.0), 600.0)):
        (crop,) = square_crops(image, [centre], [side])
        sigma = float(blur_sigma(side))
        blurred = gaussian_filter(image.astype(float), (sigma, sigma, 0), mode="nearest")
        matrix = square_matrix([centre], [side])[0]
        v, u = np.mgrid[0:256, 0:256]
        places = np.stack([u, v, np.ones_like(u)], -1) @ matrix.T
        inside = ((places >= 0) & (places <= [width - 1, height - 1])).all(-1)
        nearest = np.round(places).astype(int)[inside]
        # where a crop's pixel is one of the image's: all of the first two, for their sides
        exact = np.abs(places[inside] - nearest).max(-1) < 1e-6
        standard = (blurred / 255 - MEAN) / np.array(DEVIATION)
        expected = standard[nearest[exact][:, 1], nearest[exact][:, 0]]
        np.testing.assert_allclose(crop.transpose(1, 2, 0)[inside][exact], expected, atol=2e-5)
        assert inside.any() == (centre[0] > 0)
        outside = ((places < -1) | (places > [width, height])).any(-1)
        black = np.broadcast_to(-np.array(MEAN) / DEVIATION, (outside.sum(), 3))
        np.testing.assert_allclose(crop.transpose(1, 2, 0)[outside], black, atol=1e-5)
    assert exact.size == 0  # the last one saw nothing


def test_no_boxes_are_no_crops() -> None:
    centres, sides = box_squares(np.zeros((0, 4)))
    assert square_crops(np.zeros((8, 8, 3), np.uint8), centres, sides).shape == (0, 3, 256, 256)
