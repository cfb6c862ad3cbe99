"""Identity: which hand of this instant is which hand of the last one, and how it goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from hand_mesh_ros.hand.model import HandModel
from hand_mesh_ros.perception.estimate import times_covariance
from hand_mesh_ros.perception.filter import (
    FilterSettings,
    HandState,
    begin,
    predict,
    update,
)
from hand_mesh_ros.perception.pose import HandPose, described, knowledge
from hand_mesh_ros.types import HandEstimate, Side, TrackedHand

Array = NDArray[np.float64]
_MOST_VOTES: Final = 15.0
_NO_MATCH: Final = 1e3
# m/s, one sigma of the speed of a hand that is not filtered.
_UNKNOWN_SPEED: Final = 0.5


@dataclass(frozen=True)
class TrackSettings:
    """``gate``: how far (m) plus how fast (m/s) a hand may be from where it was expected.

    ``side_cost``: by how much of the gate a hand may be farther off before it is rather taken for
    one of the other side. ``max_gap``: seconds without a measurement after which a track has ended.
    ``filter``: publish filtered hands; otherwise each as it was measured. ``coast``: seconds for
    which a hand that is not seen is still published, as predicted (0: not at all), once it has
    been seen ``confirm`` times. ``predict``: seconds past the capture time that hands are
    predicted to. ``shape_time``: seconds over which the shape of a hand is averaged. A hand that
    has not been seen for a while moves with ``unseen``, one of the filter's strengths.
    ``same_hand``: metres between joints within which two hands cannot be two.
    """

    gate: float = 0.12
    gate_speed: float = 1.5
    side_cost: float = 0.5
    max_gap: float = 0.5
    filter: bool = True
    coast: float = 0.15
    confirm: int = 3
    predict: float = 0.0
    shape_time: float = 2.0
    unseen: float = 3.0
    same_hand: float = 0.04
    motion: FilterSettings = field(default_factory=FilterSettings)


@dataclass(frozen=True, eq=False)
class Moving:
    """A hand expected at an instant: ``joints`` (21, 3) m, their ``velocity`` (21, 3) m/s with

    one sigma ``speed_sigma`` (21,) of each of its components.
    """

    joints: Array
    velocity: Array
    speed_sigma: Array


@dataclass(frozen=True, eq=False)
class Track:
    """A hand's recent past: the last measurement, its time, velocity of the joints' centre (m/s).

    ``right_votes`` is the log-odds of a right hand from all its views; ``state`` the filter's,
    None where the estimates do not allow one.
    """

    hand: TrackedHand
    stamp_ns: int
    velocity: Array
    right_votes: float
    state: HandState | None = None

    @property
    def right(self) -> float:
        """Probability of a right hand."""
        return float(1 / (1 + np.exp(-self.right_votes)))


class Tracker:
    """Assigns hands to tracks; ids grow and are never used again until the process ends.

    ``models`` are those that the estimates' MANO parameters belong to; without, hands are named
    but neither filtered nor predicted.
    """

    def __init__(
        self, settings: TrackSettings, models: Mapping[Side, HandModel] | None = None
    ) -> None:
        self.settings = settings
        self.tracks: list[Track] = []
        self._models = models
        self._next_id = 1

    def reset(self) -> None:
        """Forget all tracks (a clock jumped back, a bag looped); ids go on growing."""
        self.tracks = []

    def live(self, stamp_ns: int) -> list[Track]:
        """Tracks measured within ``max_gap`` before ``stamp_ns``."""
        limit = self.settings.max_gap * 1e9
        return [t for t in self.tracks if 0 <= stamp_ns - t.stamp_ns <= limit]

    def moving(self, track: Track, stamp_ns: int) -> Moving:
        """Where a track's hand should be at ``stamp_ns``, and how it should move there."""
        dt = (stamp_ns - track.stamp_ns) * 1e-9
        if track.state is None:
            joints = track.hand.estimate.joints + track.velocity * min(dt, 0.2)
            velocity = np.broadcast_to(track.velocity, (21, 3))
            return Moving(joints, velocity, np.full(21, _UNKNOWN_SPEED))
        state = predict(track.state, dt, self.settings.motion)
        joints, J, _ = state.pose.linearised()
        variance = np.einsum("jda,jda->j", J @ state.rr, J) / 3
        return Moving(joints, J @ state.rate, np.sqrt(variance))

    def match(
        self, distance: Array, right: Array, tracks: Sequence[Track], stamp_ns: int
    ) -> list[Track | None]:
        """The track that each hand continues, at most one each; None = new.

        ``distance`` (G, T) metres of each hand from where each of ``tracks`` should be, ``right``
        (G,) its probability of being a right hand.
        """
        out: list[Track | None] = [None] * len(distance)
        if not distance.size:
            return out
        elapsed = np.array([(stamp_ns - t.stamp_ns) * 1e-9 for t in tracks])
        gate = self.settings.gate + self.settings.gate_speed * elapsed
        known = np.array([t.right for t in tracks])
        differ = right[:, None] * (1 - known) + (1 - right[:, None]) * known
        cost = np.where(
            distance < gate, distance / gate + self.settings.side_cost * differ, _NO_MATCH
        )
        for i, j in zip(*linear_sum_assignment(cost), strict=True):
            if cost[i, j] < _NO_MATCH:
                out[i] = tracks[j]
        return out

    def update(
        self,
        hands: Sequence[tuple[HandEstimate, Track | None, float]],
        stamp_ns: int,
        ahead: float = 0.0,
    ) -> tuple[TrackedHand, ...]:
        """Take the hands of an instant in; returns them named, filtered and predicted.

        Each comes with the track it continues and its log-odds of being a right hand. ``ahead``:
        seconds past ``stamp_ns`` to predict, besides the settings' own.
        """
        updated = [self._advance(*hand, stamp_ns) for hand in hands]
        continued = {t.hand.track_id for t in updated}
        self.tracks = updated + [
            t for t in self.live(stamp_ns) if t.hand.track_id not in continued
        ]
        return tuple(self._published(t, stamp_ns, ahead) for t in updated)

    def coasting(
        self, seen: Sequence[TrackedHand], stamp_ns: int, ahead: float = 0.0
    ) -> tuple[TrackedHand, ...]:
        """Hands that were not among those ``seen`` at ``stamp_ns`` but still count, as predicted.

        They are `extrapolated`, come of no view, and trust in them halves every ``coast`` seconds.
        """
        names = {hand.track_id for hand in seen}
        out = []
        for track in self.live(stamp_ns):
            gap = (stamp_ns - track.stamp_ns) * 1e-9
            confirmed = track.hand.age >= self.settings.confirm and track.state is not None
            if track.hand.track_id in names or not confirmed or gap > self.settings.coast:
                continue
            hand = self._published(track, stamp_ns, ahead)
            gaps = [
                np.linalg.norm(hand.estimate.joints - other.estimate.joints, axis=-1).mean()
                for other in seen
            ]
            if min(gaps, default=np.inf) > self.settings.same_hand:
                out.append(hand)
        return tuple(out)

    def _ahead(self, state: HandState, dt: float) -> HandState:
        settings = self.settings
        return predict(state, dt, settings.motion, settings.unseen) if dt > 0 else state

    def _published(self, track: Track, stamp_ns: int, ahead: float) -> TrackedHand:
        """A track's hand as the world is told of it: at ``stamp_ns``, or so much later."""
        settings, hand = self.settings, track.hand
        ahead = ahead + settings.predict
        gap = (stamp_ns - track.stamp_ns) * 1e-9
        if track.state is None or not (settings.filter or gap or ahead):
            return hand
        state = self._ahead(track.state, gap + ahead)
        share = max(settings.motion.lasting, 1e-9)
        lasts = (hand.estimate.widened - 1) / share * state.lasting
        covariance = state.covariance + lasts
        estimate = described(hand.estimate, state.pose, covariance, measured=gap == 0)
        if gap:
            trust = 0.5 ** (gap / settings.coast)
            estimate = replace(
                estimate,
                confidence=trust * estimate.confidence,
                joint_confidence=trust * estimate.joint_confidence,
            )
        return replace(hand, estimate=estimate, extrapolated=gap + ahead > 0, ahead=ahead)

    def _advance(
        self, estimate: HandEstimate, track: Track | None, right_votes: float, stamp_ns: int
    ) -> Track:
        votes = float(np.clip(right_votes, -_MOST_VOTES, _MOST_VOTES))
        if track is None:
            hand = TrackedHand(self._next_id, estimate)
            self._next_id += 1
            return Track(hand, stamp_ns, np.zeros(3), votes, self._filtered(estimate, None, 0, 0))
        dt = max((stamp_ns - track.stamp_ns) * 1e-9, 1e-6)
        moved = estimate.joints.mean(0) - track.hand.estimate.joints.mean(0)
        velocity = 0.5 * track.velocity + 0.5 * moved / dt
        hand = replace(track.hand, estimate=estimate, age=track.hand.age + 1)
        state = self._filtered(estimate, track.state, dt, hand.age)
        return Track(hand, stamp_ns, velocity, votes, state)

    def _filtered(
        self, estimate: HandEstimate, state: HandState | None, dt: float, age: int
    ) -> HandState | None:
        """The filter's state after a measurement; None where that has no covariance or model."""
        known = np.isfinite(estimate.covariance).all() and np.isfinite(estimate.joints).all()
        if self._models is None or not (known and np.isfinite(estimate.wrist_covariance).all()):
            return None
        pose = HandPose.of(estimate, self._models)
        # errors that only last say nothing of how one measurement differs from the next
        noise, slope = knowledge(times_covariance(estimate, 1 / estimate.widened), pose)
        motion = self.settings.motion
        if state is None or state.pose.model is not pose.model:
            return begin(pose, noise, motion)
        share = min(1.0, max(1 / age, dt / self.settings.shape_time))
        betas = state.pose.betas + share * (pose.betas - state.pose.betas)
        # The joints were seen where they are: another shape takes another pose to reach them.
        pose = replace(pose.plus(slope @ (betas - pose.betas)), betas=betas)
        before = replace(state, pose=replace(state.pose, betas=betas, scale=pose.scale))
        return update(before, pose, noise, dt, motion)
