"""Losses of hands with parts unknown: NaN in a truth takes no part and reaches no gradient."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from hand_mesh_ros.networks.mano_head import ManoOutput, place


@dataclass(frozen=True)
class ManoWeights:
    """Weights of the parts of `mano_losses`; 0 leaves one out."""

    joints: float = 10.0
    uv: float = 1.0
    rotations: float = 1.0
    betas: float = 0.01
    prior: float = 0.001

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 0:
                raise ValueError(f"{name} must not be negative, not {value}")


def mano_losses(
    output: ManoOutput, joints: Tensor, truth: Mapping[str, Tensor], weights: ManoWeights
) -> dict[str, Tensor]:
    """Weighted parts of the loss of predicted `joints` (N, 21, 3) m and the head's `output`.

    truth: `joints` (N, 21, 3) m relative to the wrist, `uv` (N, 21, 2) -1..1, `rotations`
    (N, 16, 3, 3), `betas` (N, 10); NaN where unknown.
    Parts: joints, mean absolute error in dm, relative to the wrist; uv, the same in half-widths
    of the crop; rotations, mean squared error of matrix elements; betas, mean squared error;
    prior, mean square of the betas themselves, which are normal by construction.
    """
    relative = 10 * (joints - joints[:, :1])
    parts = {
        "joints": known_mean(relative, 10 * truth["joints"], torch.abs),
        "uv": known_mean(place(joints, output.camera), truth["uv"], torch.abs),
        "rotations": known_mean(output.rotations, truth["rotations"], torch.square),
        "betas": known_mean(output.betas, truth["betas"], torch.square),
        "prior": output.betas.square().mean(),
    }
    return {name: getattr(weights, name) * value for name, value in parts.items()}


def known_mean(predicted: Tensor, true: Tensor, measure: Callable[[Tensor], Tensor]) -> Tensor:
    """Mean of `measure(predicted - true)` where the truth is finite; 0 if it is so nowhere.

    NaN times zero is NaN, in a gradient too: what is unknown must be taken out before it is
    measured, not weighted by zero.
    """
    known = true.isfinite()
    error = torch.where(known, predicted - true.masked_fill(~known, 0.0), 0.0)
    return measure(error).sum() / known.sum().clamp(min=1)
