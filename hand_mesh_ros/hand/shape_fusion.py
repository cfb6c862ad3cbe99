"""One shape from many sightings: bundle adjustment of the betas that all of a person's hands share.

Every sighting is fitted near the shared betas. Eliminating its own 51 parameters (Schur complement)
and the prior it was fitted with leaves what it says about betas: a precision and a pull. They add
up, the population's prior is counted once, and the fits begin anew around the new betas until these
stand still.

What adds up is not independent. Neighbouring frames err alike, so the sum is worth as many
sightings as its scores' long-run variance says (Newey & West 1987). And a network errs on one
person's hands always in the same way, which no number of frames averages away: a landmark's mean
place is known to ``landmark_bias`` only.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.hand.kinematics import BETAS
from hand_mesh_ros.hand.landmarks import MEDIAPIPE, landmarks_and_jacobian
from hand_mesh_ros.hand.model import HandModel
from hand_mesh_ros.hand.observations import (
    Observation,
    Points3D,
    Problem,
    default_prior,
    pack,
)
from hand_mesh_ros.hand.shape import HandShape
from hand_mesh_ros.hand.solver import Fits, SolverOptions, fit_batch, solve
from hand_mesh_ros.types import SIDES, Side

Array = NDArray[np.float64]

FEWEST: Final = 10
"""Sightings that a calibration needs at least."""

_BETAS: Final = BETAS.stop - BETAS.start
# One sigma by which a sighting's betas may leave the shared ones, in which its fit is linearised.
_LEASH = 0.3
# Shared betas that move by less have arrived.
_STILL = 0.02
# Degrees of freedom of the Student distribution that sightings are taken to come from.
_TAILS = 4.0
_MEDIAN_CHI2 = 9.342  # with 10 degrees of freedom


@dataclass(frozen=True, eq=False)
class Sighting:
    """A hand at an instant: what was observed, and parameters (61,) that are nearly right."""

    side: Side
    stamp_ns: int
    observation: Observation
    start: Array


@dataclass(frozen=True)
class FusionSettings:
    """``landmark_bias``: one sigma, m, of a landmark's mean place on a person's hand.

    ``max_residual``: median reprojection error, px over sigma, of a fit that is believed.
    """

    landmark_bias: float = 0.003
    max_residual: float = 3.0
    rounds: int = 4
    options: SolverOptions = SolverOptions(max_iterations=15, tolerance=1e-4, far_start=False)


@dataclass(frozen=True, eq=False)
class Evidence:
    """What B sightings say about betas: ``precision`` (B, 10, 10), ``pull`` (B, 10).

    The pull is precision times the betas that the sighting alone likes best.
    """

    precision: Array
    pull: Array

    def __getitem__(self, chosen: Any) -> Evidence:
        """Some of the sightings."""
        return Evidence(self.precision[chosen], self.pull[chosen])

    def scores(self, betas: Array) -> Array:
        """Gradients (B, 10) of the sightings' log-likelihoods at betas (10,)."""
        return self.pull - self.precision @ betas


def calibrate_shape(
    models: Mapping[Side, HandModel],
    sightings: Sequence[Sighting],
    settings: FusionSettings | None = None,
    landmarks: str = MEDIAPIPE,
) -> HandShape:
    """The shape of the hands of one person, left and right together.

    Only sightings that fix the size are of use: two views or more, or depth. Raises ``ValueError``
    if fewer than `FEWEST` remain that are fitted well.
    """
    settings = settings or FusionSettings()
    if len(sightings) < FEWEST:
        raise ValueError(f"{len(sightings)} sightings of a hand, at least {FEWEST} are needed")
    by_side = [(models[s], group) for s in SIDES if (group := _in_time(sightings, s))]
    ceiling = _known_by_bias(models["right"], settings.landmark_bias)
    betas, covariance, effective, used = np.zeros(_BETAS), np.eye(_BETAS), 0.0, 0
    leash = 1.0  # the population's
    starts = [np.stack([s.start for s in group]) for _, group in by_side]
    for _ in range(settings.rounds):
        precision = np.eye(_BETAS) / leash**2
        found: list[Evidence] = []
        for i, (model, group) in enumerate(by_side):
            prior = default_prior(model).with_shape(betas, leash**2 * np.eye(_BETAS))
            problem = pack(model, [s.observation for s in group], [prior] * len(group))
            fits = solve(model, problem, starts[i], settings.options)
            starts[i] = np.asarray(fits.params)
            good = _believable(problem, fits, settings.max_residual)
            found.append(shape_evidence(fits, betas, precision)[good])
        used = sum(len(e.pull) for e in found)
        if used < FEWEST:
            raise ValueError(
                f"{used} of {len(sightings)} sightings were fitted well, {FEWEST} are needed"
            )
        before = betas
        betas, covariance, effective = fuse(found, ceiling)
        leash = _LEASH
        if np.abs(betas - before).max() < _STILL:
            break
    return HandShape(
        model_id=models["right"].model_id,
        betas=betas,
        covariance=covariance,
        hands=used,
        effective=effective,
        landmarks=landmarks,
        date=datetime.date.today().isoformat(),
    )


def shape_evidence(fits: Fits, prior_betas: Array, prior_precision: Array) -> Evidence:
    """What B fits say about betas, their prior on betas (10,), (10, 10) aside.

    The inverse of the posterior's block of betas is the Schur complement of the normal matrix.
    """
    known = np.linalg.inv(fits.covariance[:, BETAS, BETAS])
    pull = (known @ fits.params[:, BETAS, None])[..., 0] - prior_precision @ prior_betas
    return Evidence(known - prior_precision, pull)


def fuse(sequences: Sequence[Evidence], ceiling: Array | None = None) -> tuple[Array, Array, float]:
    """Betas (10,), their covariance (10, 10) and the effective number of sightings.

    ``sequences`` are in time order, one a hand. ``ceiling`` (10, 10) is the precision that no
    number of sightings exceeds. The population prior is a unit Gaussian. Sightings weigh as
    samples of a Student distribution, so that wrong ones hardly count.
    """
    evidence = Evidence(
        np.concatenate([s.precision for s in sequences]),
        np.concatenate([s.pull for s in sequences]),
    )
    count = len(evidence.pull)
    weight = np.ones(count)
    betas = np.zeros(_BETAS)
    for _ in range(20):
        P = np.einsum("b,bij->ij", weight, evidence.precision)
        betas = np.linalg.solve(P + np.eye(_BETAS), weight @ evidence.pull)
        d2 = _mahalanobis(evidence, betas)
        scale = max(1.0, float(np.median(d2)) / _MEDIAN_CHI2)
        weight = (_TAILS + _BETAS) / (_TAILS + d2 / scale)
    P = np.einsum("b,bij->ij", weight, evidence.precision)
    ends = np.cumsum([len(s.pull) for s in sequences])[:-1]
    scores = weight[:, None] * evidence.scores(betas)
    one, long_run = _variances(np.split(scores, ends), P / count)
    # Never surer than the noise that was told, and so many times less as errors last.
    lasting = max(long_run / max(one, 1e-12), 1.0)
    P = P / (max(one, 1.0) * lasting)
    pull = (weight @ evidence.pull) / (max(one, 1.0) * lasting)
    if ceiling is not None:
        # (P^-1 + C^-1)^-1, where P may be singular, and the pull that belongs to it.
        share = ceiling @ np.linalg.inv(ceiling + P)
        P, pull = share @ P, share @ pull
        P = (P + P.T) / 2
    covariance = np.linalg.inv(P + np.eye(_BETAS))
    return covariance @ pull, (covariance + covariance.T) / 2, count / lasting


def _in_time(sightings: Sequence[Sighting], side: Side) -> list[Sighting]:
    return sorted((s for s in sightings if s.side == side), key=lambda s: s.stamp_ns)


def _believable(problem: Problem, fits: Fits, max_residual: float) -> NDArray[np.bool_]:
    """Which of the fits (B,) lie near what was seen; what else is odd, `fuse` weighs down."""
    good = np.asarray(np.isfinite(fits.params).all(-1))
    if problem.uv is not None:
        inverse = np.sqrt(np.linalg.det(problem.whiten))  # of sigma, zero where nothing was seen
        scaled = np.where(inverse > 0, fits.residual_px * inverse, np.nan)
        good &= np.nanmedian(scaled.reshape(len(good), -1), axis=1) < max_residual
    return good


def _known_by_bias(model: HandModel, bias: float) -> Array | None:
    """Precision (10, 10) of betas from landmarks in space that each err by ``bias`` metres."""
    if bias <= 0:
        return None
    prior = default_prior(model)
    points = landmarks_and_jacobian(model, prior.mean[None])[0][0]
    observation = Observation(points=Points3D(points, np.full(21, bias)))
    fits = fit_batch(model, [observation], [prior], prior.mean[None])
    known = shape_evidence(fits, np.zeros(_BETAS), np.eye(_BETAS)).precision[0]
    # What landmarks do not see at all is not known by them either, but must stay invertible.
    return np.asarray(known + 1e-9 * np.eye(_BETAS))


def _mahalanobis(evidence: Evidence, betas: Array) -> Array:
    """Squared distances (B,) of the sightings' own betas from ``betas``, in their own sigmas."""
    scores = evidence.scores(betas)
    safe = evidence.precision + 1e-9 * np.eye(_BETAS)
    return np.asarray((scores * np.linalg.solve(safe, scores[..., None])[..., 0]).sum(-1))


def _variances(sequences: Sequence[Array], precision: Array) -> tuple[float, float]:
    """Variance of scores (N, 10), at one instant and in the long run, relative to what

    ``precision`` (10, 10), their mean information, promises; each averaged over the directions.
    Bartlett's window of sqrt(N) lags keeps the sum positive.
    """
    whiten = np.linalg.inv(np.linalg.cholesky(precision + 1e-9 * np.eye(_BETAS)))
    total = sum(len(s) for s in sequences)
    one = long_run = 0.0
    for scores in sequences:
        z = scores @ whiten.T
        lags = int(np.ceil(np.sqrt(len(z))))
        at = [float((z[k:] * z[: len(z) - k]).sum()) / total / _BETAS for k in range(lags)]
        one += at[0]
        long_run += at[0] + 2 * sum((1 - k / lags) * c for k, c in enumerate(at) if k)
    return one, long_run
