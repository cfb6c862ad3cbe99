"""How a hand moves in the synthetic cell: smooth curves of place, heading and gesture over time.

The world has z up. People stand at negative x and look along +x; a hand is held up with the palm
towards +x, where the cameras are. Everything is a pure function of time and seed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.geometry.rotations import exp_so3, log_so3
from hand_mesh_ros.hand.limits import pose_limits
from hand_mesh_ros.hand.mirror import mirror_axis_angle
from hand_mesh_ros.types import FloatArray, Side

# Fingers up, palm towards +x: the world axes of the right model's x (wrist), y (back), z (thumb).
_RAISED = np.array([[0.0, -1, 0], [0, 0, 1], [-1, 0, 0]])
_MIRROR_WORLD, _MIRROR_MODEL = np.diag([1.0, -1, 1]), np.diag([-1.0, 1, 1])

# Each gesture: curl of index, middle, ring and little finger (0 straight, 1 into the palm), how
# far the fingers are spread (-1 pressed together to 1), and the thumb: across the palm (opposed)
# and bent, 0 to 1.
_GESTURES: dict[str, tuple[float, ...]] = {
    "open": (0.05, 0.03, 0.05, 0.08, 1.0, 0.0, 0.0),
    "flat": (0.06, 0.05, 0.06, 0.06, -0.6, 0.2, 0.1),
    "relaxed": (0.22, 0.28, 0.33, 0.36, 0.3, 0.3, 0.25),
    "fist": (0.92, 0.94, 0.95, 0.95, 0.0, 0.8, 0.7),
    "point": (0.03, 0.88, 0.92, 0.92, 0.1, 0.75, 0.6),
    "two": (0.04, 0.04, 0.86, 0.88, 0.7, 0.85, 0.6),
    "three": (0.05, 0.04, 0.07, 0.86, 0.6, 0.9, 0.6),
    "four": (0.05, 0.04, 0.05, 0.08, 0.6, 0.85, 0.6),
    "pinch": (0.44, 0.28, 0.22, 0.18, 0.2, 0.3, 0.45),
    "call": (0.78, 0.82, 0.80, 0.10, 0.3, 0.0, 0.0),
    "claw": (0.40, 0.42, 0.42, 0.42, 0.8, 0.25, 0.35),
}
# Degrees at a curl of 1: knuckle, middle joint, end joint.
_CURL = np.array([88.0, 112, 72])
# Degrees about y at a spread of 1, positive towards the thumb.
_SPREAD = np.array([9.0, 1, -7, -15])
# Degrees about x, y, z of the thumb's three joints when opposed, and when bent.
_OPPOSED = np.array([[34.0, -50, 10], [8, -10, 4], [4, -6, 2]])
_BENT = np.array([[4.0, -8, 3], [20, -26, 14], [34, -28, 22]])
_SECONDS_PER_GESTURE = 1.1


@dataclass(frozen=True, slots=True, eq=False)
class HandPath:
    """One hand's course: ``centre`` (3,) m, ``reach`` (3,) m of its swing, drawn from ``seed``."""

    side: Side
    centre: FloatArray
    reach: FloatArray
    phases: FloatArray
    gestures: tuple[str, ...]

    @classmethod
    def random(cls, side: Side, centre: FloatArray, reach: FloatArray, seed: int) -> HandPath:
        """A course with random phases, which shows all gestures before it repeats one."""
        rng = np.random.default_rng([seed, 0 if side == "right" else 1])
        others = [name for name in _GESTURES if name != "open"]
        order = ("open", *(others[k] for k in rng.permutation(len(others))))
        return cls(side, np.asarray(centre), np.asarray(reach), rng.uniform(0, 2 * np.pi, 6), order)

    def position(self, t: float) -> FloatArray:
        """Centre of the palm in the world, (3,) metres: a Lissajous curve."""
        turns = 2 * np.pi * t / np.array([5.3, 6.1, 4.3])
        return np.asarray(self.centre + self.reach * np.sin(turns + self.phases[:3]))

    def global_orient(self, t: float) -> FloatArray:
        """Rotation of the model of the hand's own side, axis-angle (3,)."""
        turns = 2 * np.pi * t / np.array([6.7, 5.9, 7.9])
        tilt = np.deg2rad([14.0, 14, 20]) * np.sin(turns + self.phases[3:])
        rotation = exp_so3(tilt) @ _RAISED
        if self.side == "left":
            rotation = _MIRROR_WORLD @ rotation @ _MIRROR_MODEL
        return log_so3(rotation)

    def hand_pose(self, t: float) -> FloatArray:
        """Finger pose (45,) of the model of the hand's own side, within its joint limits."""
        step, phase = divmod(max(t, 0.0) / _SECONDS_PER_GESTURE, 1.0)
        here = self.gestures[int(step) % len(self.gestures)]
        there = self.gestures[(int(step) + 1) % len(self.gestures)]
        # Every gesture is held for a third of its time, then the fingers move with minimum jerk.
        mix = _minimum_jerk(np.clip((phase - 1 / 3) * 1.5, 0, 1))
        pose = (1 - mix) * gesture_pose(here) + mix * gesture_pose(there)
        return pose if self.side == "right" else mirror_axis_angle(pose)


def gesture_pose(name: str) -> FloatArray:
    """Right hand pose (45,) of a named gesture, MANO order, radians, clipped to the joint limits.

    Raises ``KeyError`` for a name that is not in ``gesture_names()``.
    """
    *curls, spread, opposed, bent = _GESTURES[name]
    fingers = np.zeros((4, 3, 3))
    fingers[:, :, 2] = np.outer(curls, _CURL)
    # A bent finger cannot be spread: the side ligaments of the knuckle tighten.
    fingers[:, 0, 1] = spread * _SPREAD * (1 - np.array(curls))
    thumb = opposed * _OPPOSED + bent * _BENT
    index, middle, ring, little = fingers
    pose = np.deg2rad(np.stack([index, middle, little, ring, thumb])).ravel()
    return np.asarray(np.clip(pose, *pose_limits()))


def gesture_names() -> tuple[str, ...]:
    """Names that ``gesture_pose`` knows."""
    return tuple(_GESTURES)


def _minimum_jerk(x: NDArray) -> NDArray:
    """0 to 1 with zero speed and acceleration at both ends (Flash and Hogan, 1985)."""
    return np.asarray(x**3 * (10 - 15 * x + 6 * x**2))
