"""HaMeR's published losses: 2D and 3D joints, parameters, and the discriminator's opinion.

G. Pavlakos et al., Reconstructing Hands in 3D with Transformers, CVPR 2024. As published they are
sums over all samples, so that the step of the optimiser grows with the batch; `mean` divides them
by the samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from hand_mesh_ros.geometry.rotations import exp_so3
from hand_mesh_ros.hand.layout import NUM_JOINTS
from hand_mesh_ros.networks.reconstruction import Reconstruction

Reduction = Literal["sum", "mean"]


@dataclass(frozen=True)
class HamerWeights:
    """Weights of the parts, by default the published ones; 0 leaves one out."""

    keypoints_2d: float = 0.01
    keypoints_3d: float = 0.05
    global_orient: float = 0.001
    hand_pose: float = 0.001
    betas: float = 0.0005
    adversarial: float = 0.0005

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 0:
                raise ValueError(f"{name} must not be negative, not {value}")


class HamerTruth(NamedTuple):
    """What is known of B right hands (left ones mirrored); what is not has confidence or mask 0.

    Unknown numbers may be anything but NaN, which not even a zero takes out of a gradient.
    """

    keypoints_2d: Tensor  # (B, 21, 3): -0.5..0.5 in the crop, confidence
    keypoints_3d: Tensor  # (B, 21, 4): metres, anywhere; confidence
    rotations: Tensor  # (B, 16, 3, 3)
    betas: Tensor  # (B, 10)
    has_global_orient: Tensor  # (B,) 0 or 1
    has_hand_pose: Tensor  # (B,)
    has_betas: Tensor  # (B,)

    def with_usual_betas(self) -> HamerTruth:
        """Unknown shapes taken for the mean one, as published training does."""
        known = self.has_betas[:, None]
        return self._replace(betas=self.betas * known, has_betas=torch.ones_like(self.has_betas))


def rotations_of(axis_angle: Tensor) -> Tensor:
    """Matrices (B, 16, 3, 3) of total rotations (B, 48) in axis-angle, the global one first."""
    return exp_so3(axis_angle.unflatten(-1, (NUM_JOINTS, 3)))


def hamer_parts(
    predicted: Reconstruction, truth: HamerTruth, reduction: Reduction = "sum"
) -> dict[str, Tensor]:
    """The parts by their names in `HamerWeights`, not weighted; the adversarial one is apart.

    keypoints_2d: absolute error, of the crop's side. keypoints_3d: absolute error of places
    relative to the wrist, m. global_orient, hand_pose: squared error of matrices. betas: squared
    error.
    """
    uv, confidence_2d = truth.keypoints_2d.split([2, 1], dim=-1)
    points, confidence_3d = truth.keypoints_3d.split([3, 1], dim=-1)
    relative = predicted.joints - predicted.joints[:, :1] - (points - points[:, :1])
    turns = (predicted.rotations - truth.rotations).square()
    shape = (predicted.betas - truth.betas).square()
    sums = {
        "keypoints_2d": (confidence_2d * (predicted.joints_2d - uv).abs()).sum(),
        "keypoints_3d": (confidence_3d * relative.abs()).sum(),
        "global_orient": (truth.has_global_orient * turns[:, 0].sum((1, 2))).sum(),
        "hand_pose": (truth.has_hand_pose * turns[:, 1:].sum((1, 2, 3))).sum(),
        "betas": (truth.has_betas * shape.sum(1)).sum(),
    }
    return {name: _reduced(value, len(uv), reduction) for name, value in sums.items()}


def weighted_sum(parts: dict[str, Tensor], weights: HamerWeights) -> Tensor:
    """The loss of `parts`, each times its weight."""
    return torch.stack([getattr(weights, name) * value for name, value in parts.items()]).sum()


def adversarial_loss(verdicts: Tensor) -> Tensor:
    """What a network pays for verdicts (B, 17) on its own hands: least squares from 1, a sample."""
    return (verdicts - 1).square().sum() / len(verdicts)


def discriminator_loss(fake: Tensor, real: Tensor) -> Tensor:
    """What the discriminator pays: verdicts (B, 17) on a network's hands, (M, 17) on recorded ones.

    Both are divided by the network's B, as published, where M is 2 B and real ones count double.
    """
    return (fake.square().sum() + (real - 1).square().sum()) / len(fake)


def _reduced(value: Tensor, samples: int, reduction: Reduction) -> Tensor:
    return value if reduction == "sum" else value / max(samples, 1)
