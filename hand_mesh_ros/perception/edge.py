"""What runs beside a camera: hands followed in its own images, for a node elsewhere to fuse.

Nothing here knows where the camera stands: a hand is followed in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from hand_mesh_ros.networks.landmarks import rois_from_landmarks
from hand_mesh_ros.perception.observe import Observer
from hand_mesh_ros.types import Frame, View

Array = NDArray[np.float64]
# What a sure disagreement about the side adds to a distance, in sides of the region.
_SIDE_COST = 0.3
_SIDE_NEWEST = 0.2


@dataclass(frozen=True)
class EdgeSettings:
    """``max_hands`` are followed in each camera's images.

    ``search_every``: the whole image is searched once in so many frames while some hands are
    followed, half as often with all of them, and twice as often with none; and in the frame after
    one was lost. ``max_gap``: a hand unseen for longer, s, is another one when it comes back.
    ``gate``: a view farther from where its hand was expected, as a fraction of its region's side,
    is another hand's.
    """

    max_hands: int = 2
    search_every: int = 4
    max_gap: float = 0.3
    gate: float = 0.6


@dataclass
class _Followed:
    """A hand in one camera's images: its last view, and its velocity (2,) in pixels a second."""

    track_id: int
    view: View
    stamp_ns: int
    right: float
    velocity: Array = field(default_factory=lambda: np.zeros(2))
    missing: bool = False

    def expected(self, stamp_ns: int) -> Array:
        """Landmarks (21, 2) at a time, of a hand that moves on evenly."""
        return np.asarray(self.view.uv + self.velocity * (stamp_ns - self.stamp_ns) * 1e-9)

    def seen(self, view: View, stamp_ns: int) -> None:
        """Take a new view in."""
        seconds = (stamp_ns - self.stamp_ns) * 1e-9
        if seconds > 0:
            self.velocity = (view.uv - self.view.uv).mean(axis=0) / seconds
        self.right += _SIDE_NEWEST * (view.right - self.right)
        self.view, self.stamp_ns, self.missing = view, stamp_ns, False


@dataclass
class _Camera:
    """What is remembered of one camera. ``due``: search the next frame, whoever's turn it is."""

    hands: list[_Followed] = field(default_factory=list)
    stamp_ns: int = 0
    since_search: int = 0
    due: bool = True
    ids: int = 0


class EdgePipeline:
    """Follows the hands of each camera by itself. Calls must come from one thread."""

    def __init__(self, observer: Observer, settings: EdgeSettings | None = None) -> None:
        self.settings = settings or EdgeSettings()
        self._observer = observer
        self._cameras: dict[str, _Camera] = {}

    def reset(self) -> None:
        """Forget every hand; a camera's ids go on."""
        for camera in self._cameras.values():
            camera.hands.clear()

    def process(self, frames: Sequence[Frame]) -> list[list[tuple[View, int]]]:
        """Each frame's hands, with the camera's own track ids: 1 and up, constant while followed.

        ``frames``: at most one a camera, each newer than that camera's last; after a capture time
        that went back the camera's hands are other ones. At most ``max_hands`` a frame: those
        that are followed, then the surest.
        """
        cameras = [self._cameras.setdefault(f.camera.name, _Camera()) for f in frames]
        hints: list[tuple[int, Array]] = []
        search: list[int] = []
        for index, (frame, camera) in enumerate(zip(frames, cameras, strict=True)):
            self._forget(camera, frame.stamp_ns)
            expected = [hand.expected(frame.stamp_ns) for hand in camera.hands]
            hints += [(index, rois_from_landmarks(uv)[0]) for uv in expected if _in(frame, uv)]
            if self._searched(camera):
                search.append(index)
        views = self._observer(frames, hints, search)
        return [
            self._follow(camera, [v for v in views if v.index == index], frame.stamp_ns)
            for index, (frame, camera) in enumerate(zip(frames, cameras, strict=True))
        ]

    def _forget(self, camera: _Camera, stamp_ns: int) -> None:
        """Drop the hands that were not seen for too long, or belong to another time."""
        oldest_ns = stamp_ns - int(self.settings.max_gap * 1e9)
        went_back = stamp_ns < camera.stamp_ns
        camera.hands = [h for h in camera.hands if h.stamp_ns >= oldest_ns and not went_back]
        camera.stamp_ns = stamp_ns

    def _searched(self, camera: _Camera) -> bool:
        """Whether this frame is searched whole; counts the frames since."""
        every = self.settings.search_every
        if not camera.hands:
            every //= 2
        elif len(camera.hands) >= self.settings.max_hands:
            every *= 2
        camera.since_search += 1
        if not camera.due and camera.since_search < every:
            return False
        camera.since_search, camera.due = 0, False
        return True

    def _follow(
        self, camera: _Camera, views: Sequence[View], stamp_ns: int
    ) -> list[tuple[View, int]]:
        """The views that count, each with its hand's id."""
        most = self.settings.max_hands
        matched = self._match(camera.hands, views, stamp_ns)
        # A hand that comes back finds its place taken, if others have been found meanwhile.
        for number in sorted(matched, key=lambda n: matched[n].missing)[most:]:
            del matched[number]
        for number, hand in matched.items():
            hand.seen(views[number], stamp_ns)
        for hand in camera.hands:
            if hand.stamp_ns < stamp_ns and not hand.missing:
                # One search for a hand just lost, not one in every frame that it stays away.
                hand.missing = camera.due = True
        fresh = sorted(set(range(len(views))) - set(matched), key=lambda i: -views[i].presence)
        for number in fresh[: most - len(matched)]:
            camera.ids += 1
            hand = _Followed(camera.ids, views[number], stamp_ns, views[number].right)
            matched[number] = hand
            camera.hands.append(hand)
        return [(views[number], matched[number].track_id) for number in sorted(matched)]

    def _match(
        self, hands: Sequence[_Followed], views: Sequence[View], stamp_ns: int
    ) -> dict[int, _Followed]:
        """The followed hand of each view that has one, by the view's number."""
        if not hands or not views:
            return {}
        expected = np.stack([hand.expected(stamp_ns) for hand in hands])
        seen, side = np.stack([v.uv for v in views]), np.array([v.roi[2] for v in views])
        apart = np.linalg.norm(expected[:, None] - seen[None], axis=-1).mean(axis=-1) / side
        right = np.array([h.right for h in hands])[:, None] - np.array([v.right for v in views])
        cost = apart + _SIDE_COST * np.abs(right)
        allowed = apart < self.settings.gate
        rows, columns = linear_sum_assignment(np.where(allowed, cost, 1e3))
        return {
            int(j): hands[i] for i, j in zip(rows, columns, strict=True) if allowed[i, j]
        }


def _in(frame: Frame, uv: Array) -> bool:
    """Whether the middle of a hand is in the image."""
    u, v = uv.mean(axis=0)
    return bool(0 <= u < frame.camera.width and 0 <= v < frame.camera.height)
