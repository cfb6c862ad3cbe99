"""HaMuCo's losses, none of which knows a 3D label: 2D, priors, consistency, distillation.

All take hands of B instants and V views with a mask (B, V), have no loop over views, and measure
lengths in units of 0.2 m, as published. Where the published code has a trap it is mended here:

- A least-squares size can come out negative for a bad rotation: it is held above a tenth, or taken
  from the spreads of the points, which no rotation touches (`view_fusion.moved`).
- The reference view of the even branch leaked a gradient through size and place: it is detached
  before anything is computed from it.
- The parity of consistency advanced in validation, too: it is an argument.
- A rotation estimated by SVD has an unstable gradient: it has none here.
- Means are over views that are there, and a missing one takes no part.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from hand_mesh_ros.hand.limits import pose_limits, pose_prior
from hand_mesh_ros.networks.hamuco import UNIT
from hand_mesh_ros.networks.view_fusion import Scale, estimated_rotations, fuse, moved


@dataclass(frozen=True)
class HamucoWeights:
    """Weights of the parts; 0 leaves one out. As published: uv 1, consistency 1, distill 1, shape

    1, pose 0.01 (an absolute value there, here in units of the prior's spread).
    uv: places of landmarks, of single and of several views. points: relative places in space of
    the labels' fit to all views, and `points_cross`, the same for several views. limits: finger
    angles beyond what joints do. bones: how much a person's bones differ between views.
    """

    uv: float = 1.0
    points: float = 0.0
    points_cross: float = 0.0
    shape: float = 0.05
    pose: float = 0.01
    limits: float = 0.1
    bones: float = 0.0
    consistency: float = 1.0
    distill: float = 1.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 0:
                raise ValueError(f"{name} must not be negative, not {value}")


def confident_places(uv: Tensor, label: Tensor, confidence: Tensor) -> Tensor:
    """Mean distance per axis of places (B, V, 21, 2) to labels, by their confidence (B, V, 21).

    The published mean divides by all entries, whatever their confidence, so that unsure ones make
    a loss smaller; NaN labels have none.
    """
    known = label.isfinite().all(-1) & confidence.isfinite()
    weight = torch.where(known, confidence, 0.0)
    error = torch.where(known[..., None], uv - label.masked_fill(~known[..., None], 0.0), 0.0)
    return (weight[..., None] * error.abs()).sum() / (uv.shape[-1] * known.sum()).clamp(min=1)


def label_points_loss(marks: Tensor, label: Tensor, confidence: Tensor) -> Tensor:
    """The same of places in space (B, V, 21, 3), both about the mean of the palm, of the label's

    size: how large a hand is, is the shape's affair.
    """
    known = label.isfinite().all(-1) & confidence.isfinite()
    label = label.masked_fill(~known[..., None], 0.0)
    marks = marks - marks[..., _PALM, :].mean(-2, keepdim=True)
    label = label - label[..., _PALM, :].mean(-2, keepdim=True)
    return confident_places(marks / UNIT, label / UNIT, torch.where(known, confidence, torch.nan))


_PALM = [0, 5, 9, 13, 17]


def axis_angles(rotations: Tensor) -> Tensor:
    """Axis-angle vectors (..., 3) of rotations (..., 3, 3), with a gradient below half a turn."""
    R = rotations
    skew = torch.stack(
        [R[..., 2, 1] - R[..., 1, 2], R[..., 0, 2] - R[..., 2, 0], R[..., 1, 0] - R[..., 0, 1]], -1
    )
    sine = (0.5 * (skew.square().sum(-1, keepdim=True) + 1e-12).sqrt()).clamp(max=1.0)
    cosine = 0.5 * (R.diagonal(dim1=-2, dim2=-1).sum(-1, keepdim=True) - 1)
    angle = torch.atan2(sine, cosine)
    # near half a turn the sine says nothing of the angle; fingers are never there
    return 0.5 * skew * angle / sine.clamp(min=1e-3)


def pose_losses(rotations: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """How far finger angles of total rotations (B, V, 16, 3, 3) are from a relaxed hand's, in its

    spreads (mean absolute), and beyond the limits of joints (mean, radians).
    """
    angles = axis_angles(rotations[..., 1:, :, :][mask]).flatten(1)
    mean, std, lower, upper = (x.to(angles) for x in _anatomy())
    beyond = (lower - angles).clamp(min=0) + (angles - upper).clamp(min=0)
    return ((angles - mean) / std).abs().mean(), beyond.mean()


@lru_cache(maxsize=1)
def _anatomy() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    rows = (*pose_prior(), *pose_limits())
    mean, std, lower, upper = (torch.tensor(x, dtype=torch.float32) for x in rows)
    return mean, std, lower, upper


def shape_loss(betas: Tensor, mask: Tensor) -> Tensor:
    """Mean absolute beta (B, V, 10), which is normal by construction."""
    return betas[mask].abs().mean()


def bone_loss(betas: Tensor, mask: Tensor) -> Tensor:
    """How much the views of a hand (B, V, 10) disagree on its shape, hence on its bones."""
    weight = mask[..., None].to(betas.dtype)
    mean = (weight * betas).sum(1, keepdim=True) / weight.sum(1, keepdim=True).clamp(min=1)
    return (betas - mean)[mask].abs().mean()


def consistency_loss(
    points: Tensor,
    mask: Tensor,
    R: Tensor | None,
    even: bool,
    scale: Scale = "norm",
    sure: Tensor | None = None,
) -> Tensor:
    """L_c of points (B, V, P, 3) m of the views of one hand, each in its own axes.

    R (B, V, V, 3, 3): `view_fusion.relative_rotations`; None: estimated from the points.
    even: every view, laid onto each, is pulled across its picture (x and y) to that one, which
    itself has no gradient: as published a view's own picture is trusted, but not its depth. Odd:
    each view is pulled to the mean of all. sure (B, V): weights of views in both.
    Zero for views that say the same hand.
    """
    if R is None:
        R = estimated_rotations(points, mask)
    if even:
        reference = points.detach()
        laid = moved(points, R, reference, scale)
        error = (laid - reference[:, :, None])[..., :2].abs().mean((3, 4)) / UNIT
        pairs = (mask[:, :, None] & mask[:, None]).to(points.dtype)
        if sure is not None:
            pairs = pairs * sure.detach()[:, :, None]
        return (pairs * error).sum() / pairs.sum().clamp(min=1e-9)
    mean = fuse(points, mask, R, sure, scale).detach()
    return ((points - mean)[mask].abs().mean() if mask.any() else points.sum() * 0) / UNIT


def distillation_loss(
    single: Tensor, cross: Tensor, mask: Tensor, R: Tensor | None, weights: Tensor | None = None
) -> Tensor:
    """L_d: the single views' points (B, V, P, 3) to what all views say together, which has no

    gradient. Each about its own mean: where the wrist is put is a part of the hand.
    """
    taught = fuse(cross.detach(), mask, R, weights)
    taught = taught - taught.mean(2, keepdim=True)
    return ((single - single.mean(2, keepdim=True)) - taught)[mask].abs().mean() / UNIT
