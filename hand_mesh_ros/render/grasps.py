"""Hands that hold things: the thing lies in the palm, and each finger closes until it touches."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hand_mesh_ros.geometry.rotations import exp_so3
from hand_mesh_ros.hand.kinematics import forward
from hand_mesh_ros.hand.limits import pose_limits
from hand_mesh_ros.hand.model import HandModel
from hand_mesh_ros.render.occluders import Thing
from hand_mesh_ros.render.sampling import finger_points
from hand_mesh_ros.types import FloatArray

_STEPS = 16
_SKIN, _PALM = 0.0075, 0.0125  # from a finger's or the palm's joints to its surface, metres
_CURL = np.deg2rad([82.0, 100, 62])
_THUMB_FROM = np.deg2rad(np.array([[10.0, -20, 5], [0, 0, 0], [0, 0, 0]]))
_THUMB_TO = np.deg2rad(np.array([[52.0, -52, 12], [26, -30, 16], [34, -26, 20]]))


def grasp(
    rng: np.random.Generator, model: HandModel, betas: FloatArray, thing: Thing
) -> tuple[FloatArray, Thing]:
    """Pose (45,) of a right hand, and the thing as it lies in the model's own frame.

    Whole-hand grasps: the thing's long axis lies across the palm, tilted a little. Half of them
    hold it between the fingers' outer halves.
    """
    zero = np.zeros((1, 3))
    rest = forward(model, zero, np.zeros((1, 45)), betas[None], zero, with_vertices=False).joints[0]
    knuckles = rest[[5, 9, 13, 17]].mean(axis=0)
    precise = rng.random() < 0.45
    ahead = (0.035 if precise else rng.uniform(-0.03, 0.0)) - 0.02 * precise
    depth = thing.size[0] + _PALM + (rng.uniform(0.015, 0.035) if precise else 0.0)
    centre = knuckles + np.array([-ahead, -depth, rng.uniform(-0.012, 0.02)])
    # Its x, the thin side of a box, faces the palm; its long z lies across the palm.
    axes = np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]])
    tilt = exp_so3(np.deg2rad([12.0, 14, 6]) * rng.normal(0, 1, 3))
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = tilt @ axes, centre
    slide = rng.uniform(-0.4, 0.4) * max(thing.size[2] - 0.045, 0.0)
    pose[:3, 3] += pose[:3, 2] * slide
    lying = replace(thing, pose=pose)
    return _closed(rng, model, betas, lying), lying


def _closed(
    rng: np.random.Generator, model: HandModel, betas: FloatArray, thing: Thing
) -> FloatArray:
    """The pose whose fingers have closed up to the thing, each by its own."""
    share = np.linspace(0.02, 1.0, _STEPS)
    poses = np.zeros((_STEPS, 5, 3, 3))
    style = rng.normal(1.0, 0.08, (4, 3))
    poses[:, :4, :, 2] = share[:, None, None] * _CURL * style
    spread = np.deg2rad([7.0, 1, -11, -6]) * rng.uniform(0.0, 1.0)
    poses[:, :4, 0, 1] = spread * (1 - share[:, None])
    poses[:, 4] = _THUMB_FROM + share[:, None, None] * (_THUMB_TO - _THUMB_FROM)
    poses[:, 4, 0] += np.deg2rad(6) * rng.normal(0, 1, 3)
    flat = np.clip(poses.reshape(_STEPS, 45), *pose_limits())
    zero = np.zeros((_STEPS, 3))
    betas_of_all = np.tile(betas, (_STEPS, 1))
    joints = forward(model, zero, flat, betas_of_all, zero, with_vertices=False).joints
    # OpenPose's fingers are thumb, index, middle, ring, little; MANO's rows are these.
    gap = thing.distance(finger_points(joints)).min(axis=-1)[:, [1, 2, 4, 3, 0]] - _SKIN
    touching = gap < 0
    stop = np.where(touching.any(axis=0), touching.argmax(axis=0), _STEPS - 3)
    # One that is in the thing from the beginning goes to where it is least so.
    stop = np.where(touching[0], gap.argmax(axis=0), stop)
    return np.asarray(flat.reshape(_STEPS, 5, 9)[stop, np.arange(5)].reshape(45))
