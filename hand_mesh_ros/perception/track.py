"""Identity: which hand of this instant is which hand of the last one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from hand_mesh_ros.types import HandEstimate, TrackedHand

Array = NDArray[np.float64]
_MOST_VOTES = 15.0


@dataclass(frozen=True)
class TrackSettings:
    """``gate``: how far (m) plus how fast (m/s) a hand may be from where it was expected.

    ``max_gap``: seconds without a measurement after which a track has ended.
    """

    gate: float = 0.12
    gate_speed: float = 1.5
    max_gap: float = 0.5


@dataclass(frozen=True, eq=False)
class Track:
    """A hand's recent past: last measurement, its time, velocity of the joints' centre (m/s).

    ``right_votes`` is the log-odds of a right hand from all its views.
    """

    hand: TrackedHand
    stamp_ns: int
    velocity: Array
    right_votes: float

    def predicted(self, stamp_ns: int) -> Array:
        """Joints (21, 3) expected at ``stamp_ns``: the last ones, moved on as a whole."""
        dt = min((stamp_ns - self.stamp_ns) * 1e-9, 0.2)
        return self.hand.estimate.joints + self.velocity * dt


class Tracker:
    """Assigns hands to tracks; ids grow and are never used again until the process ends."""

    def __init__(self, settings: TrackSettings) -> None:
        self.settings = settings
        self.tracks: list[Track] = []
        self._next_id = 1

    def reset(self) -> None:
        """Forget all tracks (a clock jumped back, a bag looped); ids go on growing."""
        self.tracks = []

    def live(self, stamp_ns: int) -> list[Track]:
        """Tracks measured within ``max_gap`` before ``stamp_ns``."""
        limit = self.settings.max_gap * 1e9
        return [t for t in self.tracks if 0 <= stamp_ns - t.stamp_ns <= limit]

    def match(self, centres: Sequence[Array], stamp_ns: int) -> list[Track | None]:
        """The live track that each hand centre (3,) continues, at most one each; None = new."""
        tracks = self.live(stamp_ns)
        out: list[Track | None] = [None] * len(centres)
        if not tracks or not centres:
            return out
        expected = np.stack([t.predicted(stamp_ns).mean(0) for t in tracks])
        distance = np.linalg.norm(np.stack(centres)[:, None] - expected[None], axis=-1)
        elapsed = np.array([(stamp_ns - t.stamp_ns) * 1e-9 for t in tracks])
        gate = self.settings.gate + self.settings.gate_speed * elapsed
        cost = np.where(distance < gate, distance, 1e3)
        for i, j in zip(*linear_sum_assignment(cost), strict=True):
            if cost[i, j] < 1e3:
                out[i] = tracks[j]
        return out

    def update(
        self, hands: Sequence[tuple[HandEstimate, Track | None, float]], stamp_ns: int
    ) -> tuple[TrackedHand, ...]:
        """Take the hands of an instant in; returns them named.

        Each comes with the track it continues and its log-odds of being a right hand.
        """
        updated = [self._advance(*hand, stamp_ns) for hand in hands]
        continued = {t.hand.track_id for t in updated}
        self.tracks = updated + [
            t for t in self.live(stamp_ns) if t.hand.track_id not in continued
        ]
        return tuple(t.hand for t in updated)

    def _advance(
        self, estimate: HandEstimate, track: Track | None, right_votes: float, stamp_ns: int
    ) -> Track:
        votes = float(np.clip(right_votes, -_MOST_VOTES, _MOST_VOTES))
        if track is None:
            hand = TrackedHand(self._next_id, estimate)
            self._next_id += 1
            return Track(hand, stamp_ns, np.zeros(3), votes)
        dt = max((stamp_ns - track.stamp_ns) * 1e-9, 1e-6)
        moved = estimate.joints.mean(0) - track.hand.estimate.joints.mean(0)
        velocity = 0.5 * track.velocity + 0.5 * moved / dt
        hand = replace(track.hand, estimate=estimate, age=track.hand.age + 1)
        return Track(hand, stamp_ns, velocity, votes)
