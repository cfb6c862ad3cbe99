"""Covariances of the joints relative to the wrist, in several forms to choose from.

Of the 20 joints beyond the wrist, which has none. A covariance is A A^T + B: A ties joints to each
other, B is one 3x3 block a joint. Depth is far less certain than the picture's plane, so a form
that treats the axes alike or leaves joints apart pays for it (`hand-mesh bench amvur
--experiments` says how much).
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

Form = Literal["diagonal", "propagated", "mixing", "full", "sampled"]
BEYOND_WRIST = 20
_LOG_CM = (math.log(0.05), math.log(10.0))
_FIRST = math.log(0.8)  # cm
_FLOOR = 5e-4  # m, of forms whose blocks would be singular


class JointCovariance(NamedTuple):
    """Covariance of N hands' 20 joints, m^2: factor (N, 20, 3, K) and blocks (N, 20, 3, 3)."""

    factor: Tensor
    blocks: Tensor

    def marginal(self) -> Tensor:
        """(N, 20, 3, 3), each joint's own."""
        return self.factor @ self.factor.transpose(-1, -2) + self.blocks

    def full(self) -> Tensor:
        """(N, 60, 60), of all joints together."""
        rows = self.factor.flatten(1, 2)
        return rows @ rows.transpose(-1, -2) + block_diagonal(self.blocks)


class CovarianceHead(nn.Module):
    """Joint tokens (N, 20, W) and the prior's propagated factor (N, 20, 3, K) to a covariance.

    diagonal: one variance a coordinate. propagated: the prior's J S J^T, each joint's share
    scaled, and a variance a coordinate for what the hand model does not explain. mixing:
    W diag(e^v) W^T with one W (60, 60) for all hands (Hand-Uncertainty, BMVC 2025). full: a 3x3
    Cholesky factor a joint and `rank` directions that all joints share. sampled: as published, see
    `SampleSize`.
    """

    def __init__(self, form: Form, width: int, rank: int = 6) -> None:
        super().__init__()
        self.form, self.rank = form, rank
        outputs = {"propagated": 4, "full": 6 + 3 * rank}.get(form, 3)
        self.out = nn.Linear(width, outputs)
        nn.init.normal_(self.out.weight, std=0.01)
        nn.init.zeros_(self.out.bias)
        with torch.no_grad():
            self.out.bias[:3] = {"propagated": math.log(0.2), "sampled": 0.0}.get(form, _FIRST)
            if form == "full":
                self.out.weight[6:] *= 10  # directions of zero length have no gradient
        self.mix = nn.Parameter(torch.eye(3 * BEYOND_WRIST)) if form == "mixing" else None

    def forward(self, tokens: Tensor, prior: Tensor) -> JointCovariance:
        numbers = self.out(tokens)
        if self.form == "sampled":
            sigma = numbers.clamp(-12, 5).exp()
        else:
            sigma = 0.01 * numbers[..., :3].clamp(*_LOG_CM).exp()
        nothing = sigma.new_zeros(*sigma.shape, 0)
        if self.form in ("diagonal", "sampled"):
            return JointCovariance(nothing, torch.diag_embed(sigma.square()))
        if self.form == "propagated":
            gain = numbers[..., 3:].clamp(-1.5, 1.5).exp()
            return JointCovariance(
                gain[..., None] * prior.detach(), torch.diag_embed(sigma.square())
            )
        if self.mix is not None:
            columns = self.mix * sigma.flatten(1)[:, None]
            floor = torch.diag_embed(torch.full_like(sigma, _FLOOR**2))
            return JointCovariance(columns.unflatten(1, (BEYOND_WRIST, 3)), floor)
        below = numbers[..., 3:6].clamp(-3, 3) * sigma.detach()[..., :3]
        lower = torch.diag_embed(sigma)
        lower = lower + _strictly_below(below)
        shared = 0.01 * numbers[..., 6:].unflatten(-1, (3, self.rank)).clamp(-5, 5)
        return JointCovariance(shared, lower @ lower.transpose(-1, -2))


class SampleSize(nn.Module):
    """The published objective's one size s of a hand's samples: mean + noise * sigma * s.

    Two linear layers of all log-variances, unconstrained. What is drawn from has the variances
    times s^2; neither they nor s are ever told what the errors are.
    """

    def __init__(self, points: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3 * points, 128), nn.Linear(128, 1))

    def forward(self, log_variance: Tensor) -> Tensor:
        """(N, 1, 1) of log-variances (N, P, 3), m^2."""
        return torch.as_tensor(self.layers(log_variance.flatten(1)))[:, None]


def point_log_variance(covariance: JointCovariance, log_sigma: Tensor) -> Tensor:
    """(N, 21 + C, 3), m^2, of joints and vertices; the wrist is given its neighbour's."""
    joints = covariance.blocks.diagonal(dim1=-2, dim2=-1).log()
    return torch.cat([joints[:, :1], joints, 2 * log_sigma], dim=1)


def block_diagonal(blocks: Tensor) -> Tensor:
    """(N, 3P, 3P) from blocks (N, P, 3, 3)."""
    count = blocks.shape[1]
    eye = torch.eye(count, device=blocks.device)
    return torch.einsum("npij,pq->npiqj", blocks, eye).reshape(-1, 3 * count, 3 * count)


def _strictly_below(numbers: Tensor) -> Tensor:
    """(..., 3, 3) with three numbers below the diagonal."""
    a, b, c = numbers.unbind(-1)
    zero = torch.zeros_like(a)
    rows = [torch.stack(row, dim=-1) for row in ((zero, zero, zero), (a, zero, zero), (b, c, zero))]
    return torch.stack(rows, dim=-2)
