"""From sightings of a hand to velocity commands for MoveIt Servo. No ROS in here.

What decides, and why:

*Stamps.* A sighting carries its capture time. Velocities are differences of poses over differences
of capture times: arrival times would add the transport's jitter to every velocity. A command
carries the time at which it is sent, because Servo discards a command that is older than its
``incoming_command_timeout`` (0.1 s), which most cameras and networks take to see a hand. The stamp
then says nothing about the age of what the command rests on, so this bridge guards that age itself:
a command whose sighting is older than ``max_age`` is not sent, and every command tells its age.

*One rule for loss.* A lost hand, a refused sighting, a silent network and a slow pipeline are the
same thing here: no new sighting that can be believed. The last velocity is held meanwhile and is
replaced by zero once it is ``max_age`` old, by either clock: that of the stamps, or one that goes
on when simulated time stands still.

*Stop.* ``stop_repeats`` commands of zero velocity, without a ramp (Servo smooths and obeys the
joints' limits), then silence: Servo halts for want of commands, and other sources can use its
topic.

*What moves must be certain.* A sighting is refused when its wrist is not known well enough (a
standard deviation above its limit, or unknown), when it is the tracker's prediction
(``extrapolated``, unless accepted), too old, from the future (two clocks that disagree), or not
newer than the last one.

*Clutch.* The hand moves the robot while thumb and index finger are pinched: below ``engage_below``
it engages, above ``release_above`` it opens, and in between it stays as it was. After a stop that
the person did not ask for, and at the start, the fingers must be seen open before they can engage
again. Opening is believed whatever the quality of the sighting: not moving needs no certainty.

*One hand.* While engaged only that track counts. Another hand never takes over.

*Limits.* Speeds are clamped in length, so that the direction stays; changes of velocity are limited
as accelerations. Poses as targets (Servo's ``pose_target_cmds``) were not chosen: they need the
pose of the tool at the moment of engaging, and a target goes on attracting the robot after the hand
has gone.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.geometry.rotations import log_so3

Array = NDArray[np.float64]
State = Literal["locked", "open", "engaged"]
_FUTURE = 0.02  # s: clocks that are synchronised agree better than this
_CLOCK_JUMP_NS = 1_000_000_000


@dataclass(frozen=True)
class BridgeSettings:
    """See the module. Seconds, metres, radians, and per second or second squared."""

    max_age: float = 0.25
    max_position_stddev: float = 0.03
    max_rotation_stddev: float = 0.35
    accept_extrapolated: bool = False
    engage_below: float = 0.025
    release_above: float = 0.05
    smoothing: float = 0.08
    linear_scale: float = 1.0
    angular_scale: float = 1.0
    max_linear: float = 0.25
    max_angular: float = 1.0
    max_linear_acceleration: float = 1.5
    max_angular_acceleration: float = 6.0
    stop_repeats: int = 5

    def __post_init__(self) -> None:
        if self.engage_below >= self.release_above:
            raise ValueError(
                f"parameter engage_below is {self.engage_below:g}: it must be less than "
                f"release_above, {self.release_above:g}, or the clutch would chatter"
            )


@dataclass(frozen=True, eq=False)
class Sighting:
    """One hand at its capture time.

    ``T`` (4, 4) is the wrist in ``frame_id``; ``covariance`` (6, 6) of position and rotation about
    fixed axes, NaN where unknown; ``pinch`` from thumb tip to index tip, m, NaN where unknown.
    """

    stamp_ns: int
    frame_id: str
    track_id: int
    confidence: float
    T: Array
    covariance: Array
    pinch: float
    extrapolated: bool = False


@dataclass(frozen=True, eq=False)
class Command:
    """Velocity (3,) m/s and (3,) rad/s in ``frame_id``; ``age``, s, NaN for a stop."""

    frame_id: str
    linear: Array
    angular: Array
    age: float = math.nan

    @property
    def stops(self) -> bool:
        return math.isnan(self.age)


@dataclass
class ServoBridge:
    """`see` takes what a camera saw, `command` gives what is to be sent now.

    ``now_ns`` is the clock of the stamps, ``steady`` seconds of a clock that never stops.
    ``refused`` counts sightings by reason, ``why`` says what the last change of ``state`` was for.
    """

    settings: BridgeSettings = field(default_factory=BridgeSettings)
    state: State = "locked"
    why: str = "waiting for open fingers"
    refused: Counter[str] = field(default_factory=Counter)
    _last: Sighting | None = None
    _arrival: float = -math.inf
    _wanted: Array = field(default_factory=lambda: np.zeros(6))
    _sent: Array = field(default_factory=lambda: np.zeros(6))
    _sent_at: float = 0.0
    _stops: int = 0
    _now_ns: int = 0

    def see(self, hands: Sequence[Sighting], now_ns: int, steady: float) -> None:
        """All hands of the wanted side in one instant, none included."""
        self._watch_clock(now_ns)
        hand = self._choose(hands)
        if hand is None:
            return
        if self.state == "engaged" and self._last and hand.frame_id != self._last.frame_id:
            self._stop("locked", f"the frame changed to {hand.frame_id}")
        if hand.pinch > self.settings.release_above:
            self._release()
        if reason := self._refusal(hand, now_ns):
            self.refused[reason] += 1
            return
        previous, self._last, self._arrival = self._last, hand, steady
        if self.state == "engaged" and previous is not None:
            self._follow(previous, hand)
        elif self.state == "open" and hand.pinch < self.settings.engage_below:
            self.state, self.why = "engaged", "pinched"
            self._wanted, self._sent, self._stops = np.zeros(6), np.zeros(6), 0
            self._sent_at = steady

    def command(self, now_ns: int, steady: float) -> Command | None:
        """What to send now; None while nothing is to be sent."""
        self._watch_clock(now_ns)
        last, settings = self._last, self.settings
        if self.state == "engaged" and last is not None:
            age = (now_ns - last.stamp_ns) * 1e-9
            if max(age, steady - self._arrival) <= settings.max_age:
                self._approach(min(steady - self._sent_at, settings.max_age))
                self._sent_at = steady
                return Command(last.frame_id, self._sent[:3].copy(), self._sent[3:].copy(), age)
            self._stop("locked", f"no sighting that can be believed for {settings.max_age:g} s")
        if self._stops > 0 and last is not None:
            self._stops -= 1
            return Command(last.frame_id, np.zeros(3), np.zeros(3))
        return None

    def _choose(self, hands: Sequence[Sighting]) -> Sighting | None:
        if self.state == "engaged" and self._last is not None:
            track = self._last.track_id
            return next((hand for hand in hands if hand.track_id == track), None)
        return max(hands, key=lambda hand: hand.confidence, default=None)

    def _refusal(self, hand: Sighting, now_ns: int) -> str:
        settings, age = self.settings, (now_ns - hand.stamp_ns) * 1e-9
        if age > settings.max_age:
            return "too old"
        if age < -_FUTURE:
            return "from the future"
        if self._last is not None and hand.stamp_ns <= self._last.stamp_ns:
            return "not newer"
        if hand.extrapolated and not settings.accept_extrapolated:
            return "extrapolated"
        if not (
            np.isfinite(hand.T).all()
            and math.isfinite(hand.pinch)
            and _largest_sigma(hand.covariance[:3, :3]) <= settings.max_position_stddev
            and _largest_sigma(hand.covariance[3:, 3:]) <= settings.max_rotation_stddev
        ):
            return "uncertain"
        return ""

    def _follow(self, before: Sighting, hand: Sighting) -> None:
        """Low-pass the velocity between two sightings, by their capture times."""
        dt = (hand.stamp_ns - before.stamp_ns) * 1e-9
        if dt > self.settings.max_age:
            self._stop("locked", f"nothing was seen for {dt:.2f} s")
            return
        linear = (hand.T[:3, 3] - before.T[:3, 3]) / dt
        angular = log_so3(hand.T[:3, :3] @ before.T[:3, :3].T) / dt
        velocity = np.concatenate(
            [self.settings.linear_scale * linear, self.settings.angular_scale * angular]
        )
        weight = 1.0 - math.exp(-dt / self.settings.smoothing)
        self._wanted = self._wanted + weight * (velocity - self._wanted)

    def _approach(self, dt: float) -> None:
        """Move what is sent towards what is wanted, within speeds and accelerations."""
        s = self.settings
        for part, speed, acceleration in (
            (slice(0, 3), s.max_linear, s.max_linear_acceleration),
            (slice(3, 6), s.max_angular, s.max_angular_acceleration),
        ):
            step = clamped(self._wanted[part], speed) - self._sent[part]
            self._sent[part] += clamped(step, acceleration * dt)

    def _release(self) -> None:
        if self.state == "engaged":
            self._stop("open", "the fingers opened")
        elif self.state == "locked":
            self.state, self.why = "open", "the fingers are open"

    def _stop(self, state: State, why: str) -> None:
        self.state, self.why, self._stops = state, why, self.settings.stop_repeats
        self._wanted, self._sent = np.zeros(6), np.zeros(6)

    def _watch_clock(self, now_ns: int) -> None:
        """Time that goes back (a bag that loops) ends everything that rests on stamps."""
        if now_ns < self._now_ns - _CLOCK_JUMP_NS:
            if self.state == "engaged":
                self._stop("locked", "the clock went back")
            if self._last is not None:
                # Its frame still says where a stop belongs; its time compares with nothing.
                self._last = replace(self._last, stamp_ns=0)
        self._now_ns = now_ns


def clamped(v: Array, length: float) -> Array:
    """``v`` (3,), shortened to ``length`` if it is longer."""
    norm = float(np.linalg.norm(v))
    return v * (length / norm) if norm > length else v.copy()


def _largest_sigma(covariance: Array) -> float:
    """Square root of the largest eigenvalue of (3, 3); NaN (which no limit admits) if unknown."""
    if not np.isfinite(covariance).all():
        return math.nan
    return math.sqrt(max(float(np.linalg.eigvalsh(covariance)[-1]), 0.0))
