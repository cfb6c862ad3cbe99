"""Depth of the synthetic cell, and what a sensor makes of it."""

from __future__ import annotations

import numpy as np
import pytest

from hand_mesh_ros.geometry.cameras import project, rays
from hand_mesh_ros.geometry.rotations import transform_points
from hand_mesh_ros.render.depth_sensor import DepthSensor
from hand_mesh_ros.render.synthetic import SyntheticCell

EXACT = DepthSensor(noise=0, noise_per_m2=0, holes=0, edge=np.inf, reach=10)


@pytest.fixture(scope="module")
def cell() -> SyntheticCell:
    return SyntheticCell(cameras=2, seconds=2, fps=5, seed=3, depth=EXACT)


def test_depth_is_that_of_the_nearest_vertex_in_sight(cell: SyntheticCell) -> None:
    (hand,) = cell.ground_truth(4)
    assert hand.vertices is not None
    for frame in cell.frame_set(4).frames:
        depth = frame.depth
        assert depth is not None and depth.shape == frame.image.shape[:2]
        assert depth.dtype == np.float32
        z = transform_points(frame.camera.T_camera_world, hand.vertices)[:, 2]
        u, v = np.rint(project(frame.camera, hand.vertices)).astype(int).T
        # The nearest of nine pixels: a vertex of the outline may round to a pixel beside it.
        near = np.min([depth[v + i, u + j] for i in (-1, 0, 1) for j in (-1, 0, 1)], axis=0)
        behind = z - near
        assert behind.min() > -0.004
        assert np.quantile(behind, 0.25) < 0.005  # the near side is there
        assert (behind > 0.008).mean() > 0.2  # and hides the far side


def test_the_desk_lies_at_height_zero(cell: SyntheticCell) -> None:
    for frame in cell.frame_set(0).frames:
        camera, depth = frame.camera, frame.depth
        assert depth is not None and (depth > 0).all()
        bottom = np.array([[20.0, camera.height - 3], [camera.width - 20.0, camera.height - 3]])
        direction = rays(camera, bottom)
        z = depth[camera.height - 3, bottom[:, 0].astype(int)]
        along = z / (direction @ camera.T_camera_world[2, :3])
        np.testing.assert_allclose((camera.centre + along[:, None] * direction)[:, 2], 0, atol=0.01)


def test_holes_noise_and_millimetres() -> None:
    true = np.full((240, 320), 1.0, np.float32)
    true[:, 160:] = 1.5
    sensor = DepthSensor(holes=0.2)
    measured = sensor.measure(true, np.random.default_rng(0))
    hole = measured == 0
    assert 0.19 < hole.mean() < 0.23
    assert hole[:, 159:161].all()  # beside the step there is none
    left = measured[:, :150][~hole[:, :150]]
    assert left.std() == pytest.approx(0.0035, rel=0.25) and abs(left.mean() - 1) < 5e-4
    np.testing.assert_allclose(measured * 1e3, np.rint(measured * 1e3), atol=1e-3)
    again = sensor.measure(true, np.random.default_rng(0))
    assert np.array_equal(measured, again)


def test_nothing_is_measured_out_of_reach() -> None:
    true = np.array([[1.0, 5.0, np.inf, 0.0]] * 8, np.float32)
    sensor = DepthSensor(holes=0, edge=np.inf)
    measured = sensor.measure(true, np.random.default_rng(0))
    assert (measured[:, 0] > 0.9).all() and (measured[:, 1:] == 0).all()


def test_without_a_sensor_there_is_no_depth() -> None:
    frames = SyntheticCell(cameras=1, seconds=1, width=160, height=120).frame_set(0).frames
    assert frames[0].depth is None
