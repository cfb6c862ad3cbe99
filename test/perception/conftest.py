"""Synthetic hands before synthetic cameras: the views that a network would give of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from hand_mesh_ros.geometry.cameras import look_at, project
from hand_mesh_ros.hand.kinematics import (
    GLOBAL_ORIENT,
    HAND_POSE,
    NUM_PARAMS,
    TRANSL,
    joints_and_jacobian,
)
from hand_mesh_ros.hand.landmarks import landmarks_and_jacobian
from hand_mesh_ros.hand.limits import pose_limits, pose_prior
from hand_mesh_ros.hand.model import load_hand_model
from hand_mesh_ros.networks.landmarks import rois_from_landmarks
from hand_mesh_ros.types import Camera, Side, View

CENTRE = np.array([0.0, 0.0, 0.3])


@dataclass(frozen=True, eq=False)
class TrueHand:
    """A hand in the world: joints and landmarks (21, 3), m."""

    side: Side
    params: np.ndarray

    @property
    def joints(self) -> np.ndarray:
        model = load_hand_model(side=self.side)
        return joints_and_jacobian(model, self.params[None])[0][0]

    @property
    def landmarks(self) -> np.ndarray:
        model = load_hand_model(side=self.side)
        return landmarks_and_jacobian(model, self.params[None])[0][0]

    def at(self, place: np.ndarray) -> TrueHand:
        """The same hand with its middle elsewhere."""
        params = self.params.copy()
        params[TRANSL] += place - self.joints.mean(0)
        return TrueHand(self.side, params)


class Scene:
    """What tests of perception need, as functions."""

    centre = CENTRE

    @staticmethod
    def cameras(count: int) -> tuple[Camera, ...]:
        K = np.array([[600.0, 0, 319.5], [0, 600, 239.5], [0, 0, 1]])
        angles = np.deg2rad(np.linspace(-60, 60, count) if count > 1 else [0.0])
        return tuple(
            Camera(
                f"camera_{i}",
                640,
                480,
                K,
                "plumb_bob",
                np.array([-0.1, 0.03, 0, 0, 0]),
                look_at(
                    CENTRE + 0.7 * np.array([np.cos(a), np.sin(a), 0.1 + 0.35 * (i % 2)]),
                    CENTRE,
                    np.array([0.0, 0, 1]),
                ),
            )
            for i, a in enumerate(angles)
        )

    @staticmethod
    def hand(rng: np.random.Generator, side: Side, place: np.ndarray = CENTRE) -> TrueHand:
        """A hand of a likely pose, turned at random, with its middle at ``place``."""
        params = np.zeros(NUM_PARAMS)
        mean, sigma = pose_prior(side)
        lower, upper = pose_limits(side)
        params[HAND_POSE] = np.clip(rng.normal(mean, 0.7 * sigma), lower, upper)
        params[GLOBAL_ORIENT] = rng.normal(0, 1, 3)
        return TrueHand(side, params).at(place)

    @staticmethod
    def view(
        hand: TrueHand,
        index: int,
        camera: Camera,
        rng: np.random.Generator,
        noise: float = 1.5,
        right: float | None = None,
    ) -> View:
        """What a network with ``noise`` pixels, which it knows of, says of a hand."""
        points = hand.landmarks
        uv = project(camera, points) + rng.normal(0, noise, (21, 2))
        world = (points - points.mean(0)) @ camera.T_camera_world[:3, :3].T
        return View(
            index=index,
            camera=camera,
            uv=uv,
            sigma=np.full(21, noise),
            world=world + rng.normal(0, 0.004, (21, 3)),
            presence=0.95,
            right=right if right is not None else (0.95 if hand.side == "right" else 0.05),
            roi=rois_from_landmarks(uv)[0],
        )

    def views(
        self,
        hands: Sequence[TrueHand],
        cameras: Sequence[Camera],
        rng: np.random.Generator,
        noise: float = 1.5,
    ) -> list[tuple[View, int]]:
        """Every hand in every camera, shuffled as networks do, with the number of its hand."""
        made = [
            (self.view(hand, index, camera, rng, noise), number)
            for index, camera in enumerate(cameras)
            for number, hand in enumerate(hands)
        ]
        return [made[i] for i in rng.permutation(len(made))]


@pytest.fixture(scope="session")
def scene() -> Scene:
    return Scene()
