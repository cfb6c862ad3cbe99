"""Hands that a mask moves: cameras, what a mask leaves open, and gradients of outlines."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from hand_mesh_ros.evaluation.amvur_movable import NUMBERS, MovableHands, fitted_camera
from hand_mesh_ros.evaluation.amvur_silhouette import (
    AMODAL,
    Mask,
    covered,
    inside_picture,
    near_hidden,
    network_mask,
    refined,
    true_mask,
)
from hand_mesh_ros.geometry.rotations import exp_so3
from hand_mesh_ros.hand.model import HandModel, load_hand_model
from hand_mesh_ros.networks.amvur import AmvurNetwork, AmvurSettings
from hand_mesh_ros.networks.amvur_calibration import Calibrated
from hand_mesh_ros.networks.amvur_prior import Cues, place
from hand_mesh_ros.networks.mano_layer import ManoLayer
from hand_mesh_ros.render.scenes import ARM, HAND, OTHER, THING

INSIDE = np.ones((1, 56, 56), dtype=bool)


@dataclass
class Hand:
    """An untrained network's answer to the landmarks of a flat hand, which is about that hand."""

    model: HandModel
    network: AmvurNetwork
    cues: Cues
    movable: MovableHands


@pytest.fixture(scope="module")
def hand() -> Hand:
    torch.manual_seed(0)
    model = load_hand_model()
    settings = AmvurSettings(vertices=16, prior_hidden=32, map_width=4)
    network = AmvurNetwork(model, settings).eval()
    turn = torch.tensor(exp_so3(np.array([[1.6, 0.2, 0.1]])), dtype=torch.float32)
    world = network.points.rest[:21] @ turn.transpose(1, 2)
    uv = 7 * (world[..., :2] - world[..., :2].mean(1, keepdim=True))
    landmarks = torch.cat([uv, world[..., 2:]], dim=-1)
    maps = (torch.randn(1, 14, 14, 112), torch.randn(1, 7, 7, 192))
    cues = Cues(torch.randn(1, 192), maps, torch.tensor([4.0]), landmarks, world)
    return Hand(model, network, cues, MovableHands(network, ManoLayer(model), cues))


def mask_of(hand: Hand, numbers: Tensor) -> np.ndarray:
    return covered(hand.movable(numbers), hand.model.faces)


def test_a_camera_is_found_again_with_its_sigma() -> None:
    torch.manual_seed(1)
    points = 0.06 * torch.randn(3, 21, 3)
    camera = torch.tensor([[-0.3, 0.1, -0.2], [0.0, 0.3, 0.1], [0.2, 0.0, 0.0]])
    focal, sigma = torch.tensor([3.0, 5.0, 8.0]), torch.full((3, 21), 0.05)
    uv = place(points, camera, focal)
    found, factor = fitted_camera(points, uv, sigma, focal, torch.zeros(3, 3))
    torch.testing.assert_close(found, camera, atol=1e-4, rtol=0)
    _, twice = fitted_camera(points, uv, 2 * sigma, focal, torch.zeros(3, 3))
    torch.testing.assert_close(twice, 2 * factor)
    # place: as unsure as the mean of four landmarks
    spread = (factor @ factor.transpose(1, 2)).diagonal(dim1=1, dim2=2).sqrt()
    assert ((spread[:, 1:] > 0.02) & (spread[:, 1:] < 0.05)).all()


def test_numbers_of_zero_are_the_answer_and_others_what_they_say(hand: Hand) -> None:
    zero = torch.zeros(1, NUMBERS)
    with torch.no_grad():
        answer = hand.network(hand.cues)
        posed = ManoLayer(hand.model)(answer.prior.rotations, answer.prior.betas)
        mesh = hand.network.whole_mesh(answer, posed.vertices - posed.joints[:, :1])
    placed = hand.movable(zero)
    torch.testing.assert_close(placed.joints, answer.joints, atol=1e-6, rtol=0)
    torch.testing.assert_close(placed.vertices, mesh, atol=1e-6, rtol=0)
    assert placed.depth.min() > 0.1
    turn = torch.zeros(1, 48, 1)
    turn[0, :3, 0] = torch.tensor([0.3, -0.2, 0.4])
    turned = zero.clone()
    turned[:, :48] = torch.linalg.solve(hand.movable.turn_factor, turn)[..., 0]
    moved = hand.movable(turned)
    # residuals and all turn as one body about the wrist
    torch.testing.assert_close(
        torch.cdist(moved.vertices, moved.joints), torch.cdist(placed.vertices, placed.joints),
        atol=1e-5, rtol=0,
    )  # fmt: skip
    assert (moved.joints - placed.joints).norm(dim=-1).max() > 0.02
    aside = zero.clone()
    aside[:, 48:] = 1.0
    torch.testing.assert_close(hand.movable(aside).joints, placed.joints)
    assert (hand.movable(aside).uv - placed.uv).abs().max() > 0.005


def test_what_covers_a_hand_says_nothing() -> None:
    owner = np.zeros((1, 56, 56), dtype=np.uint8)
    for column, whose in enumerate((HAND, ARM, OTHER, THING)):
        owner[0, :, column] = whose + 1
    owner[0, ::2] += AMODAL
    inside = INSIDE.copy()
    inside[0, :, -1] = False
    mask = true_mask(owner, inside)
    assert (mask.hand[0, :, 0] == 1).all() and not mask.hand[0, :, 1:].any()
    np.testing.assert_array_equal(mask.known[0, 5, :6], [1, 0, 0, 0, 1, 1])
    assert not mask.known[0, :, -1].any()


def test_beyond_the_picture_nothing_is_known() -> None:
    """A crop of 224 pixels at half of an image's scale, whose left quarter is out of it."""
    matrix = np.array([[[0.5, 0, -28.0], [0, 0.5, 10.0]]] * 2)
    inside = inside_picture(matrix, np.array([False, True]), 256, 256)
    assert not inside[0, :, :14].any() and inside[0, :, 14:].all()
    np.testing.assert_array_equal(inside[1], inside[0, :, ::-1])


def test_hidden_joints_leave_their_surroundings_open(hand: Hand) -> None:
    known = hand.movable.known
    for finger, there in ((None, False), (slice(17, 21), True)):
        visible = torch.ones(1, 21)
        if finger is not None:
            visible[0, finger] = 0
        sigma = torch.full_like(known.uv_sigma, 0.05)
        hand.movable.known = Calibrated(known.covariance, sigma, visible)
        near = near_hidden(hand.movable)[0]
        probability = np.full((1, 56, 56), 0.1)
        mask = network_mask(probability, INSIDE, hand.movable)
        hand.movable.known = known
        np.testing.assert_allclose(mask.known[0], 0.8 * ~near)
        assert near.any() == there
    uv = place(hand.movable.joints, hand.movable.camera, hand.movable.focal)[0].numpy()
    column, row = np.clip(((uv + 1) * 28 - 0.5).round().astype(int), 0, 55).T
    assert near[row[18:], column[18:]].all() and not near[row[[4, 8, 12]], column[[4, 8, 12]]].any()
    assert near.mean() < 0.3


def test_outlines_find_a_hand_that_is_off_and_insides_do_not(hand: Hand) -> None:
    _deodr()
    true = torch.zeros(1, NUMBERS)
    true[:, 48:] = torch.tensor([0.8, 1.5, -1.5])
    seen = mask_of(hand, true)
    mask = Mask(seen.astype(float), np.ones(seen.shape))

    def iou(numbers: Tensor) -> float:
        ours = mask_of(hand, numbers)
        return float((ours & seen).sum() / (ours | seen).sum())

    before = iou(torch.zeros(1, NUMBERS))
    by_outline, by_inside = (
        refined(hand.movable, mask, hand.model.faces, how, lambda: None, 25)
        for how in ("outline", "inside")
    )
    assert before < 0.8 and iou(by_outline) > before + 0.1
    assert by_outline[0, 49] > 0.5 and by_outline[0, 50] < -0.5
    assert by_inside.abs().max() < 0.01


def test_a_cover_must_not_push_the_hand_away(hand: Hand) -> None:
    """A thing hides the upper half of a hand that is where it is told to be."""
    _deodr()
    zero = torch.zeros(1, NUMBERS)
    whole = mask_of(hand, zero)
    rows = np.flatnonzero(whole[0].any(1))
    cover = np.zeros(whole.shape, dtype=bool)
    cover[:, : rows[len(rows) // 2]] = True
    owner = np.where(cover, THING + 1, np.where(whole, HAND + 1, 0)).astype(np.uint8)
    honest = true_mask(owner, INSIDE)
    fooled = Mask(honest.hand, np.ones(whole.shape))
    off = []
    for mask in (honest, fooled):
        numbers = refined(hand.movable, mask, hand.model.faces, "outline", lambda: None, 15)
        moved = hand.movable(numbers).uv - hand.movable(zero).uv
        off.append(float(moved.norm(dim=-1).mean()))
    assert off[0] < 0.02
    assert off[1] > 3 * off[0]


def _deodr() -> None:
    pytest.importorskip("trimesh", reason="DEODR needs trimesh, which is missing")
    pytest.importorskip("deodr", reason="DEODR is missing: pip install deodr trimesh")
