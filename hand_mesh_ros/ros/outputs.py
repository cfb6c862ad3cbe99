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
from hand_mesh_ros.msg import HandArray, HandMesh, HandObservations, MeshTopology
from hand_mesh_ros.perception.surface import with_meshes
from hand_mesh_ros.ros import builders
from hand_mesh_ros.ros.images import encode_compressed, encode_image
from hand_mesh_ros.ros.markers import HandMarkers
from hand_mesh_ros.ros.settings import LiveSettings
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
        self, node: Node, cameras: tuple[str, ...], models: Mapping[Side, HandModel]
    ) -> None:
        self._node = node
        self._models = models
        self._faces = {side: model.faces for side, model in models.items()}
        self._markers_builder = HandMarkers(self._faces)
        self._publishers: list[Any] = []
        make = self._publisher
        self._hands = make(HandArray, "~/hands", _RELIABLE)
        self._mesh = make(HandMesh, "~/mesh", _RELIABLE)
        self._topology = make(MeshTopology, "~/topology", _LATCHED)
        self._markers = make(MarkerArray, "~/markers", _NEWEST)
        self._tf = make(TFMessage, "/tf", QoSProfile(depth=100))
        self._wrist: dict[Side, Any] = {}
        self._wrist_stamped: dict[Side, Any] = {}
        self._joints: dict[Side, Any] = {}
        for side in SIDES:
            self._wrist[side] = make(PoseWithCovarianceStamped, f"~/{side}/wrist_pose", _RELIABLE)
            self._wrist_stamped[side] = make(PoseStamped, f"~/{side}/wrist_pose_stamped", _RELIABLE)
            self._joints[side] = make(PoseArray, f"~/{side}/joints", _RELIABLE)
        self._overlays: dict[str, Any] = {}
        self._compressed: dict[str, Any] = {}
        self._observations: dict[str, Any] = {}
        for name in cameras:
            topic = f"~/overlay/{name}"
            self._overlays[name] = make(Image, topic, _NEWEST)
            self._compressed[name] = make(CompressedImage, f"{topic}/compressed", _NEWEST)
            self._observations[name] = make(HandObservations, f"~/observations/{name}", _RELIABLE)
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
        if live.publish_tf:
            found = builders.transforms(hands, frame_id, live.tf_prefix, live.publish_joint_tf)
            if found:
                self._tf.publish(TFMessage(transforms=found))
        for side in SIDES:
            hand = builders.best_of_side(hands.hands, side)
            if hand is not None:
                self._publish_side(side, hand, frame_id, hands.stamp_ns)
        shown = [*self._overlays.values(), *self._compressed.values()]
        if any(map(_wanted, (self._mesh, self._markers, *shown))):
            hands = with_meshes(hands, self._models)
        if _wanted(self._mesh):
            for hand in hands.hands:
                if hand.estimate.vertices is not None:
                    topology = self._models[hand.estimate.side].model_id
                    self._mesh.publish(
                        builders.hand_mesh(hand, topology, frame_id, hands.stamp_ns)
                    )
        if _wanted(self._markers):
            self._markers.publish(
                self._markers_builder.build(hands, frame_id, live.marker_lifetime)
            )
        for index, frame in enumerate(frames.frames):
            self._publish_view(hands, index, frame, live)

    def _publish_side(self, side: Side, hand: TrackedHand, frame_id: str, stamp_ns: int) -> None:
        estimate = hand.estimate
        for publishers, build in (
            (self._wrist, builders.wrist_pose),
            (self._wrist_stamped, builders.wrist_pose_stamped),
            (self._joints, builders.joint_poses),
        ):
            if _wanted(publishers[side]):
                publishers[side].publish(build(estimate, frame_id, stamp_ns))

    def _publish_view(self, hands: HandSet, index: int, frame: Frame, live: LiveSettings) -> None:
        name, camera = frame.camera.name, frame.camera
        if _wanted(self._observations[name]):
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
        raw, small = _wanted(self._overlays[name]), _wanted(self._compressed[name])
        if not (raw or small):
            return
        from hand_mesh_ros.render.overlay import draw_hands

        drawn = draw_hands(
            frame.image, camera, hands.hands, self._faces, alpha=live.overlay_alpha
        )
        if raw:
            self._overlays[name].publish(encode_image(drawn, frame.stamp_ns, camera.frame_id))
        if small:
            self._compressed[name].publish(
                encode_compressed(drawn, frame.stamp_ns, camera.frame_id)
            )

    def _publisher(self, kind: Any, topic: str, qos: QoSProfile) -> Any:
        publisher = self._node.create_publisher(kind, topic, qos)
        self._publishers.append(publisher)
        return publisher


def _wanted(publisher: Any) -> bool:
    return bool(publisher.get_subscription_count() > 0)
