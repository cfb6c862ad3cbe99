"""The crops that HaMeR and WiLoR were published with: which square of the image, which pixels.

Two things differ from `geometry.crops`: the square's centre comes to lie on pixel (128, 128) of
256, half a pixel off its middle, and left hands are mirrored. A square is centre and side in
image pixels, of which the centre of the top-left one is (0, 0).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hand_mesh_ros.geometry.crop_camera import CROP

Array = NDArray[np.float64]

MEAN: Final = (0.485, 0.456, 0.406)
"""Of the networks' input, RGB in 0..1 (ImageNet's)."""
DEVIATION: Final = (0.229, 0.224, 0.225)

_BLURRED_FROM = 1.1  # pixels of the image to half a pixel of the crop


@dataclass(frozen=True)
class BoxRule:
    """How a box becomes a square; the default is that of the published demos.

    rescale: the box grows by this about its middle. expanded: it is grown to the shape 192:256
    before the longer side is taken, as in demos and evaluation; in training it was not.
    """

    rescale: float = 2.0
    expanded: bool = True

    def __post_init__(self) -> None:
        if not self.rescale > 0:
            raise ValueError(f"rescale must be positive, not {self.rescale}")


DEMO: Final = BoxRule()
TRAINING: Final = BoxRule(expanded=False)


def box_squares(boxes: ArrayLike, rule: BoxRule = DEMO) -> tuple[Array, Array]:
    """Centres (N, 2) and sides (N,), pixels, for boxes (N, 4) = left, top, right, bottom."""
    box = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    low, high = box[:, :2], box[:, 2:]
    width, height = (rule.rescale * (high - low)).T
    return (low + high) / 2, np.maximum(height, width * 4 / 3 if rule.expanded else width)


def square_matrix(
    centres: ArrayLike, sides: ArrayLike, mirrored: ArrayLike = False, out: int = CROP
) -> Array:
    """Matrices (N, 2, 3) from pixels of `out` x `out` crops to image pixels, as `crops.warp` takes.

    mirrored: (N,) or one, whether the crop shows the square's right side on its left. Mirroring is
    the same as the published flip of the whole image before.
    """
    centre = np.asarray(centres, dtype=np.float64).reshape(-1, 2)
    scale = np.broadcast_to(np.asarray(sides, dtype=np.float64) / out, len(centre))
    across = np.where(mirrored, -scale, scale)
    matrices = np.zeros((len(centre), 2, 3))
    matrices[:, 0, 0], matrices[:, 1, 1] = across, scale
    matrices[:, 0, 2] = centre[:, 0] - across * out / 2
    matrices[:, 1, 2] = centre[:, 1] - scale * out / 2
    return matrices


def blur_sigma(sides: ArrayLike, out: int = CROP) -> Array:
    """Standard deviations (N,), image pixels, of the published blur against aliasing; 0: none."""
    d = np.asarray(sides, dtype=np.float64) / out / 2
    return np.where(d > _BLURRED_FROM, (d - 1) / 2, 0.0)


def square_crops(
    image: NDArray[np.uint8],
    centres: ArrayLike,
    sides: ArrayLike,
    mirrored: ArrayLike = False,
    blur: bool = True,
) -> NDArray[np.float32]:
    """Standardised crops (N, 3, 256, 256) of an RGB image (H, W, 3): pixels as published, on a CPU.

    Blurs what it needs of the image, where the published code blurs all of it a hand; without
    `blur`, or where none is needed, pixels are rounded to whole numbers as there.
    """
    matrices = square_matrix(centres, sides, mirrored)
    sigmas = np.broadcast_to(blur_sigma(sides) if blur else 0.0, len(matrices))
    pixels = np.zeros((len(matrices), CROP, CROP, 3))
    for crop, matrix, sigma in zip(pixels, matrices, sigmas, strict=True):
        crop[:] = _pixels(image, matrix, sigma)
    standard = (pixels / 255 - np.array(MEAN)) / np.array(DEVIATION)
    return np.ascontiguousarray(standard.transpose(0, 3, 1, 2), dtype=np.float32)


def _pixels(image: NDArray[np.uint8], matrix: Array, sigma: float) -> NDArray[np.generic]:
    import cv2
    from scipy.ndimage import gaussian_filter

    source: NDArray[np.generic] = image
    matrix = matrix.copy()
    if sigma > 0:
        margin = int(4 * sigma + 0.5) + 2  # the filter ends at four deviations
        corners = matrix @ np.array([[0, 0, 1], [CROP, CROP, 1]]).T
        size = np.array(image.shape[1::-1])
        low = np.clip(np.floor(corners.min(1)).astype(int) - margin, 0, size - 1)
        high = np.clip(np.ceil(corners.max(1)).astype(int) + margin + 1, low + 1, size)
        part = image[low[1] : high[1], low[0] : high[0]].astype(np.float64)
        source = gaussian_filter(part, (sigma, sigma, 0), mode="nearest")
        matrix[:, 2] -= low
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(source, matrix, (CROP, CROP), flags=flags))
