"""Messages back to the core's nouns: for consumers in Python, the demo and the tests."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from geometry_msgs.msg import Pose, TransformStamped
from numpy.typing import NDArray

from hand_mesh_ros.geometry.intrinsics import size_mismatch
from hand_mesh_ros.geometry.rotations import quaternion_to_matrix
from hand_mesh_ros.msg import Hand, HandArray, HandObservations
from hand_mesh_ros.networks.landmarks import rois_from_landmarks
from hand_mesh_ros.perception.observe import ObserveSettings
from hand_mesh_ros.ros.builders import SCALE_CODES, SIDE_CODES
from hand_mesh_ros.ros.images import nanoseconds
from hand_mesh_ros.types import (
    Camera,
    HandEstimate,
    HandSet,
    ManoParameters,
    Side,
    TrackedHand,
    View,
)

Array = NDArray[np.float64]
_SIDES: dict[int, Side] = {code: side for side, code in SIDE_CODES.items()}
_SCALES = {code: name for name, code in SCALE_CODES.items()}
_UPPER = np.triu_indices(3)
# Of HandObservations: values a hand, and whether NaN (unknown) is one of them.
_SHAPES: dict[str, tuple[tuple[int, ...], bool]] = {
    "presence": ((), False),
    "right_probability": ((), True),
    "landmarks": ((21, 2), False),
    "landmark_stddev": ((21,), True),
    "relative_landmarks": ((21, 3), False),
    "landmark_depth": ((21,), True),
    "landmark_depth_stddev": ((21,), True),
}
_PROBABILITIES = ("presence", "right_probability")
_POSITIVE = ("landmark_stddev", "landmark_depth", "landmark_depth_stddev")
_NETWORK_NOISE = ObserveSettings().noise


class BadObservations(ValueError):
    """HandObservations that are none; the text names topic and field."""


def matrix(pose: Pose) -> Array:
    """(4, 4) of a Pose."""
    p, q = pose.position, pose.orientation
    T = np.eye(4)
    T[:3, :3] = quaternion_to_matrix(np.array([q.x, q.y, q.z, q.w]))
    T[:3, 3] = p.x, p.y, p.z
    return T


def matrix_of_transform(message: TransformStamped) -> Array:
    """``T_parent_child`` (4, 4) of a TransformStamped."""
    t, q = message.transform.translation, message.transform.rotation
    T = np.eye(4)
    T[:3, :3] = quaternion_to_matrix(np.array([q.x, q.y, q.z, q.w]))
    T[:3, 3] = t.x, t.y, t.z
    return T


def tracked_hand(message: Hand, vertices: Array | None = None) -> TrackedHand:
    """The hand a message tells of; ``ValueError`` if its side is not filled in."""
    if message.side not in _SIDES:
        raise ValueError(f"hand {message.track_id} has no side")
    side = _SIDES[message.side]
    covariance = np.empty((21, 3, 3))
    upper = np.array(message.joint_covariance, dtype=np.float64).reshape(21, 6)
    covariance[:, _UPPER[0], _UPPER[1]] = upper
    covariance[:, _UPPER[1], _UPPER[0]] = upper
    mano = message.mano
    estimate = HandEstimate(
        side=side,
        joints=np.array([(p.x, p.y, p.z) for p in message.joints]),
        covariance=covariance,
        wrist=matrix(message.wrist.pose),
        wrist_covariance=np.array(message.wrist.covariance).reshape(6, 6),
        mano=ManoParameters(
            model_id=mano.model_id,
            side=side,
            global_orient=np.array(mano.global_orient, dtype=np.float64),
            hand_pose=np.array(mano.hand_pose, dtype=np.float64),
            betas=np.array(mano.betas, dtype=np.float64),
            transl=np.array(mano.transl, dtype=np.float64),
            scale=float(mano.scale),
            mirrored=mano.model == mano.RIGHT_MIRRORED,
        ),
        confidence=float(message.confidence),
        side_confidence=float(message.side_confidence),
        joint_confidence=np.array(message.joint_confidence, dtype=np.float64),
        visibility=np.array(message.visibility, dtype=np.float64),
        residual_px=np.zeros((0, 21)),
        view_indices=tuple(i for i in range(32) if message.view_mask >> i & 1),
        scale_source=_SCALES[message.scale_source],  # type: ignore[arg-type]
        vertices=vertices,
        calibration=message.calibration,
    )
    return TrackedHand(
        message.track_id,
        estimate,
        extrapolated=bool(message.extrapolated),
        ahead=float(message.ahead),
    )


def hand_set(message: HandArray, vertices: dict[int, Array] | None = None) -> HandSet:
    """All hands of a message; ``vertices`` (V, 3) by track id, from the HandMesh messages."""
    vertices = vertices or {}
    return HandSet(
        stamp_ns=nanoseconds(message.header.stamp),
        spread=float(message.sync_spread),
        views=tuple(message.views),
        hands=tuple(tracked_hand(hand, vertices.get(hand.track_id)) for hand in message.hands),
    )


def landmarks(message: HandObservations) -> Iterable[tuple[int, Array]]:
    """(track id, landmarks (21, 2) in pixels) of every hand that a camera saw."""
    uv = np.array(message.landmarks, dtype=np.float64).reshape(-1, 21, 2)
    return zip(list(message.track_id), uv, strict=True)


def views(message: HandObservations, camera: Camera, topic: str) -> tuple[View, ...]:
    """The views that an edge node sends of ``camera``, whose index in a set is not known yet (0).

    A landmark of unknown sigma gets the landmark network's usual one, and a hand of unknown side
    the probability 0.5. Raises :class:`BadObservations`.
    """
    if mismatch := size_mismatch(camera, (message.height, message.width)):
        raise BadObservations(f"{topic}: width, height: {mismatch}; refusing the observations")
    values = {name: _values(message, name, topic) for name in _SHAPES}
    uv, sigma = values["landmarks"], values["landmark_stddev"]
    rois = rois_from_landmarks(uv)
    sigma = np.where(np.isnan(sigma), _NETWORK_NOISE * rois[:, 2:3], sigma)
    right = np.where(np.isnan(values["right_probability"]), 0.5, values["right_probability"])
    with_depth = len(values["landmark_depth"]) > 0
    return tuple(
        View(
            index=0,
            camera=camera,
            uv=uv[i],
            sigma=sigma[i],
            world=values["relative_landmarks"][i],
            presence=float(values["presence"][i]),
            right=float(right[i]),
            roi=rois[i],
            depth=values["landmark_depth"][i] if with_depth else None,
            depth_sigma=values["landmark_depth_stddev"][i] if with_depth else None,
        )
        for i in range(len(uv))
    )


def _values(message: HandObservations, name: str, topic: str) -> Array:
    """A field as (N, ...) float64, checked; a depth field may be empty."""
    shape, unknown = _SHAPES[name]
    found = np.array(getattr(message, name), dtype=np.float64)
    hands = len(message.track_id)
    wanted = hands * int(np.prod(shape))
    depth = "depth" in name
    if len(found) != wanted and not (
        depth and len(message.landmark_depth) == len(message.landmark_depth_stddev) == 0
    ):
        raise BadObservations(
            f"{topic}: {name} has {len(found)} values, expected {wanted} for {hands} hand(s), the "
            "length of track_id; refusing the observations"
        )
    known = found if not unknown else found[~np.isnan(found)]
    if not np.isfinite(known).all():
        rule = "finite or NaN" if unknown else "finite"
        raise BadObservations(f"{topic}: {name} must be {rule}; refusing the observations")
    if name in _PROBABILITIES and not ((known >= 0) & (known <= 1)).all():
        raise BadObservations(f"{topic}: {name} must lie in [0, 1]; refusing the observations")
    if name in _POSITIVE and not (known > 0).all():
        raise BadObservations(f"{topic}: {name} must be positive; refusing the observations")
    return found.reshape(-1, *shape)
