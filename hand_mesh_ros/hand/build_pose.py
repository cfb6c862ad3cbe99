"""From relaxed hands to the canonical zero pose: aligned, straightened, sized like people.

All functions work on N hands at once. Frames: x from the fingers to the wrist, y out of the back
of the hand, z towards the thumb (a right-handed frame for a right hand), metres.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from hand_mesh_ros.geometry.rotations import exp_so3, skew
from hand_mesh_ros.hand.layout import FINGERS, MANO_FINGERS, NUM_JOINTS, PARENTS
from hand_mesh_ros.hand.model import FloatArray, IntArray

WRIST: Final = 0
FIRST: Final = {finger: 1 + 3 * i for i, finger in enumerate(MANO_FINGERS)}
"""MANO joint next to the palm of each finger."""

# Zero pose, degrees, per segment: azimuth from -x to the thumb side, elevation to the back of the
# hand, and the roll about the segment that turns its nail up, so that z (thumb: x and z) flexes.
_Segment = tuple[float, float, float]
_ZERO_POSE: Final[dict[str, tuple[_Segment, _Segment, _Segment]]] = {
    "index": ((9, 0, 14), (9, 0, 4), (9, 0, 3)),
    "middle": ((0.5, 0, 8), (0.5, 0, 2), (0.5, 0, 0)),
    "ring": ((-8, 0, 3), (-8, 0, 0), (-8, 0, 0)),
    "little": ((-18, 0, 1), (-18, 0, 0), (-18, 0, 0)),
    "thumb": ((50, -14, 24), (45, -11, 14), (42, -8, 10)),
}

# MakeHuman's bones bend at the webs of the fingers and begin above the wrist. Landmarks (and
# anatomy) have the knuckle behind the web and the wrist at its crease. Each joint moves along its
# own segment by this fraction of its length (phalanges in Buryanov and Kotiuk, 2010).
_FINGER_SHIFT: Final = (-0.21, 0.0, 0.02)
_THUMB_SHIFT: Final = (0.0, 0.14, -0.05)
_WRIST_SHIFT: Final = 0.10  # of wrist to middle knuckle

_TIP_BACK, _TIP_UP = 0.0075, 0.0050  # from the end of the finger to its tip vertex, metres

# Spread of proportions at equal palm length, one sigma.
_FINGER_LENGTH_STD: Final = 0.035
_WIDTH_STD: Final = 0.035
_THICKNESS_STD: Final = 0.05

PALM_MEAN, PALM_STD, PALM_RANGE = 0.0927, 0.0052, (0.080, 0.107)
"""Wrist to middle knuckle of adults, metres."""


class Hands(NamedTuple):
    vertices: FloatArray  # (N, V, 3)
    joints: FloatArray  # (N, 16, 3)


def finger_ends(hands: Hands, weights: FloatArray) -> IntArray:
    """The vertex (5,), thumb..little, that lies farthest along each last finger segment."""
    mean_vertices, mean_joints = hands.vertices.mean(0), hands.joints.mean(0)
    ends = []
    for finger in FINGERS:
        last = FIRST[finger] + 2
        axis = mean_joints[last] - mean_joints[last - 1]
        along = (mean_vertices - mean_joints[last]) @ axis
        ends.append(int(np.argmax(np.where(weights[:, last] > 0.5, along, -np.inf))))
    return np.array(ends)


def fingertips(hands: Hands, ends: IntArray) -> IntArray:
    """The vertex (5,) of each straight finger that stands for its tip: on the nail's free edge.

    Landmark networks mark a fingertip some millimetres behind the very end of the finger.
    """
    vertices, joints = hands.vertices.mean(0), hands.joints.mean(0)
    tips = []
    for finger, end in zip(FINGERS, ends, strict=True):
        axis = _unit(vertices[end] - joints[FIRST[finger] + 2])
        nail = _unit(np.array([0.0, 1.0, 0.0]) - axis[1] * axis)
        wanted = vertices[end] - _TIP_BACK * axis + _TIP_UP * nail
        tips.append(int(np.argmin(np.linalg.norm(vertices - wanted, axis=1))))
    return np.array(tips)


def align(hands: Hands) -> Hands:
    """Rigidly move every hand into the canonical frame, middle knuckle at the origin."""
    knuckle = hands.joints[:, FIRST["middle"]]
    x = _unit(hands.joints[:, WRIST] - knuckle)
    across = hands.joints[:, FIRST["index"]] - hands.joints[:, FIRST["little"]]
    y = _unit(np.cross(across, x))
    axes = np.stack([x, y, np.cross(x, y)], axis=1)

    def moved(points: FloatArray) -> FloatArray:
        return np.einsum("nij,npj->npi", axes, points - knuckle[:, None])

    return Hands(moved(hands.vertices), moved(hands.joints))


def straighten(hands: Hands, weights: FloatArray, ends: IntArray) -> Hands:
    """Unbend every finger along the directions of the zero pose, by linear blend skinning.

    Each segment turns by the smallest rotation that brings it onto its direction, then rolls by
    the same angle in every shape, so that the same pose is the same gesture for all of them.
    """
    count = len(hands.joints)
    turns = np.broadcast_to(np.eye(3), (count, NUM_JOINTS, 3, 3)).copy()
    posed = hands.joints.copy()
    for finger, first in FIRST.items():
        end = hands.vertices[:, ends[FINGERS.index(finger)]]
        chain = [*(hands.joints[:, first + k] for k in range(3)), end]
        carried = np.broadcast_to(np.eye(3), (count, 3, 3))
        for k in range(3):
            segment = np.einsum("nij,nj->ni", carried, chain[k + 1] - chain[k])
            axis, roll = _zero_pose(finger, k)
            carried = exp_so3(roll * axis) @ _shortest_turn(_unit(segment), axis) @ carried
            turns[:, first + k] = carried
            if k < 2:
                bone = np.einsum("nij,nj->ni", carried, chain[k + 1] - chain[k])
                posed[:, first + k + 1] = posed[:, first + k] + bone
    return Hands(_skin(hands, weights, turns, posed), posed)


def place_joints(hands: Hands, ends: IntArray) -> FloatArray:
    """Joint centres (N, 16, 3) where landmarks put them, from straight hands' bone heads."""
    joints = hands.joints.copy()
    for finger, first in FIRST.items():
        stops = (first + 1, first + 2, ends[FINGERS.index(finger)])
        for k, shift in enumerate(_THUMB_SHIFT if finger == "thumb" else _FINGER_SHIFT):
            end = hands.joints[:, stops[k]] if k < 2 else hands.vertices[:, stops[k]]
            joints[:, first + k] += shift * (end - hands.joints[:, first + k])
    joints[:, WRIST] += _WRIST_SHIFT * (joints[:, FIRST["middle"]] - joints[:, WRIST])
    return joints


def vary(hands: Hands, weights: FloatArray, ends: IntArray, seed: int) -> Hands:
    """Vary proportions of straight hands (middle knuckle at 0) beyond what MakeHuman's morphs do.

    MakeHuman lengthens all fingers together and ties width and thickness to the body's build. Here
    every finger gets a length of its own, and palms a width and a thickness of their own.
    """
    rng = np.random.default_rng(seed)
    count = len(hands.joints)
    sides = np.ones((count, 3))
    sides[:, 1:] = 1 + rng.normal(0, (_THICKNESS_STD, _WIDTH_STD), (count, 2))
    vertices, joints = (points * sides[:, None] for points in hands)
    for finger, first in FIRST.items():
        stretch = rng.normal(0, _FINGER_LENGTH_STD, count)
        axis = _unit(vertices[:, ends[FINGERS.index(finger)]] - joints[:, first])
        own = weights[:, first : first + 3].sum(1)
        for points, share in ((vertices, own), (joints[:, first : first + 3], np.ones(3))):
            along = np.einsum("nvi,ni->nv", points - joints[:, None, first], axis)
            along = np.maximum(along, 0) * share * stretch[:, None]
            points += along[..., None] * axis[:, None]
    return Hands(vertices, joints)


def resize(hands: Hands, seed: int) -> Hands:
    """Give the hands the sizes of adults, keeping their proportions; middle knuckle at 0."""
    rng = np.random.default_rng(seed)
    wanted = np.clip(rng.normal(PALM_MEAN, PALM_STD, len(hands.joints)), *PALM_RANGE)
    knuckle = hands.joints[:, FIRST["middle"]]
    palm = np.linalg.norm(hands.joints[:, WRIST] - knuckle, axis=1)
    factor = (wanted / palm)[:, None, None]
    return Hands(
        factor * (hands.vertices - knuckle[:, None]), factor * (hands.joints - knuckle[:, None])
    )


def _skin(hands: Hands, weights: FloatArray, turns: FloatArray, posed: FloatArray) -> FloatArray:
    out = np.zeros_like(hands.vertices)
    for k in range(len(PARENTS)):
        moved = np.flatnonzero(weights[:, k] > 0)
        offsets = hands.vertices[:, moved] - hands.joints[:, k, None]
        carried = np.einsum("nij,nvj->nvi", turns[:, k], offsets) + posed[:, k, None]
        out[:, moved] += weights[moved, k, None] * carried
    return out


def _zero_pose(finger: str, segment: int) -> tuple[FloatArray, float]:
    """Direction (3,) of a segment in the zero pose and its roll, radians."""
    azimuth, elevation, roll = np.deg2rad(_ZERO_POSE[finger][segment])
    level = np.array([-np.cos(azimuth), 0.0, np.sin(azimuth)])
    return np.cos(elevation) * level + np.array([0, np.sin(elevation), 0]), float(roll)


def _shortest_turn(start: FloatArray, end: FloatArray) -> FloatArray:
    """Smallest rotations (N, 3, 3) of unit vectors (N, 3) onto a unit vector (3,)."""
    cross = skew(np.cross(start, end))
    cos = (start @ end)[:, None, None]
    return np.eye(3) + cross + cross @ cross / (1 + cos)


def _unit(vectors: FloatArray) -> FloatArray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
