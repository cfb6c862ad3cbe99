"""Recorded hands that a discriminator compares a network's with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hand_mesh_ros.hand.layout import NUM_BETAS, NUM_JOINTS
from hand_mesh_ros.training.hamer_losses import HamerTruth, rotations_of
from hand_mesh_ros.training.settings import RecipeError

_DRAWN = 2  # hands for each of the network's, as published


class Recorded:
    """Poses and shapes of a file, or of the batch's own truth where there is none.

    The file is that of the published training (`freihand_mocap.npz`): `hand_pose` (N, 48) total
    rotations of right hands in axis-angle, the global one first, and `betas` (N, 10).
    Raises RecipeError for a file that is not like that.
    """

    def __init__(self, path: str | None, recipe: str) -> None:
        self._hands: tuple[Tensor, Tensor] | None = None
        if path is None:
            return
        try:
            with np.load(Path(path).expanduser(), allow_pickle=False) as file:
                pose, betas = (np.asarray(file[key], np.float32) for key in ("hand_pose", "betas"))
        except (OSError, KeyError, ValueError) as error:
            raise RecipeError(f"{recipe}: model.mocap: {path}: {error}") from error
        shapes = (3 * NUM_JOINTS,), (NUM_BETAS,)
        if (pose.shape[1:], betas.shape[1:]) != shapes or len(pose) != len(betas) or not len(pose):
            raise RecipeError(
                f"{recipe}: model.mocap: {path}: hand_pose is {pose.shape} and betas {betas.shape}"
                f", not (N, {3 * NUM_JOINTS}) and (N, {NUM_BETAS})"
            )
        self._hands = rotations_of(torch.from_numpy(pose))[:, 1:], torch.from_numpy(betas)

    def draw(self, truth: HamerTruth) -> tuple[Tensor, Tensor]:
        """Finger rotations (M, 15, 3, 3) and betas (M, 10): twice as many as the truth's hands,

        or those of the truth that are known, which may be none.
        """
        if self._hands is None:
            known = (truth.has_hand_pose > 0) & (truth.has_betas > 0)
            return truth.rotations[known, 1:], truth.betas[known]
        rotations, betas = self._hands
        chosen = torch.randint(len(betas), (_DRAWN * len(truth.betas),))
        like = truth.betas
        return rotations[chosen].to(like), betas[chosen].to(like)
