"""Where hands are and what they do: poses by synergy, gesture, contact and grasp; headings; time.

Poses are of a right hand, (45,) in MANO's order, radians, within `hand.limits`. The world is that
of `motion`: z up, people at negative x, cameras mostly at positive x.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from hand_mesh_ros.geometry.rotations import exp_so3, log_so3
from hand_mesh_ros.hand.kinematics import forward
from hand_mesh_ros.hand.limits import pose_limits, pose_prior
from hand_mesh_ros.hand.mirror import mirror_axis_angle
from hand_mesh_ros.hand.model import HandModel
from hand_mesh_ros.render.motion import gesture_names, gesture_pose
from hand_mesh_ros.types import FloatArray, Side

PoseKind = Literal["gesture", "between", "synergy", "contact"]
POSE_KINDS: tuple[PoseKind, ...] = get_args(PoseKind)
# Fingers up, palm towards +x: the world axes of the right model's x (wrist), y (back), z (thumb).
_RAISED = np.array([[0.0, -1, 0], [0, 0, 1], [-1, 0, 0]])
_MIRROR_WORLD, _MIRROR_MODEL = np.diag([1.0, -1, 1]), np.diag([-1.0, 1, 1])
_FINGER_THICKNESS = 0.0135
_CANDIDATES = 6
# Largest share of the arm's direction that is towards the cameras.
_ARM_TOWARDS = 0.35


@dataclass(frozen=True, slots=True, eq=False)
class HandPlace:
    """A hand of its own ``side``: ``orient`` (3,) and ``pose`` (45,), axis-angle, and where the

    middle of its palm is in the world, ``palm`` (3,) m.
    """

    side: Side
    orient: FloatArray
    pose: FloatArray
    palm: FloatArray


def random_pose(rng: np.random.Generator, model: HandModel, betas: FloatArray) -> FloatArray:
    """A pose of any kind, the one of several whose fingers run into each other least."""
    kind = POSE_KINDS[rng.choice(4, p=[0.25, 0.25, 0.3, 0.2])]
    if kind == "contact":
        return contact_pose(rng, model, betas)
    poses = np.stack([_draw(rng, kind) for _ in range(_CANDIDATES)])
    return np.asarray(poses[int(np.argmin(np.round(_overlap(model, poses, betas), 4)))])


def _draw(rng: np.random.Generator, kind: PoseKind) -> FloatArray:
    names = gesture_names()
    lower, upper = pose_limits()
    jitter = 0.08 * rng.normal(0, 1, 45)
    if kind == "synergy":
        return np.clip(synergy_pose(rng), lower, upper)
    first = gesture_pose(names[rng.integers(len(names))])
    if kind == "gesture":
        return np.clip(first + jitter, lower, upper)
    mix = rng.uniform(0.2, 0.8)
    second = gesture_pose(names[rng.integers(len(names))])
    return np.clip((1 - mix) * first + mix * second + jitter, lower, upper)


def synergy_pose(rng: np.random.Generator) -> FloatArray:
    """Fingers that bend mostly together, as tendons and habit make them.

    The first two synergies explain most of everyday postures (Santello et al., 1998): all fingers
    flex, and the knuckles flex against the outer joints. Each finger and joint adds its own.
    """
    mean, spread = pose_prior()
    joints, sigma = mean.reshape(5, 3, 3), spread.reshape(5, 3, 3)
    close, hook = rng.normal(0, 0.8), rng.normal(0, 0.4)
    shared = close + hook * np.array([-1.0, 1.0, 0.8])
    own = rng.normal(0, 0.45, (5, 1)) + rng.normal(0, 0.2, (5, 3))
    unit = rng.normal(0, 0.5, (5, 3, 3))
    unit[:4, :, 2] = shared + own[:4]
    unit[4] += rng.normal(0, 0.6)
    # A fingertip joint bends by about two thirds of the joint above it.
    drawn = joints + unit * sigma
    drawn[:4, 2, 2] = 0.6 * drawn[:4, 1, 2] + 0.1 * unit[:4, 2, 2]
    return np.asarray(drawn.reshape(45))


def contact_pose(rng: np.random.Generator, model: HandModel, betas: FloatArray) -> FloatArray:
    """The thumb's tip on another finger's: the best of a grid of how far both are bent."""
    finger = int(rng.integers(4))  # index, middle, ring, little
    row = (0, 1, 3, 2)[finger]  # in MANO's order
    base = _draw(rng, "gesture").reshape(5, 3, 3)
    grid = np.stack(
        np.meshgrid(np.linspace(0.2, 0.85, 7), np.linspace(0.2, 1.1, 6), np.linspace(0.0, 1.0, 5)),
        axis=-1,
    ).reshape(-1, 3)
    poses = np.repeat(base[None], len(grid), axis=0)
    share = rng.uniform(0.7, 1.2)
    poses[:, row] = 0.0
    poses[:, row, :, 2] = grid[:, :1] * np.deg2rad(np.array([75 * share, 95 / share, 50]))
    thumb = gesture_pose("flat").reshape(5, 3, 3)[4], gesture_pose("fist").reshape(5, 3, 3)[4]
    opposed = thumb[1] * np.array([[1.15], [0.5], [0.4]])
    bent = np.deg2rad(np.array([[4.0, -8, 3], [20, -26, 14], [34, -28, 22]]))
    poses[:, 4] = grid[:, 1, None, None] * opposed + grid[:, 2, None, None] * bent
    poses = np.clip(poses.reshape(-1, 45), *pose_limits())
    joints = _joints(model, poses, betas)
    gap = np.linalg.norm(joints[:, 4] - joints[:, 4 * finger + 8], axis=-1)
    cost = np.abs(gap - 0.012) + 0.3 * _overlap(model, poses, betas)
    return np.asarray(poses[int(np.argmin(np.round(cost, 6)))])


def heading(rng: np.random.Generator, spread: float = 1.0) -> FloatArray:
    """Rotation (3, 3) of a right model: palm or back or edge to the cameras, fingers mostly up.

    ``spread`` scales how far from upright it turns; one hand in twenty is turned any way in which
    its arm is not between it and the cameras.
    """
    while True:
        rotation = _any_heading(rng, spread)
        if rotation[0, 0] < _ARM_TOWARDS:
            return rotation


def _any_heading(rng: np.random.Generator, spread: float) -> FloatArray:
    if rng.random() < 0.05 * spread:
        from hand_mesh_ros.render.occluders import random_turn

        return random_turn(rng)
    about = np.deg2rad(rng.choice([0.0, 180.0, 90.0, -90.0], p=[0.5, 0.28, 0.11, 0.11]))
    turn = exp_so3(np.array([0, 0, about + np.deg2rad(22) * spread * rng.normal()]))
    pitch = exp_so3(np.array([0, np.deg2rad(22) * spread * rng.normal(), 0]))
    roll = exp_so3(np.array([np.deg2rad(32) * spread * rng.normal(), 0, 0]))
    return np.asarray(roll @ pitch @ turn @ _RAISED)


def placed(side: Side, rotation: FloatArray, pose: FloatArray, palm: FloatArray) -> HandPlace:
    """A hand from a right hand's rotation (3, 3) and pose; a left one is its mirror image."""
    if side == "left":
        rotation = _MIRROR_WORLD @ rotation @ _MIRROR_MODEL
        pose, palm = mirror_axis_angle(pose), _MIRROR_WORLD @ palm
    return HandPlace(side, log_so3(rotation), pose, np.asarray(palm))


def between(first: HandPlace, second: HandPlace, share: float) -> HandPlace:
    """The way from one place to another with minimum jerk (Flash and Hogan, 1985), share 0 to 1."""
    x = float(np.clip(share, 0, 1))
    mix = x**3 * (10 - 15 * x + 6 * x**2)
    start = exp_so3(first.orient)
    turned = start @ exp_so3(mix * log_so3(start.T @ exp_so3(second.orient)))
    return HandPlace(
        first.side, log_so3(turned), (1 - mix) * first.pose + mix * second.pose,
        (1 - mix) * first.palm + mix * second.palm,
    )  # fmt: skip


def finger_points(joints: FloatArray) -> FloatArray:
    """Points (B, 5, 9, 3) along the three bones of each finger, of joints (B, 21, 3)."""
    chain = joints[:, 1:].reshape(len(joints), 5, 4, 3)
    share = np.array([1 / 3, 2 / 3, 1.0])[:, None]
    points = chain[:, :, :-1, None] * (1 - share) + chain[:, :, 1:, None] * share
    return np.asarray(points.reshape(len(joints), 5, 9, 3))


def _overlap(model: HandModel, poses: FloatArray, betas: FloatArray) -> FloatArray:
    """How deep fingers are in one another, (B,) metres summed over points."""
    points = finger_points(_joints(model, poses, betas))
    depth = np.zeros(len(poses))
    for a in range(5):
        for b in range(a + 1, 5):
            gap = np.linalg.norm(points[:, a, :, None] - points[:, b, None], axis=-1)
            depth += np.clip(_FINGER_THICKNESS - gap, 0, None).sum(axis=(1, 2))
    return depth


def _joints(model: HandModel, poses: FloatArray, betas: FloatArray) -> FloatArray:
    n = len(poses)
    zero = np.zeros((n, 3))
    betas = np.tile(betas, (n, 1))
    return np.asarray(forward(model, zero, poses, betas, zero, with_vertices=False).joints)
