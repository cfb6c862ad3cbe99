"""What a camera makes of light: shake, blur, vignetting, white balance, noise, gamma and JPEG."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.types import FloatArray, ImageArray

_CURVE = 4096


@dataclass(frozen=True, slots=True, eq=False)
class Sensor:
    """``gains`` (3,) white balance; ``vignette`` loss in the corners; ``focus`` blur, ``motion``
    (2,) smear of the hand over the exposure, both in pixels of a picture 256 wide; ``shot``
    and ``read`` noise of linear light in [0, 1]; ``jpeg`` quality, 0 for none; ``seed``.
    """

    gains: FloatArray
    vignette: float
    focus: float
    motion: FloatArray
    shot: float
    read: float
    jpeg: int
    seed: int

    def smear(self, layer: NDArray[np.float32]) -> NDArray[np.float32]:
        """Premultiplied colour and coverage (H, W, 4) of a thing that moved while it was taken."""
        import cv2

        way = self.motion * layer.shape[1] / 256
        steps = int(np.ceil(np.abs(way).max()))
        if steps < 2:
            return layer
        kernel = np.zeros((2 * steps + 1, 2 * steps + 1), np.float32)
        for t in np.linspace(-0.5, 0.5, 4 * steps):
            column, row = np.rint(way * t).astype(int) + steps
            kernel[row, column] += 1
        return np.asarray(cv2.filter2D(layer, -1, kernel / kernel.sum()))

    def expose(self, linear: NDArray[np.float32]) -> ImageArray:
        """The picture (H, W, 3), sRGB uint8, of linear light, 1 about white."""
        import cv2

        height, width = linear.shape[:2]
        rng = np.random.default_rng([self.seed, 83])
        blur = self.focus * width / 256
        light = cv2.GaussianBlur(linear, (0, 0), max(blur, 0.2))
        light *= _falloff(width, height, self.vignette)[..., None] * self.gains.astype(np.float32)
        grain = rng.standard_normal(light.shape, dtype=np.float32)
        grain *= cv2.sqrt(np.float32(self.shot**2) * light + np.float32(self.read**2))
        light += grain
        light *= _CURVE / 2
        picture = _table()[np.clip(light, 0, _CURVE - 1, out=light).astype(np.int16)]
        if self.jpeg:
            options = [cv2.IMWRITE_JPEG_QUALITY, self.jpeg]
            ok, data = cv2.imencode(".jpg", np.ascontiguousarray(picture[..., ::-1]), options)
            if not ok:
                raise RuntimeError("OpenCV could not encode a JPEG picture")
            picture = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))[..., ::-1]
        return np.ascontiguousarray(picture)


def random_sensor(rng: np.random.Generator) -> Sensor:
    """A webcam or telephone, most in focus and half of them with a still hand."""
    warm = rng.normal(0, 0.06)
    angle, way = rng.uniform(0, 2 * np.pi), rng.gamma(1.2, 2.5) * float(rng.random() < 0.4)
    noisy = rng.uniform(0.2, 1.0) ** 2
    return Sensor(
        gains=np.array([1 + warm, 1.0, 1 - warm]) * rng.uniform(0.98, 1.02, 3),
        vignette=rng.uniform(0, 0.35),
        focus=float(rng.choice([rng.uniform(0.3, 0.8), rng.uniform(0.8, 1.6)], p=[0.8, 0.2])),
        motion=min(way, 9.0) * np.array([np.cos(angle), np.sin(angle)]),
        shot=0.045 * noisy,
        read=0.012 * noisy,
        jpeg=int(rng.integers(55, 96)) if rng.random() < 0.8 else 0,
        seed=int(rng.integers(2**31)),
    )


def _falloff(width: int, height: int, loss: float) -> NDArray[np.float32]:
    """What the lens leaves of the light, (height, width): ``1 - loss`` in the corners."""
    x = np.linspace(-1, 1, width, dtype=np.float32) ** 2
    y = np.linspace(-1, 1, height, dtype=np.float32) ** 2
    return np.asarray(1 - np.float32(loss / 2) * (y[:, None] + x))


@lru_cache(maxsize=1)
def _table() -> NDArray[np.uint8]:
    """sRGB bytes of linear light 0 to 2, rolled off softly above 0.8."""
    from hand_mesh_ros.render.shading import to_srgb

    return (255 * to_srgb(np.arange(_CURVE) * 2 / _CURVE) + 0.5).astype(np.uint8)
