"""N camera topics to frame sets: callbacks store messages, decoding happens where it is needed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from tf2_msgs.msg import TFMessage

from hand_mesh_ros.data.pixels import BadImage
from hand_mesh_ros.geometry.intrinsics import BadCameraInfo
from hand_mesh_ros.msg import HandObservations
from hand_mesh_ros.perception.set_dispatch import SetDispatch
from hand_mesh_ros.ros.camera_info import check_size
from hand_mesh_ros.ros.camera_models import CameraModels, Complain
from hand_mesh_ros.ros.capture_clocks import CaptureClocks
from hand_mesh_ros.ros.depth_inputs import DepthStream
from hand_mesh_ros.ros.diagnostics import CameraState
from hand_mesh_ros.ros.images import decode_compressed, decode_depth, decode_image, nanoseconds
from hand_mesh_ros.ros.readers import BadObservations, views
from hand_mesh_ros.ros.settings import CameraSettings, Sync
from hand_mesh_ros.ros.sync_sources import MessageSource, SourceConnections, make_sets
from hand_mesh_ros.types import Camera, DepthArray, Frame, FrameSet

RawSet = dict[int, Any]
_NO_IMAGE = np.zeros((0, 0, 3), dtype=np.uint8)


class CameraInputs:
    """Subscriptions of all cameras (images, or what edge nodes saw in them) and /tf_static.

    ``complain(key, text)`` reports what is refused, throttled by key; ``on_sets`` gets raw frame
    sets (camera index -> message) as they close, ``on_jump`` is told of a clock that went back.
    ``sources``, one a camera, are message_filters' filters that take the place of the subscriptions
    to images. ``ValueError`` for a ``sync.policy`` that cannot be had here.
    """

    def __init__(
        self,
        node: Node,
        cameras: Sequence[CameraSettings],
        sync: Sync,
        output_frame: str,
        complain: Complain,
        on_sets: Callable[[list[RawSet]], None],
        on_jump: Callable[[], None],
        sources: Sequence[MessageSource] | None = None,
    ) -> None:
        self._node, self._cameras, self._complain = node, tuple(cameras), complain
        self._offsets_ns = [round(camera.time_offset * 1e9) for camera in cameras]
        self.sets = make_sets(sync.policy, len(cameras), sync.settings, self._offsets_ns)
        self._dispatch = SetDispatch(
            self.sets,
            lambda found: on_sets([found]),
            on_jump,
            lambda error: complain(f"sets {error}", f"a frame set was lost: {error}"),
        )
        self.received: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self._received_before: Counter[str] = Counter()
        self.newest_ns = [0] * len(cameras)
        self.clocks = CaptureClocks(len(cameras))
        self._subscriptions: list[Any] = []
        self._topics = [c.image_topic for c in cameras]
        self._depths = [DepthStream() for _ in cameras]
        self._depth_topics = [
            node.resolve_topic_name(c.depth_topic) if c.depth_topic else "" for c in cameras
        ]
        self._info_topics = [node.resolve_topic_name(c.info_topic) for c in cameras]
        self._models = CameraModels(cameras, self._info_topics, output_frame, complain)
        for index, camera in enumerate(cameras):
            self._subscribe(index, camera, images=sources is None)
        self._connections = SourceConnections(sources or (), self._on_image)
        latched = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._subscriptions.append(
            node.create_subscription(TFMessage, "/tf_static", self._models.on_transforms, latched)
        )
        # By the same clock as arrivals, whatever simulated time does.
        period = max(sync.settings.max_wait / 4, 0.005)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = node.create_timer(period, self._dispatch.poll, clock=steady)

    def close(self) -> None:
        """End every subscription."""
        self._connections.close()
        self._node.destroy_timer(self._timer)
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions.clear()

    def topic(self, index: int) -> str:
        """The topic of a camera's images or observations, resolved."""
        return self._topics[index]

    def states(
        self, age: Callable[[int], float], reprojection_px: Mapping[str, float]
    ) -> list[CameraState]:
        """What there is to say of each camera; called once a second, which its rate counts on."""
        received, before = Counter(self.received), self._received_before
        self._received_before = received
        return [
            CameraState(
                name=camera.name,
                topic=self.topic(index),
                rate=float(received[camera.name] - before[camera.name]),
                refused=self.refused[camera.name],
                age=age(self.newest_ns[index]) if self.newest_ns[index] else np.nan,
                reprojection_px=reprojection_px.get(camera.name, np.nan),
                dropped=dict(self.sets.stream_counters[index]),
                clock=self.clocks.trouble(index) if camera.observations_topic else "",
            )
            for index, camera in enumerate(self._cameras)
        ]

    def describe(self, raw: RawSet) -> str:
        """Cameras and capture times of a raw set, for the log."""
        return ", ".join(
            f"{self._cameras[i].name} at {nanoseconds(raw[i].header.stamp) * 1e-9:.6f}"
            for i in sorted(raw)
        )

    def frame_set(self, raw: RawSet) -> FrameSet | None:
        """Decode a raw set; bad frames are reported and left out, None if nothing is left."""
        frames = [self._frame(index, raw[index]) for index in sorted(raw)]
        good = tuple(frame for frame in frames if frame is not None)
        return FrameSet(good) if good else None

    def _subscribe(self, index: int, camera: CameraSettings, images: bool) -> None:
        reliable = ReliabilityPolicy.RELIABLE if camera.reliable else ReliabilityPolicy.BEST_EFFORT
        qos = QoSProfile(depth=5, reliability=reliable)
        # A remapped topic must be resolved before the transport's suffix is put to it.
        topic = self._node.resolve_topic_name(camera.observations_topic or camera.image_topic)
        kind: Any = CompressedImage if camera.compressed else Image
        self._topics[index] = f"{topic}/compressed" if camera.compressed else topic
        if camera.observations_topic:
            kind, self._topics[index] = HandObservations, topic
        subscribe = self._node.create_subscription
        if images:
            image = partial(self._on_image, index)
            self._subscriptions.append(subscribe(kind, self._topics[index], image, qos))
        info = partial(self._models.on_info, index)
        self._subscriptions.append(subscribe(CameraInfo, self._info_topics[index], info, qos))
        depth_topic = self._depth_topics[index]
        if depth_topic and not camera.observations_topic:
            self._subscriptions.append(subscribe(Image, depth_topic, self._depths[index].add, qos))

    def _on_image(self, index: int, message: Any) -> None:
        name, topic = self._cameras[index].name, self._topics[index]
        self.received[name] += 1
        stamp_ns = nanoseconds(message.header.stamp)
        if stamp_ns == 0:
            self.refused[name] += 1
            self._complain(f"{topic} stamp", f"{topic}: image without a stamp (zero); the driver "
                           "must set header.stamp to the capture time. The image is ignored")
            return
        captured_ns = stamp_ns + self._offsets_ns[index]
        self.newest_ns[index] = captured_ns
        self.clocks.note(index, captured_ns, self._node.get_clock().now().nanoseconds)
        if self._cameras[index].observations_topic and self._astray(index):
            self.refused[name] += 1
            return
        self._depths[index].colour(stamp_ns)
        self._dispatch.add(index, stamp_ns, message)

    def _astray(self, index: int) -> bool:
        """Whether another machine's clock is so far off that its frames can make no set.

        They must not reach the others: by their stamps those would be the ones that come late.
        """
        other = self.clocks.astray(index)
        if other is None:
            return False
        topic, name = self._topics[index], self._cameras[other].name
        apart = self.clocks.offset(index) - self.clocks.offset(other)
        self._complain(
            f"{topic} clock",
            f"{topic}: {self.clocks.trouble(index)}; they are {apart:+.3f} s off those of camera "
            f"{name}. The observations are ignored",
        )
        return True

    def _frame(self, index: int, message: Any) -> Frame | None:
        settings, topic = self._cameras[index], self._topics[index]
        stamp_ns = nanoseconds(message.header.stamp) + self._offsets_ns[index]
        try:
            camera = self._models.camera(index, message.header.frame_id, topic)
            if camera is None:
                self.refused[settings.name] += 1
                return None
            if settings.observations_topic:
                seen = views(message, camera, topic)
                return Frame(camera, stamp_ns, _NO_IMAGE, observed=seen)
            decode = decode_compressed if settings.compressed else decode_image
            image = decode(message, topic)
            check_size(camera, image, topic, self._info_topics[index])
        except (BadImage, BadCameraInfo, BadObservations) as error:
            self.refused[settings.name] += 1
            self._complain(f"{topic} {_cause(str(error))}", str(error))
            return None
        return Frame(camera, stamp_ns, image, self._depth(index, message, camera))

    def _depth(self, index: int, colour: Any, camera: Camera) -> DepthArray | None:
        """The depth image of a colour image, or None; what is wrong with it is complained of."""
        settings, topic = self._cameras[index], self._depth_topics[index]
        if not topic:
            return None
        message = self._depths[index].nearest(nanoseconds(colour.header.stamp))
        if message is None:
            return None
        try:
            depth = decode_depth(message, topic)
            if depth.shape != (camera.height, camera.width):
                raise BadImage(
                    f"{topic}: depth of {message.width}x{message.height}, but {self._topics[index]}"
                    f" is {camera.width}x{camera.height}; publish depth aligned to colour"
                )
            frames = message.header.frame_id, colour.header.frame_id
            # Where the user names the frame, headers are known to be wrong.
            if not settings.frame_id and frames[0] != frames[1]:
                raise BadImage(
                    f"{topic}: depth in frame {frames[0]!r}, but {self._topics[index]} is in "
                    f"{frames[1]!r}; publish depth aligned to colour, or set camera."
                    f"{settings.name}.frame_id if it is and a header is wrong"
                )
        except BadImage as error:
            self._complain(f"{topic} {_cause(str(error))}", f"{error}. Depth is not used")
            return None
        return depth

def _cause(complaint: str) -> str:
    """A complaint without its numbers and bytes: what is the same from frame to frame."""
    return re.sub(r"\b[0-9a-f]{2}\b|[\d.+-]+|nan|inf", "#", complaint)
