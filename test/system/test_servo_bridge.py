"""servo_bridge_node as a process: hands over DDS on one side, Servo's commands on the other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import TwistStamped
from std_msgs.msg import Float64

from hand_mesh_ros.msg import Hand, HandArray
from hand_mesh_ros.ros.builders import pose
from hand_mesh_ros.ros.images import header, nanoseconds
from hand_mesh_ros.ros.parameter_files import read_parameters
from hand_mesh_ros.ros.servo_bridge_node import BRIDGE_SPECS

ROOT = Path(__file__).resolve().parents[2]
TWISTS, AGES = "/servo_node/delta_twist_cmds", "/servo_bridge_node/command_age"
PERIOD, LATENCY_NS = 1 / 30, 60_000_000
MAX_AGE = 1.0  # a busy machine may pause longer than the default


class Operator:
    """A person's right hand as messages: moves at 0.1 m/s along x, by capture times."""

    def __init__(self, peer: Any) -> None:
        self.peer = peer
        self.publisher = peer.publisher("/hand_mesh_node/hands", HandArray)
        self.start_ns = self.now_ns()

    def now_ns(self) -> int:
        return int(self.peer.node.get_clock().now().nanoseconds)

    def show(self, pinch: float, seen: bool = True) -> None:
        """Publish one instant and let a frame period pass."""
        stamp = self.now_ns() - LATENCY_NS
        message = HandArray(header=header(stamp, "world"), views=["front"])
        if seen:
            T = np.eye(4)
            T[0, 3] = 0.1e-9 * (stamp - self.start_ns)
            hand = Hand(track_id=3, side=Hand.RIGHT, confidence=0.9, pinch_distance=pinch)
            hand.wrist.pose = pose(T)
            hand.wrist.covariance = np.diag([1e-6] * 3 + [1e-4] * 3).reshape(-1)
            message.hands = [hand]
        self.publisher.publish(message)
        self.peer.until(lambda: False, patience=PERIOD)

    def engage(self) -> None:
        """Open fingers, then pinched ones, until the robot moves with the hand."""

        def opened() -> bool:
            for _ in range(5):  # best effort: some may be lost
                self.show(0.1)
            return any(state.startswith("open") for state in self.peer.heard["state"][-1:])

        def moving() -> bool:
            self.show(0.01)
            return any(abs(m.twist.linear.x - 0.1) < 0.01 for m in self.peer.heard[TWISTS][-1:])

        self.peer.until(opened, "the clutch to be ready")
        self.peer.until(moving, "a command at the hand's speed")


@pytest.fixture(scope="module")
def operator(start: Callable[..., Any], peer: Any) -> Operator:
    peer.listen(TWISTS, TwistStamped)
    peer.listen(AGES, Float64)

    def keep_state(message: DiagnosticArray) -> None:
        peer.heard["state"] += [status.message for status in message.status]
        peer.heard["values"] += [
            {v.key: v.value for v in status.values} for status in message.status
        ]

    peer.node.create_subscription(DiagnosticArray, "/diagnostics", keep_state, 10)
    start("servo_bridge_node", {"max_age": MAX_AGE})
    made = Operator(peer)
    peer.until(made.publisher.get_subscription_count, "the bridge's subscription")
    peer.until(lambda: peer.node.count_publishers(TWISTS), "the bridge's publisher")
    return made


def test_a_pinched_hand_moves_the_robot_in_its_frame(operator: Operator, peer: Any) -> None:
    operator.engage()
    command = peer.heard[TWISTS][-1]
    assert command.header.frame_id == "world"
    assert abs(command.twist.linear.x - 0.1) < 0.01
    for still in (command.twist.linear.y, command.twist.linear.z, command.twist.angular.x):
        assert abs(still) < 1e-6


def test_commands_are_stamped_when_sent_and_tell_their_age(operator: Operator, peer: Any) -> None:
    """Servo discards what is stamped with a capture time 0.1 s ago; the age goes beside it."""
    operator.engage()
    first_ns, first = operator.now_ns(), len(peer.heard[TWISTS])
    ages = len(peer.heard[AGES])

    def enough() -> bool:
        operator.show(0.01)
        return len(peer.heard[TWISTS]) > first + 10

    peer.until(enough, "commands")
    stamps = [nanoseconds(m.header.stamp) for m in peer.heard[TWISTS][first + 5 :]]
    assert all(first_ns < stamp <= operator.now_ns() for stamp in stamps)
    assert all(LATENCY_NS * 1e-9 <= m.data <= MAX_AGE for m in peer.heard[AGES][ages:])
    operator.peer.until(lambda: peer.heard["values"][-1].get("age (s)"), "the reported age")


def test_a_lost_hand_stops_the_robot_and_then_servo_is_left_alone(
    operator: Operator, peer: Any
) -> None:
    operator.engage()
    lost_ns = operator.now_ns()

    def stopped() -> bool:
        operator.show(0.01, seen=False)
        newest = peer.heard[TWISTS][-5:]
        return all(
            m.twist.linear.x == m.twist.linear.y == m.twist.linear.z == 0
            and m.twist.angular.x == m.twist.angular.y == m.twist.angular.z == 0
            for m in newest
        )

    peer.until(stopped, "five commands of zero velocity")
    moved = [m for m in peer.heard[TWISTS] if m.twist.linear.x != 0]
    late_s = (nanoseconds(moved[-1].header.stamp) - lost_ns) * 1e-9
    assert late_s <= MAX_AGE  # by the stamps of the commands: their sighting is older than that
    peer.until(
        lambda: peer.heard["state"][-1] == "locked: no sighting that can be believed for 1 s",
        "the reason in the diagnostics",
    )
    count = len(peer.heard[TWISTS])
    for _ in range(15):
        operator.show(0.01)
    assert len(peer.heard[TWISTS]) == count  # pinched still, but the fingers must open first


def test_open_fingers_stop_the_robot(operator: Operator, peer: Any) -> None:
    operator.engage()

    def stopped() -> bool:
        operator.show(0.1)
        return peer.heard[TWISTS][-1].twist.linear.x == 0

    peer.until(stopped, "a command of zero velocity")


def test_a_clutch_that_would_chatter_is_refused_by_name(start: Callable[..., Any]) -> None:
    node = start("servo_bridge_node", {"engage_below": 0.06})
    assert node.wait() == 1
    assert "parameter engage_below is 0.06: it must be less than release_above" in node.output
    assert "Traceback" not in node.output


def test_the_parameter_file_holds_every_parameter_at_its_default() -> None:
    path = ROOT / "config" / "servo" / "servo_bridge.yaml"
    found = read_parameters(path, "servo_bridge_node")
    assert found == {spec.name: spec.default for spec in BRIDGE_SPECS}
    assert all(type(found[spec.name]) is type(spec.default) for spec in BRIDGE_SPECS)
