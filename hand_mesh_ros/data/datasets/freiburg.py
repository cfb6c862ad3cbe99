"""What FreiHAND and HanCo have in common: Freiburg's way to store a hand in one camera.

61 numbers: 48 of pose (the hand's relative to MANO's mean pose), 10 of shape, the pixel u, v of
the middle finger's knuckle (OpenPose joint 9), and a scale from which its depth follows as
z = (fx + fy) / 2 / scale.
"""

from __future__ import annotations

import numpy as np

from hand_mesh_ros.data.samples import StoredMano
from hand_mesh_ros.types import FloatArray

ANCHOR = 9


def hand_in_camera(numbers: FloatArray, K: FloatArray) -> StoredMano:
    """The hand of 61 numbers (61,) and intrinsics (3, 3), in the camera's optical axes."""
    pose, betas, (u, v, scale) = numbers[:48], numbers[48:58], numbers[58:]
    depth = 0.5 * (K[0, 0] + K[1, 1]) / scale
    place = depth * np.linalg.solve(K, [u, v, 1.0])
    return StoredMano("right", "mean_relative", pose[:3], pose[3:], betas, anchor=(ANCHOR, place))
