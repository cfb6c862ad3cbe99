"""Frame sets to tracked hands: observe, associate, estimate, track."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.hand.model import HandModel
from hand_mesh_ros.hand.shape import HandShape
from hand_mesh_ros.perception.associate import AssociateSettings, associate
from hand_mesh_ros.perception.estimate import Backend, HandViews, TakesShape
from hand_mesh_ros.perception.expect import expect
from hand_mesh_ros.perception.fuse import fused
from hand_mesh_ros.perception.observe import Observer
from hand_mesh_ros.perception.track import Tracker, TrackSettings
from hand_mesh_ros.types import FrameSet, HandSet, Side, View

Array = NDArray[np.float64]
_STAGES = ("observe", "associate", "estimate", "track")


@dataclass(frozen=True)
class PipelineSettings:
    """``max_hands``: most hands a set may have, and what a search stops at.

    ``min_views``: fewer views than this do not make a hand where cameras could have seen more.
    ``search_every``: each camera's whole image is searched again at least once in so many sets
    while hands are tracked (always, while there is none); ``search_full``: once in so many when
    the set before had as many hands as there may be. ``compensate``: landmarks of frames taken
    before the set's time are moved to it by the motion of the track they belong to.
    """

    max_hands: int = 2
    min_views: int = 1
    search_every: int = 4
    search_full: int = 30
    compensate: bool = True
    associate: AssociateSettings = field(default_factory=AssociateSettings)
    track: TrackSettings = field(default_factory=TrackSettings)


@runtime_checkable
class HasModels(Protocol):
    """A backend that tells which hand models its MANO parameters belong to.

    Hands of a backend that does not are tracked, but neither filtered nor predicted.
    """

    models: Mapping[Side, HandModel]


class HandPipeline:
    """Holds what lasts between frame sets: the tracks. One call of `process` a set, in order.

    ``timings`` are the seconds that each stage of the last set took; ``outliers`` counts, by
    camera, views that were left out because two or more others contradict them.
    """

    def __init__(
        self, observer: Observer, backend: Backend, settings: PipelineSettings | None = None
    ) -> None:
        self.settings = settings or PipelineSettings()
        self._observer, self._backend = observer, fused(backend)
        models = backend.models if isinstance(backend, HasModels) else None
        self._tracker = Tracker(self.settings.track, models)
        self._count, self._measured = 0, 0
        self.timings: dict[str, float] = {}
        self.outliers: Counter[str] = Counter()

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

    def process(
        self, frame_set: FrameSet, latency: Callable[[int], float] | None = None
    ) -> HandSet:
        """The hands of one frame set, in its order.

        ``latency`` tells, for a capture time in nanoseconds, the seconds since then: given, hands
        are predicted to the moment at which it is asked, and flagged so.
        """
        frames, stamp_ns = frame_set.frames, frame_set.stamp_ns
        clock = [time.perf_counter()]
        tracks = self._tracker.live(stamp_ns)
        expected = expect(self._tracker, tracks, frames, stamp_ns)
        hints = expected.hints()
        views = self._observer(frames, hints, self._search(len(frames), hints))
        clock.append(time.perf_counter())
        distance = expected.distances(views)
        moved = views
        if self.settings.compensate:
            reach = self.settings.track.gate
            moved = expected.at_set_time(views, distance, reach)
        groups, outliers = self._groups(moved, len(frames), distance)
        row = {id(view): i for i, view in enumerate(moved)}
        numbers = [[row[id(view)] for view in group] for group in groups]
        self.outliers.update(view.camera.name for view in outliers)
        clock.append(time.perf_counter())
        matched = self._tracker.match(
            np.array([distance[n].mean(axis=0) for n in numbers]).reshape(len(groups), len(tracks)),
            np.array([HandViews(tuple(g)).right for g in groups]),
            tracks,
            stamp_ns,
        )
        hands = [
            HandViews(tuple(g), t.hand, t.right_votes) if t else HandViews(tuple(g))
            for g, t in zip(groups, matched, strict=True)
        ]
        estimates = self._backend.estimate(hands)
        clock.append(time.perf_counter())
        made = [
            (e, t, h.right_log_odds, n)
            for e, t, h, n in zip(estimates, matched, hands, numbers, strict=True)
            if e
        ]
        ahead = max(latency(stamp_ns), 0.0) if latency is not None else 0.0
        tracked = self._tracker.update([(e, t, o) for e, t, o, _ in made], stamp_ns, ahead)
        room = self.settings.max_hands - len(tracked)
        unseen = self._tracker.coasting(tracked, stamp_ns, ahead)[: max(room, 0)]
        clock.append(time.perf_counter())
        self._count, self._measured = self._count + 1, len(made)
        spans = np.diff(clock).tolist()
        self.timings = dict(zip(_STAGES, spans, strict=True))
        used = {i for _, _, _, n in made for i in n}
        return HandSet(
            stamp_ns=stamp_ns,
            spread=frame_set.spread,
            views=tuple(frame.camera.name for frame in frames),
            hands=tracked + unseen,
            # As the cameras saw them, each at its own time.
            observed=tuple(tuple(views[i] for i in n) for _, _, _, n in made)
            + ((),) * len(unseen),
            unmatched=tuple(view for i, view in enumerate(views) if i not in used),
        )

    def _search(self, cameras: int, hints: Sequence[tuple[int, Array]]) -> list[int]:
        """Frames to search whole: all without tracks, else those whose turn it is."""
        if not hints:
            return list(range(cameras))
        settings = self.settings
        full = self._measured >= settings.max_hands
        every = max(settings.search_full if full else settings.search_every, 1)
        return [i for i in range(cameras) if (self._count + i) % every == 0]

    def _groups(
        self, views: Sequence[View], cameras: int, distance: Array
    ) -> tuple[list[list[View]], list[View]]:
        """Groups of views, one hand each, best supported first, at most ``max_hands``; and the

        views that contradict them.
        """
        groups = associate(views, self.settings.associate, distance)
        grouped = {id(view) for group in groups for view in group}
        needed = min(self.settings.min_views, cameras)
        enough = [g for g in groups if len(g) >= needed]
        enough.sort(key=lambda g: (-len(g), -sum(v.presence for v in g)))
        outliers = [view for view in views if id(view) not in grouped]
        return enough[: self.settings.max_hands], outliers
