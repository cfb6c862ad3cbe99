"""The drift monitor names the camera that moved, and nobody else for anything else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from hand_mesh_ros.perception.drift import CameraDrift, DriftMonitor, DriftSettings
from hand_mesh_ros.types import Camera, HandSet

QUICK = DriftSettings(every=0.1, half_life=3.0, learn=3.0)
SETS = 60


def _sets(
    scene: Any, stage: Any, rng: np.random.Generator, true: Any, known: Any, start: int
) -> list[HandSet]:
    """A few seconds of hands, before cameras that stand where ``true`` says."""
    instants = stage.wander(scene, true, SETS, rng, known=known)
    return [stage.hand_set(start + stamp, views, known) for stamp, views in instants]


def _run(monitor: DriftMonitor, sets: list[HandSet]) -> tuple[CameraDrift, ...]:
    for hands in sets:
        monitor.update(hands)
    return monitor.report()


def _moved(report: tuple[CameraDrift, ...]) -> list[str]:
    return [camera.camera for camera in report if camera.moved]


@pytest.mark.parametrize("which, degrees", [(0, 1.0), (1, 1.5), (3, 2.0)])
def test_the_camera_that_turned_is_named(
    scene: Any, stage: Any, rng: np.random.Generator, which: int, degrees: float
) -> None:
    cameras = stage.ring(4)
    monitor = DriftMonitor([c.name for c in cameras], QUICK)
    before = _run(monitor, _sets(scene, stage, rng, cameras, cameras, 1))
    assert not monitor.learning and not _moved(before)
    now = list(cameras)
    now[which] = stage.turned(cameras[which], degrees, 0.0, rng)
    after = _run(monitor, _sets(scene, stage, rng, now, cameras, 10_000_000_000))
    assert _moved(after) == [f"camera_{which}"]
    named = after[which]
    assert named.px > 2 * named.expected_px and not named.alike
    assert 0.3 * degrees < named.degrees < 1.7 * degrees


def test_a_wrong_calibration_from_the_start_is_normal(
    scene: Any, stage: Any, rng: np.random.Generator
) -> None:
    cameras = stage.ring(4)
    off = [stage.turned(c, 0.5, 0.005, rng) for c in cameras]
    monitor = DriftMonitor([c.name for c in cameras], QUICK)
    for start in (1, 10_000_000_000, 20_000_000_000):
        assert not _moved(_run(monitor, _sets(scene, stage, rng, off, cameras, start)))


def test_occlusion_and_leaving_raise_no_alarm(
    scene: Any, stage: Any, rng: np.random.Generator
) -> None:
    cameras = stage.ring(4)
    monitor = DriftMonitor([c.name for c in cameras], QUICK)
    _run(monitor, _sets(scene, stage, rng, cameras, cameras, 1))
    # One camera's view is wrong by a hand's width in every fourth set, another's hand is gone.
    sets = _sets(scene, stage, rng, cameras, cameras, 10_000_000_000)
    for k, hands in enumerate(sets):
        observed = []
        for views in hands.observed:
            views = tuple(v for v in views if v.camera.name != "camera_3" or k < 20)
            observed.append(
                tuple(
                    replace(v, uv=v.uv + rng.normal(0, 40, 2))
                    if v.camera.name == "camera_0" and k % 4 == 0
                    else v
                    for v in views
                )
            )
        sets[k] = replace(hands, observed=tuple(observed))
    assert not _moved(_run(monitor, sets))
    # Nobody for an hour.
    monitor.update(replace(sets[-1], stamp_ns=3600 * 10**9, hands=(), observed=()))
    assert not _moved(monitor.report())
    assert not _moved(_run(monitor, _sets(scene, stage, rng, cameras, cameras, 3700 * 10**9)))


def test_views_that_match_nothing_any_more_still_tell(
    scene: Any, stage: Any, rng: np.random.Generator
) -> None:
    cameras = stage.ring(4)
    monitor = DriftMonitor([c.name for c in cameras], QUICK)
    _run(monitor, _sets(scene, stage, rng, cameras, cameras, 1))
    now = [*cameras[:2], stage.turned(cameras[2], 4.0, 0.0, rng), cameras[3]]
    sets = [
        replace(
            s,
            observed=tuple(tuple(v for v in g if v.index != 2) for g in s.observed),
            unmatched=tuple(v for g in s.observed for v in g if v.index == 2),
        )
        for s in _sets(scene, stage, rng, now, cameras, 10_000_000_000)
    ]
    assert _moved(_run(monitor, sets)) == ["camera_2"]


def test_two_cameras_cannot_tell_which_of_them(
    scene: Any, stage: Any, rng: np.random.Generator
) -> None:
    cameras = stage.ring(2, spread=60.0)
    monitor = DriftMonitor([c.name for c in cameras], QUICK)
    _run(monitor, _sets(scene, stage, rng, cameras, cameras, 1))
    T = cameras[1].T_camera_world.copy()
    nod = np.array([[1, 0, 0], [0, np.cos(0.03), -np.sin(0.03)], [0, np.sin(0.03), np.cos(0.03)]])
    T[:3] = nod @ T[:3]
    now = (cameras[0], cameras[1].placed(T))
    report = _run(monitor, _sets(scene, stage, rng, now, cameras, 10_000_000_000))
    assert _moved(report) == ["camera_0", "camera_1"]
    assert report[0].alike == ("camera_1",) and report[1].alike == ("camera_0",)


def test_a_new_calibration_begins_anew(scene: Any, stage: Any, rng: np.random.Generator) -> None:
    cameras = stage.ring(3)
    monitor = DriftMonitor([c.name for c in cameras], QUICK)
    _run(monitor, _sets(scene, stage, rng, cameras, cameras, 1))
    assert not monitor.learning
    now: list[Camera] = [stage.turned(cameras[0], 3.0, 0.0, rng), *cameras[1:]]
    monitor.update(_sets(scene, stage, rng, now, now, 10_000_000_000)[0])
    assert monitor.learning and not _moved(monitor.report())


def test_nothing_seen_nothing_said() -> None:
    report = DriftMonitor(["front", "left"]).report()
    assert [c.camera for c in report] == ["front", "left"]
    assert not _moved(report) and all(np.isnan(c.expected_px) for c in report)
