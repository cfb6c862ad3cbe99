"""Crops on the device against the same crops by OpenCV, and against the published ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hand_mesh_ros.geometry.crops import Border, crop_matrix, warp
from hand_mesh_ros.geometry.published_crops import (
    blur_sigma,
    box_squares,
    square_crops,
    square_matrix,
)
from hand_mesh_ros.networks.crop_sampler import (
    crops_of,
    sample,
    sample_in_batch,
    standardised,
    upload,
)

both_ways = pytest.mark.parametrize("sample", [sample, sample_in_batch], ids=["cpu", "batch"])


def picture(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Smooth, so that a pixel's thirty-second is no grey level."""
    import cv2

    return np.asarray(cv2.resize(rng.integers(0, 255, (6, 8, 3), np.uint8), (width, height)))


@both_ways
def test_published_crops_of_the_fixture(shared_data: Path, sample: Any) -> None:
    io = np.load(shared_data / "parity" / "hamer_tiny_io.npz")
    image = np.ascontiguousarray(io["pp.image_bgr"][..., ::-1])
    centres, sides = box_squares(io["pp.boxes_xyxy"])
    matrices = square_matrix(centres, sides, io["pp.right"] == 0)
    crops = sample(
        upload([image], "cpu"), np.zeros(3, int), matrices, 256, "zero", blur_sigma(sides)
    )
    assert np.abs(standardised(crops).numpy() - io["pp.crops"]).max() < 1e-5


@both_ways
@pytest.mark.parametrize("border", ["zero", "replicate"])
def test_turned_regions_of_frames_of_several_sizes(
    sample: Any, border: Border, rng: np.random.Generator
) -> None:
    images = [picture(rng, 120, 200), picture(rng, 90, 64), picture(rng, 240, 320)]
    index = np.array([2, 0, 1, 2])
    rois = np.array(
        [[150, 100, 80, 0.4], [190, 10, 90, -2.0], [30, 50, 40, 0], [160, 120, 300, 3.0]]
    )
    matrices = crop_matrix(rois, 64)
    crops = sample(upload(images, "cpu"), index, matrices, 64, border)
    for i, matrix, crop in zip(index, matrices, crops.numpy(), strict=True):
        wanted = warp(images[i], matrix[None], 64, border)[0].transpose(2, 0, 1)
        apart = np.abs(crop - wanted)
        assert np.quantile(apart, 0.99) <= 1
        assert apart.mean() < 0.1


@both_ways
def test_blur_where_regions_shrink_and_beyond_the_frame(
    sample: Any, rng: np.random.Generator
) -> None:
    """Blurred, plain and mirrored crops in one batch; one lies across the frame's corner."""
    image = picture(rng, 700, 900) ^ rng.integers(0, 64, (700, 900, 3), np.uint8)
    boxes = np.array([[300, 200, 420, 380], [400, 50, 760, 420], [-200, -150, 250, 260]])
    centres, sides = box_squares(boxes)
    mirrored = np.array([False, True, True])
    sigma = blur_sigma(sides)
    assert (sigma > 0).tolist() == [False, True, True]
    matrices = square_matrix(centres, sides, mirrored)
    crops = sample(upload([image], "cpu"), np.zeros(3, int), matrices, 256, "zero", sigma)
    wanted = square_crops(image, centres, sides, mirrored)
    apart = np.abs(standardised(crops).numpy() - wanted)
    assert np.quantile(apart, 0.999) < 2e-2 and apart.mean() < 1e-3
    plain = sample(upload([image], "cpu"), np.zeros(3, int), matrices, 256, "zero")
    unblurred = square_crops(image, centres, sides, mirrored, blur=False)
    assert np.abs(standardised(plain).numpy() - unblurred).mean() < 1e-3
    assert (plain - crops)[1].abs().mean() > 0.5  # blurring is seen


@both_ways
def test_mirrored_crop_is_the_crop_of_the_mirrored_frame(
    sample: Any, rng: np.random.Generator
) -> None:
    image = picture(rng, 300, 400)
    centre = np.array([[190.0, 140.0]])
    there = sample(
        upload([image], "cpu"), [0], square_matrix(centre, [200.0], True), 128, "zero"
    )
    flipped = np.ascontiguousarray(image[:, ::-1])
    centre[:, 0] = 400 - 1 - centre[:, 0]
    wanted = sample(upload([flipped], "cpu"), [0], square_matrix(centre, [200.0]), 128, "zero")
    assert torch.equal(there, wanted) or (there - wanted).abs().max() <= 1


def test_images_need_no_upload_on_a_cpu(rng: np.random.Generator) -> None:
    """Blurred and plain crops of frames of several sizes are the same, by either way."""
    images = [picture(rng, 700, 900), picture(rng, 90, 64)]
    index = np.array([1, 0, 0])
    rois = np.array([[30, 50, 40, 0.3], [400, 300, 600, -1.0], [880, 20, 100, 2.0]])
    sigma = np.array([0.0, 2.5, 0.0])
    matrices = crop_matrix(rois, 96)
    straight = crops_of(images, index, matrices, 96, "cpu", "zero", sigma)
    assert torch.equal(
        straight, sample(upload(images, "cpu"), index, matrices, 96, "zero", sigma)
    )
    batch = sample_in_batch(upload(images, "cpu"), index, matrices, 96, "zero", sigma)
    assert (straight - batch).abs().mean() < 0.1
    assert straight.std() > 10
