"""hand_mesh_node: camera topics in, hands out.

A managed (lifecycle) node. Callbacks only store messages; one worker thread decodes the newest
frame set, runs the pipeline and publishes.
"""

from __future__ import annotations

import time
import traceback
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from std_srvs.srv import SetBool, Trigger

from hand_mesh_ros.networks.assets import home
from hand_mesh_ros.perception.pipeline import HandPipeline
from hand_mesh_ros.ros.diagnostics import CameraRate, Statistics, diagnostics
from hand_mesh_ros.ros.inputs import CameraInputs, RawSet
from hand_mesh_ros.ros.outputs import HandOutputs
from hand_mesh_ros.ros.parameters import declare, refuse_bad
from hand_mesh_ros.ros.running import run_node
from hand_mesh_ros.ros.settings import NODE_SPECS, NodeSettings, load_settings
from hand_mesh_ros.ros.shape_service import ShapeCalibration
from hand_mesh_ros.ros.worker import Worker

_QUIET = 5.0  # seconds between two equal complaints
_Result = TransitionCallbackReturn
_SPECS = {spec.name: spec for spec in NODE_SPECS}
_LIVE = {"tf.prefix": "tf_prefix", "overlay.alpha": "overlay_alpha"} | {
    "marker.lifetime": "marker_lifetime",
    "calibrate_shape.frames": "calibration_frames",
    "calibrate_shape.timeout": "calibration_timeout",
}


class HandMeshNode(LifecycleNode):
    """See the module. ``autostart`` takes it to active without a lifecycle manager."""

    def __init__(self, **options: Any) -> None:
        super().__init__("hand_mesh_node", **options)
        declare(self, NODE_SPECS)
        self.add_on_set_parameters_callback(self._on_set_parameters)
        self._settings: NodeSettings | None = None
        self._pipeline: HandPipeline | None = None
        self._calibration: ShapeCalibration | None = None
        self._outputs: HandOutputs | None = None
        self._inputs: CameraInputs | None = None
        self._worker: Worker[RawSet] | None = None
        self._enabled, self._reset_wanted = True, False
        self._complaints: dict[str, float] = {}
        self._statistics = Statistics()
        self._received_before: Counter[str] = Counter()
        self._offered = [  # not `_services`: rclpy's Node keeps its own there
            self.create_service(Trigger, "~/reset", self._on_reset),
            self.create_service(Trigger, "~/calibrate_shape", self._on_calibrate_shape),
            self.create_service(SetBool, "~/set_enabled", self._on_set_enabled),
        ]
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 5)
        self._diagnostics_timer = self.create_timer(1.0, self._publish_diagnostics)

    # Lifecycle -----------------------------------------------------------------------------

    def autostart(self) -> None:
        """Configure and activate if the parameter says so; raises RuntimeError if that fails."""
        if not self.get_parameter("autostart").value:
            return
        for step, transition in (
            ("configure", self.trigger_configure),
            ("activate", self.trigger_activate),
        ):
            if transition() != _Result.SUCCESS:
                raise RuntimeError(f"could not {step}; the reason is in the log above")

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Read the parameters, load the networks and the hand model."""
        try:
            self._settings = settings = load_settings(self)
            known = Path(settings.shape_file).expanduser() if settings.shape_file else None
            if known is not None and not known.is_file():
                self.get_logger().warning(
                    f"parameter shape_file: there is no {known} yet; hands have no calibrated "
                    "shape until ~/calibrate_shape has written it"
                )
            self._pipeline, models = _build(settings, known if known and known.is_file() else None)
            self._calibration = ShapeCalibration(
                self._pipeline, models, known or home() / "shape.json", self.get_logger()
            )
            names = tuple(camera.name for camera in settings.cameras)
            self._outputs = HandOutputs(self, names, models)
        except Exception as error:  # rclpy would turn it into a silent ERROR transition
            self.get_logger().error(f"cannot configure: {error}")
            self.get_logger().debug(traceback.format_exc())
            self._release()
            return _Result.FAILURE
        return _Result.SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe to the cameras and start the worker."""
        settings = self._settings
        assert settings is not None
        self._worker = Worker(self._process, self._failed, settings.queue)
        self._inputs = CameraInputs(
            self,
            settings.cameras,
            settings.sync,
            settings.output_frame,
            self._complain,
            self._worker.put,
            self._on_clock_jump,
        )
        topics = ", ".join(self._inputs.topic(i) for i in range(len(settings.cameras)))
        self.get_logger().info(f"active: backend {settings.backend}, cameras {topics}")
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe and stop the worker; what is loaded stays loaded."""
        self._stop()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free networks, hand model and publishers."""
        self._release()
        return _Result.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop and free everything."""
        self._stop()
        self._release()
        return _Result.SUCCESS

    def _stop(self) -> None:
        if self._inputs is not None:
            self._inputs.close()
        if self._worker is not None:
            self._worker.stop()
        if self._calibration is not None:
            self._calibration.cancel()
        self._inputs = self._worker = None

    def _release(self) -> None:
        if self._outputs is not None:
            self._outputs.close()
        self._outputs = self._pipeline = self._calibration = self._settings = None

    # Work ----------------------------------------------------------------------------------

    def _process(self, raw: RawSet) -> None:
        inputs, outputs, pipeline = self._inputs, self._outputs, self._pipeline
        settings = self._settings
        if not (inputs and outputs and pipeline and settings and self._enabled):
            return
        if self._reset_wanted:
            self._reset_wanted = False
            pipeline.reset()
        frames = inputs.frame_set(raw)
        if frames is None:
            return
        hands = pipeline.process(frames)
        if self._calibration is not None:
            self._calibration.add(hands)
        frame_id = settings.output_frame or frames.frames[0].camera.frame_id
        outputs.publish(hands, frames, frame_id, settings.live, self._age)
        statistics = self._statistics
        statistics.sets += 1
        statistics.hands += len(hands.hands)
        statistics.latency = self._age(hands.stamp_ns)
        statistics.stages = dict(pipeline.timings)

    def _failed(self, error: Exception) -> None:
        if not self.context.ok():  # interrupted in the middle of publishing
            return
        self._statistics.failures += 1
        trace = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        self._complain(f"failure {type(error).__name__}", f"a frame set failed: {error}\n{trace}")

    def _age(self, stamp_ns: int) -> float:
        return float((self.get_clock().now().nanoseconds - stamp_ns) * 1e-9)

    def _complain(self, key: str, text: str) -> None:
        """Log an error at most once in a while for each key."""
        now = time.monotonic()
        if now - self._complaints.get(key, -_QUIET) >= _QUIET:
            self._complaints[key] = now
            self.get_logger().error(text)

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
        settings = self._settings
        if self._calibration is None or self._worker is None or settings is None:
            response.success, response.message = False, "the node is not active"
        else:
            response.success, response.message = self._calibration.begin(
                settings.live.calibration_frames, settings.live.calibration_timeout
            )
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

    def _publish_diagnostics(self) -> None:
        if self._calibration is not None:
            self._calibration.check()  # time passes without frames as well
        inputs, settings = self._inputs, self._settings
        if inputs is None or settings is None or self._worker is None:
            return
        received = Counter(inputs.received)
        rates = [
            CameraRate(
                camera.name,
                float(received[camera.name] - self._received_before[camera.name]),
                inputs.refused[camera.name],
                inputs.topic(index),
            )
            for index, camera in enumerate(settings.cameras)
        ]
        self._received_before = received
        self._statistics.dropped_sets = self._worker.dropped
        self._diagnostics.publish(
            diagnostics(
                self.get_name(),
                self.get_clock().now().nanoseconds,
                self._statistics,
                inputs.assembler.counters,
                rates,
            )
        )


def _build(
    settings: NodeSettings, shape: Path | None
) -> tuple[HandPipeline, dict[Any, Any]]:
    """The pipeline and the hand models of both sides that the settings ask for."""
    from hand_mesh_ros.perception.build import build_pipeline

    return build_pipeline(
        backend=settings.backend,
        hand_model=Path(settings.hand_model) if settings.hand_model else None,
        runtime=settings.runtime,
        device=settings.device,
        num_threads=settings.num_threads,
        observe=settings.observe,
        pipeline=settings.pipeline,
        shape=shape,
    )


def main(args: list[str] | None = None) -> None:
    """Run the node until it is told to stop."""
    run_node(HandMeshNode, args, started=HandMeshNode.autostart)


if __name__ == "__main__":
    main()
