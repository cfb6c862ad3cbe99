"""Joint limits and a pose prior for the 45 hand pose numbers, for the solver.

The numbers are axis-angle components about the model's axes (MANO's canonical placement, right
hand: x towards the wrist, y out of the back, z towards the thumb). For the four fingers z flexes
(positive: towards the palm), y spreads (positive: towards the thumb) and x twists. The thumb
moves obliquely: positive x brings it in front of the palm, and x and z together flex it.

Finger flexion ranges follow the anatomical tables used with KNOWN-Hand and the TSA limits of
S2HAND and AMVUR, widened where those cut off ordinary hands; twist is left a few degrees because
axis-angle mixes it with spread when a finger is bent.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from hand_mesh_ros.hand.layout import MANO_FINGERS
from hand_mesh_ros.hand.mirror import mirror_axis_angle
from hand_mesh_ros.hand.model import FloatArray, Side

# Degrees, per joint from the palm outwards: (lower, upper) of x, y, z.
_Range = tuple[float, float]
_Joint = tuple[_Range, _Range, _Range]

_PIP: Final[_Joint] = ((-10, 10), (-10, 10), (-15, 120))
_DIP: Final[_Joint] = ((-8, 8), (-8, 8), (-20, 95))

_LIMITS: Final[dict[str, tuple[_Joint, _Joint, _Joint]]] = {
    "index": (((-25, 25), (-25, 30), (-40, 100)), _PIP, _DIP),
    "middle": (((-25, 25), (-22, 22), (-40, 100)), _PIP, _DIP),
    "ring": (((-30, 25), (-25, 22), (-40, 100)), _PIP, _DIP),
    "little": (((-35, 25), (-40, 25), (-40, 105)), _PIP, _DIP),
    "thumb": (
        ((-30, 85), (-60, 50), (-40, 50)),
        ((-45, 70), (-30, 30), (-30, 50)),
        ((-40, 85), (-30, 30), (-25, 75)),
    ),
}

# Degrees, mean and spread (one sigma) of a relaxed hand that is about to do something.
_MEAN: Final[dict[str, tuple[tuple[float, float, float], ...]]] = {
    "index": ((0, 0, 18), (0, 0, 28), (0, 0, 14)),
    "middle": ((0, 0, 22), (0, 0, 30), (0, 0, 15)),
    "ring": ((0, 0, 24), (0, 0, 30), (0, 0, 15)),
    "little": ((0, 0, 24), (0, 0, 28), (0, 0, 14)),
    "thumb": ((20, -5, 5), (8, 0, 5), (12, 0, 8)),
}
_FINGER_STD: Final = ((7.0, 9.0, 32.0), (4.0, 4.0, 35.0), (3.0, 3.0, 22.0))
_THUMB_STD: Final = ((22.0, 18.0, 18.0), (18.0, 10.0, 14.0), (22.0, 8.0, 18.0))


def _frozen(degrees: object) -> FloatArray:
    radians = np.deg2rad(np.asarray(degrees, dtype=np.float64))
    radians.setflags(write=False)
    return radians


_RANGES: Final = _frozen([_LIMITS[finger] for finger in MANO_FINGERS]).reshape(45, 2)
_COMFORTABLE: Final = _frozen([_MEAN[finger] for finger in MANO_FINGERS]).reshape(45)
_STD: Final = _frozen(
    [_THUMB_STD if finger == "thumb" else _FINGER_STD for finger in MANO_FINGERS]
).reshape(45)


def pose_limits(side: Side = "right") -> tuple[FloatArray, FloatArray]:
    """Lower and upper limit (45,), (45,) of the hand pose, radians, MANO order."""
    lower, upper = _RANGES[:, 0], _RANGES[:, 1]
    if side == "right":
        return lower, upper
    a, b = mirror_axis_angle(lower), mirror_axis_angle(upper)
    return np.minimum(a, b), np.maximum(a, b)


def pose_prior(side: Side = "right") -> tuple[FloatArray, FloatArray]:
    """Mean (45,) and standard deviation (45,) of a diagonal Gaussian on the hand pose, radians."""
    mean = _COMFORTABLE if side == "right" else mirror_axis_angle(_COMFORTABLE)
    return mean, _STD


def comfortable_pose(side: Side = "right") -> FloatArray:
    """The relaxed hand pose (45,), radians: the prior's mean."""
    return pose_prior(side)[0]
