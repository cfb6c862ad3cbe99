"""Results to messages: pure functions, no node, no clock.

Every stamp is the capture time it is given, every frame id the one it is given. A ``fill_``
function writes into a `Template` what its builder puts into a message.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from geometry_msgs.msg import (
    Point,
    Pose,
    PoseArray,
    PoseStamped,
    PoseWithCovarianceStamped,
    Quaternion,
    Transform,
    TransformStamped,
    Vector3,
)
from numpy.typing import NDArray
from std_msgs.msg import Header

from hand_mesh_ros.geometry.frames import joint_frames
from hand_mesh_ros.geometry.rotations import invert_rigid, matrix_to_quaternion
from hand_mesh_ros.hand.certainty import finger_visibility, safety_radius
from hand_mesh_ros.hand.layout import JOINT_NAMES
from hand_mesh_ros.hand.model import HandModel
from hand_mesh_ros.hand.robot_frames import grip_aperture, pinch_distance
from hand_mesh_ros.msg import (
    Hand,
    HandArray,
    HandMesh,
    HandObservations,
    HandTexture,
    ManoParameters,
    MeshTopology,
)
from hand_mesh_ros.perception.hand_texture import Textured
from hand_mesh_ros.ros.images import header
from hand_mesh_ros.ros.wire import Template, time_words
from hand_mesh_ros.types import HandEstimate, HandSet, Side, TrackedHand, View
from hand_mesh_ros.types import ManoParameters as Mano

Array = NDArray[np.float64]

SIDE_CODES: dict[Side, int] = {"left": Hand.LEFT, "right": Hand.RIGHT}
SCALE_CODES = {
    "unknown": Hand.SCALE_UNKNOWN,
    "model_prior": Hand.SCALE_MODEL_PRIOR,
    "multi_view": Hand.SCALE_MULTI_VIEW,
    "depth": Hand.SCALE_DEPTH,
    "calibrated_shape": Hand.SCALE_CALIBRATED_SHAPE,
}
_UPPER = np.triu_indices(3)


def point(p: Array) -> Point:
    """A Point from (3,)."""
    return Point(x=float(p[0]), y=float(p[1]), z=float(p[2]))


def points(p: Array) -> list[Point]:
    """Points from (N, 3)."""
    return [Point(x=x, y=y, z=z) for x, y, z in p.tolist()]


def pose(T: Array) -> Pose:
    """A Pose from (4, 4)."""
    return poses(T[None])[0]


def poses(T: Array) -> list[Pose]:
    """Poses from (N, 4, 4)."""
    return [
        Pose(position=Point(x=x, y=y, z=z), orientation=Quaternion(x=a, y=b, z=c, w=d))
        for x, y, z, a, b, c, d in pose_numbers(T).tolist()
    ]


def pose_numbers(T: Array) -> Array:
    """Rigid transforms (..., 4, 4) as position and quaternion xyzw (..., 7)."""
    return np.concatenate([T[..., :3, 3], matrix_to_quaternion(T[..., :3, :3])], axis=-1)


def transform(T: Array, parent: str, child: str, stamp_ns: int) -> TransformStamped:
    """A TransformStamped of ``T_parent_child`` (4, 4)."""
    return _transform(pose_numbers(T).tolist(), header(stamp_ns, parent), child)


def _transform(numbers: Sequence[float], head: Header, child: str) -> TransformStamped:
    x, y, z, a, b, c, d = numbers
    return TransformStamped(
        header=head,
        child_frame_id=child,
        transform=Transform(
            translation=Vector3(x=x, y=y, z=z), rotation=Quaternion(x=a, y=b, z=c, w=d)
        ),
    )


def mano_message(mano: Mano) -> ManoParameters:
    """MANO parameters; arrays keep their length 3, 45, 10, 3."""
    if mano.mirrored:
        model = ManoParameters.RIGHT_MIRRORED
    else:
        model = ManoParameters.RIGHT if mano.side == "right" else ManoParameters.LEFT
    return ManoParameters(
        model=model,
        model_id=mano.model_id,
        global_orient=mano.global_orient.astype(np.float32),
        hand_pose=mano.hand_pose.astype(np.float32),
        betas=mano.betas.astype(np.float32),
        transl=mano.transl.astype(np.float32),
        scale=float(mano.scale),
    )


def hand_message(hand: TrackedHand, view_mask: int) -> Hand:
    """One hand, in the frame its estimate is in."""
    e = hand.estimate
    message = Hand(
        track_id=hand.track_id,
        side=SIDE_CODES[e.side],
        confidence=float(e.confidence),
        side_confidence=float(e.side_confidence),
        joints=points(e.joints),
        joint_covariance=e.covariance[:, _UPPER[0], _UPPER[1]].astype(np.float32).reshape(-1),
        r95=safety_radius(e.covariance).astype(np.float32),
        calibration=e.calibration,
        joint_confidence=e.joint_confidence.astype(np.float32),
        visibility=e.visibility.astype(np.float32),
        finger_visibility=finger_visibility(e.visibility).astype(np.float32),
        pinch_distance=float(pinch_distance(e.joints)),
        grip_aperture=float(grip_aperture(e.joints)),
        view_mask=view_mask,
        extrapolated=hand.extrapolated,
        ahead=hand.ahead,
        scale_source=SCALE_CODES[e.scale_source],
        mano=mano_message(e.mano),
    )
    message.wrist.pose = pose(e.wrist)
    message.wrist.covariance = e.wrist_covariance.reshape(-1)
    return message


def hand_array(hands: HandSet, frame_id: str, latency: float) -> HandArray:
    """All hands of a frame set; ``latency`` in seconds."""
    return HandArray(
        header=header(hands.stamp_ns, frame_id),
        sync_spread=float(hands.spread),
        views=list(hands.views),
        latency=float(latency),
        hands=[
            hand_message(hand, sum(1 << i for i in hand.estimate.view_indices))
            for hand in hands.hands
        ],
    )


def best_of_side(hands: Sequence[TrackedHand], side: Side) -> TrackedHand | None:
    """The hand that a side's topics and frames stand for: the longest followed, then the surest."""
    candidates = [h for h in hands if h.estimate.side == side]
    return max(candidates, key=lambda h: (h.age, h.estimate.confidence), default=None)


def wrist_pose(estimate: HandEstimate, frame_id: str, stamp_ns: int) -> PoseWithCovarianceStamped:
    """The wrist with its 6x6 covariance."""
    message = PoseWithCovarianceStamped(header=header(stamp_ns, frame_id))
    message.pose.pose = pose(estimate.wrist)
    message.pose.covariance = estimate.wrist_covariance.reshape(-1)
    return message


def wrist_pose_stamped(estimate: HandEstimate, frame_id: str, stamp_ns: int) -> PoseStamped:
    """The wrist without covariance, for consumers of PoseStamped."""
    return PoseStamped(header=header(stamp_ns, frame_id), pose=pose(estimate.wrist))


def joint_poses(estimate: HandEstimate, frame_id: str, stamp_ns: int) -> PoseArray:
    """The 21 joint frames, OpenPose order."""
    frames = joint_frames(estimate.joints, estimate.wrist)
    return PoseArray(header=header(stamp_ns, frame_id), poses=poses(frames))


def hand_mesh(
    hand: TrackedHand,
    topology_id: str,
    frame_id: str,
    stamp_ns: int,
    colours: NDArray[np.uint8] | None = None,
) -> HandMesh:
    """The surface of one hand, in sRGB ``colours`` (V, 3); ``ValueError`` if it has none."""
    vertices = hand.estimate.vertices
    if vertices is None:
        raise ValueError(f"track {hand.track_id} has no vertices")
    message = HandMesh(
        header=header(stamp_ns, frame_id),
        track_id=hand.track_id,
        side=SIDE_CODES[hand.estimate.side],
        topology_id=topology_id,
    )
    message.vertices.frombytes(np.ascontiguousarray(vertices, dtype=np.float32).data.cast("B"))
    if colours is not None:
        message.colours.frombytes(np.ascontiguousarray(colours).tobytes())
    return message


def fill_hand_mesh(
    template: Template,
    hand: TrackedHand,
    stamp_ns: int,
    colours: NDArray[np.uint8] | None = None,
) -> None:
    """`hand_mesh` of a hand with as many vertices, of the same topology and frame."""
    assert hand.estimate.vertices is not None
    template["header.stamp"] = time_words(stamp_ns)
    template["track_id"] = hand.track_id
    template["side"] = SIDE_CODES[hand.estimate.side]
    template["vertices"] = hand.estimate.vertices.reshape(-1)
    if colours is not None:
        template["colours"] = colours.reshape(-1)


def hand_texture(hand: Textured, topology_id: str, frame_id: str) -> HandTexture:
    """The skin of a track's hand."""
    texture = hand.texture
    message = HandTexture(
        header=header(hand.stamp_ns, frame_id),
        track_id=hand.track_id,
        side=SIDE_CODES[hand.side],
        topology_id=topology_id,
        pictures=hand.pictures,
        observed=texture.observed.tolist(),
    )
    message.colours.frombytes(texture.srgb.tobytes())
    message.sigma.frombytes(texture.sigma.astype(np.float32).tobytes())
    return message


def mesh_topology(model: HandModel) -> MeshTopology:
    """The triangles of a model, published once."""
    message = MeshTopology(
        id=model.model_id, side=SIDE_CODES[model.side], joint_names=list(JOINT_NAMES)
    )
    message.faces.frombytes(np.ascontiguousarray(model.faces, dtype=np.uint16).data.cast("B"))
    return message


def observations(
    camera: str,
    size: tuple[int, int],
    views: Sequence[tuple[View, int]],
    frame_id: str,
    stamp_ns: int,
) -> HandObservations:
    """What one camera saw: its views, each with the id of the hand it became (0 = none)."""
    message = HandObservations(header=header(stamp_ns, frame_id), camera=camera)
    message.width, message.height = size
    message.track_id = [track for _, track in views]
    message.presence = [v.presence for v, _ in views]
    message.right_probability = [v.right for v, _ in views]
    for field, arrays in (
        (message.landmarks, [v.uv for v, _ in views]),
        (message.landmark_stddev, [v.sigma for v, _ in views]),
        (message.relative_landmarks, [v.world for v, _ in views]),
        (message.landmark_depth, _depths([v.depth for v, _ in views])),
        (message.landmark_depth_stddev, _depths([v.depth_sigma for v, _ in views])),
    ):
        if arrays:
            field.frombytes(np.stack(arrays).astype(np.float32).data.cast("B"))
    return message


def _depths(values: Sequence[Array | None]) -> list[Array]:
    """Depths (21,) of all views, NaN for one without; none at all if no view has any."""
    if all(value is None for value in values):
        return []
    return [np.full(21, np.nan) if value is None else value for value in values]


def hand_frames(hands: HandSet) -> dict[str, TrackedHand]:
    """TF names of the hands: ``left_hand`` and ``right_hand``; a second one of a side by its id."""
    names: dict[str, TrackedHand] = {}
    for hand in hands.hands:
        side = hand.estimate.side
        main = best_of_side(hands.hands, side) is hand
        names[f"{side}_hand" if main else f"{side}_hand_{hand.track_id}"] = hand
    return names


def transforms(
    hands: HandSet, frame_id: str, prefix: str, with_joints: bool
) -> list[TransformStamped]:
    """Wrists as children of ``frame_id`` and, if wanted, the joints as children of their wrist."""
    edges: list[tuple[str, str]] = []
    for name in hand_frames(hands):
        wrist = f"{prefix}{name}/wrist"
        edges.append((frame_id, wrist))
        if with_joints:
            edges.extend((wrist, f"{prefix}{name}/{joint}") for joint in JOINT_NAMES[1:])
    numbers = _transform_numbers(hands, with_joints).tolist()
    return [
        _transform(row, header(hands.stamp_ns, parent), child)
        for row, (parent, child) in zip(numbers, edges, strict=True)
    ]


def fill_transforms(template: Template, hands: HandSet, with_joints: bool) -> None:
    """A TFMessage of `transforms`, of hands of the same names."""
    template["transforms.*.header.stamp"] = time_words(hands.stamp_ns)
    template["transforms.*.transform"] = _transform_numbers(hands, with_joints)


def _transform_numbers(hands: HandSet, with_joints: bool) -> Array:
    """Translations and rotations (N, 7) of `transforms`, in its order."""
    parts = [np.zeros((0, 4, 4))]
    for hand in hand_frames(hands).values():
        estimate = hand.estimate
        parts.append(estimate.wrist[None])
        if with_joints:
            frames = joint_frames(estimate.joints, estimate.wrist)
            parts.append(invert_rigid(estimate.wrist) @ frames[1:])
    return pose_numbers(np.concatenate(parts))
