"""Weak perspective of crops to places before cameras: published ones, and real ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from hand_mesh_ros.geometry.crop_camera import (
    CROP,
    FOCAL,
    crop_to_pixels,
    crop_translation,
    full_translation,
    mirrored_camera,
    project_to_crop,
    published_intrinsics,
)


def test_the_published_conversion_is_met(shared_data: Path) -> None:
    fixture = np.load(shared_data / "parity" / "hamer_tiny_io.npz")
    cam = mirrored_camera(
        fixture["pp.pred_cam_unflipped"].astype(np.float64), fixture["pp.right"] == 0
    )
    K = published_intrinsics(fixture["pp.img_size"])
    np.testing.assert_allclose(K[:, 0, 0], fixture["pp.scaled_focal"])
    t = full_translation(cam, fixture["pp.box_center"], fixture["pp.box_size"], K)
    np.testing.assert_allclose(t, fixture["pp.cam_t_full"], rtol=1e-6)
    own = crop_translation(fixture["pred_cam"].astype(np.float64))
    np.testing.assert_allclose(own, fixture["pred_cam_t"], rtol=1e-6)


@given(
    st.floats(0.5, 12), st.floats(-0.3, 0.3), st.floats(-0.3, 0.3), st.floats(-0.2, 0.2),
    st.floats(100, 900),
)  # fmt: skip
def test_a_hand_before_a_real_camera_makes_the_crops_picture(
    scale: float, tx: float, ty: float, stretch: float, side: float
) -> None:
    """With any K: the middle exactly, and the size both ways by the square root of fx / fy."""
    cam = np.array([scale, tx, ty])
    centre = np.array([410.0, 130.0])
    fy = 900.0
    K = np.array([[fy * (1 + stretch), 7.0, 333.0], [0, fy, 251.0], [0, 0, 1]])
    t = full_translation(cam, centre, np.float64(side), K)
    assert t[2] > 0
    seen = (K @ t)[:2] / t[2]
    expected = crop_to_pixels(
        scale / 2 * np.array([[tx, ty]]), centre, np.float64(side)
    )
    np.testing.assert_allclose(seen, expected[0], atol=1e-6)
    # pixels a metre: side * scale / 2 in the crop
    per_metre = np.array([K[0, 0], K[1, 1]]) / t[2]
    np.testing.assert_allclose(np.sqrt(per_metre.prod()), side * scale / 2, rtol=1e-6)
    assert np.isclose(per_metre[0] / per_metre[1], 1 + stretch)


def test_far_away_perspective_is_the_weak_one(rng: np.random.Generator) -> None:
    cam = np.array([[5.0, 0.1, -0.05]])
    points = rng.normal(0, 0.05, (1, 21, 3))
    xy = project_to_crop(points, crop_translation(cam))
    weak = 2.5 * (points[..., :2] + cam[:, None, 1:])
    # a tenth of a metre of depth at 7.8 m
    np.testing.assert_allclose(xy, weak, atol=0.03)
    assert np.abs(xy - weak).max() > 1e-4  # it is a perspective
    assert np.isclose(crop_translation(cam)[0, 2], 2 * FOCAL / (CROP * 5))


def test_mirrored_crops_and_torch(rng: np.random.Generator) -> None:
    cam = rng.uniform(1, 5, (4, 3))
    mirrored = np.array([True, False, True, False])
    turned = mirrored_camera(cam, mirrored)
    np.testing.assert_array_equal(turned[:, 1], np.where(mirrored, -1, 1) * cam[:, 1])
    np.testing.assert_array_equal(turned[:, [0, 2]], cam[:, [0, 2]])
    centres, sides = rng.uniform(0, 600, (4, 2)), rng.uniform(50, 400, 4)
    K = published_intrinsics((640, 480), focal=700.0)
    assert K[0, 2] == 320 and K[1, 2] == 240 and K[0, 0] == K[1, 1] == 700
    t = full_translation(turned, centres, sides, K)
    by_torch = full_translation(
        mirrored_camera(torch.tensor(cam), torch.tensor(mirrored)),
        torch.tensor(centres), torch.tensor(sides), K,
    )  # fmt: skip
    np.testing.assert_allclose(by_torch.numpy(), t, rtol=1e-12)


def test_no_hands_are_no_places() -> None:
    none = full_translation(np.zeros((0, 3)), np.zeros((0, 2)), np.zeros(0), np.eye(3))
    assert none.shape == (0, 3)
