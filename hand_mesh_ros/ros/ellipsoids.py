"""~/uncertainty: where each joint may be, for rviz, as an ellipsoid.

A topic of its own, so that it costs those who do not look at it nothing.
"""

from __future__ import annotations

import numpy as np
from builtin_interfaces.msg import Duration
from geometry_msgs.msg import Point, Pose, Quaternion, Vector3
from numpy.typing import NDArray
from std_msgs.msg import ColorRGBA
from visualization_msgs.msg import Marker, MarkerArray

from hand_mesh_ros.geometry.rotations import matrix_to_quaternion
from hand_mesh_ros.render.overlay import track_colour
from hand_mesh_ros.ros.builders import hand_frames
from hand_mesh_ros.ros.images import header
from hand_mesh_ros.types import HandSet, TrackedHand

_ALPHA = 0.35
_UNIT = Pose()
_UNIT.orientation.w = 1.0


def ellipsoid_markers(
    hands: HandSet, frame_id: str, lifetime: float, sigmas: float = 2.0
) -> MarkerArray:
    """Ellipsoids of ``sigmas`` standard deviations, after a marker that deletes all before them.

    ``lifetime`` in seconds. Two sigmas hold 74 % of a 3D Gaussian.
    """
    markers = [Marker(action=Marker.DELETEALL, pose=_UNIT)]
    for name, hand in hand_frames(hands).items():
        markers += _of_hand(name, hand, sigmas)
    whole = int(lifetime)
    for marker in markers:
        marker.header = header(hands.stamp_ns, frame_id)
        marker.lifetime = Duration(sec=whole, nanosec=int((lifetime - whole) * 1e9))
    return MarkerArray(markers=markers)


def _of_hand(name: str, hand: TrackedHand, sigmas: float) -> list[Marker]:
    estimate = hand.estimate
    known = np.flatnonzero(np.isfinite(estimate.covariance).all((-1, -2)))
    diameters, turns = axes_of(estimate.covariance[known], sigmas)
    r, g, b = (float(c) for c in track_colour(estimate.side, hand.track_id))
    colour = ColorRGBA(r=r, g=g, b=b, a=_ALPHA)
    made = []
    for joint, (x, y, z), (qx, qy, qz, qw) in zip(known, diameters, turns, strict=True):
        u, v, w = estimate.joints[joint]
        made.append(
            Marker(
                ns=f"{name}/uncertainty",
                id=int(joint),
                type=Marker.SPHERE,
                pose=Pose(
                    position=Point(x=float(u), y=float(v), z=float(w)),
                    orientation=Quaternion(x=float(qx), y=float(qy), z=float(qz), w=float(qw)),
                ),
                scale=Vector3(x=float(x), y=float(y), z=float(z)),
                color=colour,
            )
        )
    return made


def axes_of(
    covariance: NDArray[np.float64], sigmas: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Diameters (N, 3) and rotations (N, 4), xyzw, of ellipsoids of covariances (N, 3, 3).

    Not thinner than 0.2 mm, which rviz would not draw.
    """
    variances, axes = np.linalg.eigh(covariance)
    axes[..., 0] *= np.sign(np.linalg.det(axes))[..., None]  # a rotation, no reflection
    diameters = np.maximum(2 * sigmas * np.sqrt(np.maximum(variances, 0)), 2e-4)
    return diameters, matrix_to_quaternion(axes)
