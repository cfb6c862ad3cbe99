"""Where the tracked hands should be seen: in every frame, at that frame's own capture time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.geometry.projection import project_arrays, stack_cameras
from hand_mesh_ros.networks.landmarks import rois_from_landmarks
from hand_mesh_ros.perception.track import Track, Tracker
from hand_mesh_ros.types import Frame, View

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Expectation:
    """T tracks in F frames. ``uv`` (T, F, 21, 2) pixels at the frames' times, NaN out of sight;

    ``metres`` (T, F, 21) that a pixel is worth there. ``shift`` (T, F, 21, 2) pixels and
    ``deeper`` (T, F, 21) metres by which a landmark moves until the set's time, with
    ``shift_sigma`` (T, F, 21) pixels and ``deeper_sigma`` (T, F, 21) metres.
    """

    frames: tuple[Frame, ...]
    uv: Array
    metres: Array
    shift: Array
    shift_sigma: Array
    deeper: Array
    deeper_sigma: Array

    def hints(self) -> list[tuple[int, Array]]:
        """Frame index and ROI (4,) of every hand that should be in sight, track by track."""
        size = np.array([[f.camera.width, f.camera.height] for f in self.frames])
        with np.errstate(invalid="ignore"):
            inside = ((self.uv >= 0) & (self.uv < size[:, None])).all(-1).mean(-1) > 0.6
        inside &= np.isfinite(self.uv).all((-1, -2))
        which = np.argwhere(inside)
        if not len(which):
            return []
        rois = rois_from_landmarks(self.uv[which[:, 0], which[:, 1]])
        return [(int(frame), roi) for (_, frame), roi in zip(which, rois, strict=True)]

    def distances(self, views: Sequence[View]) -> Array:
        """How far each view's landmarks are from where each track's should be, (N, T) metres.

        The mean over the landmarks, across the line of sight; infinite for a hand out of sight.
        """
        if not views or not len(self.uv):
            return np.full((len(views), len(self.uv)), np.inf)
        index = np.array([v.index for v in views])
        gap = np.stack([v.uv for v in views]) - self.uv[:, index]
        metres = (np.linalg.norm(gap, axis=-1) * self.metres[:, index]).mean(-1).T
        return np.where(np.isfinite(metres), metres, np.inf)

    def at_set_time(self, views: Sequence[View], distance: Array, reach: float) -> list[View]:
        """The views with their landmarks moved to the set's time, by the motion of the track that

        each one is nearest to and within ``reach`` metres of, and as much less sure. Others stay.
        """
        out = list(views)
        if not distance.size:
            return out
        for i, (view, track) in enumerate(zip(views, np.argmin(distance, axis=1), strict=True)):
            shift = self.shift[track, view.index]
            if distance[i, track] < reach and shift.any():
                out[i] = self._moved(view, int(track))
        return out

    def _moved(self, view: View, track: int) -> View:
        at = track, view.index
        sigma = np.hypot(view.sigma, self.shift_sigma[at])
        moved = replace(view, uv=view.uv + self.shift[at], sigma=sigma)
        if view.depth is None or view.depth_sigma is None:
            return moved
        return replace(
            moved,
            depth=view.depth + self.deeper[at],
            depth_sigma=np.hypot(view.depth_sigma, self.deeper_sigma[at]),
        )


def expect(
    tracker: Tracker, tracks: Sequence[Track], frames: Sequence[Frame], stamp_ns: int
) -> Expectation:
    """What ``tracks`` let expect of ``frames``; ``stamp_ns`` is the set's time."""
    ahead = np.array([(stamp_ns - f.stamp_ns) * 1e-9 for f in frames])  # until the set's time
    shape = len(tracks), len(frames), 21
    if not tracks:
        empty = np.zeros(shape)
        pairs = np.zeros((*shape, 2))
        return Expectation(tuple(frames), pairs, empty, pairs, empty, empty, empty)
    moving = [tracker.moving(track, stamp_ns) for track in tracks]
    joints = np.stack([m.joints for m in moving])  # (T, 21, 3)
    velocity = np.stack([m.velocity for m in moving])
    speed_sigma = np.stack([m.speed_sigma for m in moving])  # (T, 21)
    cameras = stack_cameras(tuple(f.camera for f in frames))
    focal = np.array([f.camera.focal for f in frames])
    then = joints[:, None] - ahead[:, None, None] * velocity[:, None]
    seen = project_arrays(cameras, then)
    now = project_arrays(cameras, np.broadcast_to(joints[:, None], then.shape))
    metres = np.maximum(seen.depth, 1e-3) / focal[:, None]
    both = seen.valid & now.valid
    deeper_sigma = np.abs(ahead)[:, None] * speed_sigma[:, None]
    return Expectation(
        frames=tuple(frames),
        uv=np.where(seen.valid[..., None], seen.uv, np.nan),
        metres=metres,
        shift=np.where(both[..., None], now.uv - seen.uv, 0.0),
        shift_sigma=deeper_sigma / metres,
        deeper=np.where(both, now.depth - seen.depth, 0.0),
        deeper_sigma=deeper_sigma,
    )
