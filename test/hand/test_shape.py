"""A person's shape: fused from many hands, honest about its error, safe in its file."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hand_mesh_ros.geometry.cameras import look_at, project
from hand_mesh_ros.hand.kinematics import (
    BETAS,
    GLOBAL_ORIENT,
    HAND_POSE,
    NUM_PARAMS,
    TRANSL,
    joints_and_jacobian,
)
from hand_mesh_ros.hand.landmarks import landmarks_and_jacobian, marked_at, offsets_of
from hand_mesh_ros.hand.limits import pose_limits, pose_prior
from hand_mesh_ros.hand.model import load_hand_model
from hand_mesh_ros.hand.observations import Landmarks2D, Observation, default_prior, pack
from hand_mesh_ros.hand.shape import (
    HandShape,
    bone_lengths,
    load_shape,
    palm_length,
)
from hand_mesh_ros.hand.shape_error import with_shape_uncertainty
from hand_mesh_ros.hand.shape_fusion import (
    Evidence,
    FusionSettings,
    Sighting,
    calibrate_shape,
    fuse,
)
from hand_mesh_ros.hand.solver import fit
from hand_mesh_ros.types import SIDES, Camera, Side

MODELS = {side: load_hand_model(side=side) for side in SIDES}
# Hands and landmarks as the solver supposes them, errors new in every frame.
EXACT = FusionSettings(landmark_bias=0.0, pose_freedom=1.0, most=np.inf)
K = np.array([[600.0, 0, 320], [0, 600, 240], [0, 0, 1]])


def cameras(count: int) -> list[Camera]:
    angles = np.deg2rad(np.linspace(-50, 50, count) if count > 1 else [0.0])
    places = [
        [0.7 * np.cos(a), 0.7 * np.sin(a), 0.15 + 0.2 * (i % 2)] for i, a in enumerate(angles)
    ]
    up = np.array([0.0, 0, 1])
    return [
        Camera(f"c{i}", 640, 480, K, T_camera_world=look_at(np.array(p), np.zeros(3), up))
        for i, p in enumerate(places)
    ]


def posed(rng: np.random.Generator, side: Side, betas: np.ndarray) -> np.ndarray:
    """A hand (61,) of these betas before the cameras, its pose drawn from the solver's prior."""
    params = np.zeros(NUM_PARAMS)
    mean, sigma = pose_prior(side)
    lower, upper = pose_limits(side)
    params[HAND_POSE] = np.clip(rng.normal(mean, 0.8 * sigma), lower, upper)
    params[GLOBAL_ORIENT] = rng.normal(0, 1, 3)
    params[BETAS] = betas
    params[TRANSL] = rng.normal(0, 0.02, 3)
    params[TRANSL] -= joints_and_jacobian(MODELS[side], params[None])[0][0].mean(0)
    return params


def seen(
    rng: np.random.Generator,
    side: Side,
    params: np.ndarray,
    stamp_ns: int,
    views: int = 3,
    noise: float = 3.0,
) -> Sighting:
    """What cameras see with noise that they know of, and a start that is a little wrong."""
    points = landmarks_and_jacobian(MODELS[side], params[None])[0][0]
    observed = tuple(
        Landmarks2D(c, project(c, points) + rng.normal(0, noise, (21, 2)), np.full(21, noise))
        for c in cameras(views)
    )
    start = params.copy()
    start[BETAS] = 0
    start[HAND_POSE] += rng.normal(0, 0.05, 45)
    return Sighting(side, stamp_ns, Observation(observed), start)


def of_a_person(
    seed: int, count: int = 24, sides: tuple[Side, ...] = ("right",), **options: Any
) -> tuple[np.ndarray, list[Sighting]]:
    rng = np.random.default_rng(seed)
    betas = rng.normal(0, 1, 10)
    sightings = [
        seen(rng, side, posed(rng, side, betas), k * 10**8, **options)
        for k in range(count)
        for side in sides
    ]
    return betas, sightings


@pytest.fixture(scope="module")
def shape() -> HandShape:
    _, sightings = of_a_person(0, 12)
    return calibrate_shape(MODELS, sightings)


def test_bones_are_as_wrong_as_they_say() -> None:
    """Ten persons, noise as told: normalised errors of betas and bones have unit variance."""
    nees, bones, relative = [], [], []
    for seed in range(10):
        betas, sightings = of_a_person(seed, 16, SIDES, views=2 + seed % 3)
        found = calibrate_shape(MODELS, sightings, EXACT)
        error = found.betas - betas
        nees.append(error @ np.linalg.solve(found.covariance, error) / 10)
        lengths, sigmas = bone_lengths(MODELS["right"], found.betas, found.covariance)
        truth, _ = bone_lengths(MODELS["right"], betas, found.covariance)
        bones.append((lengths - truth) / sigmas)
        relative.append(lengths / truth - 1)
    z = np.array(bones)
    assert 0.6 < np.mean(nees) < 1.6
    assert (np.abs(z) < 1).mean() > 0.55
    assert (np.abs(z) < 3).mean() > 0.98
    assert np.sqrt(np.mean(np.square(relative))) < 0.015


def test_left_and_right_hands_tell_of_one_shape() -> None:
    betas, sightings = of_a_person(3, 14, SIDES)
    both = calibrate_shape(MODELS, sightings, EXACT)
    right = calibrate_shape(MODELS, [s for s in sightings if s.side == "right"], EXACT)
    assert (both.hands, right.hands) == (28, 14)
    assert np.trace(both.covariance) < 0.9 * np.trace(right.covariance)
    palm = palm_length(MODELS["right"], both.betas, both.covariance)
    truth, _ = palm_length(MODELS["left"], betas, both.covariance)
    assert abs(palm[0] - truth) < 3 * palm[1]


def test_wrong_hands_hardly_count() -> None:
    """A fifth of the sightings are of somebody else with hands twice as far from the mean."""
    betas, sightings = of_a_person(4, 20)
    rng = np.random.default_rng(5)
    others = [
        seen(rng, "right", posed(rng, "right", -2 * np.sign(betas)), s.stamp_ns + 1)
        for s in sightings[::4]
    ]
    clean = calibrate_shape(MODELS, sightings, EXACT)
    mixed = calibrate_shape(MODELS, sightings + others, EXACT)
    length = [bone_lengths(MODELS["right"], s.betas, s.covariance)[0] for s in (clean, mixed)]
    truth, _ = bone_lengths(MODELS["right"], betas, clean.covariance)
    assert np.abs(length[1] / length[0] - 1).max() < 0.03
    assert np.sqrt(np.mean((length[1] / truth - 1) ** 2)) < 0.02


def test_a_hand_that_keeps_still_is_not_a_hundred_hands() -> None:
    """The same noise in every frame is told from new noise in every frame."""
    rng = np.random.default_rng(6)
    params = posed(rng, "right", rng.normal(0, 1, 10))
    once = seen(rng, "right", params, 0)
    still = [replace(once, stamp_ns=k * 10**8) for k in range(64)]
    moving = of_a_person(6, 64)[1]
    a, b = calibrate_shape(MODELS, still, EXACT), calibrate_shape(MODELS, moving, EXACT)
    assert a.effective < 16
    assert b.effective > 40
    sigma = [palm_length(MODELS["right"], s.betas, s.covariance)[1] for s in (a, b)]
    assert sigma[0] > 1.4 * sigma[1]


def test_what_a_network_gets_wrong_on_a_person_is_never_averaged_away() -> None:
    sigmas = []
    for count in (15, 60):
        found = calibrate_shape(MODELS, of_a_person(7, count, noise=1.0)[1])
        sigmas.append(palm_length(MODELS["right"], found.betas, found.covariance)[1])
    assert sigmas[1] > 0.001
    assert sigmas[0] < 1.2 * sigmas[1]


def marked(
    seed: int, offsets: np.ndarray, noise: float, count: int = 40
) -> tuple[np.ndarray, list[Sighting]]:
    """Sightings of a person whose landmarks lie elsewhere, and err less than the 3 px told."""
    models = {side: marked_at(MODELS[side], offsets) for side in SIDES}
    rng = np.random.default_rng(seed)
    betas = rng.normal(0, 1, 10)
    made = []
    for k in range(count):
        side = SIDES[k % 2]
        params = posed(rng, side, betas)
        points = landmarks_and_jacobian(models[side], params[None])[0][0]
        views = tuple(
            Landmarks2D(c, project(c, points) + rng.normal(0, noise, (21, 2)), np.full(21, 3.0))
            for c in cameras(3)
        )
        start = params.copy()
        start[BETAS] = 0
        made.append(Sighting(side, k * 10**8, Observation(views), start))
    return betas, made


def test_landmark_places_and_noise_of_a_person_are_found() -> None:
    """Landmarks of both hands moved by 4 mm: places, bones and noise are as good as they say."""
    usual = offsets_of(MODELS["right"])
    z, bones, noise, left, gained = [], [], [], [], []
    for seed in range(4):
        moved = np.random.default_rng(100 + seed).normal(0, 0.004, (21, 3))
        betas, sightings = marked(seed, usual + moved, 1.5)
        found = calibrate_shape(MODELS, sightings)
        assert found.offsets is not None and found.offsets_sigma is not None
        error = found.offsets - usual - moved
        z.append(error / found.offsets_sigma)
        left.append(np.sqrt(np.mean(error**2)))
        noise.append(found.noise)
        lengths, sigmas = bone_lengths(MODELS["right"], found.betas, found.covariance)
        truth, _ = bone_lengths(MODELS["right"], betas, found.covariance)
        bones.append((lengths - truth) / sigmas)
        plain = calibrate_shape(MODELS, sightings, FusionSettings(landmark_bias=0.0))
        without, _ = bone_lengths(MODELS["right"], plain.betas, plain.covariance)
        gained.append(np.linalg.norm(without - truth) / np.linalg.norm(lengths - truth))
    assert 0.5 < np.sqrt(np.mean(np.square(z))) < 1.4
    assert 0.5 < np.sqrt(np.mean(np.square(bones))) < 1.5
    assert np.mean(left) < 0.003
    assert np.mean(gained) > 1.2
    np.testing.assert_allclose(np.mean(noise), 0.5, atol=0.05)


def test_a_person_wears_the_landmarks_on_both_hands(shape: HandShape) -> None:
    offsets = np.random.default_rng(0).normal(0, 0.004, (21, 3))
    person = replace(shape, offsets=offsets)
    params = np.zeros((1, NUM_PARAMS))
    right, left = (
        landmarks_and_jacobian(person.worn(MODELS[s]), params)[0][0] for s in ("right", "left")
    )
    np.testing.assert_allclose(left, right * [-1, 1, 1], atol=1e-9)
    usual = replace(shape, offsets=None)
    assert usual.worn(MODELS["left"]) is MODELS["left"]
    prior = default_prior(MODELS["right"])
    assert person.held(prior).precision[10, 10] < usual.held(prior).precision[10, 10]


def test_fusion_of_gaussians_is_the_product() -> None:
    """With evidence whose answer is known: Kalman's update of the population prior."""
    rng = np.random.default_rng(8)
    betas, precision = rng.normal(0, 1, 10), np.diag(np.linspace(1, 4, 10))
    own = betas + rng.normal(0, 1, (400, 10)) / np.sqrt(np.diag(precision))
    evidence = Evidence(np.tile(precision, (400, 1, 1)), own @ precision)
    mean, covariance, effective = fuse([evidence])
    expected = 1 / (1 + 400 * np.diag(precision))
    np.testing.assert_allclose(np.diag(covariance), expected, rtol=0.4)
    np.testing.assert_allclose(mean, expected * (evidence.pull.sum(0)), atol=0.03)
    assert effective > 250


def test_no_evidence_leaves_the_population() -> None:
    mean, covariance, _ = fuse([Evidence(np.zeros((12, 10, 10)), np.zeros((12, 10)))])
    np.testing.assert_allclose(mean, 0, atol=1e-9)
    np.testing.assert_allclose(covariance, np.eye(10), atol=1e-6)


def test_too_few_hands_are_refused() -> None:
    _, sightings = of_a_person(9, 12)
    with pytest.raises(ValueError, match="4 sightings of a hand, at least 10"):
        calibrate_shape(MODELS, sightings[:4])
    spoiled = [replace(s, start=s.start + 1.0) for s in sightings]
    rng = np.random.default_rng(0)
    nonsense = [
        replace(
            s,
            observation=Observation(
                tuple(replace(v, uv=rng.uniform(0, 600, (21, 2))) for v in s.observation.views)
            ),
        )
        for s in spoiled
    ]
    with pytest.raises(ValueError, match="of 12 sightings were fitted well, 10 are needed"):
        calibrate_shape(MODELS, nonsense)


def test_held_betas_stay_and_their_error_reaches_the_distance() -> None:
    """One view, many shapes wrong by a sigma: the wrist errs as much as its covariance says."""
    model = MODELS["right"]
    square, bones = [], []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        covariance = np.diag(np.full(10, 0.4**2))
        believed = rng.normal(0, 0.7, 10)
        truth = posed(rng, "right", believed + rng.normal(0, 0.4, 10))
        s = seen(rng, "right", truth, 0, views=1, noise=0.3)
        known = HandShape(model.model_id, believed, covariance, 10, 10.0, "test", "2000-01-01")
        prior = known.held(default_prior(model))
        start = s.start.copy()
        start[BETAS] = believed
        held = fit(model, s.observation, prior, start)
        problem = pack(model, [s.observation], [prior])
        honest = with_shape_uncertainty(model, held, known, problem)
        lengths, _ = bone_lengths(model, held.params[BETAS], covariance)
        bones.append(np.abs(lengths - bone_lengths(model, believed, covariance)[0]).max())
        error = honest.joints[0] - joints_and_jacobian(model, truth[None])[0][0, 0]
        square.append(error @ np.linalg.solve(honest.wrist_covariance[:3, :3], error) / 3)
        np.testing.assert_allclose(
            honest.wrist_covariance[:3, :3], honest.joint_covariance[0], atol=1e-12
        )
        np.testing.assert_allclose(honest.covariance[BETAS, BETAS], covariance, atol=1e-7)
        assert np.trace(honest.joint_covariance[0]) > np.trace(held.joint_covariance[0])
    assert max(bones) < 1e-6
    assert 0.4 < np.median(square) / 0.79 < 2.5  # 0.79 is the median of chi-squared(3) / 3


def test_bone_lengths_are_those_of_any_pose() -> None:
    rng = np.random.default_rng(11)
    betas = rng.normal(0, 1, 10)
    joints = joints_and_jacobian(MODELS["left"], posed(rng, "left", betas)[None])[0][0]
    lengths, _ = bone_lengths(MODELS["right"], betas, np.eye(10))
    assert lengths[8] == pytest.approx(np.linalg.norm(joints[9] - joints[0]))
    assert lengths[5] == pytest.approx(np.linalg.norm(joints[6] - joints[5]))


def test_the_file_keeps_everything(shape: HandShape, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "person.json"
    shape.save(path)
    again = load_shape(path, shape.model_id)
    np.testing.assert_array_equal(again.betas, shape.betas)
    np.testing.assert_array_equal(again.covariance, shape.covariance)
    assert again.effective == pytest.approx(shape.effective, abs=0.01)
    assert (again.hands, again.landmarks, again.date) == (12, "mediapipe", shape.date)
    assert again.offsets is not None and again.offsets_sigma is not None
    np.testing.assert_allclose(again.offsets, shape.offsets, atol=1e-6)
    np.testing.assert_allclose(again.offsets_sigma, shape.offsets_sigma, atol=1e-6)
    np.testing.assert_allclose(again.noise, shape.noise, atol=1e-4)
    np.testing.assert_allclose(again.correlation, shape.correlation, atol=1e-5)
    np.testing.assert_allclose(again.uncertainty(), shape.uncertainty(), rtol=2e-3, atol=1e-5)
    assert np.linalg.eigvalsh(again.uncertainty()).min() > 0
    assert path.stat().st_size < 40_000
    assert again.residual == pytest.approx(shape.residual, abs=1e-4)
    assert [p.name for p in path.parent.iterdir()] == ["person.json"]


def test_a_file_of_betas_alone_is_read_still(shape: HandShape, tmp_path: Path) -> None:
    path = tmp_path / "person.json"
    shape.save(path)
    content = json.loads(path.read_text())
    new = "offsets_mm", "offsets_sigma_mm", "correlation_below_diagonal", "noise", "residual"
    for key in new:
        content.pop(key)
    path.write_text(json.dumps({**content, "version": 1}))
    old = load_shape(path, shape.model_id)
    np.testing.assert_array_equal(old.betas, shape.betas)
    assert old.offsets is None and np.isnan(old.residual)
    np.testing.assert_array_equal(old.noise, 1)


def test_a_file_without_the_correlation_takes_offsets_for_independent(
    shape: HandShape, tmp_path: Path
) -> None:
    path = tmp_path / "person.json"
    replace(shape, correlation=None).save(path)
    old = load_shape(path, shape.model_id)
    assert old.correlation is None and old.offsets_sigma is not None
    both = old.uncertainty()
    np.testing.assert_array_equal(both[:10, :10], shape.covariance)
    np.testing.assert_array_equal(both[:10, 10:], 0)
    np.testing.assert_allclose(np.diag(both)[10:], old.offsets_sigma.ravel() ** 2)


def _set(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda content: content.update({key: value})


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (_set("model_id", "MANO"), "shape of the hand model 'MANO', but the one in use is 'free"),
        (_set("format", "cake"), "is not a hand shape"),
        (_set("version", 3), "version 3 of the format, expected 2"),
        (_set("betas", [0.0] * 9), r"betas are \(9,\)"),
        (_set("betas", [float("nan")] * 10), "must be finite"),
        (_set("covariance", np.zeros((10, 10)).tolist()), "not positive definite"),
        (_set("covariance", np.triu(np.ones((10, 10))).tolist()), "not symmetric"),
        (_set("noise", [0.0] * 21), "noise must be 21 positive"),
        (_set("offsets_mm", [[0.0, 0.0]] * 21), "offsets_mm must be 21 rows"),
        (_set("correlation_below_diagonal", [[]] * 73), "must be 73 rows of 0, 1, 2"),
        (
            _set("correlation_below_diagonal", [[2.0] * i for i in range(73)]),
            "correlation is not positive definite",
        ),
        (_set("hands", "many"), "not a good hand shape"),
        (lambda content: content.pop("betas"), "'betas' is missing"),
    ],
)
def test_a_bad_file_is_refused_by_name(
    shape: HandShape, tmp_path: Path, spoil: Callable[[dict[str, Any]], None], complaint: str
) -> None:
    path = tmp_path / "person.json"
    shape.save(path)
    content = json.loads(path.read_text())
    spoil(content)
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=complaint) as error:
        load_shape(path, shape.model_id)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[1, 2]", b"{"])
def test_no_shape_at_all(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "person.json"
    with pytest.raises(FileNotFoundError, match="calibrate-shape"):
        load_shape(path, "free_hand_1")
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is not a hand shape"):
        load_shape(path, "free_hand_1")
