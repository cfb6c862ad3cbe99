"""How a node's process ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

import rclpy
from std_msgs.msg import Header

from hand_mesh_ros.ros.running import was_interrupted


def test_a_message_that_a_shutdown_came_before_is_no_failure(ros_node: Callable[..., Any]) -> None:
    node = ros_node("talker")
    publisher = node.create_publisher(Header, "said", 1)
    node.context.shutdown()
    assert not rclpy.ok(context=node.context)
    with pytest.raises(Exception, match="context is invalid") as raised:
        publisher.publish(Header())
    assert was_interrupted(raised.value)
    rclpy.init(domain_id=99)
    try:
        assert not was_interrupted(raised.value)  # while ROS is up, it is a failure
    finally:
        rclpy.shutdown()
    assert not was_interrupted(ValueError("context is invalid"))
