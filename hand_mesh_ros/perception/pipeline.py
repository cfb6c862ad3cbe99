"""Frame sets to tracked hands: observe, associate, estimate, track."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.hand.model import HandModel
from hand_mesh_ros.hand.shape import HandShape
from hand_mesh_ros.perception.associate import AssociateSettings, associate
from hand_mesh_ros.perception.estimate import Backend, HandViews, TakesShape
from hand_mesh_ros.perception.expect import expect
from hand_mesh_ros.perception.fuse import fused
from hand_mesh_ros.perception.observe import Observer, TimesItself
from hand_mesh_ros.perception.track import Track, Tracker, TrackSettings
from hand_mesh_ros.types import FrameSet, HandSet, Side, View

Array = NDArray[np.float64]
_STAGES = ("observe", "associate", "estimate", "track")


@dataclass(frozen=True)
class PipelineSettings:
    """``max_hands``: most hands a set may have, and what a search stops at.

    ``min_views``: fewer views than this do not make a hand where cameras could have seen more.
    ``search_every``: each camera's whole image is searched again at least once in so many sets
    while hands are tracked (always, while there is none); ``search_full``: once in so many where
    nothing is missing, neither a hand nor, of a hand, this camera's view. ``compensate``: landmarks
    of frames taken before the set's time are moved to it by the motion of the track they belong to.
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


@runtime_checkable
class ChecksShape(Protocol):
    """A backend that tells how much worse hands fit their calibrated shape than they should."""

    @property
    def shape_misfit(self) -> float | None: ...


class _Hand(NamedTuple):
    """Places of its views among all, the views with its past, and the track it continues."""

    group: list[int]
    views: HandViews
    track: Track | None


class HandPipeline:
    """Holds what lasts between frame sets: the tracks. One call of `process` a set, in order.

    ``timings`` are the seconds that each stage of the last set took, and the parts of observing;
    ``outliers`` counts, by camera, views that were left out because two or more others contradict
    them.
    """

    def __init__(
        self, observer: Observer, backend: Backend, settings: PipelineSettings | None = None
    ) -> None:
        self.settings = settings or PipelineSettings()
        self._observer, self._backend = observer, fused(backend)
        models = backend.models if isinstance(backend, HasModels) else None
        self._tracker = Tracker(self.settings.track, models)
        self._count, self._measured = 0, 0
        self._missed: dict[int, int] = {}
        self.timings: dict[str, float] = {}
        self.outliers: Counter[str] = Counter()

    def reset(self) -> None:
        """Forget the tracks; ids go on."""
        self._tracker.reset()
        self._missed, self._measured = {}, 0

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

    @property
    def shape_misfit(self) -> float | None:
        """How many times worse hands fit the calibrated shape than promised; None: not known."""
        return self._backend.shape_misfit if isinstance(self._backend, ChecksShape) else None

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
            moved = expected.at_set_time(views, distance, self.settings.track.gate)
        groups = self._groups(moved, len(frames), distance)
        clock.append(time.perf_counter())
        hands = self._named(groups, moved, distance, tracks, stamp_ns)
        estimates = self._backend.estimate([hand.views for hand in hands])
        clock.append(time.perf_counter())
        made = [(e, hand) for e, hand in zip(estimates, hands, strict=True) if e is not None]
        ahead = max(latency(stamp_ns), 0.0) if latency is not None else 0.0
        tracked = self._tracker.update(
            [(e, hand.track, hand.views.right_log_odds) for e, hand in made], stamp_ns, ahead
        )
        room = self.settings.max_hands - len(tracked)
        unseen = self._tracker.coasting(tracked, stamp_ns, ahead)[: max(room, 0)]
        clock.append(time.perf_counter())
        self.timings = dict(zip(_STAGES, np.diff(clock).tolist(), strict=True))
        if isinstance(self._observer, TimesItself):
            self.timings |= self._observer.timings
        # As the cameras saw them, each at its own time.
        used = [[i for i in h.group if views[i].index in e.view_indices] for e, h in made]
        taken = {i for group in used for i in group}
        self._note(hints, len(made), [views[i] for i in taken])
        return HandSet(
            stamp_ns=stamp_ns,
            spread=frame_set.spread,
            views=tuple(frame.camera.name for frame in frames),
            hands=tracked + unseen,
            observed=tuple(tuple(views[i] for i in group) for group in used)
            + ((),) * len(unseen),
            unmatched=tuple(view for i, view in enumerate(views) if i not in taken),
        )

    def _named(
        self,
        groups: Sequence[list[int]],
        views: Sequence[View],
        distance: Array,
        tracks: Sequence[Track],
        stamp_ns: int,
    ) -> list[_Hand]:
        """The hand of each group of ``views``, with the past of the track that it continues.

        A single view on a track that another group continues is that hand badly seen, and counted.
        """
        seen = [HandViews(tuple(views[i] for i in group)) for group in groups]
        far = np.array([distance[group].mean(axis=0) for group in groups])
        far = far.reshape(len(groups), len(tracks))
        right = np.array([hand.right for hand in seen])
        matched = self._tracker.match(far, right, tracks, stamp_ns)
        continued = np.array([track in matched for track in tracks], dtype=bool)
        near = far[:, continued] < self.settings.associate.same_hand
        lies_on_one = np.atleast_1d(near.any(axis=1))
        out = []
        for group, hand, track, on_one in zip(groups, seen, matched, lies_on_one, strict=True):
            if track is not None:
                hand = HandViews(hand.views, track.hand, track.right_votes)
            elif on_one and len(group) == 1:
                self.outliers[hand.views[0].camera.name] += 1
                continue
            out.append(_Hand(group, hand, track))
        return out

    def _search(self, cameras: int, hints: Sequence[tuple[int, Array]]) -> list[int]:
        """Frames to search whole: all without tracks, else those that just lost a hand that they

        should see, and those whose turn it is. Turns are rare where nothing is missing.
        """
        if not hints:
            return list(range(cameras))
        settings = self.settings
        full = self._measured >= settings.max_hands
        out = []
        for i in range(cameras):
            missed = self._missed.get(i, 0)
            every = settings.search_full if full and not missed else settings.search_every
            if missed == 1 or (self._count + i) % max(every, 1) == 0:
                out.append(i)
        return out

    def _note(self, hints: Sequence[tuple[int, Array]], hands: int, used: Sequence[View]) -> None:
        """Count for how many sets on end each frame has not shown all hands that it should."""
        expected = Counter(i for i, _ in hints)
        seen = Counter(view.index for view in used)
        self._missed = {
            i: self._missed.get(i, 0) + 1 for i, n in expected.items() if seen[i] < n
        }
        self._count, self._measured = self._count + 1, hands

    def _groups(
        self, views: Sequence[View], cameras: int, distance: Array
    ) -> list[list[int]]:
        """Places in ``views`` of those of one hand each, best supported first, ``max_hands`` at

        most. Views that contradict them are counted.
        """
        place = {id(view): i for i, view in enumerate(views)}
        groups = [
            [place[id(view)] for view in group]
            for group in associate(views, self.settings.associate, distance)
        ]
        grouped = {i for group in groups for i in group}
        self.outliers.update(v.camera.name for i, v in enumerate(views) if i not in grouped)
        needed = min(self.settings.min_views, cameras)
        enough = [group for group in groups if len(group) >= needed]
        enough.sort(key=lambda group: (-len(group), -sum(views[i].presence for i in group)))
        return enough[: self.settings.max_hands]
