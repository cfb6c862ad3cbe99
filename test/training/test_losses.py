"""Losses: values by hand, gradients, and parts of the truth that are not known."""

from __future__ import annotations

import math

import pytest
import torch

from hand_mesh_ros.networks.mano_head import ManoOutput, place, rotations_from_6d
from hand_mesh_ros.training.losses import ManoWeights, known_mean, mano_losses

NAN = float("nan")


def _case(requires_grad: bool = False) -> tuple[ManoOutput, torch.Tensor, dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    rotations, joints = normal(2, 16, 3, 3), 0.1 * normal(2, 21, 3)
    output = ManoOutput(rotations, normal(2, 10), normal(2, 3))
    if requires_grad:
        for tensor in (*output, joints):
            tensor.requires_grad_()
    truth = {
        "joints": 0.1 * normal(2, 21, 3), "uv": normal(2, 21, 2),
        "rotations": normal(2, 16, 3, 3), "betas": normal(2, 10),
    }  # fmt: skip
    return output, joints, truth


def test_known_mean_by_hand() -> None:
    predicted = torch.tensor([1.0, 2.0, 5.0])
    assert known_mean(predicted, torch.tensor([0.0, NAN, 2.0]), torch.abs) == 2.0
    assert known_mean(predicted, torch.tensor([0.0, NAN, 2.0]), torch.square) == 5.0
    assert known_mean(predicted, torch.full((3,), NAN), torch.abs) == 0.0


def test_weak_perspective_by_hand() -> None:
    joints = torch.zeros(1, 21, 3)
    joints[0, 0] = torch.tensor([9.0, 9.0, 9.0])  # where the wrist is does not matter
    joints[0, 1] = joints[0, 0] + torch.tensor([0.1, -0.2, 0.7])  # depth does not, either
    uv = place(joints, torch.tensor([[math.log(0.5), 0.1, 0.2]]))
    torch.testing.assert_close(uv[0, 0], torch.tensor([0.1, 0.2]))
    torch.testing.assert_close(uv[0, 1], torch.tensor([0.1 + 0.5, 0.2 - 1.0]))


def test_parts_by_hand() -> None:
    output, joints, truth = _case()
    truth["joints"] = joints - joints[:, :1] + torch.tensor([0.01, 0.0, -0.02])
    truth["rotations"] = output.rotations + 2.0
    truth["betas"] = output.betas - 3.0
    truth["uv"] = place(joints, output.camera) + 0.5
    parts = mano_losses(output, joints, truth, ManoWeights(1, 1, 1, 1, 1))
    assert parts["joints"].item() == pytest.approx((0.1 + 0.2) / 3)
    assert parts["uv"].item() == pytest.approx(0.5)
    assert parts["rotations"].item() == pytest.approx(4.0)
    assert parts["betas"].item() == pytest.approx(9.0)
    assert parts["prior"].item() == pytest.approx(output.betas.square().mean().item())


def test_gradients_are_those_of_the_losses() -> None:
    output, joints, truth = _case(requires_grad=True)
    truth["betas"][0] = NAN
    truth["uv"][1, 3] = NAN

    def total(*tensors: torch.Tensor) -> torch.Tensor:
        made = ManoOutput(*tensors[:3])
        return sum(mano_losses(made, tensors[3], truth, ManoWeights()).values(), torch.tensor(0.0))

    assert torch.autograd.gradcheck(total, (*output, joints))


def test_what_is_unknown_reaches_no_gradient() -> None:
    output, joints, truth = _case(requires_grad=True)
    for value in truth.values():
        value.fill_(NAN)
    truth["joints"][0, 5] = 0.0
    parts = mano_losses(output, joints, truth, ManoWeights(prior=0.0))
    torch.stack(list(parts.values())).sum().backward()
    assert joints.grad is not None and output.rotations.grad is not None
    moved = joints.grad.abs().sum(-1) > 0
    assert moved[0, 5] and moved[0, 0] and moved.sum() == 2  # the joint, and the wrist it is from
    assert torch.equal(output.rotations.grad, torch.zeros_like(output.rotations))


def test_negative_weights_are_refused() -> None:
    with pytest.raises(ValueError, match="uv must not be negative"):
        ManoWeights(uv=-1.0)


def test_six_numbers_become_rotations_as_in_numpy() -> None:
    import numpy as np

    from hand_mesh_ros.geometry.rotations import matrix_from_6d

    sixd = torch.randn(5, 16, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    ours = rotations_from_6d(sixd).numpy()
    np.testing.assert_allclose(ours, matrix_from_6d(sixd.numpy()), atol=1e-12)
