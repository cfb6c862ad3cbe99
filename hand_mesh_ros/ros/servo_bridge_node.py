"""servo_bridge_node: a hand drives a robot arm through MoveIt Servo. An example to start from.

Subscribes ``hand_mesh_node/hands`` (`HandArray`) and publishes ``servo_node/delta_twist_cmds``
(`geometry_msgs/TwistStamped`, for Servo with ``command_in_type: speed_units`` and command type
TWIST), ``~/command_age`` (`std_msgs/Float64`: now minus the capture time of what the command rests
on, s) and `/diagnostics`. What is sent when, and why, is written in
:mod:`hand_mesh_ros.ros.servo_bridge`.

`HandArray` rather than ``~/right/wrist_pose``: pose, covariance, pinch, track and `extrapolated` of
one instant come together, and an instant without a hand is heard as well. The twist is in the
frame of the hands; Servo needs TF from there to its planning frame.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from geometry_msgs.msg import TwistStamped
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from std_msgs.msg import Float64

from hand_mesh_ros.msg import HandArray
from hand_mesh_ros.ros.builders import SIDE_CODES
from hand_mesh_ros.ros.images import header, nanoseconds
from hand_mesh_ros.ros.parameters import Spec, declare, read
from hand_mesh_ros.ros.readers import matrix
from hand_mesh_ros.ros.running import run_node
from hand_mesh_ros.ros.servo_bridge import BridgeSettings, Command, ServoBridge, Sighting

BRIDGE_SPECS = (
    Spec("side", "right", "The hand that drives.", choices=("left", "right")),
    Spec("rate", 50.0, "Commands a second; more than 1 / Servo's timeout.", (10.0, 500.0)),
    Spec("max_age", 0.25, "A command rests on no sighting older than this, s.", (0.02, 2.0)),
    Spec(
        "max_position_stddev",
        0.03,
        "A wrist whose position is less certain, m, moves nothing.",
        (0.0, 1.0),
    ),
    Spec(
        "max_rotation_stddev",
        0.35,
        "A wrist whose rotation is less certain, rad, moves nothing.",
        (0.0, 4.0),
    ),
    Spec("accept_extrapolated", False, "Follow the tracker's predictions as well."),
    Spec("engage_below", 0.025, "Thumb to index tip, m: below, the clutch engages.", (0.0, 0.3)),
    Spec("release_above", 0.05, "Thumb to index tip, m: above, the clutch opens.", (0.0, 0.3)),
    Spec("smoothing", 0.08, "Time constant of the velocity's low-pass, s.", (0.001, 2.0)),
    Spec("linear_scale", 1.0, "Robot's metres for one metre of the hand.", (0.0, 10.0)),
    Spec("angular_scale", 1.0, "Robot's turn for one of the hand; 0: none.", (0.0, 10.0)),
    Spec("max_linear", 0.25, "Fastest linear command, m/s.", (0.0, 5.0)),
    Spec("max_angular", 1.0, "Fastest angular command, rad/s.", (0.0, 10.0)),
    Spec("max_linear_acceleration", 1.5, "Fastest change of it, m/s^2.", (0.01, 100.0)),
    Spec("max_angular_acceleration", 6.0, "Fastest change of it, rad/s^2.", (0.01, 1000.0)),
    Spec("stop_repeats", 5, "Zero commands that make a stop.", (1, 1000)),
)
_NEWEST = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)


class ServoBridgeNode(Node):
    """See the module."""

    def __init__(self, **options: Any) -> None:
        super().__init__("servo_bridge_node", **options)
        declare(self, BRIDGE_SPECS)
        values = read(self, BRIDGE_SPECS)
        self._side = SIDE_CODES[values.pop("side")]
        period = 1.0 / values.pop("rate")
        self._bridge, self._said = ServoBridge(BridgeSettings(**values)), ""
        self._ages: list[float] = []
        self._twists = self.create_publisher(TwistStamped, "servo_node/delta_twist_cmds", 10)
        self._age = self.create_publisher(Float64, "~/command_age", 10)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 5)
        self.create_subscription(HandArray, "hand_mesh_node/hands", self._on_hands, _NEWEST)
        # Not by ROS time: a robot must be stopped when simulated time stands still, too.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(period, self._send, clock=steady)
        self.create_timer(1.0, self._report, clock=steady)

    def _on_hands(self, message: HandArray) -> None:
        sightings = sightings_of(message, self._side)
        self._bridge.see(sightings, self._now_ns(), time.monotonic())
        self._say()

    def _send(self) -> None:
        now_ns = self._now_ns()
        command = self._bridge.command(now_ns, time.monotonic())
        self._say()
        if command is None:
            return
        self._twists.publish(twist_message(command, now_ns))
        if not command.stops:
            self._ages.append(command.age)
            self._age.publish(Float64(data=command.age))

    def _say(self) -> None:
        """Log each change of state once."""
        text = f"{self._bridge.state}: {self._bridge.why}"
        if text != self._said:
            self._said = text
            self.get_logger().info(text)

    def _report(self) -> None:
        ages, self._ages = self._ages, []
        values = {"state": self._bridge.state, "why": self._bridge.why, "commands": str(len(ages))}
        if ages:
            values |= {"median age (s)": f"{np.median(ages):.3f}", "age (s)": f"{max(ages):.3f}"}
        refused = self._bridge.refused
        values |= {f"refused, {reason}": str(count) for reason, count in refused.items()}
        status = DiagnosticStatus(
            name=f"{self.get_name()}: commands",
            level=DiagnosticStatus.OK if not refused["from the future"] else DiagnosticStatus.WARN,
            message=f"{self._bridge.state}: {self._bridge.why}"
            if not refused["from the future"]
            else "capture times lie in the future: synchronise the computers' clocks",
            values=[KeyValue(key=key, value=value) for key, value in values.items()],
        )
        self._diagnostics.publish(
            DiagnosticArray(header=header(self._now_ns(), ""), status=[status])
        )

    def _now_ns(self) -> int:
        return int(self.get_clock().now().nanoseconds)


def sightings_of(message: HandArray, side: int) -> list[Sighting]:
    """The hands of one side (a `Hand.LEFT` or `Hand.RIGHT`) in a message."""
    return [
        Sighting(
            stamp_ns=nanoseconds(message.header.stamp),
            frame_id=message.header.frame_id,
            track_id=hand.track_id,
            confidence=hand.confidence,
            T=matrix(hand.wrist.pose),
            covariance=np.array(hand.wrist.covariance).reshape(6, 6),
            pinch=hand.pinch_distance,
            extrapolated=hand.extrapolated,
        )
        for hand in message.hands
        if hand.side == side
    ]


def twist_message(command: Command, now_ns: int) -> TwistStamped:
    """The message for Servo, stamped with the time at which it is sent."""
    message = TwistStamped(header=header(now_ns, command.frame_id))
    for vector, values in (
        (message.twist.linear, command.linear),
        (message.twist.angular, command.angular),
    ):
        vector.x, vector.y, vector.z = map(float, values)
    return message


def main(args: list[str] | None = None) -> None:
    """Run the node until it is told to stop."""
    run_node(ServoBridgeNode, args)


if __name__ == "__main__":
    main()
