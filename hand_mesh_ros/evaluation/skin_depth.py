"""Measuring how deep under the skin a depth camera's landmarks lie, on renders of the hand."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.geometry.cameras import project
from hand_mesh_ros.geometry.rotations import transform_points
from hand_mesh_ros.hand.landmarks import landmarks_and_jacobian
from hand_mesh_ros.hand.model import load_hand_model
from hand_mesh_ros.perception.depth import depth_at_landmarks
from hand_mesh_ros.render.depth_sensor import DepthSensor
from hand_mesh_ros.render.studio import CENTRE
from hand_mesh_ros.render.synthetic import SyntheticCell
from hand_mesh_ros.types import HandEstimate

Array = NDArray[np.float64]
_NO_HOLES = DepthSensor(noise=0.0, noise_per_m2=0.0, holes=0.0)
# One sigma of the landmarks that are read at, metres on the hand: the network's own.
_ASTRAY = 0.004
# What is taken for the skin's thickness while it is measured; within the gate of any true one.
_GUESS = 0.012


def measure(seeds: int = 4, sets: int = 24) -> tuple[Array, Array]:
    """``perception.depth.SKIN`` and ``SKIN_SIGMA``, (21,) m each, measured anew.

    Right hands of ``seeds`` scenes, from the palm's and from the back's side, which count alike.
    The sigma is 1.48 times the median deviation, which no self-occlusion widens.
    """
    rng = np.random.default_rng(0)
    sides = []
    for behind in (False, True):
        found = [row for seed in range(seeds) for row in _scene(seed, sets, behind, rng)]
        sides.append(np.array(found))
    skin = np.mean([np.nanmedian(side, axis=0) for side in sides], axis=0)
    sigma = 1.48 * np.nanmedian(np.abs(np.concatenate(sides) - skin), axis=0)
    return skin, sigma


def _scene(seed: int, sets: int, behind: bool, rng: np.random.Generator) -> Iterator[Array]:
    """Landmark minus surface (21,) of every picture of a scene."""
    cell = SyntheticCell(cameras=4, seconds=sets / 2, fps=2, seed=seed, depth=_NO_HOLES)
    if behind:
        turn = np.diag([-1.0, -1.0, 1.0, 1.0])
        turn[:2, 3] = 2 * np.asarray(CENTRE)[:2]
        cell.cameras = tuple(c.placed(c.T_camera_world @ turn) for c in cell.cameras)
    guess = np.full(21, _GUESS)
    for index in range(len(cell)):
        landmarks = _landmarks(cell.ground_truth(index)[0])
        for frame in cell.frame_set(index).frames:
            camera = frame.camera
            local = transform_points(camera.T_camera_world, landmarks)
            astray = rng.normal(0, _ASTRAY, (21, 2)) * camera.focal / local[:, 2:]
            uv = project(camera, landmarks) + astray
            assert frame.depth is not None
            found, _ = depth_at_landmarks(
                frame.depth, camera, uv, local - local.mean(0), skin=guess
            )
            yield local[:, 2] - (found - guess)


def _landmarks(hand: HandEstimate) -> Array:
    mano = hand.mano
    params = np.concatenate([mano.global_orient, mano.hand_pose, mano.betas, mano.transl])
    model = load_hand_model(side=hand.side)
    return np.asarray(landmarks_and_jacobian(model, params[None])[0][0])
