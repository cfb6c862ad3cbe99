"""`kinematics.points_and_jacobian` as plain loops; see `compiled`. Importing this compiles it."""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from hand_mesh_ros.hand.compiled import jit
from hand_mesh_ros.hand.layout import MANO_TO_OPENPOSE, PARENTS

Array = NDArray[np.float64]

_PARENTS = np.array(PARENTS)
# Where MANO's 16 joints and five tips are among the 21 points in OpenPose order.
_PLACE = np.argsort(np.array(MANO_TO_OPENPOSE))


@njit(inline="never", error_model="numpy")
def _rotate(w: Array, R: Array, T: Array) -> None:
    """Fill the rotation R and the left Jacobian T of an axis-angle; `rotations` has the source."""
    a2 = w[0] * w[0] + w[1] * w[1] + w[2] * w[2]
    if a2 < 0.02 * 0.02:
        s = 1 - a2 / 6 + a2 * a2 / 120
        c = 0.5 - a2 / 24 + a2 * a2 / 720
        d = 1 / 6 - a2 / 120 + a2 * a2 / 5040
    else:
        angle = math.sqrt(a2)
        half = math.sin(0.5 * angle) / angle
        sine = math.sin(angle)
        s, c, d = sine / angle, 2 * half * half, (angle - sine) / (angle * a2)
    for i in range(3):
        for j in range(3):
            square = w[i] * w[j] - (a2 if i == j else 0.0)
            R[i, j] = c * square + (1.0 if i == j else 0.0)
            T[i, j] = d * square + (1.0 if i == j else 0.0)
    for i in range(3):
        j, k = (i + 1) % 3, (i + 2) % 3
        R[k, j] += s * w[i]
        R[j, k] -= s * w[i]
        T[k, j] += c * w[i]
        T[j, k] -= c * w[i]


@njit(inline="never", error_model="numpy")
def _chain(
    rotations: Array,
    turns: Array,
    rest: Array,
    joint_dirs: Array,
    world: Array,
    posed: Array,
    turn: Array,
    d_joints: Array,
) -> None:
    """Fill what accumulates from the wrist outwards."""
    world[0], posed[0], turn[0], d_joints[0] = rotations[0], rest[0], turns[0], joint_dirs[0]
    for k in range(1, 16):
        up = _PARENTS[k]
        for i in range(3):
            posed[k, i] = posed[up, i]
            for j in range(3):
                posed[k, i] += world[up, i, j] * (rest[k, j] - rest[up, j])
                world[k, i, j] = turn[k, i, j] = 0.0
                for m in range(3):
                    world[k, i, j] += world[up, i, m] * rotations[k, m, j]
                    turn[k, i, j] += world[up, i, m] * turns[k, m, j]
            for s in range(10):
                d_joints[k, i, s] = d_joints[up, i, s]
                for j in range(3):
                    bone = joint_dirs[k, j, s] - joint_dirs[up, j, s]
                    d_joints[k, i, s] += world[up, i, j] * bone


@njit(inline="never", error_model="numpy")
def _lever(
    joint: int, point: Array, weight: float, posed: Array, turn: Array, J: Array
) -> None:
    """Add to J (3, P) how a weighted point, fixed to a joint, moves with all it hangs on."""
    a = joint
    while a >= 0:
        x, y, z = (
            weight * (point[0] - posed[a, 0]),
            weight * (point[1] - posed[a, 1]),
            weight * (point[2] - posed[a, 2]),
        )
        _cross(x, y, z, a, turn, J)
        a = _PARENTS[a]


@njit(inline="never", error_model="numpy")
def _swing(joint: int, vector: Array, turn: Array, J: Array) -> None:
    """Add to J (3, P) how a vector, fixed to a joint, turns with all it hangs on."""
    a = joint
    while a >= 0:
        _cross(vector[0], vector[1], vector[2], a, turn, J)
        a = _PARENTS[a]


@njit(inline="never", error_model="numpy")
def _cross(x: float, y: float, z: float, a: int, turn: Array, J: Array) -> None:
    for m in range(3):
        wx, wy, wz = turn[a, 0, m], turn[a, 1, m], turn[a, 2, m]
        J[0, 3 * a + m] += wy * z - wz * y
        J[1, 3 * a + m] += wz * x - wx * z
        J[2, 3 * a + m] += wx * y - wy * x


@njit(inline="never", error_model="numpy")
def _tip(
    p: int,
    rest_tip: Array,
    tip_dirs: Array,
    tip_weights: Array,
    joint_dirs: Array,
    rest: Array,
    world: Array,
    posed: Array,
    turn: Array,
    d_joints: Array,
    point: Array,
    J: Array,
) -> None:
    """Fill the skinned tip's place and its derivatives by rotations and shape."""
    carried = np.empty(3)
    point[:] = 0.0
    for k in range(16):
        weight = tip_weights[p, k]
        if weight == 0.0:
            continue
        for i in range(3):
            carried[i] = posed[k, i]
            for j in range(3):
                carried[i] += world[k, i, j] * (rest_tip[j] - rest[k, j])
            point[i] += weight * carried[i]
            for s in range(10):
                moved = d_joints[k, i, s]
                for j in range(3):
                    moved += world[k, i, j] * (tip_dirs[p, j, s] - joint_dirs[k, j, s])
                J[i, 48 + s] += weight * moved
        _lever(k, carried, weight, posed, turn, J)


@njit(inline="never", error_model="numpy")
def _correct(
    p: int,
    tip_weights: Array,
    tip_posedirs: Array,
    rotations: Array,
    turns: Array,
    world: Array,
    J: Array,
) -> None:
    """Add how pose correctives displace the tip at rest, which skinning carries on."""
    blended = np.zeros((3, 3))
    for k in range(16):
        for i in range(3):
            for j in range(3):
                blended[i, j] += tip_weights[p, k] * world[k, i, j]
    moved = np.empty(3)
    for a in range(1, 16):
        for m in range(3):
            moved[:] = 0.0
            for r in range(3):
                # Row r of skew(turn) @ rotation.
                r1, r2 = (r + 1) % 3, (r + 2) % 3
                for c in range(3):
                    d = turns[a, r1, m] * rotations[a, r2, c]
                    d -= turns[a, r2, m] * rotations[a, r1, c]
                    for i in range(3):
                        moved[i] += d * tip_posedirs[a - 1, r, c, p, i]
            for i in range(3):
                for j in range(3):
                    J[i, 3 * a + m] += blended[i, j] * moved[j]


@jit(reads=(2, 2, 3, 2, 3, 2, 5, 2, 1), writes=(3, 4, 3, 4))
def pose(
    params: Array,  # (B, P), P = 61 or 62
    joints: Array,  # (16, 3)
    joint_dirs: Array,  # (16, 3, 10)
    tips: Array,  # (5, 3)
    tip_dirs: Array,  # (5, 3, 10)
    tip_weights: Array,  # (5, 16)
    tip_posedirs: Array,  # (15, 3, 3, 5, 3), or with no entries: none
    offsets: Array,  # (21, 3) OpenPose order
    bones: Array,  # (21,) the joint that carries each offset
    points: Array,  # (B, 21, 3)
    jacobian: Array,  # (B, 21, 3, P) zeros
    shift: Array,  # (B, 21, 3) zeros
    turn: Array,  # (B, 16, 3, 3)
) -> bool:
    """Fill points, Jacobian, shifts and world turns of B hands."""
    rotations, turns, world = np.empty((16, 3, 3)), np.empty((16, 3, 3)), np.empty((16, 3, 3))
    rest, posed = np.empty((16, 3)), np.empty((16, 3))
    rest_tips = np.empty((5, 3))
    d_joints = np.empty((16, 3, 10))
    for b in range(len(params)):
        x, J = params[b], jacobian[b]
        scale = x[61] if len(x) > 61 else 1.0
        for k in range(16):
            _rotate(x[3 * k : 3 * k + 3], rotations[k], turns[k])
            for i in range(3):
                rest[k, i] = joints[k, i]
                for s in range(10):
                    rest[k, i] += joint_dirs[k, i, s] * x[48 + s]
        _chain(rotations, turns, rest, joint_dirs, world, posed, turn[b], d_joints)
        for p in range(5):
            for i in range(3):
                rest_tips[p, i] = tips[p, i]
                for s in range(10):
                    rest_tips[p, i] += tip_dirs[p, i, s] * x[48 + s]
        for a in range(len(tip_posedirs)):
            for r in range(3):
                for c in range(3):
                    feature = rotations[a + 1, r, c] - (1.0 if r == c else 0.0)
                    for p in range(5):
                        for i in range(3):
                            rest_tips[p, i] += feature * tip_posedirs[a, r, c, p, i]
        for k in range(16):
            at = _PLACE[k]
            points[b, at] = posed[k]
            J[at, :, 48:58] = d_joints[k]
            _lever(k, posed[k], 1.0, posed, turn[b], J[at])
        for p in range(5):
            at = _PLACE[16 + p]
            _tip(
                p, rest_tips[p], tip_dirs, tip_weights, joint_dirs, rest, world, posed, turn[b],
                d_joints, points[b, at], J[at],
            )  # fmt: skip
            if len(tip_posedirs):
                _correct(p, tip_weights, tip_posedirs, rotations, turns, world, J[at])
        for at in range(21):
            bone = int(bones[at])
            for i in range(3):
                for j in range(3):
                    shift[b, at, i] += world[bone, i, j] * offsets[at, j]
            _swing(bone, shift[b, at], turn[b], J[at])
            for i in range(3):
                points[b, at, i] += shift[b, at, i]
                if len(x) > 61:
                    for c in range(58):
                        J[at, i, c] *= scale
                    J[at, i, 61] = points[b, at, i]
                    shift[b, at, i] *= scale
                points[b, at, i] = scale * points[b, at, i] + x[58 + i]
                J[at, i, 58 + i] = 1.0
    return True
