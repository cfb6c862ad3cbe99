"""What stands around the hands of the synthetic cell: its cameras, its light, and who acts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hand_mesh_ros.geometry.cameras import look_at
from hand_mesh_ros.render.shading import Lamp, sky
from hand_mesh_ros.types import Camera, FloatArray

CENTRE = np.array([0.0, 0.0, 0.36])
"""Middle of the working volume, metres in the world (z up, desk at 0)."""


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """What differs from seed to seed but not in time.

    ``tone`` (3,) tints the skin, ``cloth`` (3,) is the sleeve; both linear. ``betas`` (10,).
    """

    lamps: tuple[Lamp, ...]
    tone: FloatArray
    cloth: FloatArray
    betas: FloatArray


def arc_of_cameras(
    count: int, width: int, height: int, seed: int, *, distortion: bool = True
) -> tuple[Camera, ...]:
    """Webcams ``camera_0``... on an arc around ``CENTRE``, from its right to its left.

    Horizontal fields of view of 65 to 75 degrees, principal points a few pixels off the middle,
    mild plumb_bob distortion (or none).
    """
    rng = np.random.default_rng([seed, 11])
    half = 0.0 if count == 1 else min(10 + 10 * count, 60)
    cameras = []
    for k, azimuth in enumerate(np.deg2rad(np.linspace(-half, half, count))):
        elevation = np.deg2rad((4, 22)[k % 2] + rng.uniform(-3, 3))
        around = [np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation)]
        eye = CENTRE + rng.uniform(0.70, 0.84) * np.array([*around, np.sin(elevation)])
        target = CENTRE + rng.uniform(-0.02, 0.02, 3)
        focal = width / 2 / np.tan(np.deg2rad(rng.uniform(65, 75)) / 2)
        offset = rng.uniform(-0.01, 0.01, 2) * width
        K = np.array(
            [
                [focal, 0, (width - 1) / 2 + offset[0]],
                [0, focal * rng.uniform(0.998, 1.002), (height - 1) / 2 + offset[1]],
                [0, 0, 1],
            ]
        )
        D = np.array([rng.uniform(-0.14, -0.06), rng.uniform(0.02, 0.05), 0, 0, 0])
        D[2:4] = rng.uniform(-8e-4, 8e-4, 2)
        T = look_at(eye, target, np.array([0.0, 0, 1]))
        name = f"camera_{k}"
        frame_id = f"{name}_optical_frame"
        if distortion:
            cameras.append(Camera(name, width, height, K, "plumb_bob", D, T, frame_id))
        else:
            cameras.append(Camera(name, width, height, K, T_camera_world=T, frame_id=frame_id))
    return tuple(cameras)


def look(seed: int) -> Look:
    """Light, skin, cloth and hand shape of a seed."""
    rng = np.random.default_rng([seed, 3])
    key = np.array([0.75, rng.uniform(-0.5, 0.5), 0.75])
    fill = np.array([0.8, -np.sign(key[1]) * 0.8, 0.25])
    warm = np.array([1.0, 0.95, 0.88])
    lamps = (
        Lamp(key / np.linalg.norm(key), 0.75 * warm),
        Lamp(fill / np.linalg.norm(fill), 0.18 * np.array([0.9, 0.95, 1.0])),
        *sky(0.55 * np.array([0.95, 0.98, 1.0]), 0.22 * np.array([1.0, 0.9, 0.8])),
    )
    tone = rng.uniform(0.75, 1.05) * np.array([1.0, rng.uniform(0.92, 1.0), rng.uniform(0.88, 1.0)])
    cloth = rng.uniform(0.03, 0.25, 3)
    betas = np.clip(rng.normal(0, 0.7, 10), -1.5, 1.5)
    return Look(lamps, tone, cloth, betas)
