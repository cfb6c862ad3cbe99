"""Likelihoods and divergences that AMVUR is trained by.

Lengths are centimetres: a likelihood in metres has log-variances of -9 and no useful gradient.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hand_mesh_ros.hand.layout import NUM_BETAS
from hand_mesh_ros.hand.limits import pose_limits, pose_prior
from hand_mesh_ros.networks.amvur_covariance import JointCovariance
from hand_mesh_ros.networks.amvur_prior import PriorHands

_ROOT_SIGMA = 2.0  # radians: of a root that may be anything


def beta_nll(error: Tensor, log_sigma: Tensor, beta: float = 0.5) -> Tensor:
    """Mean negative log-likelihood of independent Gaussians, each times its sigma^(2 beta).

    The factor takes no gradient; with 0.5 samples of large sigma are not ignored (Seitzer et al.,
    On the Pitfalls of Heteroscedastic Uncertainty, ICLR 2022). Constants are left out.
    """
    nll = log_sigma + 0.5 * error.square() * (-2 * log_sigma).exp()
    return (nll * (2 * beta * log_sigma.detach()).exp()).mean()


def gaussian_nll(error: Tensor, covariance: Tensor, beta: float = 0.5) -> Tensor:
    """The same of D-dimensional Gaussians, per axis: error (..., D), covariance (..., D, D)."""
    size = error.shape[-1]
    lower = torch.linalg.cholesky_ex(covariance).L
    white = torch.linalg.solve_triangular(lower, error[..., None], upper=False)[..., 0]
    log_sigma = lower.diagonal(dim1=-2, dim2=-1).log().mean(-1)
    nll = log_sigma + 0.5 * white.square().sum(-1) / size
    return (nll * (2 * beta * log_sigma.detach()).exp()).mean()


def gaussian_kl(difference: Tensor, own: Tensor, other: Tensor) -> Tensor:
    """Mean KL[own || other] per axis of Gaussians whose means differ by `difference` (..., D).

    own, other (..., D, D): their covariances.
    """
    size = difference.shape[-1]
    a, b = (torch.linalg.cholesky_ex(x).L for x in (own, other))
    ratio = torch.linalg.solve_triangular(b, a, upper=False)
    white = torch.linalg.solve_triangular(b, difference[..., None], upper=False)
    volumes = [x.diagonal(dim1=-2, dim2=-1).log().sum(-1) for x in (a, b)]
    squares = ratio.square().sum((-2, -1)) + white.square().sum((-2, -1))
    return (0.5 * (squares - size) + volumes[1] - volumes[0]).mean() / size


def diagonal_kl(difference: Tensor, own: Tensor, other: Tensor) -> Tensor:
    """Mean KL[own || other] of independent Gaussians; own, other: log-sigmas."""
    squares = (difference.square() + (2 * own).exp()) * (-2 * other).exp()
    return (other - own + 0.5 * squares - 0.5).mean()


def expected_place_nll(
    error: Tensor, sigma: Tensor, jacobian: Tensor, covariance: Tensor
) -> Tensor:
    """Mean of -E ln N(seen; place(X), sigma^2) over X ~ N(mean, covariance), per axis.

    error (N, P, 2): of the mean's places; sigma (N, P) of what is seen; jacobian (N, P, 2, 3) of
    `place`; covariance (N, P, 3, 3). The bound's data term: a posterior that is unsure of what
    would be seen pays for it, one that is unsure along the ray does not.
    """
    spread = torch.einsum("npij,npjk,npik->np", jacobian, covariance, jacobian)
    return (0.25 * (error.square().sum(-1) + spread) / sigma.square()).mean()


def robust(error: Tensor, sigma: Tensor, cutoff: float = 3.0) -> Tensor:
    """`error` (N, P, 2) shortened so that its square grows but linearly past `cutoff` sigmas."""
    size = error.norm(dim=-1, keepdim=True) / sigma[..., None]
    square = torch.where(size < cutoff, size.square(), 2 * cutoff * size - cutoff**2)
    return error * (square.clamp(min=1e-12) / size.square().clamp(min=1e-12)).sqrt()


def axis_angle(rotations: Tensor) -> Tensor:
    """Rotation vectors (..., 3) of matrices (..., 3, 3); far from half a turn, as fingers are."""
    axis = torch.stack(
        [
            rotations[..., 2, 1] - rotations[..., 1, 2],
            rotations[..., 0, 2] - rotations[..., 2, 0],
            rotations[..., 1, 0] - rotations[..., 0, 1],
        ],
        dim=-1,
    )
    sine = 0.5 * (axis.square().sum(-1) + 1e-12).sqrt()
    cosine = 0.5 * (rotations.diagonal(dim1=-2, dim2=-1).sum(-1) - 1)
    return 0.5 * axis * (torch.atan2(sine, cosine) / sine)[..., None]


def limits_excess(rotations: Tensor) -> Tensor:
    """Mean excess, radians, of the fingers' rotation vectors over the joint limits.

    rotations (N, 16, 3, 3) in MANO's order; the root has no limits. Source of the limits:
    `hand.limits`.
    """
    lower, upper = (torch.tensor(x).to(rotations) for x in pose_limits())
    pose = axis_angle(rotations[:, 1:]).flatten(1)
    return (torch.relu(pose - upper) + torch.relu(lower - pose)).mean()


def pose_kl(prior: PriorHands) -> Tensor:
    """KL of the prior-net's distribution to what is known of any hand, per number of the tangent.

    Fingers by `hand.limits.pose_prior`, betas standard normal, the root anything. The finger's
    rotation vector stands for the tangent: they differ by a factor near one at ordinary bends.
    """
    mean, spread = (torch.tensor(x).to(prior.betas) for x in pose_prior())
    pose = axis_angle(prior.rotations[:, 1:]).flatten(1) - mean
    sigma = torch.cat([spread.new_full((3,), _ROOT_SIGMA), spread, spread.new_ones(NUM_BETAS)])
    white = torch.cat([pose.new_zeros(len(pose), 3), pose, prior.betas], dim=1) / sigma
    factor = prior.factor / sigma[:, None]
    covariance = factor @ factor.transpose(-1, -2)
    volume = torch.linalg.cholesky_ex(covariance).L.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    squares = white.square().sum(-1) + covariance.diagonal(dim1=-2, dim2=-1).sum(-1)
    return (0.5 * (squares - len(sigma)) - volume).mean() / len(sigma)


def bone_spread(joints: Tensor, rest: Tensor, parents: Tensor) -> Tensor:
    """Mean squared logarithm of bones' lengths over the template's, of joints (N, 21, 3)."""
    own, template = (
        (x[..., 1:, :] - x[..., parents, :]).norm(dim=-1).clamp(min=1e-3) for x in (joints, rest)
    )
    return (own / template).log().square().mean()


def in_cm(covariance: JointCovariance) -> JointCovariance:
    """Of cm^2 instead of m^2."""
    return JointCovariance(100 * covariance.factor, 1e4 * covariance.blocks)


def landmark_sigma(presence: Tensor) -> Tensor:
    """One sigma (N, 21) of the landmark network's places in half-widths of the crop.

    Of joints that are seen it is 0.06 in the mean, measured on renders; `hand.landmarks` has the
    share of each. `presence` (N,): the network's own belief that there is a hand.
    """
    from hand_mesh_ros.hand.landmarks import load_landmark_model

    noise = torch.tensor(load_landmark_model().noise).to(presence)
    return 0.06 * noise / presence[:, None].clamp(min=0.2)


LOG_METRE_IN_CM = math.log(100.0)
