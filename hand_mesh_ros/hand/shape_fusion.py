"""One person from many sightings: bundle adjustment of what all of a person's hands share.

That is the shape (betas), and where on this person's hands the network marks its landmarks. Every
sighting is fitted near the shared numbers. Eliminating its own 51 parameters and the prior it was
fitted with (`shape_evidence`) leaves what it says about them: a precision and a pull. They add up,
the population's prior is counted once, and the fits begin anew around the new numbers until these
stand still. What the fits leave of the pixels is the landmarks' noise on this person.

A longer bone and a landmark further out look alike but for the bending of the fingers: the prior,
``landmark_bias`` about the places that renders showed, decides what the poses leave open, and the
betas' covariance knows of it.

What adds up is not independent. Neighbouring frames err alike, so the sum is worth as many
sightings as its scores' long-run variance says (Newey & West 1987).
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.hand.kinematics import BETAS, HAND_POSE
from hand_mesh_ros.hand.landmarks import MEDIAPIPE, marked_at, offsets_of
from hand_mesh_ros.hand.model import HandModel
from hand_mesh_ros.hand.observations import Observation, Problem, default_prior, pack
from hand_mesh_ros.hand.shape import POSE_FREEDOM, HandShape
from hand_mesh_ros.hand.shape_evidence import Evidence, Scatter, evidence
from hand_mesh_ros.hand.solver import Fits, SolverOptions, solve
from hand_mesh_ros.types import SIDES, Side

Array = NDArray[np.float64]

FEWEST: Final = 10
"""Sightings that a calibration needs at least."""

_BETAS: Final = BETAS.stop - BETAS.start
# One sigma by which a sighting's betas may leave the shared ones, in which its fit is linearised.
_LEASH = 0.3
# Shared betas, and offsets in units of their prior's sigma, that move by less have arrived.
_STILL = 0.02
# Degrees of freedom of the Student distribution that sightings are taken to come from.
_TAILS = 4.0
_MEDIAN_CHI2: Final = 2 * np.log(2)  # with two degrees of freedom
# How far a landmark's sigma may be from what was told, and the pixels by which it is drawn towards
# the other landmarks'.
_NOISE_RANGE, _NOISE_PRIOR = (0.1, 4.0), 20.0


@dataclass(frozen=True, eq=False)
class Sighting:
    """A hand at an instant: what was observed, and parameters (61,) that are nearly right."""

    side: Side
    stamp_ns: int
    observation: Observation
    start: Array


@dataclass(frozen=True)
class FusionSettings:
    """What is taken for granted of a person and of a film.

    ``landmark_bias``: one sigma, m and axis, of a landmark's place on a person's hand about where
    its source usually has it; 0: it is there, and as good as it says. ``pose_freedom``: factor on
    the pose prior's sigmas, as in the fits that are to come. ``most``: as many independent
    sightings any number is worth at most: what a network gets wrong in a pose it gets wrong
    whenever a hand takes it, and hands take few. ``max_residual``: median reprojection error, px
    over sigma, of a fit that is believed.
    """

    landmark_bias: float = 0.004
    pose_freedom: float = POSE_FREEDOM
    most: float = 10.0
    max_residual: float = 3.0
    rounds: int = 12
    options: SolverOptions = SolverOptions(max_iterations=15, tolerance=1e-4, far_start=False)


@dataclass(frozen=True, eq=False)
class _Person:
    """What is shared: ``numbers`` (K,) of `shape_evidence`, ``noise`` (21,), ``base`` (21, 3)."""

    numbers: Array
    noise: Array
    base: Array

    @property
    def betas(self) -> Array:
        return self.numbers[:_BETAS]

    @property
    def moved(self) -> Array | None:
        """Offsets (21, 3) from the base; None where they are not asked for."""
        return self.numbers[_BETAS:].reshape(21, 3) if len(self.numbers) > _BETAS else None

    @property
    def offsets(self) -> Array:
        return self.base if self.moved is None else self.base + self.moved


def calibrate_shape(
    models: Mapping[Side, HandModel],
    sightings: Sequence[Sighting],
    settings: FusionSettings | None = None,
    landmarks: str = MEDIAPIPE,
) -> HandShape:
    """The shape, landmark places and noise of the hands of one person, left and right together.

    Only sightings that fix the size are of use: two views or more, or depth. Raises ``ValueError``
    if fewer than `FEWEST` remain that are fitted well.
    """
    settings = settings or FusionSettings()
    if len(sightings) < FEWEST:
        raise ValueError(f"{len(sightings)} sightings of a hand, at least {FEWEST} are needed")
    groups = [_Group(models[s], group) for s in SIDES if (group := _in_time(sightings, s))]
    bias = settings.landmark_bias
    prior = np.concatenate([np.ones(_BETAS), np.full(63 if bias > 0 else 0, 1 / max(bias, 1e-9))])
    person = _Person(np.zeros(len(prior)), np.ones(21), offsets_of(models["right"]))
    covariance, effective, leash = np.diag(1 / prior**2), 0.0, 1.0  # the population's leash
    looks: list[_Look] = []
    for _ in range(settings.rounds):
        looks = [group.look(person, leash, settings) for group in groups]
        used = sum(len(look.evidence.pull) for look in looks)
        if used < FEWEST:
            raise ValueError(
                f"{used} of {len(sightings)} sightings were fitted well, {FEWEST} are needed"
            )
        before = person
        numbers, covariance, effective = fuse(
            [look.evidence for look in looks], prior**2, settings.most
        )
        noise = _noise(before.noise, looks) if bias > 0 else before.noise
        person = _Person(numbers, noise, before.base)
        leash = _LEASH
        if np.abs((numbers - before.numbers) * prior).max() < _STILL:
            break
    sigma = np.sqrt(np.diag(covariance))
    places = person.moved is not None
    return HandShape(
        model_id=models["right"].model_id,
        betas=person.betas,
        covariance=covariance[:_BETAS, :_BETAS],
        hands=sum(len(look.evidence.pull) for look in looks),
        effective=effective,
        landmarks=landmarks,
        date=datetime.date.today().isoformat(),
        offsets=person.offsets if places else None,
        offsets_sigma=sigma[_BETAS:].reshape(21, 3) if places else None,
        correlation=covariance / (sigma * sigma[:, None]) if places else None,
        noise=person.noise,
        residual=float(np.median(np.concatenate([look.residual for look in looks]))),
    )


@dataclass(frozen=True, eq=False)
class _Look:
    """What the believable hands of a group say; ``residual`` (B,) is their median, in sigmas."""

    evidence: Evidence
    scatter: Scatter
    residual: Array


class _Group:
    """The sightings of one side in time order, and the fits they begin at."""

    def __init__(self, model: HandModel, sightings: Sequence[Sighting]) -> None:
        self._model = model
        self._observations = [s.observation for s in sightings]
        self._starts = np.stack([s.start for s in sightings])

    def look(self, person: _Person, leash: float, settings: FusionSettings) -> _Look:
        """Fit all of them near the person, betas ``leash`` from theirs at one sigma."""
        model = marked_at(self._model, person.offsets)
        prior = default_prior(model).loosened(HAND_POSE, settings.pose_freedom)
        prior = prior.with_shape(person.betas, leash**2 * np.eye(_BETAS))
        seen = [o.with_noise(person.noise) for o in self._observations]
        problem = pack(model, seen, [prior] * len(seen))
        fits = solve(model, problem, self._starts, settings.options)
        self._starts = np.asarray(fits.params)
        residual = _typical_residual(problem, fits)
        good = np.isfinite(self._starts).all(-1) & (residual < settings.max_residual)
        told, scatter = evidence(
            model, problem, fits, np.eye(_BETAS) / leash**2, person.moved, settings.options.cutoff
        )
        return _Look(told[good], scatter[good], residual[good])


def fuse(
    sequences: Sequence[Evidence], prior: Array | None = None, most: float = np.inf
) -> tuple[Array, Array, float]:
    """A person's numbers (K,), their covariance (K, K) and the effective number of sightings.

    ``sequences`` are in time order, one a hand. ``prior`` (K,) is the population's precision about
    zero, by default one of ten betas. Sightings weigh as samples of a Student distribution, so that
    wrong ones hardly count. All of them together count as ``most`` at most.
    """
    told = Evidence(
        np.concatenate([s.precision for s in sequences]),
        np.concatenate([s.pull for s in sequences]),
    )
    before = np.diag(np.ones(_BETAS) if prior is None else prior)
    count = len(told.pull)
    weight = np.ones(count)
    # With the prior, because a sighting alone leaves some directions open.
    spread = np.linalg.inv(told.precision + before)
    freedom = np.maximum(np.einsum("bij,bji->b", told.precision, spread), 1.0)
    for _ in range(20):
        P = np.einsum("b,bij->ij", weight, told.precision)
        person = np.linalg.solve(P + before, weight @ told.pull)
        scores = told.scores(person)
        d2 = np.einsum("bi,bij,bj->b", scores, spread, scores)
        # Wilson and Hilferty's median of chi-squared.
        scale = max(1.0, float(np.median(d2 / (freedom * (1 - 2 / (9 * freedom)) ** 3))))
        weight = (_TAILS + freedom) / (_TAILS + d2 / scale)
    P = np.einsum("b,bij->ij", weight, told.precision)
    ends = np.cumsum([len(s.pull) for s in sequences])[:-1]
    scores = weight[:, None] * told.scores(person)
    one, long_run = _variances(np.split(scores, ends), P / count, before / count)
    # Never surer than the noise that was told, and so many times less as errors last.
    lasting = max(long_run / max(one, 1e-12), count / most, 1.0)
    P = P / (max(one, 1.0) * lasting)
    pull = (weight @ told.pull) / (max(one, 1.0) * lasting)
    covariance = np.linalg.inv(P + before)
    return covariance @ pull, (covariance + covariance.T) / 2, count / lasting


def _noise(before: Array, looks: Sequence[_Look]) -> Array:
    """Factors (21,) on the sigmas that were told, from what the fits left.

    By the median, which is the width of the bulk: tails are the outliers' that the solver lets go.
    """
    ratio = np.concatenate(
        [(2 * look.scatter.square / look.scatter.freedom).reshape(-1, 21) for look in looks]
    )
    count = np.isfinite(ratio).sum(axis=0)
    if not count.all():  # depth alone
        return before
    variance, common = np.nanmedian(ratio, axis=0), np.nanmedian(ratio)
    variance = (count * variance + _NOISE_PRIOR * common) / (count + _NOISE_PRIOR) / _MEDIAN_CHI2
    return np.asarray(np.clip(before * np.sqrt(variance), *_NOISE_RANGE))


def _in_time(sightings: Sequence[Sighting], side: Side) -> list[Sighting]:
    return sorted((s for s in sightings if s.side == side), key=lambda s: s.stamp_ns)


def _typical_residual(problem: Problem, fits: Fits) -> Array:
    """Median distances (B,), in sigmas, of fits from what was seen; zero where no pixels were."""
    if problem.uv is None:
        return np.zeros(len(fits.params))
    inverse = np.sqrt(np.linalg.det(problem.whiten))  # of sigma, zero where nothing was seen
    scaled = np.where(inverse > 0, fits.residual_px * inverse, np.nan)
    return np.asarray(np.nanmedian(scaled.reshape(len(scaled), -1), axis=1))


def _variances(
    sequences: Sequence[Array], precision: Array, prior: Array
) -> tuple[float, float]:
    """Variance of scores (N, K), at one instant and in the long run, relative to what

    ``precision`` (K, K), their mean information, promises; each averaged over the directions that
    are not left to the ``prior`` (K, K). Bartlett's window of sqrt(N) lags keeps the sum positive.
    """
    whiten = np.linalg.inv(np.linalg.cholesky(precision + prior))
    promised = max(float(np.trace(whiten @ precision @ whiten.T)), 1e-9)
    total = sum(len(s) for s in sequences) * promised
    one = long_run = 0.0
    for scores in sequences:
        z = scores @ whiten.T
        lags = int(np.ceil(np.sqrt(len(z))))
        at = [float((z[k:] * z[: len(z) - k]).sum()) / total for k in range(lags)]
        one += at[0]
        long_run += at[0] + 2 * sum((1 - k / lags) * c for k, c in enumerate(at) if k)
    return one, long_run
