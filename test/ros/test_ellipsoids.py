"""Ellipsoids of covariances: their axes are the covariance's, unknown ones are left out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from rclpy.serialization import deserialize_message, serialize_message
from visualization_msgs.msg import Marker, MarkerArray

from hand_mesh_ros.geometry.rotations import exp_so3, quaternion_to_matrix
from hand_mesh_ros.ros.ellipsoids import axes_of, ellipsoid_markers
from hand_mesh_ros.types import HandSet, TrackedHand

MakeHand = Callable[..., TrackedHand]
MakeSet = Callable[..., HandSet]


def test_axes_are_the_covariances(rng: np.random.Generator) -> None:
    turn = exp_so3(rng.normal(size=(20, 3)))
    sigma = rng.uniform(0.002, 0.03, (20, 3))
    covariance = turn @ (sigma[..., None] ** 2 * np.swapaxes(turn, -1, -2))
    diameters, quaternions = axes_of(covariance, 2.0)
    R = quaternion_to_matrix(quaternions)
    again = R @ ((diameters[..., None] / 4) ** 2 * np.swapaxes(R, -1, -2))
    np.testing.assert_allclose(again, covariance, atol=1e-12)


def test_joints_of_unknown_covariance_have_none(make_hand: MakeHand, make_set: MakeSet) -> None:
    hand = make_hand("right", 1)
    covariance = np.tile(1e-4 * np.diag([1.0, 4.0, 9.0]), (21, 1, 1))
    covariance[5] = np.nan
    hand = replace(hand, estimate=replace(hand.estimate, covariance=covariance))
    data = serialize_message(ellipsoid_markers(make_set(hand), "world", 0.4))
    clear, *found = deserialize_message(data, MarkerArray).markers
    assert clear.action == Marker.DELETEALL
    assert [m.id for m in found] == [joint for joint in range(21) if joint != 5]
    assert {m.ns for m in found} == {"right_hand/uncertainty"}
    scale, at = found[0].scale, found[0].pose.position
    assert sorted((scale.x, scale.y, scale.z)) == pytest.approx([0.04, 0.08, 0.12])
    np.testing.assert_allclose([at.x, at.y, at.z], hand.estimate.joints[0])
