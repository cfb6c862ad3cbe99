"""HaMeR's losses: the published numbers, and what each of them is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from hand_mesh_ros.networks.reconstruction import Reconstruction
from hand_mesh_ros.training.hamer_losses import (
    HamerTruth,
    HamerWeights,
    adversarial_loss,
    discriminator_loss,
    hamer_parts,
    rotations_of,
    weighted_sum,
)


def _predicted(batch: int = 2) -> Reconstruction:
    torch.manual_seed(0)
    return Reconstruction(
        rotations_of(torch.randn(batch, 48)), torch.randn(batch, 10), torch.randn(batch, 3),
        torch.randn(batch, 3), torch.randn(batch, 21, 3), torch.randn(batch, 778, 3),
        torch.randn(batch, 21, 2),
    )  # fmt: skip


def _truth(hands: Reconstruction) -> HamerTruth:
    """The same hands, all of which is known."""
    ones = torch.ones(len(hands.betas))
    sure = torch.ones(len(hands.betas), 21, 1)
    return HamerTruth(
        torch.cat([hands.joints_2d, sure], -1), torch.cat([hands.joints, sure], -1),
        hands.rotations, hands.betas, ones, ones, ones,
    )  # fmt: skip


def test_losses_are_the_published_ones(shared_data: Path) -> None:
    """Of the fixture's own outputs, so that this needs no network."""
    arrays = np.load(shared_data / "parity" / "hamer_tiny_io.npz")
    get = {name: torch.tensor(arrays[name]) for name in arrays.files if arrays[name].ndim}
    mano = "pred_mano_params"
    rotations = torch.cat([get[f"{mano}.global_orient"], get[f"{mano}.hand_pose"]], 1)
    hands = Reconstruction(
        rotations, get[f"{mano}.betas"], get["pred_cam"], get["pred_cam_t"],
        get["pred_keypoints_3d"], get["pred_vertices"], get["pred_keypoints_2d"],
    )  # fmt: skip
    pose = torch.cat([get["gt.mano_params.global_orient"], get["gt.mano_params.hand_pose"]], 1)
    masks = [get[f"gt.has_mano_params.{n}"] for n in ("global_orient", "hand_pose", "betas")]
    truth = HamerTruth(
        get["gt.keypoints_2d"], get["gt.keypoints_3d"], rotations_of(pose),
        get["gt.mano_params.betas"], *masks,
    )  # fmt: skip
    parts = hamer_parts(hands, truth)
    for name, value in parts.items():
        np.testing.assert_allclose(value, arrays[f"losses.loss_{name}"], rtol=1e-5, err_msg=name)
    loss = weighted_sum(parts, HamerWeights())
    np.testing.assert_allclose(loss, arrays["losses.loss"], rtol=1e-5)
    adversarial = adversarial_loss(get["disc_out"])
    np.testing.assert_allclose(adversarial, arrays["loss_adv"], rtol=1e-6)
    total = loss + HamerWeights().adversarial * adversarial
    np.testing.assert_allclose(total, arrays["loss_total"], rtol=1e-5)


def test_what_is_right_costs_nothing_and_a_place_alone_neither() -> None:
    hands = _predicted()
    truth = _truth(hands)
    assert all(value == 0 for value in hamer_parts(hands, truth).values())
    moved = truth._replace(keypoints_3d=truth.keypoints_3d + torch.tensor([1.0, 2, 3, 0]))
    assert hamer_parts(hands, moved)["keypoints_3d"] < 1e-4


def test_each_part_is_its_formula_and_unknown_ones_cost_nothing() -> None:
    hands = _predicted()
    truth = _truth(hands)
    off = truth._replace(
        keypoints_2d=truth.keypoints_2d + torch.tensor([0.5, 0, 0]),
        rotations=truth.rotations.clone(),
        betas=truth.betas + 2,
    )
    off.keypoints_3d[:, 5, 0] += 3  # of one joint
    off.rotations[0, 0, 0, 0] += 2  # global
    off.rotations[1, 7] += 1
    parts = {name: float(value) for name, value in hamer_parts(hands, off).items()}
    expected = {"keypoints_2d": 21.0, "keypoints_3d": 6.0, "global_orient": 4.0,
                "hand_pose": 9.0, "betas": 80.0}  # fmt: skip
    assert parts == pytest.approx(expected, rel=1e-5)
    halves = {name: float(v) for name, v in hamer_parts(hands, off, "mean").items()}
    assert halves == pytest.approx({k: v / 2 for k, v in expected.items()}, rel=1e-5)
    # masks and confidences are of their own part and of the sample they are of
    first = torch.tensor([1.0, 0])
    some = off._replace(has_global_orient=1 - first, has_hand_pose=first, has_betas=first)
    some.keypoints_2d[0, :, 2] = 0
    some.keypoints_3d[1, :, 3] = 0
    masked = {name: float(v) for name, v in hamer_parts(hands, some).items()}
    assert masked == pytest.approx(
        {"keypoints_2d": 10.5, "keypoints_3d": 3.0, "global_orient": 0.0, "hand_pose": 0.0,
         "betas": 40.0}, rel=1e-5,
    )  # fmt: skip
    usual = some.with_usual_betas()
    assert usual.has_betas.tolist() == [1, 1] and not usual.betas[1].any()
    assert torch.equal(usual.betas[0], off.betas[0])


def test_the_discriminator_and_its_opponent_want_opposites() -> None:
    fake, real = torch.full((3, 17), 0.25), torch.full((6, 17), 0.5)
    assert adversarial_loss(fake) == pytest.approx(17 * 0.75**2)
    # real ones are twice as many and divided by the same three
    assert discriminator_loss(fake, real) == pytest.approx(17 * 0.25**2 + 2 * 17 * 0.25)
    assert discriminator_loss(torch.zeros(3, 17), torch.ones(6, 17)) == 0


def test_rotations_are_those_of_the_axis() -> None:
    turn = torch.zeros(1, 48)
    turn[0, 3 * 4 + 2] = torch.pi / 2  # the fifth joint about z
    matrices = rotations_of(turn)[0]
    expected = torch.eye(3).repeat(16, 1, 1)
    expected[4] = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    torch.testing.assert_close(matrices, expected, atol=1e-6, rtol=0)


def test_negative_weights_are_told() -> None:
    with pytest.raises(ValueError, match="betas must not be negative, not -1"):
        HamerWeights(betas=-1)
