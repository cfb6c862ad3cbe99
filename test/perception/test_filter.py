"""The filter: honest, steadier than what it is fed, and never late."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from hand_mesh_ros.geometry.rotations import exp_so3
from hand_mesh_ros.hand.model import load_hand_model
from hand_mesh_ros.perception.filter import FilterSettings, HandState, begin, predict, update
from hand_mesh_ros.perception.pose import FINGERS, PLACE, SIZE, TURN, WRIST, HandPose
from hand_mesh_ros.render.motion import HandPath, gesture_pose

FPS = 30.0
MODEL = load_hand_model()
PATH = HandPath.random("right", np.array([0, 0, 0.4]), np.array([0.08, 0.12, 0.08]), 0)
Motion = Callable[[float], HandPose]


def posed(place: np.ndarray, turn: np.ndarray, angles: np.ndarray) -> HandPose:
    return HandPose(MODEL, place, exp_so3(turn), angles, np.zeros(10))


def rest(t: float) -> HandPose:
    return posed(np.array([0, 0, 0.4]), np.zeros(3), gesture_pose("relaxed"))


def path(t: float) -> HandPose:
    """Slow curves and one gesture after the other."""
    return posed(PATH.position(t), PATH.global_orient(t), PATH.hand_pose(t))


def reach(t: float) -> HandPose:
    """40 cm and a radian in 0.6 s while the hand closes, a rest, and back."""
    k, phase = divmod(t, 1.2)
    x = np.clip(phase / 0.6, 0, 1)
    m = x**3 * (10 - 15 * x + 6 * x**2)
    m = m if k % 2 == 0 else 1 - m
    angles = (1 - m) * gesture_pose("open") + m * gesture_pose("fist")
    return posed(np.array([0.4 * m, 0, 0.4]), np.array([0, 0, m]), angles)


def stop(t: float) -> HandPose:
    """0.8 m/s for half a second, then a dead stop, as when a robot guards a border."""
    k, phase = divmod(t, 1.0)
    way = 0.8 * min(phase, 0.5)
    way = way if k % 2 == 0 else 0.4 - way
    return posed(np.array([way, 0, 0.4]), np.zeros(3), gesture_pose("relaxed"))


def noise() -> np.ndarray:
    """What a fit of four views knows: wrist and fingers err against each other."""
    sigma = np.concatenate([np.full(3, 0.0035), np.full(3, 0.05), np.full(45, 0.15)])
    correlation = np.eye(SIZE)
    for joint in range(6, SIZE, 9):  # the first joint of each finger
        correlation[3:6, joint : joint + 3] = correlation[joint : joint + 3, 3:6] = -0.3 * np.eye(3)
    return correlation * np.outer(sigma, sigma)


@dataclass
class Course:
    """Errors and covariances along a motion: of what was measured, and of the filter."""

    raw: np.ndarray
    filtered: np.ndarray
    covariance: np.ndarray
    states: list[HandState]
    truth: list[HandPose]

    def nees(self, part: slice) -> float:
        """Mean squared error in sigmas, a number; 1 if the covariance is honest."""
        C = self.covariance[:, part, part]
        d = self.filtered[:, part]
        return float((d * np.linalg.solve(C, d[..., None])[..., 0]).mean())

    def rms(self, part: slice) -> tuple[float, float]:
        raw, filtered = (np.sqrt((e[:, part] ** 2).mean()) for e in (self.raw, self.filtered))
        return float(raw), float(filtered)


def follow(
    motion: Motion,
    settings: FilterSettings,
    seconds: float = 8.0,
    seed: int = 0,
    lasting: float = 0.0,
    outliers: float = 0.0,
) -> Course:
    rng, R = np.random.default_rng(seed), noise()
    L = np.linalg.cholesky(R)
    bias = np.sqrt(lasting) * L @ rng.normal(size=SIZE)
    state: HandState | None = None
    raw, filtered, covariance, states, truths = [], [], [], [], []
    for k in range(round(seconds * FPS)):
        truth = motion(k / FPS)
        error = np.sqrt(1 - lasting) * L @ rng.normal(size=SIZE) + bias
        if rng.random() < outliers:
            error[PLACE] += rng.normal(0, 0.08, 3)
        seen = truth.plus(error)
        state = begin(seen, R, settings) if state is None else update(
            state, seen, R, 1 / FPS, settings
        )
        if k >= 5:
            raw.append(seen.minus(truth))
            filtered.append(state.pose.minus(truth))
            covariance.append(state.covariance)
            states.append(state)
            truths.append(truth)
    return Course(np.array(raw), np.array(filtered), np.array(covariance), states, truths)


WHITE = FilterSettings(lasting=0.0)


def test_covariance_is_honest() -> None:
    """NEES over all motions, given honest noise: 1 at best, below it where it is too careful."""
    courses = [follow(motion, WHITE) for motion in (rest, path, reach, stop)]
    for part in (WRIST, FINGERS, slice(0, SIZE)):
        each = [course.nees(part) for course in courses]
        assert 0.8 < np.mean(each) < 1.5
        assert 0.7 < min(each) and max(each) < 1.5


@pytest.mark.parametrize("motion", [rest, path, reach, stop])
def test_what_is_filtered_is_nearer_the_truth(motion: Motion) -> None:
    course = follow(motion, WHITE)
    for part in (PLACE, TURN, FINGERS):
        raw, filtered = course.rms(part)
        assert filtered < 0.9 * raw
    if motion is rest:
        assert course.rms(PLACE)[1] < 0.75 * course.rms(PLACE)[0]


def test_a_stop_is_not_overrun() -> None:
    """In the 100 ms after the dead stop the error stays that of the measurements."""
    course = follow(stop, WHITE, seconds=20)
    phase = (np.arange(len(course.raw)) + 5) / FPS % 1.0
    after = (phase >= 0.5) & (phase < 0.6)
    raw, filtered = (
        np.linalg.norm(e[after][:, PLACE], axis=-1) for e in (course.raw, course.filtered)
    )
    assert np.sqrt((filtered**2).mean()) < 1.1 * np.sqrt((raw**2).mean())
    assert filtered.max() < 1.3 * raw.max()


def test_outliers_are_inflated_not_followed() -> None:
    """Two in a hundred measurements are 8 cm off an axis."""
    course = follow(path, WHITE, seconds=20, outliers=0.02)
    raw, filtered = course.rms(PLACE)
    assert raw > 0.008
    assert filtered < 0.45 * raw
    assert course.nees(WRIST) < 1.5


def test_a_hand_that_really_jumps_is_followed_within_three_frames() -> None:
    def jump(t: float) -> HandPose:
        place = np.array([0.3 if t >= 2 else 0.0, 0, 0.4])
        return posed(place, np.zeros(3), gesture_pose("relaxed"))

    course = follow(jump, WHITE, seconds=3)
    at = round(2 * FPS) - 5
    assert np.linalg.norm(course.filtered[at + 3, PLACE]) < 0.03
    assert np.linalg.norm(course.filtered[at + 8, PLACE]) < 0.015


def test_an_error_that_lasts_is_not_averaged_away() -> None:
    """Half of the variance is the same in every frame: the covariance knows."""
    settings = FilterSettings(lasting=0.5)
    courses = [follow(path, settings, 1.0, seed, lasting=0.5) for seed in range(12)]
    honest = np.mean([c.nees(slice(0, SIZE)) for c in courses])
    assert 0.7 < honest < 1.4
    # A filter that takes it for noise is too sure.
    blind = [follow(path, WHITE, 1.0, seed, lasting=0.5) for seed in range(12)]
    assert np.mean([c.nees(slice(0, SIZE)) for c in blind]) > 1.4 * honest


def test_a_better_view_is_believed_at_once() -> None:
    """One view had the hand 6 cm too far; then two views see where it is."""
    settings = FilterSettings()
    rough, fine = noise(), noise()
    rough[0, 0] = 0.04**2
    wrong = rest(0).plus(np.concatenate([[0.06], np.zeros(SIZE - 1)]))
    state = begin(wrong, rough, settings)
    for _ in range(10):
        state = update(state, wrong, rough, 1 / FPS, settings)
    state = update(state, rest(0), fine, 1 / FPS, settings)
    assert np.abs(state.pose.minus(rest(0))[PLACE]).max() < 0.005
    # And the other way round, what was known is not given up for the worse view.
    state = update(state, wrong, rough, 1 / FPS, settings)
    assert np.abs(state.pose.minus(rest(0))[PLACE]).max() < 0.02


def test_uncertainty_grows_without_measurements_and_is_honest() -> None:
    course = follow(reach, WHITE)
    for gap in (0.05, 0.15):
        chi2 = []
        for k, state in enumerate(course.states):
            ahead = predict(state, gap, WHITE, 3.0)
            error = ahead.pose.minus(reach((k + 5) / FPS + gap))[WRIST]
            chi2.append(error @ np.linalg.solve(ahead.covariance[WRIST, WRIST], error) / 6)
        assert 0.3 < np.mean(chi2) < 1.5
    state = course.states[-1]
    traces = [np.trace(predict(state, g, WHITE, 3.0).covariance) for g in (0, 0.05, 0.1, 0.3)]
    assert (np.diff(traces) > 0).all()


def test_covariances_stay_symmetric_and_positive() -> None:
    state = follow(reach, FilterSettings(), seconds=20, outliers=0.05).states[-1]
    whole = np.block([[state.pp, state.pr], [state.pr.T, state.rr]])
    np.testing.assert_allclose(whole, whole.T, atol=1e-12)
    assert np.linalg.eigvalsh(whole).min() > -1e-12


def test_two_steps_are_one() -> None:
    """The process is exact: how a gap is cut does not matter."""
    state = follow(path, WHITE, seconds=1).states[-1]
    once = predict(state, 0.2, WHITE, 2.0)
    twice = predict(predict(state, 0.08, WHITE, 2.0), 0.12, WHITE, 2.0)
    np.testing.assert_allclose(twice.pp, once.pp, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(twice.rr, once.rr, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(twice.pose.minus(once.pose), 0, atol=1e-9)
