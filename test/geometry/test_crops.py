"""Crops: the convention, the way there and back, and the two warps against each other."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hand_mesh_ros.geometry.crops import (
    crop_matrix,
    invert_affine,
    transform_points,
    warp,
    warp_torch,
)


@pytest.fixture
def picture(rng: np.random.Generator) -> np.ndarray:
    """Smooth enough that two ways of interpolating may be compared."""
    noise = rng.integers(0, 256, (90, 120, 3)).astype(np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 2)


def test_an_upright_roi_of_the_output_size_is_a_slice(picture: np.ndarray) -> None:
    # columns 10..41, rows 20..51: their middle lies between pixel centres
    crop = warp(picture, crop_matrix([25.5, 35.5, 32, 0], 32), 32)
    np.testing.assert_array_equal(crop[0], picture[20:52, 10:42])


def test_a_quarter_turn_is_numpys_rotation(picture: np.ndarray) -> None:
    crop = warp(picture, crop_matrix([25.5, 35.5, 32, np.pi / 2], 32), 32)
    # the crop's u axis points down in the image
    np.testing.assert_array_equal(crop[0], np.rot90(picture[20:52, 10:42], 1))


@given(
    st.floats(-500, 2000),
    st.floats(-500, 2000),
    st.floats(1, 3000),
    st.floats(-10, 10),
    st.integers(2, 512),
)
def test_points_go_there_and_back(u: float, v: float, side: float, angle: float, out: int) -> None:
    matrices = crop_matrix([[u, v, side, angle]], out)
    middle = np.full((1, 1, 2), (out - 1) / 2)
    np.testing.assert_allclose(transform_points(matrices, middle), [[[u, v]]], atol=1e-6)
    crop = np.array([[[-0.5, -0.5], [out - 0.5, -0.5], [3, 7]]])
    image = transform_points(matrices, crop)
    assert np.linalg.norm(image[0, 1] - image[0, 0]) == pytest.approx(side)
    np.testing.assert_allclose(
        transform_points(invert_affine(matrices), image), crop, atol=1e-6 * out
    )


@pytest.mark.parametrize("border", ["replicate", "zero"])
def test_torch_warps_as_opencv_does(picture: np.ndarray, border: str) -> None:
    rois = [[60, 45, 40, 0.3], [5, 8, 70, -2.0], [100, 80, 25, 1.5]]
    matrices = crop_matrix(rois, 48)
    expected = warp(picture, matrices, 48, border)
    planes = torch.from_numpy(picture).permute(2, 0, 1)[None].float().expand(3, -1, -1, -1)
    crops = warp_torch(planes, torch.from_numpy(matrices), 48, border)
    difference = np.abs(crops.permute(0, 2, 3, 1).numpy() - expected)
    # opencv interpolates at 1/32 pixel in some versions; zero borders fade at the edge
    assert np.percentile(difference, 99) < (3 if border == "replicate" else 8)
    assert difference.mean() < 1


def test_torch_crops_carry_gradients() -> None:
    image = torch.rand(1, 1, 20, 20, requires_grad=True)
    matrix = torch.from_numpy(crop_matrix([10, 10, 8, 0.1], 8)).requires_grad_()
    warp_torch(image, matrix, 8).sum().backward()
    assert image.grad is not None and image.grad.sum() == pytest.approx(64, rel=1e-4)
    assert matrix.grad is not None and bool(matrix.grad.abs().sum() > 0)


def test_no_rois_give_no_crops(picture: np.ndarray) -> None:
    matrices = crop_matrix(np.empty((0, 4)), 16)
    assert matrices.shape == (0, 2, 3)
    assert warp(picture, matrices, 16).shape == (0, 16, 16, 3)
