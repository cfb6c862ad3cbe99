"""hand_edge_node: a camera's images in, what it sees of hands out, in a few kB a frame.

A managed node for a computer beside one or more cameras. Where the cameras stand, it need not know:
a hand_mesh_node elsewhere makes hands of the observations.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.qos import QoSProfile, ReliabilityPolicy

from hand_mesh_ros.msg import HandObservations
from hand_mesh_ros.perception.edge import EdgePipeline
from hand_mesh_ros.ros import builders
from hand_mesh_ros.ros.diagnostics import Statistics, camera_status, pipeline_status
from hand_mesh_ros.ros.edge_settings import EDGE_SPECS, EdgeNodeSettings, load_edge_settings
from hand_mesh_ros.ros.inputs import CameraInputs, RawSet
from hand_mesh_ros.ros.managed_node import ManagedNode
from hand_mesh_ros.ros.running import run_node
from hand_mesh_ros.ros.worker import Worker
from hand_mesh_ros.types import Frame, View


class HandEdgeNode(ManagedNode):
    """See the module. ``autostart`` takes it to active without a lifecycle manager.

    A frame without hands gives an empty message: who fuses knows then that the camera lives. A
    camera that nobody listens to is not looked at.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__("hand_edge_node", EDGE_SPECS, **options)
        self._settings: EdgeNodeSettings | None = None
        self._pipeline: EdgePipeline | None = None
        self._cameras: CameraInputs | None = None
        self._observations: dict[str, Any] = {}
        self._statistics = Statistics()

    def load(self) -> None:
        """Read the parameters, load the networks, make the publishers."""
        from hand_mesh_ros.perception.build import build_observer

        self._settings = settings = load_edge_settings(self)
        observer = build_observer(
            runtime=settings.runtime,
            device=settings.device,
            num_threads=settings.num_threads,
            max_hands=settings.edge.max_hands,
            settings=settings.observe,
        )
        self._pipeline = EdgePipeline(observer, settings.edge)
        # Depth 1: observations that waited are not worth sending when newer ones are there.
        policy = ReliabilityPolicy.RELIABLE if settings.reliable else ReliabilityPolicy.BEST_EFFORT
        qos = QoSProfile(depth=1, reliability=policy)
        for camera in settings.cameras:
            topic = f"~/observations/{camera.name}"
            self._observations[camera.name] = self.create_publisher(HandObservations, topic, qos)

    def open(self, worker: Worker[RawSet]) -> CameraInputs:
        """Subscribe to the cameras."""
        settings = self._settings
        assert settings is not None
        self._cameras = inputs = CameraInputs(
            self,
            settings.cameras,
            settings.sync,
            "",  # each camera's own frame: no transforms are needed
            self.complain,
            worker.put,
            lambda: None,  # the pipeline sees for itself that stamps went back
        )
        topics = ", ".join(inputs.topic(i) for i in range(len(settings.cameras)))
        self.get_logger().info(f"active: cameras {topics}")
        return inputs

    def stopped(self) -> None:
        """Nothing comes any more."""
        self._cameras = None

    def release(self) -> None:
        """Free networks and publishers."""
        for publisher in self._observations.values():
            self.destroy_publisher(publisher)
        self._observations.clear()
        self._pipeline = self._settings = None

    def work(self, item: RawSet) -> None:
        """One raw frame set to published observations, of the cameras that someone listens to."""
        inputs, pipeline, settings = self._cameras, self._pipeline, self._settings
        if inputs is None or pipeline is None or settings is None:
            return
        heard = {i: m for i, m in item.items() if self._heard(settings.cameras[i].name)}
        frames = inputs.frame_set(heard) if heard else None
        if frames is None:
            return
        start = time.perf_counter()
        seen = pipeline.process(frames.frames)
        seconds = time.perf_counter() - start
        for frame, views in zip(frames.frames, seen, strict=True):
            self._publish(frame, views)
        self._statistics.sets += 1
        self._statistics.hands += sum(map(len, seen))
        self._statistics.latency = self._age(frames.stamp_ns)
        self._statistics.stages = {"observe": seconds}

    def _heard(self, camera: str) -> bool:
        return bool(self._observations[camera].get_subscription_count() > 0)

    def _publish(self, frame: Frame, views: Sequence[tuple[View, int]]) -> None:
        camera = frame.camera
        size = camera.width, camera.height
        self._observations[camera.name].publish(
            builders.observations(camera.name, size, views, camera.frame_id, frame.stamp_ns)
        )

    def _age(self, stamp_ns: int) -> float:
        return float((self.get_clock().now().nanoseconds - stamp_ns) * 1e-9)

    def describe(self, item: RawSet) -> str:
        """The capture times of a frame set."""
        return f"({self._cameras.describe(item)})" if self._cameras is not None else ""

    def statuses(self) -> list[DiagnosticStatus]:
        """The node's status and one a camera."""
        inputs, worker, name = self._cameras, self.worker, self.get_name()
        if inputs is None or worker is None:
            return []
        cameras = inputs.states(self._age, {})
        whole = pipeline_status(
            name, self._statistics, cameras, dict(inputs.sets.counters),
            failures=self.failures, waiting=worker.waiting, skipped=worker.dropped,
        )  # fmt: skip
        return [whole, *(camera_status(name, camera) for camera in cameras)]


def main(args: list[str] | None = None) -> None:
    """Run the node until it is told to stop."""
    run_node(HandEdgeNode, args, started=HandEdgeNode.autostart)


if __name__ == "__main__":
    main()
