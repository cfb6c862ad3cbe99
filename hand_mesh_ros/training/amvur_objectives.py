"""What AMVUR is trained for: supervised, by 2D landmarks alone, or by its published objective."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, l1_loss, mse_loss

from hand_mesh_ros.hand.layout import BONES
from hand_mesh_ros.networks.amvur import AmvurHands, AmvurNetwork
from hand_mesh_ros.networks.amvur_covariance import point_log_variance
from hand_mesh_ros.networks.amvur_prior import Cues, PriorHands, place, place_jacobian
from hand_mesh_ros.training import amvur_losses as terms

Objective = Literal["supervised", "weak", "published"]
Parts = dict[str, Tensor]


@dataclass(frozen=True)
class AmvurWeights:
    """The recipe's `losses`: the objective, and weights of its parts; 0 leaves one out.

    mean: absolute errors of means, dm. nll, full, prior_nll: likelihoods of joints and vertices,
    of all joints together, and of the prior, in cm. kl: of the regressor to the prior, the prior's
    part of which is `kl_back` of it. warm: share of the run before likelihoods count. bound: the
    weak objective's KL to any hand. bones: of the regressor's bones to the template's.
    """

    objective: Objective = "supervised"
    mean: float = 1.0
    nll: float = 0.5
    full: float = 0.1
    prior_nll: float = 0.25
    kl: float = 0.02
    kl_back: float = 0.2
    uv: float = 0.3
    parameters: float = 1.0
    visible: float = 0.1
    limits: float = 0.05
    bound: float = 1.0
    bones: float = 1.0
    warm: float = 0.12

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if name != "objective" and value < 0:
                raise ValueError(f"{name} must not be negative, not {value}")


def supervised(
    network: AmvurNetwork, hands: AmvurHands, cues: Cues, truth: Mapping[str, Tensor],
    weights: AmvurWeights, ramp: float,
) -> Parts:  # fmt: skip
    """By joints, vertices and parameters. `ramp`, 0..1: how much likelihoods count by now.

    truth: as stores of instants have it; `visibility` may be NaN, the rest must be known.
    """
    joints = truth["joints"]
    with torch.no_grad():
        vertices = network.points(truth["rotations"], truth["betas"]).points[:, 21:]
    base = hands.base.points
    covariance = terms.in_cm(hands.covariance)
    marginal, prior = covariance.marginal(), prior_covariance(hands)
    error = 100 * (hands.joints - joints)[:, 1:]
    prior_error = 100 * (base[:, 1:21] - joints[:, 1:])
    log_sigma = hands.log_sigma + terms.LOG_METRE_IN_CM
    rotations = truth["rotations"]
    return {
        "joints": weights.mean * l1_loss(10 * hands.joints, 10 * joints),
        "vertices": weights.mean * l1_loss(10 * hands.vertices, 10 * vertices),
        "prior": weights.mean * l1_loss(10 * base[:, :21], 10 * joints),
        "nll": ramp * weights.nll * terms.gaussian_nll(error, marginal),
        "full": ramp * weights.full * terms.gaussian_nll(error.flatten(1), covariance.full()),
        "vertices_nll": ramp * weights.nll
        * terms.beta_nll(100 * (hands.vertices - vertices), log_sigma),
        "prior_nll": ramp * weights.prior_nll * terms.gaussian_nll(prior_error, prior[:, 1:21]),
        "uv": weights.uv * (
            terms.beta_nll(hands.uv - truth["uv"], hands.uv_log_sigma[..., None])
            if ramp > 0 else l1_loss(hands.uv, truth["uv"])
        ),
        "place": weights.uv
        * l1_loss(place(base[:, :21], hands.prior.camera, cues.focal), truth["uv"]),
        "rotations": weights.parameters * mse_loss(hands.prior.rotations, rotations),
        "betas": 0.01 * weights.parameters * mse_loss(hands.prior.betas, truth["betas"]),
        "visible": weights.visible * seen_loss(hands.visible, truth["visibility"]),
        "limits": weights.limits * terms.limits_excess(hands.prior.rotations),
        "kl": ramp * weights.kl * tied(hands, marginal, prior, weights.kl_back),
    }  # fmt: skip


def weak(
    network: AmvurNetwork, hands: AmvurHands, cues: Cues, seen: Tensor, sigma: Tensor,
    weights: AmvurWeights, ramp: float,
) -> Parts:  # fmt: skip
    """By 2D landmarks `seen` (N, 21, 2), one `sigma` (N, 21) of them, and the focal length alone.

    The variational bound: how well what is seen is explained by hands drawn from either branch,
    and how far these are from what is known of any hand. Landmarks are where the landmark network
    marks them on the hand model (`hand.landmarks`), not joints.
    """
    base, camera = hands.base, hands.prior.camera
    turned = (base.world[:, network.points.bones] @ network.points.offsets[..., None])[..., 0]
    covariance = terms.in_cm(hands.covariance)
    marginal, prior = covariance.marginal(), prior_covariance(hands)

    def explained(joints: Tensor, spread: Tensor) -> Tensor:
        marks = joints + turned
        error = terms.robust(place(marks, camera, cues.focal) - seen, sigma)
        jacobian = 0.01 * place_jacobian(marks, camera, cues.focal)
        return terms.expected_place_nll(error, sigma, jacobian, spread)

    wrist = marginal.new_zeros(len(marginal), 1, 3, 3)
    of_regressor = explained(hands.joints, ramp * torch.cat([wrist, marginal], dim=1))
    parents = torch.tensor([parent for parent, _ in BONES], device=seen.device)
    # a bone prior of 21 numbers and 58 of the tangent: each a sum in the bound, means here
    return {
        "explained": 0.1 * of_regressor,
        "prior": 0.1 * explained(base.points[:, :21], ramp * prior[:, :21]),
        "bound": 0.1 * weights.bound * 58 / 42 * terms.pose_kl(hands.prior),
        "limits": 10 * weights.limits * terms.limits_excess(hands.prior.rotations),
        "bones": weights.bones
        * terms.bone_spread(hands.joints, network.points.rest[:21], parents),
        "kl": 5 * weights.kl * tied(hands, marginal, prior, 0.0),
    }


def published(
    network: AmvurNetwork, hands: AmvurHands, cues: Cues, truth: Mapping[str, Tensor]
) -> Parts:
    """The objective as released, to compare with: errors of samples whose size is learnt freely.

    Metres and log-variances of m^2 (`amvur_covariance.SampleSize`); the prior's "log-variance" is
    the hand's mesh of a second set of pose numbers, and a KL pulls it to 0. Weights: 1, 0.1 of the
    KLs, 0.02 of the limits. A network whose covariance is "sampled" is needed.
    """
    assert network.size is not None
    points = torch.cat([hands.joints, hands.vertices], dim=1)
    base = hands.base.points
    log_variance = point_log_variance(hands.covariance, hands.log_sigma)
    prior_log_variance = _of_second_mesh(network, hands.prior)
    with torch.no_grad():
        true = network.points(truth["rotations"], truth["betas"]).points
        true = torch.cat([truth["joints"], true[:, 21:]], dim=1)
    parts: Parts = {"limits": 0.02 * terms.limits_excess(hands.prior.rotations)}
    for name, mean, logs in (
        ("sample", points, log_variance), ("prior_sample", base, prior_log_variance),
    ):  # fmt: skip
        sample = mean + torch.randn_like(mean) * (0.5 * logs).exp() * network.size(logs)
        uv = place(sample[:, :21], hands.prior.camera, cues.focal)
        parts[f"{name}_vertices"] = l1_loss(sample[:, 21:], true[:, 21:])
        parts[f"{name}_joints"] = mse_loss(sample[:, :21], true[:, :21])
        parts[f"{name}_uv"] = mse_loss(uv, truth["uv"])
    nothing = torch.zeros_like(base)
    parts["kl"] = 0.1 * (
        terms.diagonal_kl(points - base, 0.5 * log_variance, 0.5 * prior_log_variance)
        + terms.diagonal_kl(nothing, 0.5 * prior_log_variance, nothing)
    )
    return parts


def _of_second_mesh(network: AmvurNetwork, prior: PriorHands) -> Tensor:
    pose = prior.numbers[:, 3:48].unflatten(1, (15, 3))
    fingers = torch.matrix_exp(_skew(pose))
    rotations = torch.cat([prior.rotations[:, :1], fingers], dim=1)
    mesh = network.points(rotations, torch.zeros_like(prior.betas)).points
    return mesh + 2 * prior.camera[:, :1, None]


def prior_covariance(hands: AmvurHands) -> Tensor:
    """The prior's (N, K, 3, 3), cm^2, of the points that it is told of, half a millimetre at least.

    The wrist's is that half millimetre.
    """
    factor = 100 * hands.base_factor
    floor = 0.05**2 * torch.eye(3, device=factor.device)
    return factor @ factor.transpose(-1, -2) + floor


def tied(hands: AmvurHands, marginal: Tensor, prior: Tensor, back: float) -> Tensor:
    """KL[regressor || prior] of joints and the vertices whose prior is told; cm.

    Either side is held where the other one learns; `back` is the prior's share, so that it learns
    from data and does not lean on the regressor.
    """
    told = prior.shape[1] - 21
    base = 100 * hands.base.points[:, : 21 + told]
    logs = hands.log_sigma[:, :told] + terms.LOG_METRE_IN_CM
    vertices = torch.diag_embed((2 * logs).exp())
    mean = 100 * torch.cat([hands.joints[:, 1:], hands.vertices[:, :told]], dim=1)
    own, other = torch.cat([marginal, vertices], dim=1), prior[:, 1:]
    loss = terms.gaussian_kl(mean - base[:, 1:].detach(), own, other.detach())
    if back > 0:
        loss = loss + back * terms.gaussian_kl(mean.detach() - base[:, 1:], own.detach(), other)
    return loss


def seen_loss(logits: Tensor, visibility: Tensor) -> Tensor:
    """Cross-entropy where it is known whether a joint is seen; 0 if it is so nowhere."""
    known = visibility.isfinite()
    each = binary_cross_entropy_with_logits(
        logits, visibility.masked_fill(~known, 0.0), reduction="none"
    )
    return torch.where(known, each, 0.0).sum() / known.sum().clamp(min=1)


def _skew(v: Tensor) -> Tensor:
    x, y, z = v.unbind(-1)
    zero = torch.zeros_like(x)
    rows = [torch.stack(row, -1) for row in ((zero, -z, y), (z, zero, -x), (-y, x, zero))]
    return torch.stack(rows, -2)

