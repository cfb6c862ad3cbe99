"""Measuring what a landmark network marks, on renders of the hand model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.geometry.cameras import project
from hand_mesh_ros.geometry.rotations import exp_so3
from hand_mesh_ros.geometry.triangulation import triangulate
from hand_mesh_ros.hand.kinematics import BONE_OF_POINT
from hand_mesh_ros.hand.landmarks import MEDIAPIPE, LandmarkModel
from hand_mesh_ros.hand.layout import PARENTS
from hand_mesh_ros.hand.model import load_hand_model
from hand_mesh_ros.networks.landmarks import HandLandmarker, rois_from_landmarks
from hand_mesh_ros.render.studio import CENTRE
from hand_mesh_ros.render.synthetic import SyntheticCell
from hand_mesh_ros.types import FrameSet, HandEstimate, ManoParameters

Array = NDArray[np.float64]
_LEAST_VIEWS = 3
# A view is used where the network clearly saw the hand: its median landmark is this near, in
# fractions of the region's side.
_NEAR = 0.06


@dataclass(frozen=True, eq=False)
class _Sample:
    """Triangulated landmarks minus joints, in the bones' axes (21, 3) m; 2D errors (V, 21)."""

    offset: Array
    error: Array


def measure(seeds: int, progress: Callable[[int, int], None]) -> LandmarkModel:
    """Median offsets over ``seeds`` scenes seen from the palm's and from the back's side.

    The two sides count alike: a network marks the near surface a little, and which one is near
    should not decide. ``noise`` is the median 2D error that the offsets leave, a landmark over
    their mean.
    """
    landmarker = HandLandmarker(num_threads=2)
    sides: list[list[_Sample]] = [[], []]
    done, total = 0, 2 * seeds
    for seed in range(seeds):
        for side, samples in enumerate(sides):
            samples += list(_samples(_cell(seed, behind=side == 1), landmarker))
            done += 1
            progress(done, total)
    medians = [np.median([s.offset for s in samples], axis=0) for samples in sides]
    error = np.concatenate([s.error for samples in sides for s in samples])
    typical = np.nanmedian(error, axis=0)
    model = load_hand_model()
    offsets = (medians[0] + medians[1]) / 2
    return LandmarkModel(MEDIAPIPE, model.model_id, offsets, typical / typical.mean())


def _cell(seed: int, behind: bool) -> SyntheticCell:
    """A scene of one right hand; ``behind`` films it from the other side of the volume."""
    cell = SyntheticCell(cameras=4, hands=("right",), seconds=10, fps=3, seed=seed)
    if behind:
        turn = np.diag([-1.0, -1.0, 1.0, 1.0])
        turn[:2, 3] = 2 * np.asarray(CENTRE)[:2]
        cell.cameras = tuple(c.placed(c.T_camera_world @ turn) for c in cell.cameras)
    return cell


def _samples(cell: SyntheticCell, landmarker: HandLandmarker) -> Iterator[_Sample]:
    for index in range(len(cell)):
        sample = _sample(cell.frame_set(index), cell.ground_truth(index)[0], landmarker)
        if sample is not None:
            yield sample


def _sample(
    frames: FrameSet, truth: HandEstimate, landmarker: HandLandmarker
) -> _Sample | None:
    expected = np.stack([project(f.camera, truth.joints) for f in frames.frames])
    images, where = [f.image for f in frames.frames], range(len(frames.frames))
    first = landmarker(images, rois_from_landmarks(expected), list(where))
    rois = rois_from_landmarks(first.uv)
    found = landmarker(images, rois, list(where))
    distance = np.linalg.norm(found.uv - expected, axis=-1)
    good = (found.presence > 0.9) & (np.median(distance, axis=-1) < _NEAR * rois[:, 2])
    if good.sum() < _LEAST_VIEWS:
        return None
    uv = np.where(good[:, None, None], found.uv, np.nan)
    points = triangulate(frames.cameras, uv, np.ones(uv.shape[:2]))
    bones = bone_rotations(truth.mano)
    offset = np.einsum("jki,jk->ji", bones, points - truth.joints)
    again = np.stack([project(f.camera, points) for f in frames.frames])
    return _Sample(offset, np.linalg.norm(uv - again, axis=-1))


def bone_rotations(mano: ManoParameters) -> Array:
    """Rotations (21, 3, 3) of the bones that end in the 21 points, model axes to world."""
    local = exp_so3(np.concatenate([mano.global_orient, mano.hand_pose]).reshape(16, 3))
    world = [local[0]]
    for joint in range(1, 16):
        world.append(world[PARENTS[joint]] @ local[joint])
    return np.stack(world)[BONE_OF_POINT]
