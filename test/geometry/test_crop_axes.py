"""Axes of crops."""

from __future__ import annotations

import numpy as np
import pytest

from hand_mesh_ros.geometry.cameras import project, undistort
from hand_mesh_ros.geometry.crop_axes import crop_axes, crop_axes_of_views
from hand_mesh_ros.types import Camera

K = np.array([[500.0, 0, 320], [0, 510.0, 240], [0, 0, 1]])


@pytest.mark.parametrize("angle", [0.0, 0.7, -2.0])
def test_crop_axes_look_through_the_middle_and_turn_with_the_crop(angle: float) -> None:
    D = np.array([-0.1, 0.02, 1e-3, -1e-3, 0.0])
    camera = Camera("c", 640, 480, K, "plumb_bob", D)
    R = crop_axes(camera, [[150.0, 330.0, 120.0, angle]])[0]
    np.testing.assert_allclose(R @ R.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(R) == pytest.approx(1.0)
    ray = np.append(undistort(camera, np.array([150.0, 330.0])), 1.0)
    np.testing.assert_allclose(R @ ray / np.linalg.norm(ray), [0, 0, 1], atol=1e-12)
    # a point a little to the crop's right, in its axes, is to the crop's right in the image
    right = project(camera, R.T @ np.array([1e-3, 0, 1.0])) - [150.0, 330.0]
    # to within the lens's own bending: x stays, and what it loses is across
    turned = right @ np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    assert turned[0] > 0.4
    assert abs(turned[1]) < 0.02 * turned[0]


def test_crop_axes_in_the_middle_of_a_pinhole_are_the_cameras() -> None:
    camera = Camera("c", 640, 480, K)
    R = crop_axes(camera, [[320.0, 240.0, 200.0, 0.0], [320.0, 240.0, 50.0, 0.0]])
    np.testing.assert_allclose(R, np.broadcast_to(np.eye(3), (2, 3, 3)), atol=1e-12)


def test_crop_axes_are_unknown_outside_of_the_lens() -> None:
    D = np.array([-0.6, 0.0, 0, 0, 0])
    camera = Camera("c", 640, 480, K, "plumb_bob", D)
    assert np.isnan(crop_axes(camera, [[5000.0, 240.0, 50.0, 0.0]])).all()


def test_crop_axes_of_views_are_those_of_each() -> None:
    bent = Camera("a", 640, 480, K, "plumb_bob", np.array([-0.1, 0.02, 1e-3, -1e-3, 0.0]))
    wide = Camera("b", 640, 480, K, "equidistant", np.array([0.05, -0.01, 0.003, -0.0005]))
    rois = np.array([[150.0, 330, 120, 0.3], [500.0, 90, 60, -2.0], [310.0, 200, 90, 1.0]])
    cameras = [bent, wide, bent]
    each = [crop_axes(camera, roi)[0] for camera, roi in zip(cameras, rois, strict=True)]
    np.testing.assert_allclose(crop_axes_of_views(cameras, rois), each, atol=1e-12)
