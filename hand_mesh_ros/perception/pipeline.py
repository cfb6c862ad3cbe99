"""Frame sets to tracked hands: observe, associate, estimate, track."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.geometry.cameras import project, rays
from hand_mesh_ros.geometry.triangulation import triangulate
from hand_mesh_ros.hand.shape import HandShape
from hand_mesh_ros.networks.landmarks import rois_from_landmarks
from hand_mesh_ros.perception.associate import AssociateSettings, associate
from hand_mesh_ros.perception.estimate import Backend, HandViews, TakesShape
from hand_mesh_ros.perception.observe import Observer
from hand_mesh_ros.perception.track import Track, Tracker, TrackSettings
from hand_mesh_ros.types import Camera, Frame, FrameSet, HandSet, View

Array = NDArray[np.float64]


@dataclass(frozen=True)
class PipelineSettings:
    """``max_hands``: most hands a set may have, and what a search stops at.

    ``min_views``: fewer views than this do not make a hand where cameras could have seen more.
    ``search_every``: each camera's whole image is searched again at least once in so many sets
    while hands are tracked (always, while there is none).
    """

    max_hands: int = 2
    min_views: int = 1
    search_every: int = 4
    associate: AssociateSettings = field(default_factory=AssociateSettings)
    track: TrackSettings = field(default_factory=TrackSettings)


class HandPipeline:
    """Holds what lasts between frame sets: the tracks. One call of `process` a set, in order."""

    def __init__(
        self, observer: Observer, backend: Backend, settings: PipelineSettings | None = None
    ) -> None:
        self.settings = settings or PipelineSettings()
        self._observer, self._backend = observer, backend
        self._tracker = Tracker(self.settings.track)
        self._count = 0
        self.timings: dict[str, float] = {}

    def reset(self) -> None:
        """Forget the tracks; ids go on."""
        self._tracker.reset()

    def use_shape(self, shape: HandShape | None) -> None:
        """All hands are of this calibrated shape from now on; None: of any. Any thread may call.

        ``ValueError`` if the backend takes none, or not this one.
        """
        if not isinstance(self._backend, TakesShape):
            raise ValueError(
                f"the backend {type(self._backend).__name__} takes no calibrated shape: leave it "
                "out, or choose the backend 'landmarks'"
            )
        self._backend.use_shape(shape)

    def process(self, frame_set: FrameSet) -> HandSet:
        """The hands of one frame set; ``timings`` holds the seconds each stage took."""
        frames, stamp_ns = frame_set.frames, frame_set.stamp_ns
        clock = [time.perf_counter()]
        tracks = self._tracker.live(stamp_ns)
        hints = _hints(frames, tracks, stamp_ns)
        views = self._observer(frames, hints, self._search(len(frames), hints))
        clock.append(time.perf_counter())
        groups = self._groups(views, len(frames))
        clock.append(time.perf_counter())
        matched = self._tracker.match([_centre(g) for g in groups], stamp_ns)
        hands = [
            HandViews(tuple(g), t.hand, t.right_votes) if t else HandViews(tuple(g))
            for g, t in zip(groups, matched, strict=True)
        ]
        estimates = self._backend.estimate(hands)
        clock.append(time.perf_counter())
        made = [(e, t, h) for e, t, h in zip(estimates, matched, hands, strict=True) if e]
        tracked = self._tracker.update(
            [(e, t, h.right_log_odds) for e, t, h in made], stamp_ns
        )
        self._count += 1
        spans = np.diff(clock).tolist()
        self.timings = dict(zip(("observe", "associate", "estimate"), spans, strict=True))
        used = {id(view) for _, _, hand in made for view in hand.views}
        return HandSet(
            stamp_ns=stamp_ns,
            spread=frame_set.spread,
            views=tuple(frame.camera.name for frame in frames),
            hands=tracked,
            observed=tuple(hand.views for _, _, hand in made),
            unmatched=tuple(view for view in views if id(view) not in used),
        )

    def _search(self, cameras: int, hints: Sequence[tuple[int, Array]]) -> list[int]:
        """Frames to search whole: all without tracks, else those whose turn it is."""
        if not hints:
            return list(range(cameras))
        every = max(self.settings.search_every, 1)
        return [i for i in range(cameras) if (self._count + i) % every == 0]

    def _groups(self, views: Sequence[View], cameras: int) -> list[list[View]]:
        """Groups of views, one hand each, best supported first, at most ``max_hands``."""
        groups = associate(views, self.settings.associate)
        needed = min(self.settings.min_views, cameras)
        groups = [g for g in groups if len(g) >= needed]
        groups.sort(key=lambda g: (-len(g), -sum(v.presence for v in g)))
        return groups[: self.settings.max_hands]


def _hints(
    frames: Sequence[Frame], tracks: Sequence[Track], stamp_ns: int
) -> list[tuple[int, Array]]:
    """Where each tracked hand should be in each frame: ROIs around its predicted joints."""
    out = []
    for track in tracks:
        joints = track.predicted(stamp_ns)
        for i, frame in enumerate(frames):
            uv = project(frame.camera, joints)
            if _mostly_inside(frame.camera, uv):
                out.append((i, rois_from_landmarks(uv)[0]))
    return out


def _mostly_inside(camera: Camera, uv: Array) -> bool:
    if not np.isfinite(uv).all():
        return False
    inside = (uv >= 0).all(-1) & (uv[:, 0] < camera.width) & (uv[:, 1] < camera.height)
    return bool(inside.mean() > 0.6)


def _centre(views: Sequence[View]) -> Array:
    """Rough centre (3,) of a hand: triangulated, or along the ray at its depth or apparent size."""
    if len(views) > 1:
        uv, sigma = np.stack([v.uv for v in views]), np.stack([v.sigma for v in views])
        centre: Array = np.nanmean(triangulate([v.camera for v in views], uv, sigma), axis=0)
        return centre
    view = views[0]
    size_m = np.linalg.norm(view.world - view.world.mean(0), axis=-1).mean()
    size_px = np.linalg.norm(view.uv - view.uv.mean(0), axis=-1).mean()
    depth = view.camera.focal * size_m / max(size_px, 1.0)
    if view.depth is not None and np.isfinite(view.depth).any():
        depth = float(np.nanmedian(view.depth))
    return np.asarray(view.camera.centre + depth * rays(view.camera, view.uv.mean(0)))
