"""Some points of the hand model with their Jacobian: how a pose's uncertainty becomes theirs.

The tangent space has 58 numbers: a rotation vector for each of the 16 joints, in MANO's order, by
which its rotation is turned further in its own axes (``R exp(d)``), and the ten betas. Points are
relative to the wrist, which no uncertainty of the pose moves.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hand_mesh_ros.hand.kinematics import BONE_OF_POINT
from hand_mesh_ros.hand.landmarks import offsets_of
from hand_mesh_ros.hand.layout import MANO_TO_OPENPOSE, NUM_BETAS, NUM_JOINTS, PARENTS
from hand_mesh_ros.hand.model import HandModel

TANGENT = 3 * NUM_JOINTS + NUM_BETAS

# Joints of equal depth, and the five fingers' joints in MANO's order.
_LEVELS = tuple(slice(depth, NUM_JOINTS, 3) for depth in (1, 2, 3))


class PointsOf(NamedTuple):
    """N hands: ``points`` (N, 21 + C, 3) m relative to the wrist, OpenPose joints and then the

    chosen vertices; ``jacobian`` (N, K, 3, 58) of the first K of them; ``world`` (N, 16, 3, 3),
    the bones' rotations into the hand's frame.
    """

    points: Tensor
    jacobian: Tensor
    world: Tensor


class TangentPoints(nn.Module):
    """Poses a model's 21 joints and chosen vertices (C,); a differentiable layer of no parameters.

    `offsets` (21, 3) are of the model's landmarks from its joints, see `hand.landmarks`; `rest`
    (21 + C, 3) the points of the zero pose.
    """

    joints: Tensor
    joint_dirs: Tensor
    template: Tensor
    dirs: Tensor
    weights: Tensor
    below: Tensor
    hanging: Tensor
    offsets: Tensor
    order: Tensor
    bones: Tensor
    parents: Tensor
    rest: Tensor
    posedirs: Tensor | None

    def __init__(self, model: HandModel, chosen: NDArray[np.integer]) -> None:
        super().__init__()
        points = np.concatenate([np.asarray(model.tips), np.asarray(chosen, dtype=np.int64)])
        weights = np.asarray(model.lbs_weights)[points]
        below = _below()
        arrays = {
            "joints": model.J_regressor @ model.v_template,
            "joint_dirs": np.einsum("jv,vds->jds", model.J_regressor, model.shapedirs),
            "template": np.asarray(model.v_template)[points],
            "dirs": np.asarray(model.shapedirs)[points],
            "weights": weights,
            "below": below,
            # (P, a, k): weight of bone k where it hangs on joint a
            "hanging": weights[:, None] * below,
            "offsets": offsets_of(model),
        }
        for name, array in arrays.items():
            self.register_buffer(name, torch.tensor(array, dtype=torch.float32), persistent=False)
        order = np.concatenate([MANO_TO_OPENPOSE, np.arange(21, 21 + len(chosen))])
        indices = {"order": order, "bones": BONE_OF_POINT, "parents": np.maximum(PARENTS, 0)}
        for name, index in indices.items():
            self.register_buffer(name, torch.tensor(np.array(index)), persistent=False)
        posedirs = np.asarray(model.posedirs).reshape(NUM_JOINTS - 1, 3, 3, -1, 3)[:, :, :, points]
        correct = torch.tensor(posedirs, dtype=torch.float32) if np.any(posedirs) else None
        self.register_buffer("posedirs", correct, persistent=False)
        rest = self(torch.eye(3).expand(1, NUM_JOINTS, 3, 3), torch.zeros(1, NUM_BETAS))
        self.register_buffer("rest", rest.points[0], persistent=False)

    def forward(self, rotations: Tensor, betas: Tensor, jacobian_of: int = 0) -> PointsOf:
        """Hands of total rotations (N, 16, 3, 3), the first one global, and betas (N, 10).

        The Jacobian is that of the first `jacobian_of` points: none, or at least the 21 joints.
        """
        rest = self.joints + _betas_times(self.joint_dirs, betas)
        world = _along(rotations[:, :1], lambda level, above: above @ rotations[:, level])
        steps = rest - rest[:, self.parents]
        posed = _along(
            torch.zeros_like(rest[:, :1]),
            lambda level, above: above + _turned(world[:, self.parents[level]], steps[:, level]),
        )
        flat = self.template + _betas_times(self.dirs, betas)
        if self.posedirs is not None:
            feature = rotations[:, 1:] - torch.eye(3, device=betas.device)
            flat = flat + torch.einsum("narc,arcpd->npd", feature, self.posedirs)
        # where each point would be if it were fixed to each of the bones: (N, P, 16, 3)
        shift = posed - _turned(world, rest)
        carried = torch.einsum("nkij,npj->npki", world, flat) + shift[:, None]
        skinned = torch.einsum("pk,npki->npi", self.weights, carried)
        points = torch.cat([posed, skinned], dim=1)[:, self.order]
        if not jacobian_of:
            return PointsOf(points, points.new_zeros(len(points), 0, 3, TANGENT), world)
        count = jacobian_of - NUM_JOINTS
        jacobian = self._jacobian(rotations, world, posed, carried[:, :count])
        return PointsOf(points, jacobian[:, self.order[:jacobian_of]], world)

    def _jacobian(
        self, rotations: Tensor, world: Tensor, posed: Tensor, carried: Tensor
    ) -> Tensor:
        """(N, 16 + P, 3, 58), joints in MANO's order first.

        Turning joint a by a small world vector w moves what hangs on it by w x lever; a turn d in
        the joint's own axes is the world vector ``world_a d``.
        """
        count = carried.shape[1]
        joint_levers = self.below.T[..., None] * (posed[:, :, None] - posed[:, None])
        hanging = self.hanging[:count]
        mass = hanging.sum(-1)[..., None]
        levers = torch.einsum("pak,npki->npai", hanging, carried) - mass * posed[:, None]
        levers = torch.cat([joint_levers, levers], dim=1)
        # w x lever for each number's world vector, written out: (N, points, 3, 16, 3 numbers)
        wx, wy, wz = (world[:, None, :, i] for i in range(3))
        lx, ly, lz = (levers[..., i : i + 1] for i in range(3))
        turned = torch.stack([wy * lz - wz * ly, wz * lx - wx * lz, wx * ly - wy * lx], dim=2)
        if self.posedirs is not None:
            turned[:, NUM_JOINTS:, :, 1:] += self._by_posedirs(rotations, world, count)
        return torch.cat([turned.flatten(3), self._by_betas(world, count)], dim=-1)

    def _by_betas(self, world: Tensor, count: int) -> Tensor:
        weights, dirs = self.weights[:count], self.joint_dirs
        steps = dirs - dirs[self.parents]
        moved = _along(
            torch.zeros_like(dirs[:1]).expand(len(world), 1, 3, NUM_BETAS),
            lambda level, above: above + world[:, self.parents[level]] @ steps[level],
        )
        blended = torch.einsum("pk,nkij->npij", weights, world) @ self.dirs[:count]
        shift = torch.einsum("pk,nkib->npib", weights, moved - world @ dirs)
        return torch.cat([moved, blended + shift], dim=1)

    def _by_posedirs(self, rotations: Tensor, world: Tensor, count: int) -> Tensor:
        """How correctives move points (N, P, 3, 15, 3 numbers) by turns in the joints' own axes."""
        assert self.posedirs is not None
        eye = torch.eye(3).to(rotations)
        # (3 numbers, 3, 3): skew matrices of the axes
        generators = torch.linalg.cross(eye[:, None], eye[None], dim=-1).transpose(-1, -2)
        d_rotation = rotations[:, 1:, None] @ generators
        d_flat = torch.einsum("namrc,arcpd->npamd", d_rotation, self.posedirs[:, :, :, :count])
        blended = torch.einsum("pk,nkij->npij", self.weights[:count], world)
        return torch.einsum("npij,npamj->npiam", blended, d_flat)


def propagated(jacobian: Tensor, factor: Tensor) -> Tensor:
    """Factor A (N, P, 3, K) of the points' covariance A A^T = J S J^T.

    ``jacobian`` (N, P, 3, 58) and ``factor`` (N, 58, K) of the tangent's covariance S = L L^T.
    """
    size = jacobian.shape
    return (jacobian.flatten(1, 2) @ factor).view(*size[:-1], factor.shape[-1])


def _betas_times(dirs: Tensor, betas: Tensor) -> Tensor:
    """Displacements (N, P, 3) of points with ``dirs`` (P, 3, 10)."""
    return (betas @ dirs.flatten(0, 1).T).unflatten(1, dirs.shape[:2])


def _below() -> NDArray[np.float64]:
    """(a, k) is 1 where bone k hangs on joint a, a itself included."""
    below = np.eye(NUM_JOINTS)
    for k in range(1, NUM_JOINTS):
        below[:, k] = np.maximum(below[:, k], below[:, PARENTS[k]])
    return below


def _turned(rotations: Tensor, vectors: Tensor) -> Tensor:
    return (rotations @ vectors[..., None])[..., 0]


def _along(wrist: Tensor, step: Callable[[slice, Tensor], Tensor]) -> Tensor:
    """Values (N, 16, ...) of all joints from the wrist's (N, 1, ...); `step` (level, parents')."""
    levels, above = [], wrist
    for level in _LEVELS:
        above = step(level, above)
        levels.append(above)
    fingers = torch.stack(levels, dim=2).flatten(1, 2)
    return torch.cat([wrist, fingers], dim=1)
