"""Frames to per-view hands: regions from tracks and palms, landmarks in the regions."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.geometry.cameras import undistort_views
from hand_mesh_ros.geometry.frames import least_rotation
from hand_mesh_ros.hand.landmarks import load_landmark_model
from hand_mesh_ros.networks.landmarks import (
    HandLandmarker,
    rois_from_landmarks,
    rois_from_palms,
)
from hand_mesh_ros.networks.palm import PalmDetector
from hand_mesh_ros.perception.depth import depth_at_landmarks
from hand_mesh_ros.types import Camera, Frame, View

Array = NDArray[np.float64]


@dataclass(frozen=True)
class ObserveSettings:
    """Which regions hold a hand, and how well its landmarks are known.

    ``presence``: least probability of a hand in a region. ``noise``: one sigma of the mean
    landmark, as a fraction of the region's side. ``passes``: how often a region found by the palm
    detector is laid anew from its own landmarks, which centre and turn it better than the palm.
    ``same_hand``: two views of a frame closer than this fraction of the region are one hand.
    """

    presence: float = 0.5
    noise: float = 0.03
    passes: int = 1
    same_hand: float = 0.25


class Observer(Protocol):
    """Anything that finds hands in frames."""

    def __call__(
        self, frames: Sequence[Frame], hints: Sequence[tuple[int, Array]], search: Sequence[int]
    ) -> list[View]:
        """Hands in ``frames``: first at ``hints`` (frame index, ROI (4,)), then searched anew in

        the frames that ``search`` names.
        """
        ...


@runtime_checkable
class TimesItself(Protocol):
    """An observer that tells the seconds of its parts, of the last call."""

    @property
    def timings(self) -> Mapping[str, float]: ...


class LandmarkObserver:
    """The palm detector and the landmark network, all views of an instant together.

    ``timings``: seconds that the last call spent with each of the two.
    """

    def __init__(
        self, palms: PalmDetector, landmarks: HandLandmarker, settings: ObserveSettings
    ) -> None:
        self._palms, self._landmarks, self.settings = palms, landmarks, settings
        self._relative_noise = load_landmark_model().noise
        self.timings = {"detect": 0.0, "landmarks": 0.0}

    def __call__(
        self, frames: Sequence[Frame], hints: Sequence[tuple[int, Array]], search: Sequence[int]
    ) -> list[View]:
        """See `Observer`; a hand seen through two regions of one frame is kept once."""
        self.timings = {"detect": 0.0, "landmarks": 0.0}
        index = np.array([i for i, _ in hints], dtype=int)
        rois = np.array([roi for _, roi in hints], dtype=np.float64).reshape(-1, 4)
        views = self._distinct(self._look(frames, index, rois))
        if search:
            views = self._distinct(views + self._searched(frames, views, search))
        return [_with_depth(view) for view in views]

    def _searched(
        self, frames: Sequence[Frame], views: Sequence[View], search: Sequence[int]
    ) -> list[View]:
        """Hands of the frames that ``search`` names, but for those that ``views`` cover."""
        begin = time.perf_counter()
        palms = self._palms.detect([frames[i].image for i in search])
        self.timings["detect"] += time.perf_counter() - begin
        index = np.repeat(np.array(search, dtype=int), [len(p) for p in palms])
        rois = np.concatenate([rois_from_palms(p) for p in palms]).reshape(-1, 4)
        fresh = [
            i
            for i in range(len(rois))
            if not any(v.index == index[i] and _covers(v.roi, rois[i]) for v in views)
        ]
        index, rois = index[fresh], rois[fresh]
        found: list[View] = []
        for _ in range(1 + self.settings.passes):
            found = self._look(frames, index, rois)
            index = np.array([v.index for v in found], dtype=int)
            rois = np.array([v.roi for v in found]).reshape(-1, 4)
        return found

    def _look(
        self, frames: Sequence[Frame], index: NDArray[np.int_], rois: Array
    ) -> list[View]:
        if not len(rois):
            return []
        begin = time.perf_counter()
        batch = self._landmarks([f.image for f in frames], rois, index.tolist())
        self.timings["landmarks"] += time.perf_counter() - begin
        next_rois = rois_from_landmarks(batch.uv)
        kept = np.flatnonzero(batch.presence >= self.settings.presence)
        cameras = [frames[index[i]].camera for i in kept]
        worlds = _in_cameras(cameras, batch.uv[kept], batch.world[kept])
        return [
            View(
                index=int(index[i]),
                camera=camera,
                uv=batch.uv[i],
                sigma=np.maximum(self.settings.noise * next_rois[i, 2] * self._relative_noise, 0.5),
                world=world,
                presence=float(batch.presence[i]),
                right=float(batch.right[i]),
                roi=next_rois[i],
                frame=frames[index[i]],
            )
            for i, camera, world in zip(kept, cameras, worlds, strict=True)
        ]

    def _distinct(self, views: Sequence[View]) -> list[View]:
        """One view a hand and frame: of those with nearly the same landmarks the surest stays."""
        kept: list[View] = []
        for view in sorted(views, key=lambda v: -v.presence):
            if not any(_same(k, view, self.settings.same_hand) for k in kept):
                kept.append(view)
        return kept


def _in_cameras(cameras: Sequence[Camera], uv: Array, world: Array) -> list[Array]:
    """Crops' metric landmarks (N, 21, 3) in the axes of their N cameras.

    A network that sees a crop knows nothing of where it was cut out: its axes are those of a camera
    that looks straight at the hand. The least rotation that takes the optical axis to the hand's
    ray makes them the camera's own. Where there is no such ray they stay as they are.
    """
    if not cameras:
        return []
    xy = undistort_views(cameras, uv.mean(axis=1, keepdims=True))[:, 0]
    ray = np.column_stack([xy, np.ones(len(xy))])
    ray[~np.isfinite(xy).all(-1)] = [0.0, 0.0, 1.0]
    axis = np.broadcast_to([0.0, 0.0, 1.0], ray.shape)
    turn = least_rotation(axis, ray / np.linalg.norm(ray, axis=-1, keepdims=True))
    return list(world @ turn.swapaxes(-1, -2))


def _with_depth(view: View) -> View:
    """The view with its landmarks' depth, where its frame has a depth image."""
    if view.frame is None or view.frame.depth is None:
        return view
    depth, sigma = depth_at_landmarks(view.frame.depth, view.camera, view.uv, view.world)
    return replace(view, depth=depth, depth_sigma=sigma)


def _same(a: View, b: View, fraction: float) -> bool:
    """Whether the landmarks of two views of one frame lie closer than a fraction of the region."""
    if a.index != b.index:
        return False
    distance = np.linalg.norm(a.uv - b.uv, axis=-1).mean()
    return bool(distance < fraction * min(a.roi[2], b.roi[2]))


def _covers(roi: Array, other: Array) -> bool:
    """Whether two regions look at the same hand: the centres are closer than a third of a side."""
    return bool(np.linalg.norm(roi[:2] - other[:2]) < min(roi[2], other[2]) / 3)
