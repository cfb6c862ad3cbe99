"""HaMuCo's losses: what they are blind to, what they see, where their gradients go."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hand_mesh_ros.geometry.rotations import exp_so3
from hand_mesh_ros.hand.limits import comfortable_pose, pose_limits
from hand_mesh_ros.networks.mano_head import rotations_from_6d
from hand_mesh_ros.networks.view_fusion import (
    estimated_rotations,
    fuse,
    moved,
    relative_rotations,
)
from hand_mesh_ros.training.hamuco_losses import (
    axis_angles,
    bone_loss,
    confident_places,
    consistency_loss,
    distillation_loss,
    label_points_loss,
    pose_losses,
)

B, V, P = 3, 4, 40
MASK = torch.ones(B, V, dtype=torch.bool)


def _axes(seed: int = 0) -> torch.Tensor:
    made = torch.Generator().manual_seed(seed)
    return rotations_from_6d(torch.randn(B, V, 6, generator=made, dtype=torch.float64))


def _consistent(axes: torch.Tensor) -> torch.Tensor:
    """One hand an instant, in each view's axes, of another size and place in each."""
    made = torch.Generator().manual_seed(1)
    hand = 0.06 * torch.randn(B, 1, P, 3, generator=made, dtype=torch.float64)
    size = 0.8 + 0.4 * torch.rand(B, V, 1, 1, generator=made, dtype=torch.float64)
    place = 0.1 * torch.randn(B, V, 1, 3, generator=made, dtype=torch.float64)
    return size * hand @ axes.transpose(-1, -2) + place


@pytest.mark.parametrize("even", [True, False])
@pytest.mark.parametrize("scale", ["ls", "norm"])
@pytest.mark.parametrize("known", [True, False])
def test_views_of_one_hand_are_consistent(even: bool, scale: str, known: bool) -> None:
    axes = _axes()
    points = _consistent(axes)
    R = relative_rotations(axes) if known else None
    assert consistency_loss(points, MASK, R, even, scale) < 1e-6  # type: ignore[arg-type]
    bent = points.clone()
    bent[:, 1, 5] += 0.03
    assert consistency_loss(bent, MASK, R, even, scale) > 1e-4  # type: ignore[arg-type]


def test_wrong_rotations_are_seen_and_estimated_ones_see_nothing_of_them() -> None:
    points = _consistent(_axes())
    wrong = relative_rotations(_axes(seed=3))
    assert consistency_loss(points, MASK, wrong, even=False) > 0.01
    assert consistency_loss(points, MASK, None, even=False) < 1e-6


def test_a_turn_of_a_crop_in_its_plane_changes_nothing() -> None:
    """In the odd branch; the even one measures along the picture's own x and y."""
    axes = _axes()
    points = _consistent(axes) + 0.01 * torch.randn(B, V, P, 3, dtype=torch.float64)
    angles = np.random.default_rng(0).uniform(-3, 3, (B, V))
    turn = torch.tensor(exp_so3(np.stack([0 * angles, 0 * angles, angles], -1)))
    turned = points @ turn.transpose(-1, -2)
    R, R_turned = relative_rotations(axes), relative_rotations(turn @ axes)
    before = fuse(points, MASK, R)
    after = fuse(turned, MASK, R_turned)
    torch.testing.assert_close(before @ turn.transpose(-1, -2), after)
    perfect = _consistent(axes) @ turn.transpose(-1, -2)
    assert consistency_loss(perfect, MASK, R_turned, even=True) < 1e-9


def test_the_even_branch_has_no_gradient_to_the_reference() -> None:
    """Only view 0 is a reference for view 1 here: it must not be moved by it."""
    axes = _axes()[:, :2]
    points = _consistent(_axes())[:, :2]
    points = (points + 0.01 * torch.randn_like(points)).requires_grad_()
    R = relative_rotations(axes)
    laid = moved(points, R, points.detach(), "ls")
    error = (laid[:, 0, 1] - points.detach()[:, 0])[..., :2].abs().sum()
    error.backward()
    assert points.grad is not None
    assert points.grad[:, 0].abs().max() == 0
    assert points.grad[:, 1].abs().max() > 0
    points.grad = None
    consistency_loss(points, MASK[:, :2], R, even=True).backward()
    assert points.grad.abs().max() > 0


@pytest.mark.parametrize("scale", ["ls", "norm"])
def test_a_size_is_never_negative(scale: str) -> None:
    points = _consistent(_axes())
    laid = moved(points, relative_rotations(_axes(seed=9)), None, scale)  # type: ignore[arg-type]
    turned = torch.einsum(
        "bijxy,bjpy->bijpx", relative_rotations(_axes(seed=9)), points - points.mean(2)[:, :, None]
    )
    size = (laid - laid.mean(3, keepdim=True)).div(turned).mean((3, 4))
    assert size.min() >= 0.1 - 1e-9


def test_a_view_that_is_not_there_takes_no_part() -> None:
    axes = _axes()
    points = _consistent(axes) + 0.01 * torch.randn(B, V, P, 3, dtype=torch.float64)
    R = relative_rotations(axes)
    mask = MASK.clone()
    mask[:, 2] = False
    rest = [0, 1, 3]
    for even in (True, False):
        found = consistency_loss(points, mask, R, even)
        alone = consistency_loss(points[:, rest], MASK[:, rest], R[:, rest][:, :, rest], even)
        torch.testing.assert_close(found, alone)
    spoiled = points.clone()
    spoiled[:, 2] = 17.0
    torch.testing.assert_close(fuse(points, mask, R)[:, 0], fuse(spoiled, mask, R)[:, 0])


def test_rotations_are_found_from_points() -> None:
    axes = _axes()
    found = estimated_rotations(_consistent(axes).float(), MASK)
    torch.testing.assert_close(found.double(), relative_rotations(axes), atol=1e-4, rtol=0)


def test_the_teacher_is_not_taught() -> None:
    axes = _axes()
    single = _consistent(axes).requires_grad_()
    cross = (_consistent(axes) + 0.01 * torch.randn(B, V, P, 3)).requires_grad_()
    distillation_loss(single, cross, MASK, relative_rotations(axes)).backward()
    assert single.grad is not None and single.grad.abs().sum() > 0
    assert cross.grad is None


def test_unknown_and_unsure_labels_weigh_nothing() -> None:
    uv, label = torch.zeros(1, 2, 21, 2), torch.ones(1, 2, 21, 2)
    sure = torch.ones(1, 2, 21)
    label[0, 1] = torch.nan
    uv.requires_grad_()
    loss = confident_places(uv, label, sure)
    assert loss == 1.0
    loss.backward()
    assert uv.grad is not None and uv.grad.isfinite().all() and uv.grad[0, 1].abs().max() == 0
    half = confident_places(uv, label, 0.5 * sure)
    assert half == 0.5
    points = torch.randn(1, 2, 21, 3)
    moved_away = points + torch.tensor([0.3, -1.0, 0.2])
    assert label_points_loss(points, moved_away, sure) < 1e-6
    assert label_points_loss(points, torch.full_like(points, torch.nan), sure) == 0


def test_poses_are_measured_by_anatomy() -> None:
    def of(pose: np.ndarray) -> tuple[float, float]:
        rotations = torch.eye(3).repeat(1, 1, 16, 1, 1)
        rotations[0, 0, 1:] = torch.tensor(exp_so3(pose.reshape(15, 3)), dtype=torch.float32)
        away, beyond = pose_losses(rotations, torch.ones(1, 1, dtype=torch.bool))
        return float(away), float(beyond)

    relaxed = of(comfortable_pose())
    assert relaxed[0] < 1e-3 and relaxed[1] == 0
    lower, upper = pose_limits()
    bent = comfortable_pose().copy()
    flexion = 2  # of the first joint in MANO's order, the index finger's
    bent[flexion] = upper[flexion] + 0.2
    away, beyond = of(bent)
    assert away > relaxed[0]
    assert beyond == pytest.approx(0.2 / 45, abs=1e-4)
    assert lower[flexion] < comfortable_pose()[flexion] < upper[flexion]


def test_axis_angles_are_the_logarithm() -> None:
    pose = np.random.default_rng(0).normal(size=(50, 3))
    found = axis_angles(torch.tensor(exp_so3(pose)))
    small = np.linalg.norm(pose, axis=-1) < 2.5
    np.testing.assert_allclose(found.numpy()[small], pose[small], atol=1e-5)
    still = torch.eye(3, requires_grad=True)
    axis_angles(still[None]).sum().backward()
    assert still.grad is not None and still.grad.isfinite().all()


def test_a_person_has_one_shape() -> None:
    betas = torch.randn(B, 1, 10).expand(B, V, 10)
    assert bone_loss(betas, MASK) < 1e-6
    assert bone_loss(torch.randn(B, V, 10), MASK) > 0.1
