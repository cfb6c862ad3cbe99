"""camera_cell_node: a recording, or a synthetic scene, as real camera topics.

Publishes for every camera ``<name>/image_raw`` (and ``/compressed``), ``<name>/camera_info``, and
its static transform, with the recording's own capture times; for a synthetic scene also the true
hands on ``~/ground_truth``, and with ``synthetic.depth`` aligned depth images on
``<name>/depth/image_raw``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import rclpy
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from tf2_msgs.msg import TFMessage

from hand_mesh_ros.data.recordings import BadRecording, Recording, open_recording
from hand_mesh_ros.geometry.rotations import invert_rigid
from hand_mesh_ros.msg import HandArray
from hand_mesh_ros.render.depth_sensor import DepthSensor
from hand_mesh_ros.render.synthetic import SyntheticCell
from hand_mesh_ros.ros import builders
from hand_mesh_ros.ros.camera_info import camera_info_message
from hand_mesh_ros.ros.images import encode_compressed, encode_depth, encode_image, nanoseconds
from hand_mesh_ros.ros.parameters import Spec, declare, read
from hand_mesh_ros.ros.running import was_interrupted
from hand_mesh_ros.types import Frame, FrameSet, HandSet, TrackedHand

CELL_SPECS = (
    Spec("source", "synthetic", "'synthetic', or the path of a recording or bag."),
    Spec("pace", "realtime", "When the next frame set comes.", choices=("realtime", "lockstep")),
    Spec("rate", 1.0, "Speed of playback, with pace realtime.", bounds=(0.01, 100.0)),
    Spec("loop", False, "Begin again at the end; capture times jump back."),
    Spec("world_frame", "world", "Parent of the cameras' static transforms."),
    Spec("transport", "raw", "What images are published.", choices=("raw", "compressed", "both")),
    Spec("wait_for", "hand_mesh_node/hands", "With pace lockstep: wait for this HandArray topic."),
    Spec("wait_timeout", 10.0, "With pace lockstep: longest wait for a set, s.", (0.1, 600.0)),
    Spec("start_timeout", 60.0, "Longest wait for subscribers at the start, s.", (0.0, 3600.0)),
    Spec("info_subscribers", 1, "Wait for so many subscribers of each camera_info.", (1, 16)),
    Spec("start_delay", 0.5, "Wait after the subscribers are there, s.", (0.0, 60.0)),
    Spec("unit_m", 0.0, "Metres in one unit of a rot_trans calibration; 0: its default."),
    Spec("synthetic.cameras", 4, "Cameras of the synthetic scene.", (1, 8)),
    Spec("synthetic.hands", ["right"], "Hands of the synthetic scene: left, right."),
    Spec("synthetic.seconds", 6.0, "Length of the synthetic scene, s.", (0.1, 3600.0)),
    Spec("synthetic.fps", 15.0, "Frame sets a second of the synthetic scene.", (1.0, 120.0)),
    Spec("synthetic.depth", False, "Publish depth of the synthetic scene, with noise and holes."),
    Spec("synthetic.seed", 0, "Seed of the synthetic scene.", (0, 2**31 - 1)),
)
_IMAGES = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
_LATCHED = QoSProfile(
    depth=1,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)


class CameraCellNode(Node):
    """Plays its source once (or for ever with ``loop``) when `play` is called."""

    def __init__(self, **options: Any) -> None:
        super().__init__("camera_cell_node", **options)
        declare(self, CELL_SPECS)
        self._values = read(self, CELL_SPECS)
        self._source = _open(self._values)
        raw = self._values["transport"] in ("raw", "both")
        small = self._values["transport"] in ("compressed", "both")
        make = self.create_publisher
        self._raw, self._compressed, self._infos, self._depths = {}, {}, {}, {}
        for camera in self._source.cameras:
            topic = f"{camera.name}/image_raw"
            if raw:
                self._raw[camera.name] = make(Image, topic, _IMAGES)
            if small:
                compressed = make(CompressedImage, f"{topic}/compressed", _IMAGES)
                self._compressed[camera.name] = compressed
            if isinstance(self._source, SyntheticCell) and self._source.sensor is not None:
                self._depths[camera.name] = make(Image, f"{camera.name}/depth/image_raw", _IMAGES)
            info = make(CameraInfo, f"{camera.name}/camera_info", _IMAGES)
            self._infos[camera.name] = info
        self._static = make(TFMessage, "/tf_static", _LATCHED)
        self._truth = None
        if isinstance(self._source, SyntheticCell):
            self._truth = make(HandArray, "~/ground_truth", _IMAGES)
        self._answered_ns = 0
        if self._values["pace"] == "lockstep":
            self.create_subscription(HandArray, self._values["wait_for"], self._on_answer, 50)

    def play(self) -> None:
        """Publish everything; raises ``TimeoutError`` if nobody subscribes in time."""
        self._publish_static()
        self._wait_for_subscribers()
        count = len(self._source)
        self.get_logger().info(
            f"playing {self._source.name}: {count} frame sets of {len(self._source.cameras)} "
            f"camera(s), pace {self._values['pace']}"
        )
        while rclpy.ok():
            self._play_once()
            if not self._values["loop"]:
                break
        # Give reliable transport the time to deliver the last set before the publishers go.
        self._spin_until(lambda: False, 1.0)
        self.get_logger().info("played to the end")

    def _play_once(self) -> None:
        start_wall, start_ns, unanswered = time.monotonic(), 0, 0
        self._answered_ns = 0
        for index, frames in enumerate(self._source):
            start_ns = start_ns or frames.stamp_ns
            if self._values["pace"] == "realtime":
                due = start_wall + (frames.stamp_ns - start_ns) * 1e-9 / self._values["rate"]
                self._spin_until(partial(_passed, due), 3600.0)
            if not rclpy.ok():
                return
            self._publish(index, frames)
            if self._values["pace"] == "lockstep":
                stamp = frames.stamp_ns
                timeout = self._values["wait_timeout"]
                if not self._spin_until(partial(self._answered, stamp), timeout):
                    unanswered += 1
                    self.get_logger().warning(
                        f"set {index}: no answer on {self._values['wait_for']} in {timeout:g} s"
                    )
        if unanswered:
            self.get_logger().warning(f"{unanswered} frame sets were not answered")

    def _publish(self, index: int, frames: FrameSet) -> None:
        for frame in frames.frames:
            self._publish_frame(frame)
        if self._truth is not None and isinstance(self._source, SyntheticCell):
            truth = self._source.ground_truth(index)
            hands = HandSet(
                frames.stamp_ns,
                frames.spread,
                tuple(camera.name for camera in frames.cameras),
                tuple(TrackedHand(i + 1, estimate) for i, estimate in enumerate(truth)),
            )
            frame_id = self._values["world_frame"]
            self._truth.publish(builders.hand_array(hands, frame_id, latency=0.0))

    def _publish_frame(self, frame: Frame) -> None:
        name, stamp, frame_id = frame.camera.name, frame.stamp_ns, frame.camera.frame_id
        # First, so that a subscriber that knows no camera or depth yet need not drop the image.
        self._infos[name].publish(camera_info_message(frame.camera, stamp))
        if name in self._depths and frame.depth is not None:
            self._depths[name].publish(encode_depth(frame.depth, stamp, frame_id))
        if name in self._raw:
            self._raw[name].publish(encode_image(frame.image, stamp, frame_id))
        if name in self._compressed:
            self._compressed[name].publish(encode_compressed(frame.image, stamp, frame_id))

    def _publish_static(self) -> None:
        world = self._values["world_frame"]
        now = self.get_clock().now().nanoseconds
        self._static.publish(
            TFMessage(
                transforms=[
                    builders.transform(invert_rigid(c.T_camera_world), world, c.frame_id, now)
                    for c in self._source.cameras
                ]
            )
        )

    def _wait_for_subscribers(self) -> None:
        publishers = {f"{k}/image_raw": v for k, v in self._raw.items()}
        publishers |= {f"{k}/image_raw/compressed": v for k, v in self._compressed.items()}
        if self._values["transport"] == "both":
            publishers = {k: v for k, v in publishers.items() if not k.endswith("compressed")}
        infos = {f"{k}/camera_info": v for k, v in self._infos.items()}
        needed = self._values["info_subscribers"]

        answers = self.resolve_topic_name(self._values["wait_for"])

        def missing() -> str:
            few = [t for t, p in publishers.items() if p.get_subscription_count() == 0]
            few += [t for t, p in infos.items() if p.get_subscription_count() < needed]
            if few:
                return f"nobody subscribes to {', '.join(few)}"
            if self._values["pace"] == "lockstep" and self.count_publishers(answers) == 0:
                return f"nobody publishes {answers}, which pace lockstep waits for,"
            return ""

        timeout = self._values["start_timeout"]
        if timeout > 0 and not self._spin_until(lambda: not missing(), timeout):
            raise TimeoutError(
                f"{missing()} after {timeout:g} s; set start_timeout to 0 to play regardless"
            )
        # A subscription seen here may still be matching there.
        self._spin_until(lambda: False, self._values["start_delay"])

    def _answered(self, stamp_ns: int) -> bool:
        return self._answered_ns >= stamp_ns

    def _on_answer(self, message: HandArray) -> None:
        self._answered_ns = max(self._answered_ns, nanoseconds(message.header.stamp))

    def _spin_until(self, done: Callable[[], bool], timeout: float) -> bool:
        end = time.monotonic() + timeout
        while not done():
            left = end - time.monotonic()
            if left <= 0 or not rclpy.ok():
                return False
            rclpy.spin_once(self, timeout_sec=min(left, 0.005))
        return True


def _passed(due: float) -> bool:
    return time.monotonic() >= due


def _open(values: dict[str, Any]) -> Recording:
    if values["source"] != "synthetic":
        unit = values["unit_m"] or None
        return open_recording(Path(values["source"]), unit_m=unit)
    return SyntheticCell(
        cameras=values["synthetic.cameras"],
        hands=tuple(values["synthetic.hands"]),
        seconds=values["synthetic.seconds"],
        fps=values["synthetic.fps"],
        seed=values["synthetic.seed"],
        depth=DepthSensor() if values["synthetic.depth"] else None,
    )


def main(args: list[str] | None = None) -> None:
    """Play the source and end."""
    rclpy.init(args=args)
    status = 0
    try:
        node = CameraCellNode()
        try:
            node.play()
        except TimeoutError as error:
            node.get_logger().fatal(str(error))
            status = 1
        finally:
            node.destroy_node()
    except (KeyboardInterrupt, ExternalShutdownException):
        status = 0
    except (BadRecording, ParameterException, ValueError, FileNotFoundError) as error:
        rclpy.logging.get_logger("camera_cell_node").fatal(str(error))
        status = 1
    except Exception as error:
        if not was_interrupted(error):
            raise
    finally:
        rclpy.try_shutdown()
    raise SystemExit(status)


if __name__ == "__main__":
    main()
