"""What every sample of every data set must fulfil."""

from __future__ import annotations

import cv2
import numpy as np

from hand_mesh_ros.data.samples import HandSample
from hand_mesh_ros.hand.kinematics import forward
from layout_writers.stage import Truth, model_of


def hand_pixels(image: np.ndarray) -> np.ndarray:
    """The drawn hand is red, all else is green."""
    return image[..., 0].astype(int) > image[..., 1].astype(int)


def share_on(mask: np.ndarray, uv: np.ndarray, reach: int = 3) -> float:
    """Share of the pixels (N, 2) that lie on a mask, or ``reach`` pixels beside it."""
    kernel = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    grown = cv2.dilate(mask.astype(np.uint8), kernel) > 0
    column, row = np.round(uv).astype(int).T
    inside = (column >= 0) & (row >= 0) & (column < mask.shape[1]) & (row < mask.shape[0])
    return float(grown[row[inside], column[inside]].sum() / len(uv))


def check_on_hand(sample: HandSample) -> None:
    """Joints lie on the hand of the picture, and would not were they turned or moved."""
    image = sample.image
    assert image.dtype == np.uint8 and image.shape[::-1][1:] == (
        sample.camera.width,
        sample.camera.height,
    )
    assert sample.uv is not None
    uv = sample.uv[np.isfinite(sample.uv).all(-1)]
    mask = hand_pixels(image)
    assert share_on(mask, uv) == 1.0, sample.name
    # A fist looks alike from some sides: then at least a displaced one is told from it.
    middle, extent = (uv.min(0) + uv.max(0)) / 2, np.ptp(uv, axis=0)
    turned = [middle + (uv - middle) * signs for signs in ([-1, 1], [1, -1], [-1, -1])]
    moved = [uv + 0.4 * extent * way for way in ([1, 0], [-1, 0], [0, 1], [0, -1])]
    assert min(share_on(mask, wrong) for wrong in turned + moved) < 0.9, sample.name


def check_truth(sample: HandSample, truth: Truth, joints: float = 1e-8) -> None:
    """Joints within ``joints`` metres of the written ones, and their pixels as the writer's."""
    assert sample.joints is not None and sample.uv is not None
    np.testing.assert_allclose(sample.joints, truth.joints, atol=joints)
    np.testing.assert_allclose(sample.uv, truth.eye.pixels(truth.joints), atol=2e3 * joints)
    np.testing.assert_allclose(sample.camera.K, truth.eye.K, atol=1e-9)
    difference = np.abs(sample.image.astype(int) - truth.picture.image.astype(int))
    assert difference.mean() < 4


def check_mano(sample: HandSample, truth: Truth, within: float = 1e-6) -> None:
    """The parameters give the written mesh, through this package's own hand model."""
    mano = sample.mano
    assert mano is not None and sample.side is not None and not mano.mirrored
    parts = (mano.global_orient, mano.hand_pose, mano.betas, mano.transl)
    again = forward(model_of(sample.side), *(np.asarray(p)[None] for p in parts))
    np.testing.assert_allclose(again.vertices[0], truth.vertices, atol=within)
    assert sample.vertices is not None
    np.testing.assert_allclose(sample.vertices, truth.vertices, atol=within)
