"""A depth image read at a hand's landmarks.

A depth camera sees skin, or whatever is in front of it; a landmark lies inside the hand. So the
surface is read in a window about each landmark, the part of it that fits the hand as a whole is
kept, and the skin's thickness is added. What fits is known from the network's relative 3D: in all
windows together one common distance makes most of the depths agree with it, and neither the wall
beside a finger nor a cup in front of the palm agrees with the same one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.geometry.cameras import undistort
from hand_mesh_ros.types import Camera, DepthArray

Array = NDArray[np.float64]

# Wrist, then thumb, index, middle, ring and little finger from the root to the tip.
SKIN: Final = 1e-3 * np.array(
    [24.6]
    + [20.5, 13.6, 11.5, 8.4]
    + [12.7, 9.7, 8.7, 6.3]
    + [16.6, 9.7, 9.1, 7.8]
    + [15.8, 9.1, 9.5, 8.7]
    + [12.3, 7.8, 7.8, 7.3]
)
"""Depth of each landmark behind the surface in front of it, (21,) m: the mean of the palm's and the

back's side, as `evaluation.skin_depth.measure` finds it on renders.
"""

SKIN_SIGMA: Final = 1e-3 * np.array(
    [4.9]
    + [8.4, 8.5, 5.8, 3.1]
    + [2.8, 2.3, 2.2, 2.2]
    + [4.7, 2.6, 3.0, 3.4]
    + [4.5, 3.6, 4.8, 6.7]
    + [4.2, 3.3, 3.7, 5.4]
)
"""One sigma of `SKIN` over poses and sides, (21,) m; from the same measurement."""

_STEP = 0.005  # m, between the distances that are tried


@dataclass(frozen=True)
class DepthSettings:
    """How depth is read.

    ``radius``: of a landmark's window on the hand, m. ``reach``: (nearest, farthest) depth that
    counts, m. ``gate``: how far, m, a depth may be from what the hand as a whole lets expect.
    ``size_sigma``: one sigma of the distance that the hand's apparent size tells, as a fraction.
    ``least``: share of a window that must agree; ``landmarks``: fewest that must have depth.
    ``noise``: one sigma of the camera, m, at 1 m; it grows with the square.
    ``common``: one sigma, m, of an error that all landmarks of a hand share.
    """

    radius: float = 0.004
    reach: tuple[float, float] = (0.1, 8.0)
    gate: float = 0.035
    size_sigma: float = 0.15
    least: float = 0.15
    landmarks: int = 6
    noise: float = 0.003
    common: float = 0.002


def depth_at_landmarks(
    depth: DepthArray,
    camera: Camera,
    uv: Array,
    world: Array,
    settings: DepthSettings | None = None,
    skin: Array = SKIN,
) -> tuple[Array, Array]:
    """Depth (21,) of the landmarks along the optical axis, m, and its sigma (21,).

    ``depth`` (H, W) m, of the pixels that ``camera`` describes; 0, NaN and infinity are holes.
    ``uv`` (21, 2) distorted pixels, ``world`` (21, 3) the network's relative 3D in the camera's
    axes. NaN, NaN where there is a hole, something in front, or a background; all NaN where too
    few landmarks agree.
    """
    settings = settings or DepthSettings()
    nothing = np.full(21, np.nan), np.full(21, np.nan)
    xy = undistort(camera, uv)
    if not (np.isfinite(xy).all() and np.isfinite(world).all()):
        return nothing
    relative = world[:, 2] - world[:, 2].mean()
    expected = _distance_by_size(xy, world)
    samples = _windows(depth, uv, settings.radius * camera.focal / expected, settings.reach)
    # Each sample's opinion on the hand's distance.
    opinions = samples + (skin - relative)[:, None]
    distance = _consensus(opinions, expected, settings)
    median = np.full(21, np.nan)
    for _ in range(3):
        agree = np.abs(opinions - distance) < settings.gate
        told = agree.mean(axis=1) >= settings.least
        if told.sum() < settings.landmarks:
            return nothing
        median = _median(opinions, agree)
        distance = float(np.median(median[told]))
    spread = 1.48 * _median(np.abs(opinions - median[:, None]), agree)
    found = np.where(told, median + relative, np.nan)
    noise = settings.noise * found**2
    sigma = np.sqrt(
        SKIN_SIGMA**2 + noise**2 + spread**2 + told.sum() * settings.common**2
    )
    return found, np.where(told, sigma, np.nan)


def _distance_by_size(xy: Array, world: Array) -> float:
    """Depth, m, at which relative 3D is as large as it looks in normalised pixels ``xy``."""
    size = np.linalg.norm(world[:, :2] - world[:, :2].mean(0), axis=-1).mean()
    looks = np.linalg.norm(xy - xy.mean(0), axis=-1).mean()
    return float(np.clip(size / max(looks, 1e-6), 0.05, 20.0))


def _windows(depth: DepthArray, uv: Array, radius: float, reach: tuple[float, float]) -> Array:
    """Depths (21, 49) on a grid about each pixel, ``radius`` pixels wide; NaN for holes."""
    steps = np.linspace(-1, 1, 7) * max(radius, 1.5)
    grid = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)
    height, width = depth.shape
    column, row = np.moveaxis(np.rint(uv[:, None] + grid).astype(np.int64), -1, 0)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    values = depth[np.clip(row, 0, height - 1), np.clip(column, 0, width - 1)].astype(np.float64)
    known = inside & np.isfinite(values) & (values > reach[0]) & (values < reach[1])
    return np.where(known, values, np.nan)


def _consensus(opinions: Array, expected: float, settings: DepthSettings) -> float:
    """The distance that most windows can agree on, near the one that the hand's size tells.

    Every landmark has one vote, spread over its window's opinions; a vote for a distance counts
    for its neighbours within the gate, with a bell's weight.
    """
    low = expected * np.exp(-3 * settings.size_sigma)
    count = int(np.ceil(expected * (np.exp(3 * settings.size_sigma) / _STEP)) - low // _STEP) + 1
    tried = low + _STEP * np.arange(count)
    known = np.isfinite(opinions)
    index = np.floor((np.where(known, opinions, -1.0) - low) / _STEP + 0.5).astype(np.int64)
    votes = np.bincount(index[known & (index >= 0) & (index < count)], minlength=count)
    lag = np.arange(-int(settings.gate / _STEP), int(settings.gate / _STEP) + 1) * _STEP
    votes = np.convolve(votes, np.exp(-0.5 * (lag / (settings.gate / 2)) ** 2), mode="same")
    likely = np.exp(-0.5 * (np.log(tried / expected) / settings.size_sigma) ** 2)
    return float(tried[np.argmax(votes * likely)])


def _median(values: Array, chosen: NDArray[np.bool_]) -> Array:
    """Lower median (21,) of the chosen values of each row; infinite where nothing was chosen."""
    ordered = np.sort(np.where(chosen, values, np.inf), axis=1)
    middle = np.maximum(chosen.sum(axis=1) - 1, 0) // 2
    return np.asarray(ordered[np.arange(len(values)), middle])
