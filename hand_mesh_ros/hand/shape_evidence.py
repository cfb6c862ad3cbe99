"""What a fitted hand says of the person it belongs to: betas, landmarks' places, noise.

A person's K numbers are the 10 betas and, where they are estimated, the landmarks' 63 offsets from
where their source usually has them (the right hand's axes, in bones' frames). A sighting's own 51
parameters are eliminated (Schur complement), as in any bundle adjustment.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.geometry.rotations import exp_so3
from hand_mesh_ros.hand.kinematics import BETAS, BONE_OF_POINT, NUM_PARAMS, POSE
from hand_mesh_ros.hand.layout import NUM_JOINTS, PARENTS
from hand_mesh_ros.hand.mirror import mirror_points
from hand_mesh_ros.hand.model import HandModel
from hand_mesh_ros.hand.observations import Problem
from hand_mesh_ros.hand.residuals import (
    Normal,
    Residuals,
    normal_equations,
    residuals,
)
from hand_mesh_ros.hand.solver import Fits

Array = NDArray[np.float64]

_BETAS = BETAS.stop - BETAS.start
_OWN = np.setdiff1d(np.arange(NUM_PARAMS), np.arange(NUM_PARAMS)[BETAS])


@dataclass(frozen=True, eq=False)
class Evidence:
    """What B sightings say about the K numbers: ``precision`` (B, K, K), ``pull`` (B, K).

    The pull is precision times the numbers that the sighting alone likes best.
    """

    precision: Array
    pull: Array

    def __getitem__(self, chosen: Any) -> Evidence:
        """Some of the sightings."""
        return Evidence(self.precision[chosen], self.pull[chosen])

    def scores(self, person: Array) -> Array:
        """Gradients (B, K) of the sightings' log-likelihoods at a person's numbers (K,)."""
        return self.pull - (self.precision @ person[:, None])[..., 0]


@dataclass(frozen=True, eq=False)
class Scatter:
    """Whitened squares (B, V, 21) of B sightings' pixel residuals, and what they are worth.

    ``freedom`` (B, V, 21) is two a landmark less what the fit took of it: 2 square / freedom is the
    noise's variance in units of what was told times chi-squared of two degrees, however few views
    there were (MacKay's evidence update). NaN where nothing was seen.
    """

    square: Array
    freedom: Array

    def __getitem__(self, chosen: Any) -> Scatter:
        """Some of the sightings."""
        return Scatter(self.square[chosen], self.freedom[chosen])


def evidence(
    model: HandModel,
    problem: Problem,
    fits: Fits,
    prior_precision: Array,
    offsets: Array | None,
    cutoff: float,
) -> tuple[Evidence, Scatter]:
    """What B fits say, the prior (10, 10) on their betas aside, whose mean the fits know.

    ``offsets`` (21, 3) of the model's landmarks are what they are linearised at; None: only betas
    are asked for.
    """
    params = np.asarray(fits.params)
    now, here = params[:, BETAS], residuals(model, problem, params)
    away = now - problem.prior_mean[:, BETAS]
    if offsets is None:
        normal = normal_equations(problem, here, *_as_fitted(params, cutoff))
    else:
        normal = normal_with_offsets(model, problem, here, cutoff)
        now = np.concatenate([now, np.tile(offsets.reshape(-1), (len(now), 1))], axis=-1)
    shared = np.r_[BETAS, params.shape[1] : normal.H.shape[1]]
    corner = normal.H[:, shared[:, None], shared]
    corner[:, :_BETAS, :_BETAS] -= prior_precision
    gradient = normal.g[:, shared]
    gradient[:, :_BETAS] = -away @ prior_precision  # of what was seen: at rest with the prior
    own, across = normal.H[:, _OWN[:, None], _OWN], normal.H[:, _OWN[:, None], shared]
    precision = corner - np.swapaxes(across, -1, -2) @ np.linalg.solve(own, across)
    precision = (precision + np.swapaxes(precision, -1, -2)) / 2
    best = (precision @ now[..., None])[..., 0] - gradient
    return Evidence(precision, best), _scatter(here, np.asarray(fits.covariance))


def normal_with_offsets(
    model: HandModel, problem: Problem, here: Residuals, cutoff: float
) -> Normal:
    """The normal equations of B fits with the landmarks' offsets as further unknowns. NumPy.

    They are the last 63, x, y, z of each landmark, of which nothing is known before. ``here`` is
    where the fits ended, ``cutoff`` their `SolverOptions`'.
    """
    params = np.asarray(here.params)
    batch, size = params.shape
    turns = bone_rotations(params)
    if model.side == "left":
        turns = mirror_points(turns)
    if here.landmarks.scale is not None:
        turns = turns * here.landmarks.scale[:, None, None, None]
    by_offsets, index = np.zeros((batch, 21, 3, 21, 3)), np.arange(21)
    by_offsets[:, index, :, index] = np.moveaxis(turns, 1, 0)
    J = np.concatenate([here.landmarks.jacobian, by_offsets.reshape(batch, 21, 3, 63)], axis=-1)
    more = np.zeros((batch, 63))
    precision = np.zeros((batch, size + 63, size + 63))
    precision[:, :size, :size] = problem.prior_precision
    wider = problem._replace(
        prior_mean=np.concatenate([problem.prior_mean, more], axis=1), prior_precision=precision
    )
    there = here._replace(
        params=np.concatenate([params, more], axis=1),
        landmarks=here.landmarks._replace(jacobian=J),
    )
    return normal_equations(wider, there, *_as_fitted(params, cutoff))


def _as_fitted(params: Array, cutoff: float) -> tuple[Array, Array]:
    """Cutoffs and factors on the sigmas (B,) with which a fit ends."""
    return np.full(len(params), cutoff), np.ones(len(params))


def _scatter(here: Residuals, covariance: Array) -> Scatter:
    """Of the pixels that B fits with a covariance (B, P, P) were made to."""
    J = np.asarray(here.landmarks.jacobian)
    for part in here.absolute:
        if part.residual.shape[-1] == 2:
            square = (part.residual**2).sum(-1)
            explained = _explained(np.asarray(part.jacobian), J, covariance)
            return Scatter(
                np.where(part.seen > 0, square, np.nan), np.maximum(2 - explained, 0.1)
            )
    none = np.zeros((len(J), 0, 21))
    return Scatter(none, none)


def bone_rotations(params: Array) -> Array:
    """Rotations (B, 21, 3, 3), model axes to world, of the bones that end in the 21 points."""
    local = exp_so3(params[:, POSE].reshape(-1, NUM_JOINTS, 3))
    world = [local[:, 0]]
    for joint in range(1, NUM_JOINTS):
        world.append(world[PARENTS[joint]] @ local[:, joint])
    return np.stack(world, axis=1)[:, BONE_OF_POINT]


def _explained(D: Array, J: Array, covariance: Array) -> Array:
    """Whitened variance (B, V, 21) of where the fit has the landmarks, both axes together."""
    spread = J @ covariance[:, None] @ np.swapaxes(J, -1, -2)  # (B, 21, 3, 3)
    return np.asarray(np.einsum("bvjdi,bjik,bvjdk->bvj", D, spread, D))
