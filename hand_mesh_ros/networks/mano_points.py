"""Joints, landmarks and a few vertices of posed hands: the hand model where a mesh is not needed.

A loss on joints and a sample of the surface costs a tenth of what skinning the whole mesh does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from hand_mesh_ros.hand.kinematics import BONE_OF_POINT
from hand_mesh_ros.hand.landmarks import MEDIAPIPE, load_landmark_model
from hand_mesh_ros.hand.layout import MANO_TO_OPENPOSE
from hand_mesh_ros.hand.model import HandModel


class HandPoints(NamedTuple):
    """Of N hands, metres, relative to the wrist joint: `joints` (N, 21, 3) in OpenPose order,

    `marks` (N, 21, 3), where the landmark network puts its landmarks on them, and `surface`
    (N, S, 3), some vertices.
    """

    joints: Tensor
    marks: Tensor
    surface: Tensor


class ManoPoints(nn.Module):
    """Poses points of a right `HandModel` by smplx's rules, in single precision.

    `surface` vertices are taken evenly from the model's list, or those of `vertices`. The model's
    arrays are no part of the state.
    """

    rest: Tensor
    rest_dirs: Tensor
    points: Tensor
    point_dirs: Tensor
    posedirs: Tensor
    weights: Tensor
    offsets: Tensor
    parents: Tensor
    order: Tensor
    bones: Tensor

    def __init__(
        self, model: HandModel, surface: int = 0, vertices: Sequence[int] | None = None
    ) -> None:
        super().__init__()
        if vertices is None:
            vertices = np.linspace(0, model.num_vertices - 1, surface).round().astype(int).tolist()
        chosen = np.array([*model.tips, *vertices], dtype=np.int64)
        posedirs = np.asarray(model.posedirs).reshape(-1, model.num_vertices, 3)[:, chosen]
        floats = {
            "rest": model.J_regressor @ model.v_template,
            "rest_dirs": np.einsum("jv,vdb->jdb", model.J_regressor, model.shapedirs),
            "points": model.v_template[chosen],
            "point_dirs": model.shapedirs[chosen],
            "posedirs": posedirs.reshape(len(posedirs), -1),
            "weights": model.lbs_weights[chosen],
            "offsets": load_landmark_model(MEDIAPIPE).offsets,
        }
        for name, array in floats.items():
            value = torch.tensor(np.asarray(array), dtype=torch.float32)
            self.register_buffer(name, value, persistent=False)
        indices = {"parents": model.parents, "order": MANO_TO_OPENPOSE, "bones": BONE_OF_POINT}
        for name, index in indices.items():
            self.register_buffer(name, torch.tensor(np.array(index)), persistent=False)

    def forward(self, rotations: Tensor, betas: Tensor) -> HandPoints:
        """Points of total rotations (N, 16, 3, 3), the first one global, and betas (N, 10)."""
        from smplx.lbs import batch_rigid_transform

        rest = self.rest + torch.einsum("jdb,nb->njd", self.rest_dirs, betas)
        posed, move = batch_rigid_transform(rotations, rest, self.parents, dtype=rotations.dtype)
        turned = (rotations[:, 1:] - torch.eye(3, device=betas.device)).flatten(1) @ self.posedirs
        points = self.points + torch.einsum("pdb,nb->npd", self.point_dirs, betas)
        points = points + turned.unflatten(1, (-1, 3))
        blend = torch.einsum("pj,njab->npab", self.weights, move)
        skinned = (blend[..., :3, :3] @ points[..., None])[..., 0] + blend[..., :3, 3]
        joints = torch.cat([posed, skinned[:, :5]], dim=1)[:, self.order]
        shift = move[:, self.bones, :3, :3] @ self.offsets[..., None]
        wrist = joints[:, :1]
        return HandPoints(
            joints - wrist, joints + shift[..., 0] - wrist, skinned[:, 5:] - wrist
        )
