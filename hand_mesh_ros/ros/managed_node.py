"""A managed (lifecycle) node whose work is done by one thread, and that survives bad work.

What all nodes of the package share: autostart, the worker that always works on the newest item,
complaints that are not repeated with every frame, diagnostics once a second, and the way into the
lifecycle's error state when nothing works any more.
"""

from __future__ import annotations

import traceback
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Protocol

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

from hand_mesh_ros.ros.complaints import Complaints
from hand_mesh_ros.ros.diagnostics import status
from hand_mesh_ros.ros.images import header
from hand_mesh_ros.ros.parameters import Spec, declare
from hand_mesh_ros.ros.worker import Worker

_Result = TransitionCallbackReturn

COMMON_SPECS = (
    Spec("autostart", True, "Configure and activate at start, without a lifecycle manager."),
    Spec("queue", 1, "Frame sets that may wait for processing; older are dropped.", bounds=(1, 64)),
    Spec(
        "failures.limit",
        30,
        "Frame sets in a row that may fail before the node goes through the lifecycle's error "
        "state to unconfigured. 0: any number.",
        bounds=(0, 1_000_000),
    ),
    Spec(
        "failures.retry_after",
        10.0,
        "With autostart: seconds after which a node that failed so starts again. 0: never.",
        bounds=(0.0, 86_400.0),
    ),
)


class Closes(Protocol):
    """Subscriptions that can be ended."""

    def close(self) -> None: ...


class ManagedNode(LifecycleNode, ABC):
    """See the module. A node fills in `load`, `open`, `work`, `release` and `statuses`.

    `load`, `open` and `release` are called by transitions, in the executor's thread; `work` by the
    worker's. An exception in `load` or `open` is logged and fails the transition; one in `work`
    costs that item only.
    """

    def __init__(self, name: str, specs: Sequence[Spec], **options: Any) -> None:
        super().__init__(name, **options)
        declare(self, (*COMMON_SPECS, *specs))
        self.complain = Complaints(self.get_logger())
        self.worker: Worker[Any] | None = None
        self.failures = 0
        self._failed_in_a_row, self._broken = 0, ""
        self._inputs: Closes | None = None
        self._retry: Any = None
        self._fall = self.create_guard_condition(self._fall_into_error)
        # Simulated time may stand still or jump; what watches over the node must not.
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 5)
        self._timer = self.create_timer(1.0, self._publish_diagnostics, clock=self._steady)

    # What a node fills in ------------------------------------------------------------------

    @abstractmethod
    def load(self) -> None:
        """Read the parameters, load what is heavy, make the publishers."""

    @abstractmethod
    def open(self, worker: Worker[Any]) -> Closes:
        """Subscribe; what comes goes to ``worker.put``. Returns what ends the subscriptions."""

    @abstractmethod
    def work(self, item: Any) -> None:
        """Process one item, in the worker's thread."""

    @abstractmethod
    def release(self) -> None:
        """Free what `load` made; also called after a `load` that failed half-way."""

    @abstractmethod
    def statuses(self) -> list[DiagnosticStatus]:
        """What the active node says of itself, once a second; the first is the whole node's."""

    def describe(self, item: Any) -> str:
        """An item in a few words, for the log of its failure."""
        return ""

    def stopped(self) -> None:
        """Called when the node has been deactivated."""

    # Lifecycle -----------------------------------------------------------------------------

    @property
    def active(self) -> bool:
        """Whether the node is subscribed and working."""
        return self._inputs is not None

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
        """`load`."""
        self._cancel_retry()
        try:
            self.load()
        except Exception as error:  # rclpy would turn it into a silent ERROR transition
            self.get_logger().error(f"cannot configure: {error}")
            self.get_logger().debug(traceback.format_exc())
            self.release()
            return _Result.FAILURE
        self._broken = ""
        return _Result.SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start the worker and `open`."""
        self._failed_in_a_row = 0
        self.worker = Worker(self._work, self._failed, self.get_parameter("queue").value)
        try:
            self._inputs = self.open(self.worker)
        except Exception as error:
            self.get_logger().error(f"cannot activate: {error}")
            self._stop()
            return _Result.FAILURE
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe and stop the worker; what is loaded stays loaded."""
        self._stop()
        return _Result.ERROR if self._broken else super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """`release`."""
        self.release()
        return _Result.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop and free everything."""
        self._cancel_retry()
        self._stop()
        self.release()
        return _Result.SUCCESS

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free everything; unconfigured, the node may be configured again."""
        self._stop()
        self.release()
        return _Result.SUCCESS

    def _stop(self) -> None:
        if self._inputs is not None:
            self._inputs.close()
        if self.worker is not None:
            self.worker.stop()
        self._inputs = self.worker = None
        self.stopped()

    # Failure -------------------------------------------------------------------------------

    def _work(self, item: Any) -> None:
        self.work(item)
        self._failed_in_a_row = 0

    def _failed(self, error: Exception, item: Any) -> None:
        if not self.context.ok():  # interrupted in the middle of publishing
            return
        self.failures += 1
        self._failed_in_a_row += 1
        what = " ".join(filter(None, ("a frame set failed", self.describe(item))))
        trace = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        self.complain(f"failure {type(error).__name__}", f"{what}: {error}\n{trace}")
        limit = self.get_parameter("failures.limit").value
        if self._failed_in_a_row == limit:
            self._broken = f"{limit} frame sets in a row failed, the last with: {error}"
            self._fall.trigger()

    def _fall_into_error(self) -> None:
        """From active to the lifecycle's error state; only a transition can go there."""
        if not (self._broken and self.active):
            return
        delay = self.get_parameter("failures.retry_after").value
        again = bool(self.get_parameter("autostart").value and delay > 0)
        then = f"starting again in {delay:g} s" if again else "configure it again once mended"
        self.get_logger().fatal(f"{self._broken}. The node is unconfigured now; {then}")
        self.trigger_deactivate()
        if again:
            self._retry_after(delay)

    def _retry_after(self, delay: float) -> None:
        self._retry = self.create_timer(delay, self._start_again, clock=self._steady)

    def _start_again(self) -> None:
        delay = self.get_parameter("failures.retry_after").value
        self._cancel_retry()
        if self.trigger_configure() == _Result.SUCCESS:
            if self.trigger_activate() == _Result.SUCCESS:
                return
            self.trigger_cleanup()
        self.get_logger().error(f"not started again; the next attempt is in {delay:g} s")
        self._retry_after(delay)

    def _cancel_retry(self) -> None:
        if self._retry is not None:
            self.destroy_timer(self._retry)
            self._retry = None

    # Diagnostics ---------------------------------------------------------------------------

    def _publish_diagnostics(self) -> None:
        name = self.get_name()
        if self.active:
            found = self.statuses()
        elif self._broken:
            found = [status(f"{name}: pipeline", "error", self._broken)]
        else:
            found = [status(f"{name}: pipeline", "ok", "not active")]
        stamp = header(self.get_clock().now().nanoseconds, "")
        self._diagnostics.publish(DiagnosticArray(header=stamp, status=found))
