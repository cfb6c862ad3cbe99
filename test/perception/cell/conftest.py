"""Hands that wander before synthetic cameras, as every camera's own network sees them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hand_mesh_ros.geometry.cameras import look_at
from hand_mesh_ros.geometry.rotations import exp_so3, invert_rigid
from hand_mesh_ros.perception.cell_views import CellViews, gather
from hand_mesh_ros.types import Camera, HandEstimate, HandSet, ManoParameters, TrackedHand, View

FPS = 10
CENTRE = np.array([0.0, 0.0, 0.3])


def ring(count: int, spread: float = 140.0, radius: float = 0.8) -> tuple[Camera, ...]:
    """Cameras on an arc around the hands, at different heights."""
    K = np.array([[600.0, 0, 319.5], [0, 600, 239.5], [0, 0, 1]])
    D = np.array([-0.1, 0.03, 0, 0, 0])
    angles = np.deg2rad(np.linspace(-spread / 2, spread / 2, count))
    return tuple(
        Camera(
            f"camera_{i}", 640, 480, K, "plumb_bob", D,
            look_at(
                CENTRE + radius * np.array([np.cos(a), np.sin(a), 0.15 + 0.35 * (i % 2)]),
                CENTRE, np.array([0.0, 0, 1]),
            ),
            f"camera_{i}_optical_frame",
        )
        for i, a in enumerate(angles)
    )  # fmt: skip


def facing(count: int = 2) -> tuple[Camera, ...]:
    """Two cameras that look at each other, the hands between them."""
    first, *_ = ring(1)
    ahead = CENTRE - first.centre
    return tuple(
        replace(
            first,
            name=f"camera_{i}",
            T_camera_world=look_at(eye, CENTRE, np.array([0.0, 0, 1])),
        )
        for i, eye in enumerate((first.centre, first.centre + 2 * ahead))
    )


def turned(camera: Camera, degrees: float, metres: float, rng: np.random.Generator) -> Camera:
    """The camera elsewhere, by so much to some side."""
    axis, aside = rng.normal(size=(2, 3))
    T = invert_rigid(camera.T_camera_world)
    T[:3, :3] = exp_so3(np.deg2rad(degrees) * axis / np.linalg.norm(axis)) @ T[:3, :3]
    T[:3, 3] += metres * aside / np.linalg.norm(aside)
    return camera.placed(invert_rigid(T))


def wander(
    scene: Any,
    cameras: Sequence[Camera],
    instants: int,
    rng: np.random.Generator,
    *,
    reach: float = 0.1,
    hands: Sequence[str] = ("left", "right"),
    noise: float = 1.5,
    size: float = 1.0,
    known: Sequence[Camera] | None = None,
    seen: np.ndarray | None = None,
) -> list[tuple[int, list[View]]]:
    """Instants (stamp, views in no order). ``size`` is how wrong the networks' metres are; views
    come with the cameras ``known``, by default the true ones; ``seen`` (instants, cameras)."""
    out = []
    poses: list[Any] = []
    for k in range(instants):
        if k % 5 == 0:  # posing a hand takes longer than seeing it
            poses = [(side, scene.hand(rng, side).landmarks) for side in hands]
        views: list[View] = []
        for number, (side, landmarks) in enumerate(poses):
            aside = np.array([0, 0.28 * (number - (len(hands) - 1) / 2), 0])
            place = CENTRE + aside + reach * rng.normal(size=3)
            hand = SimpleNamespace(side=side, landmarks=landmarks - landmarks.mean(0) + place)
            for i, camera in enumerate(cameras):
                if seen is not None and not seen[k, i]:
                    continue
                view = scene.view(hand, i, camera, rng, noise)
                given = camera if known is None else known[i]
                if np.isfinite(view.uv).all():
                    views.append(replace(view, camera=given, world=size * view.world))
        out.append((k * 1_000_000_000 // FPS, [views[j] for j in rng.permutation(len(views))]))
    return out


def cell_views(
    instants: Sequence[tuple[int, Sequence[View]]], cameras: Sequence[Camera]
) -> CellViews:
    return gather(instants, [c.name for c in cameras])


def hand_set(stamp_ns: int, views: Sequence[View], cameras: Sequence[Camera]) -> HandSet:
    """What a pipeline makes of an instant: views of one side are one hand."""
    groups = [[v for v in views if (v.right > 0.5) == right] for right in (False, True)]
    groups = [g for g in groups if g]
    hands = tuple(_tracked(i, g) for i, g in enumerate(groups))
    return HandSet(
        stamp_ns, 0.0, tuple(c.name for c in cameras), hands, tuple(tuple(g) for g in groups)
    )


def _tracked(number: int, views: Sequence[View]) -> TrackedHand:
    zero = np.zeros(3)
    mano = ManoParameters("test", "right", zero, np.zeros(45), np.zeros(10), zero)
    return TrackedHand(
        number + 1,
        HandEstimate(
            "right", np.zeros((21, 3)), np.zeros((21, 3, 3)), np.eye(4), np.eye(6), mano, 1.0, 1.0,
            np.ones(21), np.ones(21), np.zeros((len(views), 21)), tuple(v.index for v in views),
            "multi_view",
        ),
    )  # fmt: skip


@pytest.fixture(scope="session")
def stage() -> SimpleNamespace:
    """The functions of this module."""
    functions = (ring, facing, turned, wander, cell_views, hand_set)
    return SimpleNamespace(**{f.__name__: f for f in functions})
