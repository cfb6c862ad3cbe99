"""Error-state Kalman filter of one hand: wrist on SE(3), finger angles, and all their rates.

Velocities are Ornstein-Uhlenbeck processes: white acceleration drives them and they fade with
time, so a hand that is not seen slows down and its speed has a bound. How strongly a part of the
hand accelerates is not fixed but taken, at every update, as the likeliest of a few strengths: a
resting hand is smoothed, and one that starts or stops is followed at once.

A measurement that even the strongest acceleration does not explain counts as an outlier: its
noise is inflated until it lies at the gate (a hard gate would lose the hand). If the same part
lies outside again the next time, it was no outlier, and is believed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.perception.pose import PLACE, SIZE, TURN, HandPose

Array = NDArray[np.float64]
PARTS: Final = SIZE // 3
"""Place, turn, and the 15 finger joints: three numbers each."""
_BEYOND: Final = np.array([10.0, 100.0])


@dataclass(frozen=True)
class FilterSettings:
    """How a hand moves and errs.

    ``place``, ``turn``, ``fingers``: acceleration of a calm hand, as the square root of its
    spectral density (m, rad, rad over s^1.5). ``strengths``: factors on the density that an
    update chooses from; ``calm``: how much likelier, per step in ``strengths``, the weaker is
    beforehand (a log-likelihood). ``fade``: seconds in which a velocity falls to 1/e.
    ``gate``: chi-squared of a part, three numbers, past which noise is inflated.
    ``lasting``: the share of a measurement's variance that is the same from one frame to the
    next, a network's idea of a pose rather than its noise; a filter cannot average it away.
    """

    place: float = 0.3
    turn: float = 3.0
    fingers: float = 4.0
    strengths: tuple[float, ...] = (1.0, 10.0, 100.0)
    calm: float = 0.5
    fade: float = 0.4
    gate: float = 11.34
    lasting: float = 0.9

    @property
    def density(self) -> Array:
        """Spectral density (51,) of a calm hand's acceleration."""
        out = np.full(SIZE, float(self.fingers**2))
        out[PLACE], out[TURN] = self.place**2, self.turn**2
        return out


@dataclass(frozen=True, eq=False)
class HandState:
    """A hand at one instant: ``pose``, ``rate`` (51,) a second, and their covariance.

    Blocks (51, 51) of it: ``pp`` of the pose, ``pr`` of pose and rate, ``rr`` of the rate.
    ``lasting`` (51, 51): covariance of the error that the last measurement shares with those
    before it. ``outside`` (17,): parts that the last measurement had past the gate.
    """

    pose: HandPose
    rate: Array
    pp: Array
    pr: Array
    rr: Array
    lasting: Array
    outside: NDArray[np.bool_]

    @property
    def covariance(self) -> Array:
        """Of the pose, (51, 51), with what filtering cannot reduce."""
        return self.pp + self.lasting


def begin(pose: HandPose, noise: Array, settings: FilterSettings) -> HandState:
    """A hand seen for the first time: at rest, as far as one can know."""
    # The speed that the strongest acceleration sustains.
    speed = settings.density * settings.strengths[-1] * settings.fade / 2
    return HandState(
        pose,
        np.zeros(SIZE),
        (1 - settings.lasting) * noise,
        np.zeros((SIZE, SIZE)),
        np.diag(speed),
        settings.lasting * noise,
        np.zeros(PARTS, dtype=bool),
    )


def predict(
    state: HandState, dt: float, settings: FilterSettings, strength: Array | float = 1.0
) -> HandState:
    """The state ``dt`` seconds on, with accelerations ``strength`` times (51,) a calm hand's.

    The exact solution of the Ornstein-Uhlenbeck process; the turn of the tangent space within
    one step is neglected.
    """
    carry, keep = _transition(dt, settings.fade)
    q_pp, q_pr, q_rr = (strength * settings.density * q for q in _noise(dt, settings.fade))
    pr = state.pr + carry * state.rr
    return replace(
        state,
        pose=state.pose.plus(carry * state.rate),
        rate=keep * state.rate,
        pp=state.pp + carry * (state.pr.T + pr) + np.diag(q_pp),
        pr=keep * pr + np.diag(q_pr),
        rr=keep**2 * state.rr + np.diag(q_rr),
    )


def update(
    state: HandState, pose: HandPose, noise: Array, dt: float, settings: FilterSettings
) -> HandState:
    """The state after a measurement ``pose`` with ``noise`` (51, 51), ``dt`` seconds later."""
    ahead = predict(state, dt, settings, 0.0)
    ahead, white = _parted(ahead, noise, settings)
    gap = pose.minus(ahead.pose)
    strength = _strengths(gap, ahead.pp + white, dt, settings, state.outside)
    q_pp, q_pr, q_rr = (strength * settings.density * q for q in _noise(dt, settings.fade))
    pp, pr, rr = ahead.pp + np.diag(q_pp), ahead.pr + np.diag(q_pr), ahead.rr + np.diag(q_rr)
    total = pp + white
    excess = _chi2(gap, _diagonal_blocks(total)) / settings.gate
    outside = excess > 1
    widen = np.where(outside, excess - 1, 0.0)[:, None, None] * _diagonal_blocks(total)
    total = total + _block_diagonal(widen)
    gain = np.linalg.solve(total, np.hstack([pp, pr])).T  # (102, 51)
    weight = float(np.clip(np.diag(gain)[PLACE].mean(), 0.0, 1.0))
    return HandState(
        pose=ahead.pose.plus(gain[:SIZE] @ gap),
        rate=ahead.rate + gain[SIZE:] @ gap,
        pp=_symmetric(pp - gain[:SIZE] @ pp),
        pr=pr - gain[:SIZE] @ pr,
        rr=_symmetric(rr - gain[SIZE:] @ pr),
        lasting=(1 - weight) * state.lasting + weight * settings.lasting * noise,
        outside=outside,
    )


def _parted(
    state: HandState, noise: Array, settings: FilterSettings
) -> tuple[HandState, Array]:
    """The state and a measurement's noise, both without the error that they have in common.

    Neither can have more in common with the other than the whole of its lasting error: when three
    cameras of four are gone, the error of the one that is left is mostly a new one; when they are
    back, most of the state's error is one that they do not have.
    """
    old, new = (float(np.trace(c[PLACE, PLACE])) for c in (state.lasting, noise))
    new *= settings.lasting
    common = min(old, new)
    share = settings.lasting * common / max(new, 1e-12)
    own = 1 - common / max(old, 1e-12)
    return replace(state, pp=state.pp + own * state.lasting), (1 - share) * noise


def _transition(dt: float, fade: float) -> tuple[float, float]:
    keep = float(np.exp(-dt / fade))
    return fade * (1 - keep), keep


def _noise(dt: float, fade: float) -> tuple[float, float, float]:
    """Covariance of displacement and velocity after ``dt`` for a unit density of acceleration."""
    keep = np.exp(-dt / fade)
    pp = fade**2 * (dt - 2 * fade * (1 - keep) + 0.5 * fade * (1 - keep**2))
    return float(pp), float(0.5 * fade**2 * (1 - keep) ** 2), float(0.5 * fade * (1 - keep**2))


def _strengths(
    gap: Array, total: Array, dt: float, settings: FilterSettings, outside: NDArray[np.bool_]
) -> Array:
    """The likeliest strength of each part's acceleration, (51,).

    Parts that were past the gate before may have strengths that no hand has.
    """
    tried = np.array([*settings.strengths, *settings.strengths[-1] * _BEYOND])
    unit = (settings.density * _noise(dt, settings.fade)[0]).reshape(PARTS, 3)
    blocks = _diagonal_blocks(total) + (
        tried[:, None, None, None] * unit[None, :, :, None] * np.eye(3)
    )
    cost = _chi2(gap, blocks) + np.linalg.slogdet(blocks)[1]
    cost = cost + 2 * settings.calm * np.arange(len(tried))[:, None]
    cost[len(settings.strengths) :, ~outside] = np.inf
    return np.repeat(tried[np.argmin(cost, axis=0)], 3)


def _chi2(gap: Array, blocks: Array) -> Array:
    """Squared length (..., 17) of each part's gap in sigmas, by its covariance (..., 17, 3, 3)."""
    parts = np.broadcast_to(gap.reshape(PARTS, 3, 1), (*blocks.shape[:-1], 1))
    return np.asarray((parts * np.linalg.solve(blocks, parts)).sum((-2, -1)))


def _diagonal_blocks(matrix: Array) -> Array:
    """The blocks (17, 3, 3) on the diagonal of (51, 51)."""
    index = np.arange(PARTS)
    return np.asarray(matrix.reshape(PARTS, 3, PARTS, 3)[index, :, index])


def _block_diagonal(blocks: Array) -> Array:
    out = np.zeros((PARTS, 3, PARTS, 3))
    index = np.arange(PARTS)
    out[index, :, index] = blocks
    return out.reshape(SIZE, SIZE)


def _symmetric(matrix: Array) -> Array:
    return 0.5 * (matrix + matrix.T)
