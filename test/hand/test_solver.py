"""The fit: exact where data are exact, honest about its errors where they are not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hand_mesh_ros.geometry.cameras import look_at, project
from hand_mesh_ros.geometry.rotations import exp_so3, log_so3
from hand_mesh_ros.hand import solver
from hand_mesh_ros.hand.kinematics import (
    BETAS,
    GLOBAL_ORIENT,
    HAND_POSE,
    NUM_PARAMS,
    TRANSL,
    joints_and_jacobian,
)
from hand_mesh_ros.hand.landmarks import PALM, landmarks_and_jacobian
from hand_mesh_ros.hand.limits import pose_limits
from hand_mesh_ros.hand.mirror import mirror_params, mirror_points
from hand_mesh_ros.hand.model import HandModel, Side, load_hand_model
from hand_mesh_ros.types import SIDES, Camera

CENTRE = np.array([0.1, -0.2, 0.4])
OPTIONS = solver.SolverOptions()


def cameras(count: int) -> list[Camera]:
    """Cameras 0.6 m from the hand, on an arc of 100 degrees, at two heights."""
    K = np.array([[600.0, 0, 320], [0, 605, 240], [0, 0, 1]])
    made = []
    for i, angle in enumerate(np.deg2rad(np.linspace(-50, 50, count) if count > 1 else [0.0])):
        eye = CENTRE + 0.6 * np.array([np.cos(angle), np.sin(angle), 0.2 + 0.3 * (i % 2)])
        T = look_at(eye, CENTRE, np.array([0.0, 0, 1]))
        D = np.array([-0.1, 0.02, 1e-3, -1e-3, 0])
        made.append(Camera(f"c{i}", 640, 480, K, "plumb_bob", D, T))
    return made


def hand_of_the_prior(rng: np.random.Generator, side: Side = "right") -> np.ndarray:
    """Parameters (61,) drawn from the solver's own prior, inside the joint limits."""
    model = load_hand_model(side=side)
    prior = solver.default_prior(model, OPTIONS)
    params = np.zeros(NUM_PARAMS)
    lower, upper = pose_limits(side)
    pose = rng.normal(prior.mean[HAND_POSE], prior.sigma[HAND_POSE])
    while (outside := (pose < lower) | (pose > upper)).any():
        again = rng.normal(prior.mean[HAND_POSE], prior.sigma[HAND_POSE])
        pose = np.where(outside, again, pose)
    params[HAND_POSE] = pose
    params[BETAS] = rng.normal(prior.mean[BETAS], prior.sigma[BETAS])
    params[GLOBAL_ORIENT] = log_so3(exp_so3(rng.normal(0, 2, 3)))
    middle = joints_and_jacobian(model, params[None])[0][0].mean(0)
    params[TRANSL] = CENTRE + rng.normal(0, 0.03, 3) - middle
    return params


def landmarks_of(model: HandModel, params: np.ndarray) -> np.ndarray:
    return landmarks_and_jacobian(model, params[None])[0][0]


def joints_of(model: HandModel, params: np.ndarray) -> np.ndarray:
    return joints_and_jacobian(model, params[None])[0][0]


def seen(
    model: HandModel,
    params: np.ndarray,
    views: list[Camera],
    sigma: float,
    rng: np.random.Generator | None = None,
) -> list[solver.Landmarks2D]:
    """Landmarks in every view, with Gaussian noise of the sigma they claim if there is a rng."""
    points = landmarks_of(model, params)
    observed = []
    for camera in views:
        uv = project(camera, points)
        if rng is not None:
            uv = uv + rng.normal(0, sigma, uv.shape)
        observed.append(solver.Landmarks2D(camera, uv, np.full(21, sigma)))
    return observed


def fitted(
    model: HandModel, params: np.ndarray, observed: list[solver.Landmarks2D], start_noise: float = 0
) -> solver.Fit:
    prior = solver.default_prior(model, OPTIONS)
    points = landmarks_of(model, params)
    points = points + np.random.default_rng(0).normal(0, 1, points.shape) * start_noise
    start = solver.start_from_points(model, points, prior)
    return solver.fit(model, observed, start, prior)


def worst_mm(fit: solver.Fit, model: HandModel, params: np.ndarray) -> float:
    return 1e3 * float(np.linalg.norm(fit.joints - joints_of(model, params), axis=-1).max())


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("seed", range(6))
def test_exact_landmarks_give_exact_joints(side: Side, seed: int) -> None:
    model = load_hand_model(side=side)
    truth = hand_of_the_prior(np.random.default_rng(seed), side)
    fit = fitted(model, truth, seen(model, truth, cameras(4), sigma=0.02), start_noise=0.01)
    assert worst_mm(fit, model, truth) < 0.5
    assert fit.residual_px.shape == (4, 21)
    assert fit.residual_px.max() < 0.2
    assert fit.converged


def test_errors_are_as_large_as_the_covariances_say() -> None:
    """Hands drawn from the prior, noise drawn as sigma says: mean Mahalanobis^2 is about 1 a DOF.

    The robust loss and the joint limits, which no Gaussian describes, keep it from being exact.
    """
    model = load_hand_model()
    joint, wrist_position, wrist_rotation = [], [], []
    for seed in range(50):
        rng = np.random.default_rng(100 + seed)
        truth = hand_of_the_prior(rng)
        observed = seen(model, truth, cameras(2 + seed % 3), sigma=4.0, rng=rng)
        fit = fitted(model, truth, observed, start_noise=0.005)
        error = fit.joints - joints_of(model, truth)
        whitened = np.linalg.solve(fit.joint_covariance, error[..., None])[..., 0]
        joint.append((error * whitened).sum(-1) / 3)
        R = exp_so3(truth[GLOBAL_ORIENT]) @ exp_so3(fit.params[GLOBAL_ORIENT]).T
        turned = log_so3(R)
        C = fit.wrist_covariance
        wrist_position.append(error[0] @ np.linalg.solve(C[:3, :3], error[0]) / 3)
        wrist_rotation.append(turned @ np.linalg.solve(C[3:, 3:], turned) / 3)
    assert 0.5 < np.mean(joint) < 1.6
    assert 0.5 < np.mean(wrist_position) < 1.6
    assert 0.5 < np.mean(wrist_rotation) < 1.6


def test_covariances_are_covariances() -> None:
    model, rng = load_hand_model(), np.random.default_rng(3)
    truth = hand_of_the_prior(rng)
    few = fitted(model, truth, seen(model, truth, cameras(2), 2.0, rng))
    many = fitted(model, truth, seen(model, truth, cameras(4), 2.0, rng))
    for fit in (few, many):
        for C in (fit.covariance, fit.wrist_covariance, *fit.joint_covariance):
            np.testing.assert_allclose(C, C.T, atol=1e-12)
            assert np.linalg.eigvalsh(C).min() > 0
    spread = [np.trace(f.joint_covariance, axis1=1, axis2=2) for f in (few, many)]
    assert (spread[1] < spread[0]).all()


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("seed", range(6))
def test_one_view_and_relative_landmarks(side: Side, seed: int) -> None:
    """Depth rests on the hand's size, what is across the view on the pixels."""
    model, rng = load_hand_model(side=side), np.random.default_rng(40 + seed)
    truth, (camera,) = hand_of_the_prior(rng, side), cameras(1)
    (observed,) = seen(model, truth, [camera], 1.0, rng)
    points = landmarks_of(model, truth)
    guess = points - points.mean(0) + rng.normal(0, 0.004, points.shape)
    relative = solver.Relative3D(guess, np.full(21, 0.006))
    prior = solver.default_prior(model, OPTIONS)
    start = solver.start_from_view(model, camera, observed.uv, guess, prior)
    fit = solver.fit(model, [observed], start, prior, [relative])
    error = (fit.joints - joints_of(model, truth)) @ camera.T_camera_world[:3, :3].T
    ray = joints_of(model, truth) - camera.centre
    ray = ray @ camera.T_camera_world[:3, :3].T
    along = (error * ray).sum(-1) / np.linalg.norm(ray, axis=-1)
    across = np.sqrt(np.maximum((error**2).sum(-1) - along**2, 0))
    assert np.abs(along).max() < 0.06
    assert np.median(across) < 0.004


@pytest.mark.parametrize("seed", range(3))
def test_left_hands_are_mirrored_right_hands(seed: int) -> None:
    """The world mirrored at x = 0, pictures flipped with it, gives the mirrored answer."""
    rng = np.random.default_rng(70 + seed)
    right, left = load_hand_model(side="right"), load_hand_model(side="left")
    truth = hand_of_the_prior(rng, "right")
    M = np.diag([-1.0, 1, 1, 1])
    observed = [
        replace(o, camera=replace(o.camera, distortion="none", D=np.zeros(0)))
        for o in seen(right, truth, cameras(3), 2.0, rng)
    ]
    flipped = []
    for o in observed:
        K = o.camera.K.copy()
        K[0, 2] = o.camera.width - 1 - K[0, 2]
        camera = replace(o.camera, K=K, T_camera_world=M @ o.camera.T_camera_world @ M)
        uv = np.stack([o.camera.width - 1 - o.uv[:, 0], o.uv[:, 1]], -1)
        flipped.append(solver.Landmarks2D(camera, uv, o.sigma))
    a = fitted(right, truth, observed)
    b = fitted(left, mirror_params(truth), flipped)
    np.testing.assert_allclose(b.joints, mirror_points(a.joints), atol=1e-6)
    np.testing.assert_allclose(b.residual_px, a.residual_px, atol=1e-3)


def test_outlying_pixels_are_let_go() -> None:
    model, rng = load_hand_model(), np.random.default_rng(11)
    truth = hand_of_the_prior(rng)
    observed = seen(model, truth, cameras(4), 1.0, rng)
    spoiled = [replace(o, uv=o.uv.copy()) for o in observed]
    for view, joint in ((0, 8), (1, 12), (2, 0), (3, 20)):
        spoiled[view].uv[joint] += [70.0, -60.0]
    good, robust = (fitted(model, truth, views) for views in (observed, spoiled))
    moved = 1e3 * np.linalg.norm(good.joints - robust.joints, axis=-1)
    assert moved.max() < 3.0
    assert robust.residual_px[0, 8] > 80  # and it is plain to see


def test_unseen_landmarks_are_ignored() -> None:
    model, rng = load_hand_model(), np.random.default_rng(12)
    truth = hand_of_the_prior(rng)
    observed = [replace(o, uv=o.uv.copy()) for o in seen(model, truth, cameras(3), 0.05, rng)]
    observed[0].uv[[4, 8, 9]] = np.nan
    observed[1].uv[[8, 16]] = np.nan
    observed[2].uv[8] = np.nan  # seen by nobody
    fit = fitted(model, truth, observed)
    error = 1e3 * np.linalg.norm(fit.joints - joints_of(model, truth), axis=-1)
    assert np.delete(error, 8).max() < 1.0
    assert np.isnan(fit.residual_px).sum() == 6
    spread = np.trace(fit.joint_covariance, axis1=1, axis2=2)
    assert spread[8] > 4 * spread[12]


def test_a_start_needs_the_palm() -> None:
    model, prior = load_hand_model(), solver.default_prior(load_hand_model(), OPTIONS)
    points = landmarks_of(model, hand_of_the_prior(np.random.default_rng(1)))
    points[PALM[2:]] = np.nan
    with pytest.raises(ValueError, match="palm"):
        solver.start_from_points(model, points, prior)


def test_a_known_shape_is_kept() -> None:
    model, rng = load_hand_model(), np.random.default_rng(5)
    truth = hand_of_the_prior(rng)
    prior = solver.with_fixed_shape(solver.default_prior(model, OPTIONS), truth[BETAS])
    start = solver.start_from_points(model, landmarks_of(model, truth), prior)
    fit = solver.fit(model, seen(model, truth, cameras(2), 3.0, rng), start, prior)
    assert np.abs(fit.params[BETAS] - truth[BETAS]).max() < 0.1


@pytest.mark.parametrize("side", SIDES)
def test_wrist_axes_point_the_same_ways_on_both_hands(side: Side) -> None:
    model, rng = load_hand_model(side=side), np.random.default_rng(8)
    flat = solver.wrist_frame(model, np.zeros(NUM_PARAMS))
    assert flat[1, 2] > 0.85, "z is not out of the back (+y of the canonical hand)"
    for _ in range(5):
        params = hand_of_the_prior(rng, side)
        T = solver.wrist_frame(model, params)
        joints = joints_of(model, params)
        np.testing.assert_allclose(T[:3, :3].T @ T[:3, :3], np.eye(3), atol=1e-12)
        assert np.linalg.det(T[:3, :3]) > 0
        np.testing.assert_allclose(T[:3, 3], joints[0], atol=1e-12)
        local = (joints - T[:3, 3]) @ T[:3, :3]
        np.testing.assert_allclose(local[9, 1:], 0, atol=1e-9)
        assert local[9, 0] > 0.06
        # y = z cross x: towards the thumb on a right hand, away from it on a left one.
        assert (local[5, 1] - local[17, 1]) * (1 if side == "right" else -1) > 0.03


@pytest.mark.parametrize("side", SIDES)
def test_landmark_jacobian_equals_differences(side: Side) -> None:
    model = load_hand_model(side=side)
    params = hand_of_the_prior(np.random.default_rng(9), side)[None]
    jacobian = landmarks_and_jacobian(model, params)[1]
    for i in range(NUM_PARAMS):
        step = np.zeros((1, NUM_PARAMS))
        step[0, i] = 1e-6
        ahead = landmarks_and_jacobian(model, params + step)[0]
        behind = landmarks_and_jacobian(model, params - step)[0]
        np.testing.assert_allclose(jacobian[..., i], (ahead - behind) / 2e-6, atol=1e-7)
