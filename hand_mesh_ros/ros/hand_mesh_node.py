"""hand_mesh_node: camera topics in, hands out.

A managed (lifecycle) node. Callbacks only store messages; one worker thread decodes the newest
frame set, runs the pipeline and publishes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.parameter import Parameter
from std_srvs.srv import SetBool, Trigger

from hand_mesh_ros.hand.compiled import warm_up
from hand_mesh_ros.perception.pipeline import HandPipeline
from hand_mesh_ros.ros.calibrations import Calibrations
from hand_mesh_ros.ros.diagnostics import Statistics, camera_status, pipeline_status
from hand_mesh_ros.ros.inputs import CameraInputs, RawSet
from hand_mesh_ros.ros.managed_node import ManagedNode
from hand_mesh_ros.ros.node_specs import NODE_SPECS
from hand_mesh_ros.ros.outputs import HandOutputs
from hand_mesh_ros.ros.parameters import refuse_bad
from hand_mesh_ros.ros.running import run_node
from hand_mesh_ros.ros.settings import LiveSettings, NodeSettings, load_settings
from hand_mesh_ros.ros.worker import Worker

_SPECS = {spec.name: spec for spec in NODE_SPECS}
_LIVE = {"tf.prefix": "tf_prefix", "overlay.alpha": "overlay_alpha"} | {
    "marker.lifetime": "marker_lifetime",
    "marker.texture": "marker_texture",
    "mesh.texture": "mesh_texture",
    "calibrate_shape.frames": "calibration_frames",
    "calibrate_shape.timeout": "calibration_timeout",
    "calibrate_cell.sets": "cell_sets",
    "calibrate_cell.timeout": "cell_timeout",
}


class HandMeshNode(ManagedNode):
    """See the module. ``autostart`` takes it to active without a lifecycle manager."""

    def __init__(self, **options: Any) -> None:
        super().__init__("hand_mesh_node", NODE_SPECS, **options)
        self.add_on_set_parameters_callback(self._on_set_parameters)
        self._settings: NodeSettings | None = None
        self._pipeline: HandPipeline | None = None
        self._calibrations: Calibrations | None = None
        self._outputs: HandOutputs | None = None
        self._cameras: CameraInputs | None = None
        self._enabled, self._reset_wanted = True, False
        self._statistics = Statistics()
        self._offered = [  # not `_services`: rclpy's Node keeps its own there
            self.create_service(Trigger, "~/reset", self._on_reset),
            self.create_service(Trigger, "~/calibrate_shape", self._on_calibrate_shape),
            self.create_service(Trigger, "~/calibrate_cell", self._on_calibrate_cell),
            self.create_service(SetBool, "~/set_enabled", self._on_set_enabled),
        ]

    # Lifecycle -----------------------------------------------------------------------------

    def load(self) -> None:
        """Read the parameters, load the networks and the hand model."""
        self._settings = settings = load_settings(self)
        known = Path(settings.shape_file).expanduser() if settings.shape_file else None
        if known is not None and not known.is_file():
            self.get_logger().warning(
                f"parameter shape_file: there is no {known} yet; hands have no calibrated "
                "shape until ~/calibrate_shape has written it"
            )
        self._pipeline, models = _build(settings, known if known and known.is_file() else None)
        warm_up()  # here, so that no hand waits for it
        self._calibrations = Calibrations(settings, self._pipeline, models, self.get_logger())
        names = tuple(camera.name for camera in settings.cameras)
        self._outputs = HandOutputs(self, names, models, settings.texture)

    def open(self, worker: Worker[RawSet]) -> CameraInputs:
        """Subscribe to the cameras."""
        settings = self._settings
        assert settings is not None
        self._cameras = inputs = CameraInputs(
            self,
            settings.cameras,
            settings.sync,
            settings.output_frame,
            self.complain,
            worker.put,
            self._on_clock_jump,
        )
        topics = ", ".join(inputs.topic(i) for i in range(len(settings.cameras)))
        self.get_logger().info(f"active: backend {settings.backend}, cameras {topics}")
        return inputs

    def stopped(self) -> None:
        """A calibration ends with the subscriptions."""
        self._cameras = None
        if self._calibrations is not None:
            self._calibrations.cancel()

    def release(self) -> None:
        """Free networks, hand model and publishers."""
        if self._outputs is not None:
            self._outputs.close()
        self._outputs = self._pipeline = self._calibrations = self._settings = None

    # Work ----------------------------------------------------------------------------------

    def work(self, item: RawSet) -> None:
        """One raw frame set to published hands."""
        inputs, outputs, pipeline = self._cameras, self._outputs, self._pipeline
        settings = self._settings
        if not (inputs and outputs and pipeline and settings and self._enabled):
            return
        if self._reset_wanted:
            self._reset_wanted = False
            pipeline.reset()
        clock = [time.perf_counter()]
        frames = inputs.frame_set(item)
        if frames is None:
            return
        clock.append(time.perf_counter())
        hands = pipeline.process(frames, self._age if settings.predict_to_now else None)
        frame_id = settings.output_frame or frames.frames[0].camera.frame_id
        clock.append(time.perf_counter())
        outputs.publish(hands, frames, frame_id, settings.live, self._age)
        clock.append(time.perf_counter())
        stages = {"decode": clock[1] - clock[0], **pipeline.timings, "publish": clock[3] - clock[2]}
        self._statistics.add(hands, self._age(hands.stamp_ns), stages)
        if self._calibrations is not None:  # after what a robot waits for
            self._calibrations.add(hands)

    def describe(self, item: RawSet) -> str:
        """The capture times of a frame set."""
        inputs = self._cameras
        return f"({inputs.describe(item)})" if inputs is not None else ""

    def _age(self, stamp_ns: int) -> float:
        return float((self.get_clock().now().nanoseconds - stamp_ns) * 1e-9)

    def _on_clock_jump(self) -> None:
        self.get_logger().warning("capture times went back: tracks and waiting frames are reset")
        self._reset_wanted = True

    # Services, parameters, diagnostics -----------------------------------------------------

    def _on_reset(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._reset_wanted = True
        response.success, response.message = True, "tracks are forgotten at the next frame set"
        return response

    def _on_calibrate_shape(
        self, _: Trigger.Request, response: Trigger.Response
    ) -> Trigger.Response:
        return self._begin(response, Calibrations.begin_shape)

    def _on_calibrate_cell(
        self, _: Trigger.Request, response: Trigger.Response
    ) -> Trigger.Response:
        return self._begin(response, Calibrations.begin_cell)

    def _begin(
        self,
        response: Trigger.Response,
        begin: Callable[[Calibrations, LiveSettings], tuple[bool, str]],
    ) -> Trigger.Response:
        settings = self._settings
        if self._calibrations is None or not self.active or settings is None:
            response.success, response.message = False, "the node is not active"
        else:
            response.success, response.message = begin(self._calibrations, settings.live)
        return response

    def _on_set_enabled(
        self, request: SetBool.Request, response: SetBool.Response
    ) -> SetBool.Response:
        self._enabled = bool(request.data)
        response.success = True
        response.message = "processing" if self._enabled else "paused"
        return response

    def _on_set_parameters(self, changed: Iterable[Parameter]) -> Any:
        changed = list(changed)
        result = refuse_bad(_SPECS, changed)
        live = {
            _LIVE.get(p.name, p.name): p.value
            for p in changed
            if p.name in _SPECS and _SPECS[p.name].live
        }
        if result.successful and live and self._settings is not None:
            settings = self._settings
            self._settings = replace(settings, live=replace(settings.live, **live))
        return result

    def statuses(self) -> list[DiagnosticStatus]:
        """The pipeline's status and one a camera."""
        calibrations = self._calibrations
        if calibrations is not None:
            calibrations.check()
        inputs, settings, worker = self._cameras, self._settings, self.worker
        if inputs is None or settings is None or worker is None or calibrations is None:
            return []
        moved = calibrations.moved()
        outliers = self._pipeline.outliers if self._pipeline is not None else {}
        cameras = [
            replace(
                camera, moved=moved.get(camera.name, ""), contradicted=outliers.get(camera.name, 0)
            )
            for camera in inputs.states(self._age, self._statistics.reprojection_px)
        ]
        name, counters = self.get_name(), dict(inputs.sets.counters)
        whole = pipeline_status(
            name, self._statistics, cameras, counters,
            failures=self.failures, waiting=worker.waiting, skipped=worker.dropped,
            trouble=calibrations.other_person(),
        )  # fmt: skip
        return [whole, *(camera_status(name, camera) for camera in cameras)]


def _build(
    settings: NodeSettings, shape: Path | None
) -> tuple[HandPipeline, dict[Any, Any]]:
    """The pipeline and the hand models of both sides that the settings ask for."""
    from hand_mesh_ros.perception.build import build_pipeline

    return build_pipeline(
        backend=settings.backend,
        network=settings.network,
        hand_model=Path(settings.hand_model) if settings.hand_model else None,
        runtime=settings.runtime,
        device=settings.device,
        num_threads=settings.num_threads,
        observe=settings.observe,
        pipeline=settings.pipeline,
        shape=shape,
        images=not all(camera.observations_topic for camera in settings.cameras),
    )


def main(args: list[str] | None = None) -> None:
    """Run the node until it is told to stop."""
    run_node(HandMeshNode, args, started=HandMeshNode.autostart)


if __name__ == "__main__":
    main()
