"""How what is not known of a calibrated person reaches the hands that are fitted with it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.geometry.rotations import left_jacobian
from hand_mesh_ros.hand.kinematics import BETAS, GLOBAL_ORIENT, joints_and_jacobian
from hand_mesh_ros.hand.model import HandModel
from hand_mesh_ros.hand.observations import Problem
from hand_mesh_ros.hand.residuals import residuals
from hand_mesh_ros.hand.shape import HandShape
from hand_mesh_ros.hand.shape_evidence import normal_with_offsets
from hand_mesh_ros.hand.solver import Fit, SolverOptions

Array = NDArray[np.float64]

_BETAS = BETAS.stop - BETAS.start


def with_shape_uncertainty(
    model: HandModel,
    held: Fit,
    shape: HandShape,
    problem: Problem,
    cutoff: float = SolverOptions.cutoff,
) -> Fit:
    """A fit with held betas and offsets, and covariances that know how well these are known.

    ``held`` solved ``problem`` (of one hand) with `HandShape.held` and the model that is
    `HandShape.worn`, and `SolverOptions.cutoff`. What is held errs by `HandShape.uncertainty` C,
    and the parameters follow it with a slope G: their covariance grows by G C G^T ("consider"
    covariance; Bierman 1977, ch. VIII). G is cov(x, betas) cov(betas)^-1 for the betas and
    -H^-1 dg/d(offsets) for the landmarks' offsets, g being the gradient of the cost. In one view
    this is how an error of the size becomes one of the distance; in many, how landmarks that lie
    elsewhere become joints that do.
    """
    before = held.covariance[BETAS, BETAS]
    slope = np.linalg.solve(before, held.covariance[BETAS]).T  # (P, 10); identity at betas
    more = shape.uncertainty().copy()
    more[:_BETAS, :_BETAS] -= before
    if len(more) > _BETAS:
        size = len(held.params)
        here = residuals(model, problem, held.params[None])
        normal = normal_with_offsets(model, problem, here, cutoff)
        slope = np.concatenate([slope, -held.covariance @ normal.H[0, :size, size:]], axis=1)
    joints_slope, wrist_slope = _slopes(model, held.params, slope)
    return replace(
        held,
        covariance=held.covariance + slope @ more @ slope.T,
        joint_covariance=held.joint_covariance
        + joints_slope @ more @ np.swapaxes(joints_slope, -1, -2),
        wrist_covariance=held.wrist_covariance + wrist_slope @ more @ wrist_slope.T,
    )


def _slopes(model: HandModel, params: Array, slope: Array) -> tuple[Array, Array]:
    """How joints (21, 3, K) and wrist pose (6, K) follow what parameters follow by (P, K)."""
    jacobian = joints_and_jacobian(model, params[None])[1][0]
    joints = jacobian @ slope
    turn = left_jacobian(params[GLOBAL_ORIENT]) @ slope[GLOBAL_ORIENT]
    return joints, np.concatenate([joints[0], turn])
