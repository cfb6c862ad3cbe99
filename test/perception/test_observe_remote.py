"""Frames with images and frames that bring their views, in one set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from hand_mesh_ros.perception.build import build_pipeline
from hand_mesh_ros.perception.observe_remote import RemoteObserver
from hand_mesh_ros.types import Camera, Frame, FrameSet, View

IMAGE, NONE = np.zeros((480, 640, 3), np.uint8), np.zeros((0, 0, 3), np.uint8)


class Recorder:
    """An observer that sees a given view in each of its frames, and remembers what it was asked."""

    def __init__(self, view: View) -> None:
        self.view, self.asked = view, []  # type: ignore[var-annotated]

    def __call__(
        self,
        frames: Sequence[Frame],
        hints: Sequence[tuple[int, np.ndarray]],
        search: Sequence[int],
    ) -> list[View]:
        from dataclasses import replace

        self.asked.append(([f.camera.name for f in frames], list(hints), list(search)))
        return [
            replace(self.view, index=i, camera=f.camera, frame=f) for i, f in enumerate(frames)
        ]


@pytest.fixture
def cameras(scene: Any) -> tuple[Camera, ...]:
    return scene.cameras(4)


@pytest.fixture
def views(scene: Any, cameras: tuple[Camera, ...], rng: np.random.Generator) -> list[View]:
    """What each camera sees of one hand; as it comes from elsewhere, of no index yet."""
    hand = scene.hand(rng, "right")
    return [scene.view(hand, 0, camera, rng, noise=0.5) for camera in cameras]


def test_views_and_images_are_mixed(cameras: tuple[Camera, ...], views: list[View]) -> None:
    frames = [
        Frame(cameras[0], 1, NONE, observed=(views[0],)),
        Frame(cameras[1], 1, IMAGE),
        Frame(cameras[2], 1, NONE, observed=()),
        Frame(cameras[3], 1, IMAGE),
    ]
    inner = Recorder(views[1])
    rois = [np.full(4, i) for i in range(4)]
    seen = RemoteObserver(inner)(frames, list(enumerate(rois)), [0, 2, 3])
    # Only the frames with images are looked at, by their places among themselves.
    ((names, hints, search),) = inner.asked
    assert names == ["camera_1", "camera_3"]
    assert [(i, roi[0]) for i, roi in hints] == [(0, 1), (1, 3)]
    assert search == [1]
    # What comes back has the places in the whole set.
    assert [view.index for view in seen] == [0, 1, 3]
    for view in seen:
        assert view.camera is cameras[view.index] and view.frame is frames[view.index]
    np.testing.assert_array_equal(seen[0].uv, views[0].uv)


def test_without_images_nothing_is_looked_at(
    cameras: tuple[Camera, ...], views: list[View]
) -> None:
    frames = [Frame(c, 1, NONE, observed=(v,)) for c, v in zip(cameras, views, strict=True)]
    inner = Recorder(views[0])
    hints = [(0, np.zeros(4))]
    for observer in (RemoteObserver(None), RemoteObserver(inner)):
        assert [v.index for v in observer(frames, hints, [0, 1])] == [0, 1, 2, 3]
    assert not inner.asked


def test_an_image_needs_networks(cameras: tuple[Camera, ...]) -> None:
    with pytest.raises(RuntimeError, match=r"camera_1.*no networks"):
        RemoteObserver(None)(
            [Frame(cameras[0], 1, NONE, observed=()), Frame(cameras[1], 1, IMAGE)], [], [1]
        )


def test_the_pipeline_makes_hands_of_views_alone(
    scene: Any, cameras: tuple[Camera, ...], rng: np.random.Generator, monkeypatch: Any
) -> None:
    """No network is loaded, and the hand is where it is."""
    from hand_mesh_ros.perception import build

    monkeypatch.delattr(build, "LandmarkObserver")
    pipeline, _ = build_pipeline(images=False)
    hand = scene.hand(rng, "right")
    ids = set()
    for number in range(5):
        place = scene.centre + [0.0, 0.004 * number, 0.0]
        frames = tuple(
            Frame(
                camera,
                1_000_000_000 + number * 33_000_000,
                NONE,
                observed=(scene.view(hand.at(place), 0, camera, rng, noise=0.5),),
            )
            for camera in cameras
        )
        (found,) = pipeline.process(FrameSet(frames)).hands
        error = np.linalg.norm(found.estimate.joints - hand.at(place).joints, axis=-1)
        assert found.estimate.side == "right"
        assert np.median(error) < 0.004
        assert sorted(found.estimate.view_indices) == [0, 1, 2, 3]
        ids.add(found.track_id)
    assert len(ids) == 1


def test_what_the_inner_observer_takes_is_told() -> None:
    class Timed:
        timings = {"detect": 0.25}

        def __call__(self, frames: object, hints: object, search: object) -> list[View]:
            return []

    assert RemoteObserver(Timed()).timings == {"detect": 0.25}
    assert RemoteObserver(None).timings == {}
