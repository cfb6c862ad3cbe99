"""Calibration of a network's sigmas: one that errs by known amounts, in pictures of dots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hand_mesh_ros.evaluation.network_sigma import measure_sigma
from hand_mesh_ros.geometry.cameras import project
from hand_mesh_ros.geometry.rotations import exp_so3
from hand_mesh_ros.hand.kinematics import HAND_POSE, NUM_PARAMS, TRANSL, joints_and_jacobian
from hand_mesh_ros.hand.model import HandModel, load_hand_model
from hand_mesh_ros.networks.landmarks import rois_from_landmarks
from hand_mesh_ros.perception.learned import CropBatch, NetworkCard, NetworkHands
from hand_mesh_ros.perception.learned_fit import LearnedFit
from hand_mesh_ros.perception.network_sigma import fit_scale_and_floor
from hand_mesh_ros.types import SIDES, Camera, Frame, ManoParameters, Side, View

MODELS: dict[Side, HandModel] = {side: load_hand_model(side=side) for side in SIDES}
CAMERA = Camera("camera", 64, 64, np.array([[80.0, 0, 32], [0, 80.0, 32], [0, 0, 1]]))
PARAMS = np.zeros(NUM_PARAMS)
PARAMS[TRANSL] = [0.0, 0.0, 0.5]
JOINTS = joints_and_jacobian(MODELS["right"], PARAMS[None])[0][0]
UV = project(CAMERA, JOINTS)
ROI = rois_from_landmarks(UV)[0]
UV_SIGMA, JOINT_SIGMA, POSE_SIGMA = 0.05, 0.007, 0.2


class Errs:
    """Knows the one hand that all pictures show, but for noise of known sigmas."""

    device = "cpu"
    card = NetworkCard("errs", model_id=MODELS["right"].model_id)

    def __init__(self) -> None:
        self._rng = np.random.default_rng(0)

    def region(self, view: View) -> np.ndarray:
        return view.roi

    def __call__(self, batch: CropBatch) -> NetworkHands:
        count, rng = len(batch), self._rng
        angle = ROI[3]
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        uv = (UV - ROI[:2]) @ turn / (ROI[2] / 2) + rng.normal(0, UV_SIGMA, (count, 21, 2))
        joints = JOINTS @ np.swapaxes(batch.axes, -1, -2)
        joints = joints + rng.normal(0, JOINT_SIGMA, joints.shape)
        rotations = exp_so3(rng.normal(0, POSE_SIGMA, (count, 16, 3)))
        independent = JOINT_SIGMA**2 * np.eye(63).reshape(21, 3, 21, 3)
        return NetworkHands(
            joints, uv, rotations, rng.normal(0, 0.5, (count, 10)),
            covariance=np.tile(independent, (count, 1, 1, 1, 1)),
            uv_sigma=np.full((count, 21), UV_SIGMA / 2),
        )  # fmt: skip


@dataclass
class Seer:
    """An observer that sees the hand wherever it looks."""

    def __call__(self, frames: Sequence[Frame], hints: Any, search: Any) -> list[View]:
        return [
            View(i, f.camera, UV, np.ones(21), JOINTS, 0.9, 0.9, ROI, f)
            for i, f in enumerate(frames)
        ]


def test_the_rule_is_that_of_the_errors() -> None:
    mano = ManoParameters(
        MODELS["right"].model_id, "right", np.zeros(3), PARAMS[HAND_POSE], np.zeros(10), PARAMS[-3:]
    )
    sample: Any = SimpleNamespace(
        name="one", image=np.zeros((64, 64, 3), np.uint8), camera=CAMERA, side="right",
        joints=JOINTS, uv=UV, box=np.array([*UV.min(0), *UV.max(0)]), mano=mano, group=None,
    )  # fmt: skip
    told: list[int] = []
    seer: Any = Seer()
    rule = measure_sigma(
        LearnedFit(Errs(), MODELS), seer, [sample] * 96, 0, "a test", lambda n, *_: told.append(n)
    )
    assert rule.calibration == "a test" and told[-1] == 96
    shown = rule.uv_sigma(np.full(21, UV_SIGMA / 2))  # it tells half of what it errs by
    np.testing.assert_allclose(shown, UV_SIGMA, rtol=0.15)
    np.testing.assert_allclose(rule.uv_sigma(None), UV_SIGMA, rtol=0.15)
    sigma = np.sqrt(np.trace(rule.joint_covariance(None), axis1=1, axis2=2) / 3)
    np.testing.assert_allclose(sigma, JOINT_SIGMA, rtol=0.15)
    assert rule.pose_sigma == pytest.approx(POSE_SIGMA, rel=0.1)
    assert rule.shape_sigma == pytest.approx(0.5, rel=0.1)
    mute = LearnedFit(Silent(), MODELS)
    with pytest.raises(ValueError, match="ask it more than once, with jitter"):
        measure_sigma(mute, seer, [sample] * 10, 0, "a test", lambda *_: None)


class Silent(Errs):
    """The same, but says nothing of its errors."""

    def __call__(self, batch: CropBatch) -> NetworkHands:
        said = super().__call__(batch)
        return NetworkHands(said.joints, said.uv, said.rotations)


def test_scale_and_floor_of_covariances_are_found() -> None:
    """Errors drawn from 0.004^2 + 1.5^2 times what is told, which is long along a random axis."""
    rng = np.random.default_rng(5)
    axes = exp_so3(rng.normal(0, 1, (4000, 21, 3)))
    sigma = rng.uniform(0.5, 2, (4000, 21, 1)) * np.array([0.002, 0.004, 0.015])
    told = np.einsum("nqai,nqi,nqbi->nqab", axes, sigma**2, axes)
    true = np.hypot(0.004, 1.5 * sigma)
    error = np.einsum("nqai,nqi->nqa", axes, true * rng.normal(size=sigma.shape))
    scale, floor, usual = fit_scale_and_floor(error, told)
    np.testing.assert_allclose(scale, 1.5, rtol=0.1)
    np.testing.assert_allclose(floor, 0.004, rtol=0.1)
    assert all(0.006 < size < 0.02 for size in usual)
