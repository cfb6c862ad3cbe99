"""Light of an environment: spherical harmonics of order two, and one lamp that casts shadows.

World axes have z up. Radiances are linear RGB. A scene is lit by few directions of the
harmonics' radiance, each with its shadows: contacts and creases darken as they do under a sky.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hand_mesh_ros.types import FloatArray

_DIRECTIONS = 14
# Of a projected lobe cos^+(angle): what the three bands keep (Ramamoorthi and Hanrahan, 2001).
_BANDS = np.array([np.pi, *[2 * np.pi / 3] * 3, *[np.pi / 4] * 5])


@dataclass(frozen=True, slots=True, eq=False)
class Environment:
    """``harmonics`` (9, 3): radiance in the order of `basis`; ``lamp``: its direction (3,), unit,

    and ``lamp_colour`` (3,); ``seed`` of what is seen behind the hand.
    """

    harmonics: FloatArray
    lamp: FloatArray
    lamp_colour: FloatArray
    seed: int

    def radiance(self, directions: FloatArray) -> FloatArray:
        """From each of the directions (N, 3), (N, 3); never below zero."""
        return np.maximum(basis(directions) @ self.harmonics, 0.0)

    def dome(self) -> tuple[FloatArray, FloatArray]:
        """Directions (D, 3) evenly around, and the colours (D, 3) whose cosine-weighted sum is

        what a matt white surface sends back.
        """
        directions = lattice(_DIRECTIONS)
        return directions, self.radiance(directions) * 4 / _DIRECTIONS


def basis(directions: FloatArray) -> FloatArray:
    """The nine real spherical harmonics up to order two at unit vectors (N, 3), (N, 9)."""
    x, y, z = np.asarray(directions, dtype=np.float64).T
    return np.stack(
        [
            np.full_like(x, 0.282095),
            0.488603 * y, 0.488603 * z, 0.488603 * x,
            1.092548 * x * y, 1.092548 * y * z, 0.315392 * (3 * z * z - 1),
            1.092548 * x * z, 0.546274 * (x * x - y * y),
        ],
        axis=1,
    )  # fmt: skip


def lattice(count: int) -> FloatArray:
    """``count`` unit vectors evenly around: a Fibonacci lattice."""
    k = np.arange(count) + 0.5
    z, turn = 1 - 2 * k / count, k * np.pi * (3 - np.sqrt(5))
    radius = np.sqrt(1 - z**2)
    return np.stack([radius * np.cos(turn), radius * np.sin(turn), z], axis=1)


def lobe(direction: FloatArray, colour: FloatArray) -> FloatArray:
    """Harmonics (9, 3) of a broad window of light around a direction, its mean radiance 1."""
    return np.asarray((basis(direction[None])[0] * _BANDS)[:, None] * colour)


def random_environment(seed: int) -> Environment:
    """A lit place: sky or ceiling above, reflected light below, windows, and a lamp or the sun."""
    rng = np.random.default_rng([seed, 41])
    warmth = rng.normal(0, 0.08)
    white = np.array([1 + warmth, 1.0, 1 - 1.3 * warmth])
    ambient = rng.uniform(0.25, 0.7) * white * rng.uniform(0.95, 1.05, 3)
    harmonics = np.zeros((9, 3))
    harmonics[0] = ambient / 0.282095
    harmonics += lobe(np.array([0.0, 0, 1]), rng.uniform(0.0, 0.35) * white)
    floor = rng.uniform(0.4, 1.0, 3) * rng.uniform(0, 0.2)
    harmonics += lobe(np.array([0.0, 0, -1]), floor)
    for _ in range(rng.integers(0, 3)):
        side = _upper(rng, 0.0)
        harmonics += lobe(side, rng.uniform(0.05, 0.3) * white * rng.uniform(0.85, 1.15, 3))
    lamp = _upper(rng, 0.15)
    glow = rng.choice([0.15, 0.5, 0.9, 1.4], p=[0.3, 0.35, 0.25, 0.1])
    tone = np.array([1.0, rng.uniform(0.84, 1.0), rng.uniform(0.65, 1.0)])
    return Environment(harmonics, lamp, glow * tone, seed)


def _upper(rng: np.random.Generator, least: float) -> FloatArray:
    """A unit vector that is at least ``least`` high; people are lit from the front, +x, mostly."""
    z, turn = rng.uniform(least, 0.95), rng.normal(0, 1.4)
    radius = np.sqrt(1 - z**2)
    return np.array([radius * np.cos(turn), radius * np.sin(turn), z])
