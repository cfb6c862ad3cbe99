"""What is behind the hand: a room in three dimensions, painted clutter, or pictures of a folder."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.render.backdrop import room
from hand_mesh_ros.types import Camera, ImageArray

_PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")


def seen_room(camera: Camera, seed: int) -> ImageArray:
    """The room of `backdrop`, drawn at half size: it is out of focus behind a hand."""
    import cv2

    K = camera.K.copy()
    K[:2] /= 2
    K[:2, 2] -= 0.25
    half = replace(camera, K=K, width=camera.width // 2, height=camera.height // 2)
    size = camera.width, camera.height
    picture = cv2.resize(room(half, seed), size, interpolation=cv2.INTER_LINEAR)
    return np.asarray(picture, dtype=np.uint8)


def clutter(width: int, height: int, seed: int, view: int) -> ImageArray:
    """Painted things of all sizes before a wall, out of focus: (height, width, 3) sRGB."""
    import cv2

    style = np.random.default_rng([seed, 61])
    rng = np.random.default_rng([seed, view, 67])
    # Rooms are grey and brown with a few colours in them.
    grey = style.uniform(20, 215, (6, 1)) + style.normal(0, 9, (6, 3)) + [8, 0, -8]
    vivid = style.uniform(0, 1, (6, 1)) ** 3
    palette = (1 - vivid) * grey + vivid * style.uniform(0, 255, (6, 3))
    wall = np.linspace(0, 1, height)[:, None, None]
    canvas = (palette[0] * (1 - 0.4 * wall) + 0.4 * wall * palette[1]) * np.ones((1, width, 1))
    canvas = np.clip(canvas, 0, 255).astype(np.uint8)
    count = int(style.integers(3, 45))
    for k in range(count):
        extent = width * 0.5 * (1 - 0.85 * k / count) * rng.uniform(0.15, 1)
        centre = rng.uniform(-0.1, 1.1, 2) * [width, height]
        tone = palette[rng.integers(6)] + rng.normal(0, 14, 1)
        colour = np.clip(tone + rng.normal(0, 6, 3), 0, 255)
        paint = tuple(int(c) for c in colour)
        kind = rng.integers(4)
        if kind == 0:
            angle = rng.uniform(0, 2 * np.pi, int(rng.integers(3, 7)))
            reach = extent * rng.uniform(0.4, 1, (len(angle), 1))
            corners = centre + reach * np.stack([np.cos(angle), np.sin(angle)], axis=1)
            cv2.fillPoly(canvas, [corners.astype(np.int32)], paint, cv2.LINE_AA)
        elif kind == 1:
            axes = tuple(int(a) for a in extent * rng.uniform(0.2, 0.8, 2) + 1)
            middle = (int(centre[0]), int(centre[1]))
            cv2.ellipse(canvas, middle, axes, float(rng.uniform(0, 180)), 0, 360, paint, -1)
        elif kind == 2:
            low, high = centre - extent * 0.4, centre + extent * rng.uniform(0.1, 0.8, 2)
            cv2.rectangle(canvas, tuple(low.astype(int)), tuple(high.astype(int)), paint, -1)
        else:
            end = centre + extent * rng.normal(0, 1.5, 2)
            weight = int(rng.integers(1, 6))
            cv2.line(canvas, tuple(centre.astype(int)), tuple(end.astype(int)), paint, weight)
    return _aged(canvas, style, rng)


def _aged(
    canvas: ImageArray, style: np.random.Generator, rng: np.random.Generator
) -> ImageArray:
    """Unevenness at three scales, and the blur of what is not in focus."""
    import cv2

    height, width = canvas.shape[:2]
    strength = style.uniform(1, 14)
    rough = np.zeros((height, width), np.float32)
    for cells in (5, 17, 60):
        grain = rng.standard_normal((cells, cells), dtype=np.float32)
        rough += cv2.resize(grain, (width, height), interpolation=cv2.INTER_CUBIC)
    mixed = canvas + strength * rough[..., None]
    blurred = cv2.GaussianBlur(mixed, (0, 0), float(style.uniform(0.6, 5.0)) * width / 256)
    return np.asarray(np.clip(blurred, 0, 255), dtype=np.uint8)


@lru_cache(maxsize=8)
def pictures(folder: Path) -> tuple[Path, ...]:
    """The images of a folder and those below it, sorted; ``FileNotFoundError`` without any."""
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in _PICTURES)
    if not found:
        raise FileNotFoundError(f"{folder}: no pictures ({', '.join(_PICTURES)}) to put behind")
    return tuple(found)


def photograph(
    folder: Path, width: int, height: int, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """A random part of a random image of ``folder``; ``OSError`` names a file that is no image."""
    import cv2

    files = pictures(folder)
    path = files[int(rng.integers(len(files)))]
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise OSError(f"{path} cannot be read as an image: remove it from the backgrounds")
    rows, columns = image.shape[:2]
    scale = min(rows / height, columns / width) * rng.uniform(0.5, 1.0)
    size = max(1, int(height * scale)), max(1, int(width * scale))
    top = int(rng.integers(rows - size[0] + 1))
    left = int(rng.integers(columns - size[1] + 1))
    part = image[top : top + size[0], left : left + size[1], ::-1]
    method = cv2.INTER_AREA if scale > 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(part, (width, height), interpolation=method), dtype=np.uint8)
