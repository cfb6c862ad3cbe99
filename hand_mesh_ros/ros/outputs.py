"""Everything the node publishes; what nobody subscribes to is not computed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from geometry_msgs.msg import PoseArray, PoseStamped, PoseWithCovarianceStamped
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image
from tf2_msgs.msg import TFMessage
from visualization_msgs.msg import MarkerArray

from hand_mesh_ros.hand.model import HandModel
from hand_mesh_ros.msg import HandArray, HandMesh, HandObservations, HandTexture, MeshTopology
from hand_mesh_ros.perception.surface import with_meshes
from hand_mesh_ros.ros import builders
from hand_mesh_ros.ros.ellipsoids import ellipsoid_markers
from hand_mesh_ros.ros.markers import HandMarkers
from hand_mesh_ros.ros.overlays import Overlays
from hand_mesh_ros.ros.packed import HandMeshes, HandTransforms
from hand_mesh_ros.ros.settings import LiveSettings
from hand_mesh_ros.ros.textures import TextureOutput, TextureSettings
from hand_mesh_ros.types import SIDES, Frame, FrameSet, HandSet, Side, TrackedHand

_RELIABLE = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
_NEWEST = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
_LATCHED = QoSProfile(
    depth=2,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)


class HandOutputs:
    """The publishers of a node. `publish` is called from one thread only."""

    def __init__(
        self,
        node: Node,
        cameras: tuple[str, ...],
        models: Mapping[Side, HandModel],
        texture: TextureSettings | None = None,
    ) -> None:
        self._node = node
        self._models = models
        faces = {side: model.faces for side, model in models.items()}
        complain = node.get_logger().warning
        self._packed_markers = HandMarkers(faces, complain)
        self._packed_meshes = HandMeshes(complain)
        self._packed_transforms = HandTransforms(complain)
        self._publishers: list[Any] = []
        make = self._publisher
        self._hands = make(HandArray, "~/hands", _RELIABLE)
        self._mesh = make(HandMesh, "~/mesh", _RELIABLE)
        self._topology = make(MeshTopology, "~/topology", _LATCHED)
        self._texture = make(HandTexture, "~/texture", _LATCHED)
        self._skin = TextureOutput(self._texture, models, texture or TextureSettings())
        self._markers = make(MarkerArray, "~/markers", _NEWEST)
        self._uncertainty = make(MarkerArray, "~/uncertainty", _NEWEST)
        self._tf = make(TFMessage, "/tf", QoSProfile(depth=100))
        self._wrist: dict[Side, Any] = {}
        self._wrist_stamped: dict[Side, Any] = {}
        self._joints: dict[Side, Any] = {}
        for side in SIDES:
            self._wrist[side] = make(PoseWithCovarianceStamped, f"~/{side}/wrist_pose", _RELIABLE)
            self._wrist_stamped[side] = make(PoseStamped, f"~/{side}/wrist_pose_stamped", _RELIABLE)
            self._joints[side] = make(PoseArray, f"~/{side}/joints", _RELIABLE)
        raw: dict[str, Any] = {}
        compressed: dict[str, Any] = {}
        self._observations: dict[str, Any] = {}
        for name in cameras:
            topic = f"~/overlay/{name}"
            raw[name] = make(Image, topic, _NEWEST)
            compressed[name] = make(CompressedImage, f"{topic}/compressed", _NEWEST)
            self._observations[name] = make(HandObservations, f"~/observations/{name}", _RELIABLE)
        self._overlays = Overlays(raw, compressed, faces, complain)
        for model in models.values():
            self._topology.publish(builders.mesh_topology(model))

    def close(self) -> None:
        """Destroy every publisher."""
        for publisher in self._publishers:
            self._node.destroy_publisher(publisher)
        self._publishers.clear()

    def publish(
        self,
        hands: HandSet,
        frames: FrameSet,
        frame_id: str,
        live: LiveSettings,
        latency: Callable[[int], float],
    ) -> None:
        """Publish one result, what a robot waits for first; ``latency(stamp_ns)`` is read last."""
        self._hands.publish(builders.hand_array(hands, frame_id, latency(hands.stamp_ns)))
        if live.publish_tf and hands.hands and _wanted(self._tf):
            self._tf.publish(
                self._packed_transforms.build(
                    hands, frame_id, live.tf_prefix, live.publish_joint_tf
                )
            )
        for side in SIDES:
            hand = builders.best_of_side(hands.hands, side)
            if hand is not None:
                self._publish_side(side, hand, frame_id, hands.stamp_ns)
        mesh, markers = _wanted(self._mesh), _wanted(self._markers)
        skin = self._skin.colours()
        if mesh or markers or any(map(self._overlays.wanted, frames.frames)):
            hands = with_meshes(hands, self._models)
        if mesh:
            for hand in hands.hands:
                if hand.estimate.vertices is not None:
                    topology = self._models[hand.estimate.side].model_id
                    self._mesh.publish(
                        self._packed_meshes.build(
                            hand, topology, frame_id, hands.stamp_ns,
                            skin.get(hand.track_id) if live.mesh_texture else None,
                        )  # fmt: skip
                    )
        if markers:
            self._markers.publish(
                self._packed_markers.build(
                    hands, frame_id, live.marker_lifetime, skin if live.marker_texture else {}
                )
            )
        if _wanted(self._uncertainty):
            self._uncertainty.publish(ellipsoid_markers(hands, frame_id, live.marker_lifetime))
        for index, frame in enumerate(frames.frames):
            if _wanted(self._observations[frame.camera.name]):
                self._publish_observations(hands, index, frame)
        self._overlays.publish(hands, frames.frames, live.overlay_alpha)
        coloured = (mesh and live.mesh_texture) or (markers and live.marker_texture)
        if coloured or _wanted(self._texture):
            self._skin.look(hands, frame_id)

    def _publish_side(self, side: Side, hand: TrackedHand, frame_id: str, stamp_ns: int) -> None:
        estimate = hand.estimate
        for publishers, build in (
            (self._wrist, builders.wrist_pose),
            (self._wrist_stamped, builders.wrist_pose_stamped),
            (self._joints, builders.joint_poses),
        ):
            if _wanted(publishers[side]):
                publishers[side].publish(build(estimate, frame_id, stamp_ns))

    def _publish_observations(self, hands: HandSet, index: int, frame: Frame) -> None:
        name, camera = frame.camera.name, frame.camera
        seen = [
            (view, hand.track_id)
            for hand, views in zip(hands.hands, hands.observed, strict=True)
            for view in views
            if view.index == index
        ]
        seen += [(view, 0) for view in hands.unmatched if view.index == index]
        size = camera.width, camera.height
        self._observations[name].publish(
            builders.observations(name, size, seen, camera.frame_id, frame.stamp_ns)
        )

    def _publisher(self, kind: Any, topic: str, qos: QoSProfile) -> Any:
        publisher = self._node.create_publisher(kind, topic, qos)
        self._publishers.append(publisher)
        return publisher


def _wanted(publisher: Any) -> bool:
    return bool(publisher.get_subscription_count() > 0)
