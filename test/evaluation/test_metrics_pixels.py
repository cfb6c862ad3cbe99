"""Metrics in images: HInt's PCK, and reprojection on a real cell."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from hand_mesh_ros.evaluation.metrics import pixels
from hand_mesh_ros.types import Camera

Array = NDArray[np.float64]


def test_pck_equals_that_of_the_published_evaluator(shared_data: Path) -> None:
    """HaMeR's own evaluator on three crops, one of a left hand; one sample at a time."""
    io = np.load(shared_data / "parity" / "hamer_tiny_io.npz")
    sign = np.where(io["pck.right"] > 0, 1.0, -1.0)[:, None]
    normal = io["pck.pred_norm"].astype(np.float64)
    normal[..., 0] *= sign
    uv = normal * io["pp.box_size"][:, None, None] + io["pp.box_center"][:, None]
    truth = io["pck.orig_kp2d"].astype(np.float64)
    errors = pixels.hint_errors(uv, truth[..., :2], io["pp.box_size"] / 2.0)
    counted = truth[..., 2] > 0.5
    share, by_joint = pixels.hint_pck(errors, counted, (0.05, 0.10, 0.15))
    within = [[(errors[:, j] <= t)[counted[:, j]].mean() for j in range(21)] for t in (0.05, 0.1)]
    np.testing.assert_allclose(by_joint[:2], within, atol=1e-12)
    np.testing.assert_allclose(share, io["pck.avg"], atol=1e-9)


def test_pck_by_hand() -> None:
    """Two hands of boxes 100 and 200 px: 5 px are within .05 of both, 8 px of the second only."""
    true = np.zeros((2, 21, 2))
    predicted = np.zeros((2, 21, 2))
    predicted[0, :, 0], predicted[1, :, 0] = 8.0, 8.0
    errors = pixels.hint_errors(predicted, true, np.array([100.0, 200.0]))
    everything = np.ones((2, 21), dtype=bool)
    share, _ = pixels.hint_pck(errors, everything)
    np.testing.assert_allclose(share, [0.5, 1.0, 1.0])
    only_second = everything.copy()
    only_second[0] = False
    np.testing.assert_allclose(pixels.hint_pck(errors, only_second)[0], 1.0)
    # The mean goes over joints, not over points: one joint that one hand lacks weighs as much.
    some = everything.copy()
    some[0, :7] = False
    assert pixels.hint_pck(errors, some)[0][0] == pytest.approx((7 * 1.0 + 14 * 0.5) / 21)


def test_pck_of_lost_hands_and_of_joints_without_samples() -> None:
    true = np.zeros((2, 21, 2))
    predicted = np.zeros((2, 21, 2))
    predicted[1] = np.nan
    true[0, 3] = np.nan
    errors = pixels.hint_errors(predicted, true, np.array([100.0, 100.0]))
    share, by_joint = pixels.hint_pck(errors, np.ones((2, 21), dtype=bool), (0.05,))
    assert by_joint[0, 3] == 0.0 and by_joint[0, 4] == 0.5
    assert share[0] == pytest.approx(0.5 * 20 / 21)
    nobody = np.ones((2, 21), dtype=bool)
    nobody[:, 9] = False
    assert np.isnan(pixels.hint_pck(errors, nobody, (0.05,))[0][0])


@pytest.fixture
def cell() -> list[Camera]:
    K = np.array([[600.0, 0, 320], [0, 600, 240], [0, 0, 1]])
    cameras = []
    for i, x in enumerate((-0.3, 0.0, 0.3)):
        T = np.eye(4)
        T[:3, 3] = [-x, 0.0, 0.8]
        cameras.append(Camera(f"cam_{i}", 640, 480, K, T_camera_world=T))
    return cameras


def _pinhole(camera: Camera, points: Array) -> Array:
    local = points @ camera.T_camera_world[:3, :3].T + camera.T_camera_world[:3, 3]
    return 600 * local[..., :2] / local[..., 2:] + [320, 240]


def test_reprojection_and_leave_one_view_out(cell: list[Camera], rng: np.random.Generator) -> None:
    joints = rng.normal(0, 0.05, (4, 21, 3))
    uv = np.stack([_pinhole(c, joints) for c in cell], axis=1)
    assert pixels.multi_view_reprojection(cell, joints, uv).shape == (4, 3, 21)
    assert pixels.multi_view_reprojection(cell, joints, uv).max() < 1e-9
    shifted = uv + [3.0, 4.0]
    np.testing.assert_allclose(pixels.multi_view_reprojection(cell, joints, shifted), 5.0)
    assert pixels.leave_one_view_out(cell, uv).max() < 1e-6
    # The view that is wrong is the one the others disagree with, by all that it is wrong.
    wrong = uv.copy()
    wrong[:, 1] += [0.0, 7.0]
    np.testing.assert_allclose(pixels.leave_one_view_out(cell, wrong)[:, 1], 7.0, atol=1e-6)
    unseen = uv.copy()
    unseen[0, 0, 5] = np.nan
    errors = pixels.leave_one_view_out(cell, unseen)
    assert np.isnan(errors[0, 0, 5]) and np.isnan(errors[0, 1, 5])  # one other view is too few
    assert np.isfinite(errors[1:]).all()


def test_figures_of_a_real_cell(shared_data: Path) -> None:
    """The baselines that come with the data: 5.0 px, and 7.1 px (mean 7.6) leave-one-view-out.

    Those are medians over hands whose views agree, so only a hand's mean is held to them loosely.
    """
    four = np.load(shared_data / "four-cameras" / "landmarks.npz")
    count = len(four["K"])
    cameras = []
    for i in range(count):
        T = np.eye(4)
        T[:3, :3], T[:3, 3] = four["R"][i], four["T"][i].ravel()
        cameras.append(Camera(f"cam_{i}", 1280, 720, four["K"][i], "plumb_bob",
                              four["D"][i].ravel(), T))  # fmt: skip
    direct = pixels.multi_view_reprojection(cameras, four["xyz_m"], four["uv_px"])
    left_out = pixels.leave_one_view_out(cameras, four["uv_px"])
    assert np.nanmedian(direct) == pytest.approx(5.0, abs=1.5)
    assert np.nanmedian(left_out) == pytest.approx(7.1, abs=2.5)
    assert np.nanmedian(left_out) > np.nanmedian(direct)
