"""Two hands that pass each other before synthetic cameras, as landmark networks would see them.

No pictures: the landmarks are the hand model's own, with the noise, the misses, the mistaken sides
and the occlusions of a network that looks at crops.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.geometry.cameras import project
from hand_mesh_ros.geometry.rotations import exp_so3
from hand_mesh_ros.hand.kinematics import (
    GLOBAL_ORIENT,
    HAND_POSE,
    NUM_PARAMS,
    TRANSL,
    joints_and_jacobian,
)
from hand_mesh_ros.hand.landmarks import landmarks_and_jacobian
from hand_mesh_ros.hand.mirror import mirror_axis_angle, mirror_model
from hand_mesh_ros.hand.model import HandModel, load_hand_model
from hand_mesh_ros.networks.landmarks import rois_from_landmarks
from hand_mesh_ros.render.motion import HandPath, gesture_names, gesture_pose
from hand_mesh_ros.render.studio import CENTRE, arc_of_cameras
from hand_mesh_ros.types import SIDES, Camera, Frame, FrameSet, Side, View

Array = NDArray[np.float64]
_START_NS: Final = 1_000_000_000
_NO_IMAGE: Final = np.zeros((1, 1, 3), np.uint8)


@dataclass(frozen=True)
class CrossingSettings:
    """``seconds`` at ``fps`` before ``cameras`` cameras, each ``jitter`` seconds off, at most.

    ``apart``: least and greatest distance, m, of the hands' middles where they pass; ``speed`` of
    each, m/s. ``noise``: one sigma of a landmark, as a fraction of its region's side, of which the
    share ``lasting`` of the variance stays as long as the crossing. ``misses`` and ``wrong_side``:
    shares of views; where another hand covers a part, up to ``wrong_side_covered``.
    """

    cameras: int = 3
    seconds: float = 1.2
    fps: float = 15.0
    jitter: float = 0.01
    apart: tuple[float, float] = (0.04, 0.10)
    speed: tuple[float, float] = (0.3, 1.2)
    noise: float = 0.02
    lasting: float = 0.7
    misses: float = 0.1
    wrong_side: float = 0.08
    wrong_side_covered: float = 0.5


@dataclass(frozen=True, eq=False)
class CrossingHand:
    """A hand on its way: at ``place`` at the middle of the time, going at ``velocity`` (3,) m/s."""

    side: Side
    place: Array
    velocity: Array
    path: HandPath
    poses: tuple[Array, Array]
    seconds: float

    def points(self, t: float) -> tuple[Array, Array]:
        """Joints and landmarks (21, 3) at time ``t``, seconds since the beginning."""
        params = np.zeros((1, NUM_PARAMS))
        mix = 0.5 - 0.5 * np.cos(np.pi * np.clip(t / self.seconds, 0, 1))
        params[0, HAND_POSE] = (1 - mix) * self.poses[0] + mix * self.poses[1]
        params[0, GLOBAL_ORIENT] = self.path.global_orient(t)
        model = hand_models()[self.side]
        middle = joints_and_jacobian(model, params)[0][0].mean(0)
        here = self.place + (t - self.seconds / 2) * self.velocity
        params[0, TRANSL] = here - middle
        return joints_and_jacobian(model, params)[0][0], landmarks_and_jacobian(model, params)[0][0]


class Crossing:
    """One crossing, drawn from ``seed``: a right and a left hand, or two of one side."""

    def __init__(self, seed: int, settings: CrossingSettings | None = None) -> None:
        self.settings = settings = settings or CrossingSettings()
        rng = np.random.default_rng([seed, 31])
        self.seed = seed
        self.cameras = arc_of_cameras(settings.cameras, 640, 480, seed)
        first: Side = SIDES[int(rng.integers(2))]
        second: Side = first if seed % 2 else SIDES[1 - SIDES.index(first)]
        heading = exp_so3(np.array([rng.uniform(-0.6, 0.6), 0, 0])) @ np.array([0.0, 1, 0])
        beside = np.array([1.0, 0, 0]) * rng.uniform(*settings.apart) * rng.choice([-1, 1]) / 2
        speed = rng.uniform(*settings.speed, 2)
        self.hands = tuple(
            CrossingHand(
                side,
                CENTRE + sign * beside,
                sign * heading * speed[k],
                HandPath.random(side, CENTRE, np.zeros(3), seed + 1000 * k),
                (_pose(side, rng), _pose(side, rng)),
                settings.seconds,
            )
            for k, (side, sign) in enumerate(((first, 1.0), (second, -1.0)))
        )
        self._offsets = rng.uniform(-settings.jitter, settings.jitter, settings.cameras)
        self._lasting = rng.normal(0, 1, (2, settings.cameras, 21, 2))

    @property
    def instants(self) -> int:
        """How many frame sets there are."""
        return round(self.settings.seconds * self.settings.fps)

    def frame_set(self, index: int) -> FrameSet:
        """Frames without pictures."""
        nominal = index / self.settings.fps
        return FrameSet(
            tuple(
                Frame(camera, _START_NS + round((nominal + offset) * 1e9), _NO_IMAGE)
                for camera, offset in zip(self.cameras, self._offsets, strict=True)
            )
        )

    def joints(self, stamp_ns: int) -> Array:
        """True joints (2, 21, 3) of both hands at a time."""
        return np.stack([hand.points((stamp_ns - _START_NS) * 1e-9)[0] for hand in self.hands])

    def observe(
        self, frames: Sequence[Frame], hints: Sequence[tuple[int, Array]], search: Sequence[int]
    ) -> list[View]:
        """What networks see: the hand nearest to each hint, and all hands of searched frames.

        An `Observer`. A region shows the hand that is in front; one that is mostly covered is
        not seen.
        """
        views = []
        for index, frame in enumerate(frames):
            t = (frame.stamp_ns - _START_NS) * 1e-9
            points = np.stack([hand.points(t)[1] for hand in self.hands])
            uv = project(frame.camera, points)
            regions = [roi for i, roi in hints if i == index]
            wanted = {_shown(uv, roi) for roi in regions} | ({0, 1} if index in search else set())
            for number in sorted(n for n in wanted if n is not None):
                view = self._view(number, index, frame, points, uv)
                if view is not None:
                    views.append(view)
        return views

    def _view(
        self, number: int, index: int, frame: Frame, points: Array, uv: Array
    ) -> View | None:
        settings, camera = self.settings, frame.camera
        rng = np.random.default_rng([self.seed, number, index, frame.stamp_ns])
        inside = (uv[number] >= 0).all(-1) & (uv[number] < [camera.width, camera.height]).all(-1)
        covered = _covered(camera, points[number], points[1 - number])
        missed = rng.random() < settings.misses
        if missed or covered > 0.5 or not inside.mean() > 0.7:
            return None
        roi = rois_from_landmarks(uv[number])[0]
        sigma = settings.noise * roi[2]
        white = np.sqrt(1 - settings.lasting) * rng.normal(0, 1, (21, 2))
        error = np.sqrt(settings.lasting) * self._lasting[number, index] + white
        seen = uv[number] + sigma * (1 + 2 * covered) * error
        local = points[number] - points[number].mean(0)
        wrong = settings.wrong_side + covered * (settings.wrong_side_covered - settings.wrong_side)
        right = (self.hands[number].side == "right") != (rng.random() < wrong)
        return View(
            index=index,
            camera=camera,
            uv=seen,
            sigma=np.full(21, sigma),
            world=local @ camera.T_camera_world[:3, :3].T + rng.normal(0, 0.006, (21, 3)),
            presence=0.95 - 0.3 * covered,
            right=rng.uniform(0.8, 0.99) if right else rng.uniform(0.01, 0.2),
            roi=roi,
            frame=frame,
        )


def _shown(uv: Array, roi: Array) -> int | None:
    """The hand (of two, (2, 21, 2)) that a network sees in a region; None if none is there."""
    gap = np.linalg.norm(uv.mean(1) - roi[:2], axis=-1)
    best = int(np.argmin(np.where(np.isfinite(gap), gap, np.inf)))
    return best if gap[best] < roi[2] / 2 else None


def _covered(camera: Camera, hand: Array, other: Array) -> float:
    """Share of a hand's landmarks (21, 3) that another hand's flesh hides from a camera."""
    here, there = (p - camera.centre for p in (hand, other))
    distance = np.linalg.norm(there, axis=-1)
    rays = here / np.linalg.norm(here, axis=-1, keepdims=True)
    along = rays @ there.T  # (21 rays, 21 balls)
    across = np.sqrt(np.maximum(distance**2 - along**2, 0))
    hidden = (across < 0.016) & (along < np.linalg.norm(here, axis=-1)[:, None] - 0.01)
    return float(hidden.any(1).mean())


def _pose(side: Side, rng: np.random.Generator) -> Array:
    name = str(rng.choice([g for g in gesture_names() if g != "fist"]))
    pose = gesture_pose(name)
    return pose if side == "right" else mirror_axis_angle(pose)


@lru_cache(maxsize=1)
def hand_models() -> dict[Side, HandModel]:
    """The models of both sides, by side."""
    right = load_hand_model()
    return {"right": right, "left": mirror_model(right)}
