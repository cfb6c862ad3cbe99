"""Names and orders: the one table of joint orders, bones and fingertip vertices.

A *gather* is an index array `g` used as `target = source[..., g, :]`.

* MANO order (inside `hand/` only): 16 joints, then the five tips thumb..little, 21 in all.
* OpenPose order (everywhere else; also MediaPipe's and FreiHAND's): wrist, then thumb, index,
  middle, ring, little with four points each, from the palm outwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]

FINGERS: Final = ("thumb", "index", "middle", "ring", "little")
"""OpenPose order of the fingers, which is also the order of every list of five tips."""

MANO_FINGERS: Final = ("index", "middle", "little", "ring", "thumb")
"""Order of the fingers in MANO's 45 hand pose numbers (three joints of three numbers each)."""

MANO_JOINT_NAMES: Final = (
    "wrist",
    *(f"{finger}_{k}" for finger in MANO_FINGERS for k in (1, 2, 3)),
    *(f"{finger}_tip" for finger in FINGERS),
)
"""The 16 joints and five tips in MANO's order; `finger_1` is the joint next to the palm."""

JOINT_NAMES: Final = (
    "wrist",
    *(f"thumb_{part}" for part in ("cmc", "mcp", "ip", "tip")),
    *(f"{f}_{part}" for f in FINGERS[1:] for part in ("mcp", "pip", "dip", "tip")),
)
"""The 21 joints in OpenPose order."""

PARENTS: Final = (-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 0, 10, 11, 0, 13, 14)
"""Parent of each of the 16 joints in MANO's order; parents come before their children."""

NUM_JOINTS: Final = 16
NUM_BETAS: Final = 10
NUM_HAND_POSE: Final = 45


def _gather(indices: list[int]) -> IntArray:
    array = np.asarray(indices, dtype=np.int64)
    array.setflags(write=False)
    return array


MANO_TO_OPENPOSE: Final = _gather(
    [0, 13, 14, 15, 16, 1, 2, 3, 17, 4, 5, 6, 18, 10, 11, 12, 19, 7, 8, 9, 20]
)
"""`openpose = mano[..., MANO_TO_OPENPOSE, :]`"""

OPENPOSE_TO_MANO: Final = _gather(np.argsort(MANO_TO_OPENPOSE).tolist())
"""`mano = openpose[..., OPENPOSE_TO_MANO, :]`, the inverse permutation."""

HO3D_TO_OPENPOSE: Final = MANO_TO_OPENPOSE
OPENPOSE_TO_HO3D: Final = OPENPOSE_TO_MANO
"""HO3D stores MANO's 16 joints and then the tips thumb..little: MANO's order."""

RHD_TO_OPENPOSE: Final = _gather(
    [0, 4, 3, 2, 1, 8, 7, 6, 5, 12, 11, 10, 9, 16, 15, 14, 13, 20, 19, 18, 17]
)
OPENPOSE_TO_RHD: Final = RHD_TO_OPENPOSE
"""RHD stores every finger from its tip inwards; the permutation is its own inverse."""

INTERHAND_TO_OPENPOSE: Final = _gather(
    [20, 3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12, 19, 18, 17, 16]
)
OPENPOSE_TO_INTERHAND: Final = _gather(np.argsort(INTERHAND_TO_OPENPOSE).tolist())
"""InterHand stores each finger from its tip inwards, thumb first, and the wrist last."""

OPENXR_NAMES: Final = (
    "palm",
    "wrist",
    *(f"thumb_{part}" for part in ("metacarpal", "proximal", "distal", "tip")),
    *(
        f"{finger}_{part}"
        for finger in FINGERS[1:]
        for part in ("metacarpal", "proximal", "intermediate", "distal", "tip")
    ),
)
"""The 26 joints of OpenXR's hand tracking (XrHandJointEXT), in its order."""

OPENXR_OF_OPENPOSE: Final = _gather([k for k in range(1, 26) if k not in (6, 11, 16, 21)])
"""`openxr[..., OPENXR_OF_OPENPOSE, :] = openpose`: where each of the 21 joints goes.

OpenXR names a bone by the joint it begins at: `index_proximal` is the knuckle (mcp). Its palm and
the metacarpals of the four fingers have no counterpart.
"""

BONES: Final = tuple(
    (0 if k == 0 else 4 * finger + k, 4 * finger + k + 1) for finger in range(5) for k in range(4)
)
"""The 20 bones as (parent, child) pairs of OpenPose joints; bone `i` ends in joint `i + 1`."""

TIP_SETS: Final[Mapping[str, tuple[int, int, int, int, int]]] = MappingProxyType(
    {
        "mano": (744, 320, 443, 554, 671),
        "freihand": (744, 320, 443, 555, 672),
        "ho3d": (744, 333, 444, 555, 672),
        "manopth": (745, 317, 444, 556, 673),
        "amvur": (745, 317, 445, 556, 673),
        "handoccnet": (728, 353, 442, 576, 694),
    }
)
"""Fingertip vertices (thumb..little) of the 778-vertex MANO mesh, by the code base that uses them.

A metric names the set it used: mixing two of them costs a few millimetres on five joints.
"""
