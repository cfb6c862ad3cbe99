"""The fit: exact where data are exact, honest about its errors where they are not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hand_mesh_ros.evaluation.bench_solver import cameras, draw_hand
from hand_mesh_ros.geometry.cameras import project
from hand_mesh_ros.geometry.rotations import exp_so3, log_so3
from hand_mesh_ros.hand.kinematics import (
    BETAS,
    GLOBAL_ORIENT,
    NUM_PARAMS,
    joints_and_jacobian,
)
from hand_mesh_ros.hand.landmarks import PALM, landmarks_and_jacobian
from hand_mesh_ros.hand.mirror import mirror_params, mirror_points
from hand_mesh_ros.hand.model import HandModel, Side, load_hand_model
from hand_mesh_ros.hand.observations import (
    Landmarks2D,
    Observation,
    Points3D,
    Prior,
    Relative3D,
    default_prior,
)
from hand_mesh_ros.hand.robot_frames import wrist_frame
from hand_mesh_ros.hand.solver import Fit, fit, fit_batch
from hand_mesh_ros.hand.starts import start_from_points, start_from_view
from hand_mesh_ros.types import SIDES, Camera


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
) -> list[Landmarks2D]:
    """Landmarks in every view, with Gaussian noise of the sigma they claim if there is a rng."""
    points = landmarks_of(model, params)
    observed = []
    for camera in views:
        uv = project(camera, points)
        if rng is not None:
            uv = uv + rng.normal(0, sigma, uv.shape)
        observed.append(Landmarks2D(camera, uv, np.full(21, sigma)))
    return observed


def fitted(
    model: HandModel, params: np.ndarray, observed: list[Landmarks2D], start_noise: float = 0
) -> Fit:
    prior = default_prior(model)
    points = landmarks_of(model, params)
    points = points + np.random.default_rng(0).normal(0, 1, points.shape) * start_noise
    start = start_from_points(model, points, prior.mean)
    return fit(model, Observation(tuple(observed)), prior, start)


def worst_mm(result: Fit, model: HandModel, params: np.ndarray) -> float:
    """Of the landmarks: the joints inside may turn a little about their bones unseen."""
    moved = landmarks_of(model, result.params) - landmarks_of(model, params)
    return 1e3 * float(np.linalg.norm(moved, axis=-1).max())


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("seed", range(6))
def test_exact_landmarks_give_exact_joints(side: Side, seed: int) -> None:
    model = load_hand_model(side=side)
    truth = draw_hand(np.random.default_rng(seed), model)
    result = fitted(model, truth, seen(model, truth, cameras(4), sigma=0.1), start_noise=0.01)
    assert worst_mm(result, model, truth) < 0.5
    assert np.linalg.norm(result.joints - joints_of(model, truth), axis=-1).max() < 0.008
    assert result.residual_px.shape == (4, 21)
    assert result.residual_px.max() < 0.2
    assert result.converged


def test_errors_are_as_large_as_the_covariances_say() -> None:
    """Hands drawn from the prior, noise drawn as sigma says: mean Mahalanobis^2 is about 1 a DOF.

    The robust loss and the joint limits, which no Gaussian describes, keep it from being exact.
    """
    model = load_hand_model()
    joint, wrist_position, wrist_rotation = [], [], []
    for seed in range(50):
        rng = np.random.default_rng(100 + seed)
        truth = draw_hand(rng, model)
        observed = seen(model, truth, cameras(2 + seed % 3), sigma=4.0, rng=rng)
        result = fitted(model, truth, observed, start_noise=0.005)
        error = result.joints - joints_of(model, truth)
        whitened = np.linalg.solve(result.joint_covariance, error[..., None])[..., 0]
        joint.append((error * whitened).sum(-1) / 3)
        R = exp_so3(truth[GLOBAL_ORIENT]) @ exp_so3(result.params[GLOBAL_ORIENT]).T
        turned = log_so3(R)
        C = result.wrist_covariance
        wrist_position.append(error[0] @ np.linalg.solve(C[:3, :3], error[0]) / 3)
        wrist_rotation.append(turned @ np.linalg.solve(C[3:, 3:], turned) / 3)
    assert 0.5 < np.mean(joint) < 1.6
    assert 0.5 < np.mean(wrist_position) < 1.6
    assert 0.5 < np.mean(wrist_rotation) < 1.6


def test_covariances_are_covariances() -> None:
    model, rng = load_hand_model(), np.random.default_rng(3)
    truth = draw_hand(rng, model)
    few = fitted(model, truth, seen(model, truth, cameras(2), 2.0, rng))
    many = fitted(model, truth, seen(model, truth, cameras(4), 2.0, rng))
    for result in (few, many):
        for C in (result.covariance, result.wrist_covariance, *result.joint_covariance):
            np.testing.assert_allclose(C, C.T, atol=1e-12)
            assert np.linalg.eigvalsh(C).min() > 0
    spread = [np.trace(f.joint_covariance, axis1=1, axis2=2) for f in (few, many)]
    assert (spread[1] < spread[0]).all()


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("seed", range(6))
def test_one_view_and_relative_landmarks(side: Side, seed: int) -> None:
    """Depth rests on the hand's size, what is across the view on the pixels."""
    model, rng = load_hand_model(side=side), np.random.default_rng(40 + seed)
    truth, (camera,) = draw_hand(rng, model), cameras(1)
    (observed,) = seen(model, truth, [camera], 1.0, rng)
    points = landmarks_of(model, truth)
    guess = points - points.mean(0) + rng.normal(0, 0.004, points.shape)
    relative = Relative3D(guess, np.full(21, 0.006))
    prior = default_prior(model)
    start = start_from_view(model, camera, observed.uv, guess, prior.mean)
    result = fit(model, Observation((observed,), relative=(relative,)), prior, start)
    error = (result.joints - joints_of(model, truth)) @ camera.T_camera_world[:3, :3].T
    ray = joints_of(model, truth) - camera.centre
    ray = ray @ camera.T_camera_world[:3, :3].T
    along = (error * ray).sum(-1) / np.linalg.norm(ray, axis=-1)
    across = np.sqrt(np.maximum((error**2).sum(-1) - along**2, 0))
    assert np.abs(along).max() < 0.06
    assert np.median(across) < 0.004


def test_relative_landmarks_with_covariances_are_as_with_sigmas() -> None:
    """One sigma for all axes, told as covariances, is the same observation."""
    model, rng = load_hand_model(), np.random.default_rng(61)
    truth = draw_hand(rng, model)
    (observed,) = seen(model, truth, cameras(1), 2.0, rng)
    guess = landmarks_of(model, truth) + rng.normal(0, 0.006, (21, 3)) + [0.1, 0.2, -0.3]
    sigma = rng.uniform(0.004, 0.012, 21)
    covariance = np.square(sigma)[:, None, None] * np.eye(3)
    guess[3], sigma[5], covariance[5] = np.nan, np.nan, np.nan  # not seen
    prior = default_prior(model)
    start = truth + rng.normal(0, 0.03, NUM_PARAMS)
    by_sigma, by_covariance = (
        fit(model, Observation((observed,), relative=(Relative3D(guess, noise),)), prior, start)
        for noise in (sigma, covariance)
    )
    np.testing.assert_allclose(by_covariance.joints, by_sigma.joints, atol=1e-7)
    np.testing.assert_allclose(by_covariance.covariance, by_sigma.covariance, rtol=1e-6, atol=1e-12)


def test_a_view_that_knows_no_depth_is_worth_more_when_it_says_so() -> None:
    """Depths of relative landmarks 30 mm off, across 3 mm: by covariances closer than by sigmas."""
    model, rng = load_hand_model(), np.random.default_rng(62)
    errors: dict[str, list[np.ndarray]] = {"sigma": [], "covariance": []}
    for _ in range(12):
        truth = draw_hand(rng, model)
        camera = cameras(1)[0]
        axes = camera.T_camera_world[:3, :3]
        spread = np.array([0.003, 0.003, 0.03])
        covariance = np.tile(axes.T @ np.diag(spread**2) @ axes, (21, 1, 1))
        # two views at right angles, each vague along its own axis
        other = axes[[2, 1, 0]] * np.array([[-1.0], [1], [1]])
        second = np.tile(other.T @ np.diag(spread**2) @ other, (21, 1, 1))
        points = landmarks_of(model, truth)
        told = [points + rng.normal(0, 1, (21, 3)) * spread @ a for a in (axes, other)]
        sigma = np.full(21, np.sqrt(np.mean(spread**2)))
        for name, noises in (
            ("sigma", (sigma, sigma)), ("covariance", (covariance, second)),
        ):  # fmt: skip
            sets = tuple(Relative3D(p, n) for p, n in zip(told, noises, strict=True))
            start = truth + rng.normal(0, 0.02, NUM_PARAMS)
            found = fit(model, Observation(relative=sets), default_prior(model), start)
            error = found.joints - joints_of(model, truth)
            errors[name].append(error - error.mean(0))
    sizes = {k: np.median(np.linalg.norm(np.stack(v), axis=-1)) for k, v in errors.items()}
    assert sizes["covariance"] < 0.5 * sizes["sigma"], sizes


@pytest.mark.parametrize("seed", range(3))
def test_left_hands_are_mirrored_right_hands(seed: int) -> None:
    """The world mirrored at x = 0, pictures flipped with it, gives the mirrored answer."""
    rng = np.random.default_rng(70 + seed)
    right, left = load_hand_model(side="right"), load_hand_model(side="left")
    truth = draw_hand(rng, right)
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
        flipped.append(Landmarks2D(camera, uv, o.noise))
    a = fitted(right, truth, observed)
    b = fitted(left, mirror_params(truth), flipped)
    np.testing.assert_allclose(b.joints, mirror_points(a.joints), atol=1e-6)
    np.testing.assert_allclose(b.residual_px, a.residual_px, atol=1e-3)


def test_outlying_pixels_are_let_go() -> None:
    model, rng = load_hand_model(), np.random.default_rng(11)
    truth = draw_hand(rng, model)
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
    truth = draw_hand(rng, model)
    observed = [replace(o, uv=o.uv.copy()) for o in seen(model, truth, cameras(3), 0.05, rng)]
    observed[0].uv[[4, 8, 9]] = np.nan
    observed[1].uv[[8, 16]] = np.nan
    observed[2].uv[8] = np.nan  # seen by nobody
    result = fitted(model, truth, observed)
    moved = landmarks_of(model, result.params) - landmarks_of(model, truth)
    assert np.delete(np.linalg.norm(moved, axis=-1), 8).max() < 0.001
    assert np.isnan(result.residual_px).sum() == 6
    spread = np.trace(result.joint_covariance, axis1=1, axis2=2)
    assert spread[8] > 4 * spread[12]


def test_a_start_needs_the_palm() -> None:
    model, prior = load_hand_model(), default_prior(load_hand_model())
    points = landmarks_of(model, draw_hand(np.random.default_rng(1), model))
    points[PALM[2:]] = np.nan
    with pytest.raises(ValueError, match="palm"):
        start_from_points(model, points, prior.mean)


def test_a_known_shape_is_kept() -> None:
    model, rng = load_hand_model(), np.random.default_rng(5)
    truth = draw_hand(rng, model)
    prior = default_prior(model).with_shape(truth[BETAS], 0.02**2 * np.eye(10))
    start = start_from_points(model, landmarks_of(model, truth), prior.mean)
    observed = Observation(tuple(seen(model, truth, cameras(2), 3.0, rng)))
    result = fit(model, observed, prior, start)
    assert np.abs(result.params[BETAS] - truth[BETAS]).max() < 0.1


@pytest.mark.parametrize("side", SIDES)
def test_wrist_axes_point_the_same_ways_on_both_hands(side: Side) -> None:
    model, rng = load_hand_model(side=side), np.random.default_rng(8)
    flat = wrist_frame(joints_of(model, np.zeros(NUM_PARAMS)), side)
    assert flat[1, 2] > 0.85, "z is not out of the back (+y of the canonical hand)"
    for _ in range(5):
        params = draw_hand(rng, model)
        joints = joints_of(model, params)
        T = wrist_frame(joints, side)
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
    params = draw_hand(np.random.default_rng(9), model)[None]
    jacobian = landmarks_and_jacobian(model, params)[1]
    for i in range(NUM_PARAMS):
        step = np.zeros((1, NUM_PARAMS))
        step[0, i] = 1e-6
        ahead = landmarks_and_jacobian(model, params + step)[0]
        behind = landmarks_and_jacobian(model, params - step)[0]
        np.testing.assert_allclose(jacobian[..., i], (ahead - behind) / 2e-6, atol=1e-7)


def drawn_problem(
    count: int, seed: int
) -> tuple[HandModel, list[Observation], list[Prior], np.ndarray]:
    """Hands that mix every kind of observation: views with depth, 3D points, relative points."""
    model, rng = load_hand_model(), np.random.default_rng(seed)
    observations, priors, starts = [], [], []
    for i in range(count):
        truth = draw_hand(rng, model)
        points = landmarks_of(model, truth)
        views = seen(model, truth, cameras(1 + i % 4), 2.0, rng)
        camera = views[0].camera
        depth = (points @ camera.T_camera_world[:3, :3].T + camera.T_camera_world[:3, 3])[:, 2]
        depth = np.where(rng.uniform(size=21) < 0.3, np.nan, depth + rng.normal(0, 0.005, 21))
        views[0] = replace(views[0], depth=depth, depth_sigma=np.full(21, 0.005))
        noise = np.tile(np.diag([0.01, 0.02, 0.03]) ** 2, (21, 1, 1))
        known = Points3D(points + rng.normal(0, 0.01, (21, 3)), noise) if i % 2 else None
        guess = points + rng.normal(0, 0.01, (21, 3)) + rng.normal(0, 1, 3)
        own = np.tile(np.diag([0.01, 0.01, 0.03]) ** 2, (21, 1, 1))
        turn = camera.T_camera_world[:3, :3]
        sets = (Relative3D(guess, np.full(21, 0.01)), Relative3D(guess, turn.T @ own @ turn))
        observations.append(Observation(tuple(views), known, sets[: i % 3]))
        priors.append(default_prior(model))
        starts.append(truth + rng.normal(0, 0.05, NUM_PARAMS))
    return model, observations, priors, np.stack(starts)


def test_torch_batches_equal_numpy_hands() -> None:
    import torch

    model, observations, priors, starts = drawn_problem(6, seed=21)
    alone = [fit(model, *hand) for hand in zip(observations, priors, starts, strict=True)]
    numpy_batch = fit_batch(model, observations, priors, starts)
    double = fit_batch(model, observations, priors, starts, reference=torch.zeros(1).double())
    single = fit_batch(model, observations, priors, starts, reference=torch.zeros(1))
    for i, one in enumerate(alone):
        np.testing.assert_allclose(numpy_batch[i].joints, one.joints, atol=1e-4)
        np.testing.assert_allclose(double[i].joints, numpy_batch[i].joints, atol=1e-7)
        np.testing.assert_allclose(double[i].covariance, numpy_batch[i].covariance, atol=1e-7)
        np.testing.assert_allclose(single[i].joints, one.joints, atol=1e-3)


def test_a_hand_does_not_depend_on_its_batch() -> None:
    """Easy and hard starts side by side: the easy ones leave the batch, and stay where they are."""
    import torch

    model, observations, priors, starts = drawn_problem(6, seed=22)
    starts[1::3] += np.random.default_rng(1).normal(0, 0.1, starts[1::3].shape)
    double = torch.zeros(1).double()
    together = fit_batch(model, observations, priors, starts, reference=double)
    for i, hand in enumerate(zip(observations, priors, starts, strict=True)):
        alone = fit_batch(model, *([part] for part in hand[:2]), starts[i : i + 1], None, double)
        assert i % 3 == 1 or alone.iterations < together.iterations
        np.testing.assert_allclose(together[i].params, alone[0].params, atol=1e-7)
        np.testing.assert_allclose(together[i].covariance, alone[0].covariance, atol=1e-7)
        assert together[i].converged == alone[0].converged


def test_normal_equations_are_those_of_the_residuals() -> None:
    """H and g against finite differences of the cost, far inside the cutoff (no outlier)."""
    from hand_mesh_ros.hand.observations import pack
    from hand_mesh_ros.hand.residuals import normal_equations, residuals

    model, observations, priors, starts = drawn_problem(4, seed=5)
    problem = pack(model, observations, priors)
    wide, one = np.full(4, 1e3), np.ones(4)
    normal = normal_equations(problem, residuals(model, problem, starts), wide, one)
    rng = np.random.default_rng(0)
    for _ in range(5):
        step = rng.normal(0, 1e-6, starts.shape)
        costs = [
            normal_equations(problem, residuals(model, problem, starts + s * step), wide, one).cost
            for s in (1, -1)
        ]
        np.testing.assert_allclose((normal.g * step).sum(-1), (costs[0] - costs[1]) / 2, rtol=1e-4)


def test_depth_places_a_single_view() -> None:
    model, rng = load_hand_model(), np.random.default_rng(31)
    truth, (camera,) = draw_hand(rng, model), cameras(1)
    points = landmarks_of(model, truth)
    (view,) = seen(model, truth, [camera], 1.0, rng)
    depth = (points @ camera.T_camera_world[:3, :3].T + camera.T_camera_world[:3, 3])[:, 2]
    depth[::3] = np.nan  # holes
    depth[4] -= 0.3  # an object in front
    with_depth = replace(view, depth=depth, depth_sigma=np.full(21, 0.004))
    results = []
    for observed in (view, with_depth):
        start = start_from_points(model, points + [0, 0, 0.02], default_prior(model).mean)
        results.append(fit(model, Observation((observed,)), default_prior(model), start))
    error = (results[1].joints - joints_of(model, truth)).mean(0)
    assert abs(error @ camera.T_camera_world[2, :3]) < 0.005
    spread = [np.trace(r.wrist_covariance[:3, :3]) for r in results]
    assert spread[1] < 0.2 * spread[0]


def test_nothing_seen_is_a_wide_hand_and_wild_betas_are_flagged() -> None:
    model, prior = load_hand_model(), default_prior(load_hand_model())
    empty = fit(model, Observation(), prior, prior.mean)
    assert np.sqrt(empty.wrist_covariance[0, 0]) > 5
    huge = Points3D(3 * joints_of(model, prior.mean), np.full(21, 1e-4))
    wild = fit(model, Observation(points=huge), prior, prior.mean)
    assert not wild.plausible
    with pytest.raises(ValueError, match="finite"):
        fit(model, Observation(), prior, np.full(NUM_PARAMS, np.nan))
