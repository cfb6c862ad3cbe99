"""A hand's configuration as a point with a tangent space: what a filter adds to and takes from.

Coordinates of the tangent, (51,): the wrist's place (metres), a small turn about the world's axes
(radians), and the 45 finger angles of the hand model. The shape (betas) belongs to the point, not
to its tangent: bones keep their lengths whatever is added.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.geometry.rotations import exp_so3, log_so3, rigid, skew, transform_points
from hand_mesh_ros.hand.kinematics import (
    BETAS,
    GLOBAL_ORIENT,
    HAND_POSE,
    NUM_PARAMS,
    SCALE,
    TRANSL,
    joints_and_jacobian,
)
from hand_mesh_ros.hand.limits import pose_prior
from hand_mesh_ros.hand.mirror import mirror_params
from hand_mesh_ros.hand.model import HandModel
from hand_mesh_ros.hand.robot_frames import wrist_frame
from hand_mesh_ros.types import HandEstimate, ManoParameters, Side

Array = NDArray[np.float64]
SIZE: Final = 51
PLACE: Final = slice(0, 3)
TURN: Final = slice(3, 6)
WRIST: Final = slice(0, 6)
FINGERS: Final = slice(6, 51)
_FLOOR: Final = 3e-4  # m, one sigma below which no joint is taken to be known
_ROUNDS: Final = 2


@dataclass(frozen=True, eq=False)
class HandPose:
    """``place`` (3,) of the wrist, ``rotation`` (3, 3) of the model, ``angles`` (45,), ``betas``

    (10,) and ``scale``, of the model of the hand's own side.
    """

    model: HandModel
    place: Array
    rotation: Array
    angles: Array
    betas: Array
    scale: float = 1.0

    @classmethod
    def of(cls, estimate: HandEstimate, models: Mapping[Side, HandModel]) -> HandPose:
        """The configuration that an estimate's joints and MANO parameters describe."""
        mano = estimate.mano
        params = np.concatenate([mano.global_orient, mano.hand_pose, mano.betas, mano.transl])
        if mano.mirrored:
            params = mirror_params(params)
        return cls(
            models[mano.side],
            estimate.joints[0],
            exp_so3(params[GLOBAL_ORIENT]),
            params[HAND_POSE],
            params[BETAS],
            mano.scale,
        )

    def plus(self, delta: Array) -> HandPose:
        """The configuration that lies ``delta`` (51,) away."""
        return replace(
            self,
            place=self.place + delta[PLACE],
            rotation=exp_so3(delta[TURN]) @ self.rotation,
            angles=self.angles + delta[FINGERS],
        )

    def minus(self, other: HandPose) -> Array:
        """The ``delta`` (51,) that leads from ``other`` to here."""
        turn = log_so3(self.rotation @ other.rotation.T)
        return np.concatenate([self.place - other.place, turn, self.angles - other.angles])

    def joints(self) -> Array:
        """The 21 joints (21, 3), m, OpenPose order."""
        return self.linearised()[0]

    def linearised(self) -> tuple[Array, Array, Array]:
        """Joints (21, 3), their Jacobian (21, 3, 51) by the tangent and (21, 3, 10) by betas."""
        root, local, by_params = self._upright
        points = (local - root) @ self.rotation.T
        by_params = self.rotation @ (by_params - by_params[:1])
        jacobian = np.empty((21, 3, SIZE))
        jacobian[..., PLACE] = np.eye(3)
        jacobian[..., TURN] = -skew(points)
        jacobian[..., FINGERS] = by_params[..., HAND_POSE]
        return self.place + points, jacobian, by_params[..., BETAS]

    def mano(self, like: ManoParameters) -> ManoParameters:
        """As MANO parameters of the same model and side as ``like``."""
        found = np.zeros(NUM_PARAMS)
        found[GLOBAL_ORIENT] = log_so3(self.rotation)
        found[HAND_POSE], found[BETAS] = self.angles, self.betas
        found[TRANSL] = self.place - self._upright[0]
        if like.mirrored:
            found = mirror_params(found)
        return replace(
            like,
            global_orient=found[GLOBAL_ORIENT],
            hand_pose=found[HAND_POSE],
            betas=found[BETAS],
            transl=found[TRANSL],
            scale=self.scale,
        )

    @cached_property
    def _upright(self) -> tuple[Array, Array, Array]:
        """Wrist (3,), joints (21, 3) and their Jacobian by MANO's parameters, in model axes.

        The global rotation turns about the wrist, so the rest follows by rotating.
        """
        params = np.zeros((1, NUM_PARAMS + 1))
        params[0, HAND_POSE], params[0, BETAS] = self.angles, self.betas
        params[0, SCALE] = self.scale
        points, by_params = joints_and_jacobian(self.model, params)
        return points[0, 0], points[0], by_params[0]


def knowledge(estimate: HandEstimate, pose: HandPose) -> tuple[Array, Array]:
    """What an estimate's covariances say of its configuration: covariance (51, 51), and how

    a change of betas is made up for by the configuration so that the joints stay, (51, 10).

    Each joint counts as an observation of its own, C_j / s_j, with shares s_j such that the joints'
    covariances come out about as large as they went in (without a prior, trace(J_j R J_j^T C_j^-1)
    sums to 51 over the joints for s = 1, and should be 63). What joints say nothing of, a bone's
    twist, is left to the pose prior. The wrist's own covariance takes the place of the one found
    so, with the fingers conditional on the wrist as they were.
    """
    _, J, by_betas = pose.linearised()
    seen = np.linalg.inv(estimate.covariance + _FLOOR**2 * np.eye(3))  # C_j^-1
    prior = np.zeros(SIZE)
    prior[FINGERS] = 1 / np.square(pose_prior(pose.model.side)[1])
    share = np.full(21, SIZE / 63)
    for _ in range(_ROUNDS):
        weighted = np.swapaxes(J, -1, -2) @ (share[:, None, None] * seen)  # (21, 51, 3)
        inverse = np.linalg.inv(np.tensordot(weighted, J, axes=([0, 2], [0, 1])) + np.diag(prior))
        found = J @ inverse @ np.swapaxes(J, -1, -2)
        share = share * np.einsum("jab,jba->j", found, seen) / 3
    slope = -inverse @ np.tensordot(weighted, by_betas, axes=([0, 2], [0, 1]))
    return _with_wrist(inverse, estimate.wrist_covariance), slope


def posed_to(pose: HandPose, joints: Array, covariance: Array, rounds: int = 5) -> HandPose:
    """The configuration whose joints are likeliest to be those given, from ``pose`` on.

    ``joints`` (21, 3) with ``covariance`` (21, 3, 3); Gauss-Newton, with the pose prior for what
    joints say nothing of.
    """
    mean, spread = pose_prior(pose.model.side)
    prior = np.zeros(SIZE)
    prior[FINGERS] = 1 / np.square(spread)
    seen = np.linalg.inv(covariance + _FLOOR**2 * np.eye(3))
    for _ in range(rounds):
        here, J, _ = pose.linearised()
        weighted = np.swapaxes(J, -1, -2) @ seen
        normal = np.tensordot(weighted, J, axes=([0, 2], [0, 1])) + np.diag(prior)
        right = np.einsum("jpa,ja->p", weighted, joints - here)
        right[FINGERS] += prior[FINGERS] * (mean - pose.angles)
        pose = pose.plus(np.linalg.solve(normal, right))
    return pose


def _with_wrist(covariance: Array, wrist: Array) -> Array:
    """The covariance (51, 51) with another marginal (6, 6) of the wrist."""
    before = covariance[WRIST, WRIST]
    slope = np.eye(SIZE)[:, WRIST].copy()
    slope[FINGERS] = np.linalg.solve(before, covariance[WRIST, FINGERS]).T
    return np.asarray(covariance + slope @ (wrist - before) @ slope.T)


def described(
    estimate: HandEstimate, pose: HandPose, covariance: Array, measured: bool = True
) -> HandEstimate:
    """The estimate of a configuration known to ``covariance`` (51, 51), else like ``estimate``.

    Joints, wrist, MANO parameters and covariances are those of the configuration; a mesh that came
    with the estimate is moved with the wrist. Not ``measured``: no view has contributed.
    """
    joints, J, _ = pose.linearised()
    wrist = wrist_frame(joints, pose.model.side)
    vertices = estimate.vertices
    if vertices is not None:
        turn = wrist[:3, :3] @ estimate.wrist[:3, :3].T
        vertices = transform_points(
            rigid(turn, wrist[:3, 3] - turn @ estimate.wrist[:3, 3]), vertices
        )
    found = replace(
        estimate,
        joints=joints,
        covariance=J @ covariance @ np.swapaxes(J, -1, -2),
        wrist=wrist,
        wrist_covariance=covariance[WRIST, WRIST],
        mano=pose.mano(estimate.mano),
        vertices=vertices,
    )
    if measured:
        return found
    return replace(
        found, view_indices=(), residual_px=np.zeros((0, 21)), visibility=np.zeros(21)
    )
