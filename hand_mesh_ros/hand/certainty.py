"""How sure one may be of a hand's joints and fingers, in the numbers that a robot decides by."""

from __future__ import annotations

from typing import Final

import numpy as np

from hand_mesh_ros.hand.model import FloatArray

# Chi-squared with three degrees of freedom is below it with a probability of 95 %.
_WITHIN_95: Final = 7.814728


def safety_radius(covariance: FloatArray) -> FloatArray:
    """Radius (...,) m about a point that holds its true place with 95 % probability, or more.

    Of a covariance (..., 3, 3) m^2: that of the sphere about the ellipsoid, by its longest axis,
    sqrt(7.815 times the largest eigenvalue). NaN where the covariance is.
    """
    covariance = np.asarray(covariance, dtype=np.float64)
    known = np.asarray(np.isfinite(covariance).all((-1, -2)))
    safe = np.where(known[..., None, None], covariance, np.eye(3))
    longest = np.linalg.eigvalsh(safe)[..., -1]
    return np.where(known, np.sqrt(_WITHIN_95 * np.maximum(longest, 0)), np.nan)


def finger_visibility(visibility: FloatArray) -> FloatArray:
    """Mean (..., 5) of each finger's four joints, thumb to little, of joints' (..., 21).

    NaN for a finger with a joint of which nothing is known.
    """
    joints = np.asarray(visibility, dtype=np.float64)[..., 1:]
    return np.asarray(joints.reshape(*joints.shape[:-1], 5, 4).mean(-1))
