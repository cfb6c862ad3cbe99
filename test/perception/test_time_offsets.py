"""Time offsets from the motion of hands: exact joints of the synthetic cell, with noise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hand_mesh_ros.geometry.cameras import project
from hand_mesh_ros.hand.kinematics import forward
from hand_mesh_ros.hand.model import load_hand_model
from hand_mesh_ros.perception.landmark_tracks import LandmarkTrack, collect
from hand_mesh_ros.perception.offset_fit import OffsetSettings
from hand_mesh_ros.perception.time_offsets import TimeOffsets, estimate_offsets
from hand_mesh_ros.render.motion import HandPath
from hand_mesh_ros.render.studio import CENTRE, arc_of_cameras
from hand_mesh_ros.types import FrameSet, HandSet

EPOCH_NS = 10**18


def joints(path: HandPath, times: np.ndarray) -> np.ndarray:
    """World joints (F, 21, 3) of a hand that follows a path."""
    model = load_hand_model(side=path.side)
    orient = np.stack([path.global_orient(t) for t in times])
    pose = np.stack([path.hand_pose(t) for t in times])
    place = np.stack([path.position(t) for t in times])
    still = np.zeros((len(times), 3))
    return forward(model, orient, pose, np.zeros((len(times), 10)), still).joints + place[:, None]


def film(
    offsets: np.ndarray,
    noise: float = 2.0,
    seed: int = 0,
    fps: float = 20.0,
    seconds: float = 10.0,
    speed: float = 1.0,
) -> list[LandmarkTrack]:
    """Free-running cameras, camera i's clock behind by ``offsets[i]`` s, that film a hand."""
    rng = np.random.default_rng([seed, 77])
    path = HandPath.random("right", CENTRE, np.array([0.08, 0.12, 0.08]), seed)
    tracks = []
    for camera, offset in zip(arc_of_cameras(len(offsets), 640, 480, seed), offsets, strict=True):
        stamps = np.arange(0, seconds, 1 / fps) + rng.uniform(0, 1 / fps)
        uv = project(camera, joints(path, 1.0 + speed * (stamps + offset)))
        uv = uv + rng.normal(0, noise, uv.shape)
        stamps_ns = EPOCH_NS + np.rint(stamps * 1e9).astype(np.int64)
        tracks.append(LandmarkTrack(camera, 1, stamps_ns, uv, np.full(uv.shape[:2], noise)))
    return tracks


def some_offsets(cameras: int, seed: int) -> np.ndarray:
    drawn = np.random.default_rng([seed, 78]).uniform(-0.04, 0.04, cameras - 1)
    return np.concatenate([[0.0], drawn])


def errors(found: TimeOffsets, truth: np.ndarray) -> np.ndarray:
    assert found.ok, [c.verdict for c in found.cameras]
    return np.array([c.seconds for c in found.cameras]) - truth


@pytest.mark.parametrize("cameras", [2, 4])
@pytest.mark.parametrize("seed", range(3))
def test_offsets_are_recovered_to_two_milliseconds(cameras: int, seed: int) -> None:
    truth = some_offsets(cameras, seed)
    found = estimate_offsets(film(truth, seed=seed), grid=0)
    error = errors(found, truth)
    assert np.abs(error).max() < 0.002
    assert np.abs(error[1:] / [c.sigma for c in found.cameras[1:]]).max() < 3.5
    # One, less what the trajectories take of the noise: most with two cameras.
    assert 0.7 < found.residual < 1.0


def test_without_noise_offsets_are_exact_and_far_below_a_period() -> None:
    truth = some_offsets(3, 5)
    found = estimate_offsets(film(truth, noise=0.01, fps=15.0), grid=0)
    assert np.abs(errors(found, truth)).max() < 5e-5


def test_the_sigma_is_honest() -> None:
    z = []
    for seed in range(5):
        truth = some_offsets(4, seed)
        found = estimate_offsets(film(truth, seed=seed, fps=15.0, seconds=6.0), grid=0)
        z += list(errors(found, truth)[1:] / [c.sigma for c in found.cameras[1:]])
    # The comparison of halves can only make sigmas larger.
    assert 0.4 < np.sqrt(np.mean(np.square(z))) < 1.3


@pytest.mark.parametrize("seed", range(2))
def test_no_motion_is_refused(seed: int) -> None:
    found = estimate_offsets(film(some_offsets(3, seed), speed=0.0, seed=seed, seconds=6.0), grid=5)
    assert not found.ok
    for camera in found.cameras[1:]:
        assert np.isnan(camera.seconds) and np.isnan(camera.sigma)
        assert "motion" in camera.verdict
    assert np.isnan(found.cost).all()


def test_a_short_look_with_much_noise_is_refused() -> None:
    found = estimate_offsets(film(some_offsets(2, 0), noise=8.0, seconds=0.8), grid=0)
    assert np.isnan(found.cameras[1].seconds)


def test_a_camera_whose_landmarks_lie_is_refused() -> None:
    """Fingertips of one camera are drawn as if seen later: half of the hand tells another time."""
    truth = np.zeros(3)
    early, late = film(truth), film(np.array([0.0, 0.0, 0.05]))
    tips = np.arange(21) % 4 % 3 == 0
    uv = np.where(tips[:, None], late[2].uv, early[2].uv)
    found = estimate_offsets([*early[:2], replace(early[2], uv=uv)], grid=0)
    assert found.cameras[1].verdict == "ok"
    assert "disagree" in found.cameras[2].verdict
    assert np.isnan(found.cameras[2].seconds)


def test_outliers_and_occlusions_do_little_harm() -> None:
    truth = some_offsets(4, 1)
    rng = np.random.default_rng(3)
    tracks = []
    for track in film(truth, seed=1):
        uv = track.uv.copy()
        wild = rng.random(uv.shape[:2]) < 0.05
        uv[wild] += rng.normal(0, 60, (wild.sum(), 2))
        uv[rng.random(len(uv)) < 0.2] = np.nan
        tracks.append(replace(track, uv=uv))
    assert np.abs(errors(estimate_offsets(tracks, grid=0), truth)).max() < 0.002


def test_the_reference_is_whom_one_names() -> None:
    truth = some_offsets(3, 2)
    found = estimate_offsets(film(truth), "camera_2", grid=0)
    assert found.reference == "camera_2"
    assert np.abs(errors(found, truth - truth[2])).max() < 0.002
    assert found.cameras[2].seconds == found.cameras[2].sigma == 0.0


def test_the_cost_is_least_at_the_offset() -> None:
    found = estimate_offsets(film(some_offsets(2, 0), fps=15.0, seconds=6.0), grid=11)
    assert found.grid[5] == 0.0
    assert found.cost[1, 5] == pytest.approx(0.0, abs=1e-6)
    assert (np.delete(found.cost[1], 5) > 1).all()
    assert np.isnan(found.cost[0]).all()


def test_what_cannot_be_done_is_said() -> None:
    tracks = film(np.zeros(2), seconds=1.5)
    with pytest.raises(ValueError, match="two cameras"):
        estimate_offsets(tracks[:1])
    with pytest.raises(ValueError, match="'nobody' sees no hand; choose camera_0, camera_1"):
        estimate_offsets(tracks, "nobody")
    apart = replace(tracks[1], stamps_ns=tracks[1].stamps_ns + 10**10)
    with pytest.raises(ValueError, match="at a time"):
        estimate_offsets([tracks[0], apart])
    with pytest.raises(ValueError, match="two cameras"):
        estimate_offsets([])


def test_an_offset_beyond_what_is_looked_for_is_refused() -> None:
    found = estimate_offsets(
        film(np.array([0.0, 0.09])), settings=OffsetSettings(largest=0.07), grid=0
    )
    assert "beyond 0.07 s" in found.cameras[1].verdict


def test_tracks_of_recorded_hands(shared_data) -> None:
    """The collector keeps what it is given, once, in order of each camera's own time."""
    from hand_mesh_ros.data.recordings import open_recording
    from hand_mesh_ros.perception.build import build_pipeline

    pipeline, _ = build_pipeline()
    sets: list[HandSet] = []
    recording = open_recording(shared_data / "two-cameras", unit_m=0.036)
    for frames, _ in zip(recording, range(12), strict=False):
        assert isinstance(frames, FrameSet)
        sets.append(pipeline.process(frames))
    tracks = collect([*sets, *sets])
    views = sum(len(views) for found in sets for views in found.observed)
    assert sum(len(track.uv) for track in tracks) == views > 10
    for track in tracks:
        assert (np.diff(track.stamps_ns) > 0).all()
        assert track.uv.shape == (len(track.stamps_ns), 21, 2)
