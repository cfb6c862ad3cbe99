"""What a depth camera makes of a scene: noise, holes, and millimetres."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Depth = NDArray[np.float32]


@dataclass(frozen=True)
class DepthSensor:
    """A short-range stereo or structured-light camera.

    ``noise`` and ``noise_per_m2``: one sigma, metres, is ``noise + noise_per_m2 * z^2``, smooth
    over a few pixels as matched windows are. ``holes``: share of the picture without depth, in
    patches of ``patch`` pixels; beside every step of more than ``edge`` metres there is none
    either. ``reach``: nothing is measured beyond it.
    """

    noise: float = 0.001
    noise_per_m2: float = 0.0025
    holes: float = 0.2
    patch: int = 6
    edge: float = 0.03
    reach: float = 4.0

    def measure(self, depth: Depth, rng: np.random.Generator) -> Depth:
        """True depth (H, W), m, as measured: whole millimetres, 0 where there is none."""
        import cv2

        height, width = depth.shape
        known = np.where(np.isfinite(depth), depth, 0.0).astype(np.float32)
        grain = rng.standard_normal((height // 2 + 1, width // 2 + 1), dtype=np.float32)
        grain = np.asarray(cv2.resize(grain, (width, height), interpolation=cv2.INTER_LINEAR))
        grain /= grain.std()
        noisy = known + grain * (self.noise + self.noise_per_m2 * known**2)
        coarse = rng.random((height // self.patch + 2, width // self.patch + 2), dtype=np.float32)
        patches = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        hole = patches < np.quantile(patches, self.holes)
        kernel = np.ones((3, 3), np.uint8)
        step = cv2.dilate(known, kernel) - cv2.erode(known, kernel) > self.edge
        gone = hole | step | (known <= 0) | (known > self.reach)
        return np.where(gone, 0.0, np.rint(noisy * 1e3) * 1e-3).astype(np.float32)
