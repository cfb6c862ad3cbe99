"""Light, things, grasps, poses and sensor: each by what it promises."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hand_mesh_ros.hand.kinematics import forward
from hand_mesh_ros.hand.limits import pose_limits
from hand_mesh_ros.hand.model import load_hand_model
from hand_mesh_ros.render import light, sampling, sensor, skin
from hand_mesh_ros.render.grasps import grasp
from hand_mesh_ros.render.occluders import Thing, random_thing


def test_harmonics_are_orthonormal() -> None:
    directions = light.lattice(4000)
    values = light.basis(directions)
    gram = 4 * np.pi / len(directions) * values.T @ values
    np.testing.assert_allclose(gram, np.eye(9), atol=2e-3)


def test_a_lobe_is_brightest_where_it_points_and_one_on_average() -> None:
    direction = np.array([0.6, 0, 0.8])
    made = light.Environment(light.lobe(direction, np.ones(3)), direction, np.ones(3), 0)
    around = light.lattice(2000)
    radiance = made.radiance(around)[:, 0]
    assert np.argmax(radiance) == np.argmax(around @ direction)
    # The clamped cosine's mean over the sphere is a quarter, times pi of its bands.
    np.testing.assert_allclose((light.basis(around) @ made.harmonics).mean(0), 0.25, atol=0.01)


def test_an_even_sky_lights_a_white_surface_to_its_own_radiance() -> None:
    even = np.zeros((9, 3))
    even[0] = 0.8 / 0.282095
    directions, colours = light.Environment(even, directions_up(), np.zeros(3), 0).dome()
    for normal in light.lattice(40):
        received = np.clip(directions @ normal, 0, None) @ colours
        np.testing.assert_allclose(received, 0.8, rtol=0.1)


def directions_up() -> np.ndarray:
    return np.array([0.0, 0, 1])


@pytest.mark.parametrize("seed", range(12))
def test_things_are_closed_face_outwards_and_know_their_distance(seed) -> None:
    thing = random_thing(seed, held=True)
    points, faces = thing.mesh()
    a, b, c = (points[faces[:, k]] for k in range(3))
    volume = np.einsum("fc,fc->f", a, np.cross(b, c)).sum() / 6
    assert 0 < volume < 8 * np.prod(thing.size) * 1.01
    if thing.kind != "hull":  # a hull counts as its box
        assert np.abs(thing.distance(points)).max() < 1e-9
        inward = np.abs(thing.distance(0.5 * points) + 0.0)
        assert (thing.distance(0.5 * points) < 0).all() and inward.max() > 0.001
    assert (thing.distance(points + 1.0) > 0.5).all()


def test_fingers_close_until_they_touch() -> None:
    model, betas = load_hand_model(), np.zeros(10)
    touching = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        radius = rng.uniform(0.02, 0.035)
        thing = replace(
            random_thing(seed, held=True), kind="cylinder", size=np.array([radius, radius, 0.08])
        )
        pose, lying = grasp(rng, model, betas, thing)
        assert isinstance(lying, Thing)
        lower, upper = pose_limits()
        assert (pose >= lower).all() and (pose <= upper).all()
        zero = np.zeros((1, 3))
        joints = forward(model, zero, pose[None], betas[None], zero).joints
        gaps = lying.distance(sampling.finger_points(joints))[0].min(axis=1)
        assert (gaps[1:] > -0.012).all() and gaps[0] > -0.02  # no bone goes through it
        touching.append((gaps < 0.02).sum())
    assert np.mean(touching) > 3


def test_the_thumb_meets_a_finger() -> None:
    model, betas, zero = load_hand_model(), np.zeros(10), np.zeros((1, 3))
    for seed in range(10):
        pose = sampling.contact_pose(np.random.default_rng(seed), model, betas)
        joints = forward(model, zero, pose[None], betas[None], zero).joints[0]
        gaps = np.linalg.norm(joints[[8, 12, 16, 20]] - joints[4], axis=1)
        assert gaps.min() < 0.025


def test_poses_differ_keep_the_limits_and_seldom_run_into_themselves() -> None:
    model, betas = load_hand_model(), np.zeros(10)
    rng = np.random.default_rng(0)
    poses = np.stack([sampling.random_pose(rng, model, betas) for _ in range(60)])
    lower, upper = pose_limits()
    assert (poses >= lower - 1e-9).all() and (poses <= upper + 1e-9).all()
    assert poses.reshape(60, 15, 3)[:, :12, 2].std(axis=0).mean() > 0.25
    assert np.median(sampling._overlap(model, poses, betas)) < 0.02


def test_a_left_hand_is_the_mirror_image() -> None:
    right, left = load_hand_model(), load_hand_model(side="left")
    rng, zero = np.random.default_rng(3), np.zeros((1, 3))
    pose, turn = sampling.synergy_pose(rng), sampling.heading(rng)
    joints = []
    for side, model in (("right", right), ("left", left)):
        place = sampling.placed(side, turn, pose, np.array([0.1, 0.2, 0.3]))
        posed = forward(model, place.orient[None], place.pose[None], np.zeros((1, 10)), zero)
        shift = place.palm - (posed.joints[0, 0] + posed.joints[0, 9]) / 2
        joints.append(posed.joints[0] + shift)
    np.testing.assert_allclose(joints[1], joints[0] * [1, -1, 1], atol=1e-9)


def test_no_arm_is_between_hand_and_camera() -> None:
    rng = np.random.default_rng(1)
    towards = [sampling.heading(rng, 2.0)[0, 0] for _ in range(300)]
    assert max(towards) < 0.4


def test_people_differ_in_tone_and_their_palms_are_paler() -> None:
    model = load_hand_model()
    tones = [skin.random_person(n).skin.albedo(model) for n in range(40)]
    means = np.array([t.mean() for t in tones])
    assert means.max() > 2 * means.min()
    normal = skin._normals(model)[:, 1]
    for tone in tones:
        assert tone[normal < -0.8].mean() > tone[normal > 0.8].mean()


def test_nails_lie_on_the_backs_of_the_fingertips() -> None:
    model = load_hand_model()
    frames = skin.nails(model)
    normals = skin._normals(model)
    for frame, tip in zip(frames, model.tips, strict=True):
        assert np.linalg.norm(frame[0] - model.v_template[tip]) < 0.008
        near = np.argmin(np.linalg.norm(model.v_template - frame[0] - 0.004 * frame[3], axis=1))
        assert normals[near] @ frame[3] > 0.5


def test_a_sensor_is_dim_in_the_corners_noisy_and_sharp_by_its_numbers() -> None:
    plain = sensor.Sensor(np.ones(3), 0.0, 0.3, np.zeros(2), 0.0, 0.0, 0, 1)
    grey = np.full((64, 64, 3), 0.25, np.float32)
    still = plain.expose(grey)
    assert np.ptp(still) <= 1
    dim = replace(plain, vignette=0.4).expose(grey)
    assert dim[0, 0, 0] < dim[32, 32, 0] - 15
    noisy = replace(plain, read=0.02).expose(grey).astype(float)
    assert 2 < noisy.std() < 12
    warm = replace(plain, gains=np.array([1.2, 1, 0.8])).expose(grey)[32, 32].astype(int)
    assert warm[0] > warm[1] > warm[2]
    edge = np.zeros((64, 64, 4), np.float32)
    edge[:, 32:] = 1
    smeared = replace(plain, motion=np.array([40.0, 0])).smear(edge)
    assert ((smeared[20] > 0.01) & (smeared[20] < 0.99)).any(axis=-1).sum() >= 8
    np.testing.assert_allclose(smeared.sum(), edge.sum(), rtol=0.02)
