"""The hand model as published checkpoints carry it: buffers under "mano."."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from hand_mesh_ros.hand.layout import (
    MANO_TO_OPENPOSE,
    NUM_BETAS,
    NUM_HAND_POSE,
    NUM_JOINTS,
    PARENTS,
    TIP_SETS,
)
from hand_mesh_ros.hand.model import HandModel
from hand_mesh_ros.networks.mano_layer import PosedHands, posed_hands

UNUSED: Final = ("mano.hand_", "mano.pose_mean", "mano.vertex_joint_selector.")
"""Beginnings of the keys that only smplx's own interface uses."""

_ARRAYS: Final = ("v_template", "shapedirs", "posedirs", "J_regressor", "lbs_weights")
_VERTICES, _FACES, _COMPONENTS = 778, 1538, 6  # of MANO as it is published


class CheckpointMano(nn.Module):
    """`ManoLayer` with the keys of HaMeR's and WiLoR's checkpoints.

    Of no model it is empty and in MANO's size. All of it is part of the state, so that a file of
    the state holds the hand model, with that model's licence.
    """

    extra_joints_idxs: Tensor
    joint_map: Tensor

    def __init__(self, model: HandModel | None = None) -> None:
        super().__init__()
        for name, tensor in _empty().items() if model is None else _of(model).items():
            self.register_buffer(name, tensor)
        self.register_buffer("parents", torch.tensor(PARENTS))
        self.register_buffer("joint_map", torch.tensor(np.array(MANO_TO_OPENPOSE)))
        # Rotations are total and matrices, so that neither a mean pose nor components are used.
        self.register_buffer("hand_components", torch.eye(NUM_HAND_POSE)[:_COMPONENTS])
        self.register_buffer("hand_mean", torch.zeros(NUM_HAND_POSE))
        self.register_buffer("pose_mean", torch.zeros(3 * NUM_JOINTS))
        self.vertex_joint_selector = nn.Module()
        self.vertex_joint_selector.register_buffer(
            "extra_joints_idxs", self.extra_joints_idxs.clone()
        )

    def forward(self, rotations: Tensor, betas: Tensor) -> PosedHands:
        """Hands of total rotations (N, 16, 3, 3), the first one global, and betas (N, 10)."""
        return posed_hands(self, rotations, betas, self.extra_joints_idxs, self.joint_map)


def hand_model_in(state: Mapping[str, Tensor], model_id: str = "mano_right") -> HandModel | None:
    """The right hand in a network's state, None if there is none.

    Raises ValueError, naming the tensors, for a part of one or for one in another layout.
    """
    own = {key.removeprefix("mano."): state[key] for key in state if key.startswith("mano.")}
    if not own:
        return None
    needed = (*_ARRAYS, "parents", "faces_tensor", "extra_joints_idxs", "joint_map")
    if missing := [f"mano.{name}" for name in needed if name not in own]:
        raise ValueError(f"its hand model lacks {', '.join(missing)}")
    if own["joint_map"].tolist() != MANO_TO_OPENPOSE.tolist():
        raise ValueError("its mano.joint_map is not the published order of joints")
    return HandModel(
        **{name: own[name].double().numpy(force=True) for name in _ARRAYS},
        parents=own["parents"].numpy(force=True).copy(),
        faces=own["faces_tensor"].numpy(force=True).copy(),
        tips=own["extra_joints_idxs"].numpy(force=True).copy(),
        side="right",  # these networks see left hands mirrored: they only know right ones
        model_id=model_id,
    )


def _of(model: HandModel) -> dict[str, Tensor]:
    arrays = {name: np.ascontiguousarray(getattr(model, name), np.float32) for name in _ARRAYS}
    return {
        **{name: torch.tensor(array) for name, array in arrays.items()},
        "faces_tensor": torch.tensor(np.array(model.faces)),
        "extra_joints_idxs": torch.tensor(np.array(model.tips)),
    }


def _empty() -> dict[str, Tensor]:
    return {
        "v_template": torch.zeros(_VERTICES, 3),
        "shapedirs": torch.zeros(_VERTICES, 3, NUM_BETAS),
        "posedirs": torch.zeros(9 * (NUM_JOINTS - 1), 3 * _VERTICES),
        "J_regressor": torch.zeros(NUM_JOINTS, _VERTICES),
        "lbs_weights": torch.zeros(_VERTICES, NUM_JOINTS),
        "faces_tensor": torch.zeros(_FACES, 3, dtype=torch.int64),
        "extra_joints_idxs": torch.tensor(TIP_SETS["mano"]),
    }
