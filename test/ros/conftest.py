"""A node in this process, and results to make messages of."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from hand_mesh_ros.hand.kinematics import (
    BETAS,
    GLOBAL_ORIENT,
    HAND_POSE,
    NUM_PARAMS,
    TRANSL,
    forward,
)
from hand_mesh_ros.hand.limits import comfortable_pose
from hand_mesh_ros.hand.model import load_hand_model
from hand_mesh_ros.hand.robot_frames import wrist_frame
from hand_mesh_ros.types import HandEstimate, HandSet, ManoParameters, Side, TrackedHand

# A capture time that no float64 of seconds can hold.
STAMP = 1_763_700_000_123_456_789
_domains = itertools.count(50)


def _covariances(rng: np.random.Generator, count: int, size: int) -> np.ndarray:
    A = rng.normal(0, 0.01, (count, size, size))
    return A @ np.swapaxes(A, 1, 2)


def _hand(side: Side = "right", track_id: int = 1, seed: int = 0, **changes: Any) -> TrackedHand:
    """A tracked hand somewhere, with vertices and covariances."""
    rng, model = np.random.default_rng(seed), load_hand_model(side=side)
    params = np.zeros(NUM_PARAMS)
    params[GLOBAL_ORIENT] = rng.normal(0, 1, 3)
    params[HAND_POSE] = comfortable_pose(side)
    params[BETAS] = rng.normal(0, 0.5, 10)
    params[TRANSL] = rng.normal(0, 0.3, 3)
    parts = [params[None, part] for part in (GLOBAL_ORIENT, HAND_POSE, BETAS, TRANSL)]
    posed = forward(model, *parts)
    assert posed.vertices is not None
    estimate = HandEstimate(
        side=side,
        joints=posed.joints[0],
        covariance=_covariances(rng, 21, 3),
        wrist=wrist_frame(posed.joints[0], side),
        wrist_covariance=_covariances(rng, 1, 6)[0],
        mano=ManoParameters(model.model_id, side, *(part[0] for part in parts)),
        confidence=0.9,
        side_confidence=0.8,
        joint_confidence=rng.uniform(0, 1, 21),
        visibility=rng.uniform(0, 1, 21),
        residual_px=rng.uniform(0, 3, (2, 21)),
        view_indices=(0, 2),
        scale_source="multi_view",
        vertices=posed.vertices[0],
        calibration="held-out hands",
    )
    tracked = {k: changes.pop(k) for k in ("age", "extrapolated") if k in changes}
    return TrackedHand(track_id, replace(estimate, **changes), **tracked)


def _hand_set(*hands: TrackedHand) -> HandSet:
    return HandSet(STAMP, 0.004, ("front", "left", "top"), hands, ((),) * len(hands))


class _Log:
    """A logger that remembers what it was told, with the level."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []

    def info(self, message: str) -> None:
        self.lines.append(("info", message))

    def error(self, message: str) -> None:
        self.lines.append(("error", message))


@pytest.fixture
def log() -> _Log:
    return _Log()


@pytest.fixture(scope="session")
def make_hand() -> Callable[..., TrackedHand]:
    """``make_hand(side, track_id, seed, **changes)``."""
    return _hand


@pytest.fixture(scope="session")
def make_set() -> Callable[..., HandSet]:
    """``make_set(*hands)``: a hand set of three cameras at STAMP."""
    return _hand_set


@pytest.fixture(scope="session")
def stamp() -> int:
    return STAMP


@pytest.fixture
def ros_node() -> Iterator[Callable[..., Any]]:
    """``ros_node(name, **parameter_overrides)``: real nodes on a private domain, ended after."""
    rclpy = pytest.importorskip("rclpy", reason="ROS 2 is not installed")
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=1 + (os.getpid() * 7 + next(_domains)) % 100)
    nodes: list[Any] = []

    def make(name: str = "hand_mesh_node", **overrides: Any) -> Any:
        parameters = [
            rclpy.Parameter(key.replace("__", "."), value=value)
            for key, value in overrides.items()
        ]
        nodes.append(
            rclpy.create_node(name, context=context, parameter_overrides=parameters)
        )
        return nodes[-1]

    yield make
    for node in nodes:
        node.destroy_node()
    rclpy.try_shutdown(context=context)
