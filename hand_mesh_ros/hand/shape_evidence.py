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
from hand_mesh_ros.hand.residuals import residuals
from hand_mesh_ros.hand.solver import Fits

Array = NDArray[np.float64]

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
    normal = np.linalg.inv(fits.covariance)
    params = np.asarray(fits.params)
    here = residuals(model, problem, params)
    J = np.asarray(here.landmarks.jacobian)
    batch = len(params)
    information, pull = np.zeros((batch, 21, 3, 3)), np.zeros((batch, 21, 3))
    square, freedom = (np.zeros((batch, 0, 21)) for _ in range(2))
    for part in here.absolute:
        size = part.residual.shape[-1]
        r = np.reshape(part.residual, (batch, -1, 21, size))
        D = np.reshape(part.jacobian, (batch, -1, 21, size, 3))
        length = (r * r).sum(-1)
        weight = np.reshape(part.seen, length.shape) / (
            1 + np.exp(np.clip((length - cutoff**2) / 2, -40, 40))
        )
        weighted = weight[..., None, None] * np.swapaxes(D, -1, -2)
        information += (weighted @ D).sum(1)
        pull += (weighted @ r[..., None]).sum(1)[..., 0]
        if size == 2:
            explained = _explained(D, J, np.asarray(fits.covariance))
            seen = np.reshape(part.seen, length.shape) > 0
            square = np.where(seen, length, np.nan)
            freedom = np.maximum(2 - explained, 0.1)
    prior = problem.prior_mean[:, BETAS]
    held = normal[:, BETAS, BETAS] - prior_precision
    gradient = -((params[:, BETAS] - prior) @ prior_precision)  # of what was seen: at rest with it
    shared, across, now = held, normal[:, _OWN, BETAS], params[:, BETAS]
    if offsets is not None:
        turns = bone_rotations(params)
        if model.side == "left":
            turns = mirror_points(turns)
        each_by_own = np.zeros((batch, 21, 3, 21, 3))
        index = np.arange(21)
        each_by_own[:, index, :, index] = np.moveaxis(turns, 1, 0)
        by_offsets = each_by_own.reshape(batch, 21, 3, 63)
        told = (information @ by_offsets).reshape(batch, 63, 63)
        each = np.swapaxes(J.reshape(batch, 63, -1), -1, -2) @ told
        square_block = np.swapaxes(by_offsets.reshape(batch, 63, 63), -1, -2) @ told
        corner = each[:, BETAS]
        shared = np.block([[held, corner], [np.swapaxes(corner, -1, -2), square_block]])
        across = np.concatenate([across, each[:, _OWN]], axis=-1)
        by_landmark = (np.swapaxes(turns, -1, -2) @ pull[..., None]).reshape(batch, 63)
        gradient = np.concatenate([gradient, by_landmark], axis=-1)
        now = np.concatenate([now, np.tile(offsets.reshape(-1), (batch, 1))], axis=-1)
    own = normal[:, _OWN[:, None], _OWN]
    precision = shared - np.swapaxes(across, -1, -2) @ np.linalg.solve(own, across)
    precision = (precision + np.swapaxes(precision, -1, -2)) / 2
    best = (precision @ now[..., None])[..., 0] - gradient
    return Evidence(precision, best), Scatter(square, freedom)


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
