"""The one crop: a rotated square region of an image, as an affine matrix and as pixels.

A region of interest (ROI) is a row `(u, v, side, rotation)`: centre and side in image pixels, and
the angle in radians by which the crop's axes are turned in the image (positive turns u towards v,
clockwise on the screen). Regions are arrays `(N, 4)`, and a matrix `(2, 3)` maps crop pixels to
image pixels. In both, the centre of the top-left pixel is (0, 0).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    import torch

Border = Literal["replicate", "zero"]


def crop_matrix(rois: ArrayLike, out: int) -> NDArray[np.float64]:
    """Matrices (N, 2, 3) from pixels of `out` x `out` crops to image pixels, for ROIs (N, 4)."""
    u, v, side, angle = np.asarray(rois, dtype=np.float64).reshape(-1, 4).T
    scale = side / out
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    middle = (out - 1) / 2
    rows = [
        np.stack([cos, -sin, u - middle * (cos - sin)], axis=-1),
        np.stack([sin, cos, v - middle * (sin + cos)], axis=-1),
    ]
    return np.stack(rows, axis=-2)


def invert_affine(matrices: NDArray[np.float64]) -> NDArray[np.float64]:
    """The inverse maps (..., 2, 3): of crop matrices, those from image pixels to crop pixels."""
    linear = np.linalg.inv(matrices[..., :2])
    return np.concatenate([linear, -linear @ matrices[..., 2:]], axis=-1)


def transform_points(matrices: NDArray[np.float64], points: ArrayLike) -> NDArray[np.float64]:
    """Map points (N, P, 2) by matrices (N, 2, 3), or (P, 2) by one matrix (2, 3)."""
    linear, offset = matrices[..., :2], matrices[..., 2]
    return np.asarray(points) @ np.swapaxes(linear, -1, -2) + offset[..., None, :]


def warp(
    image: NDArray[np.uint8],
    matrices: NDArray[np.float64],
    out: int,
    border: Border = "replicate",
    into: NDArray[np.uint8] | None = None,
) -> NDArray[np.uint8]:
    """Bilinear crops (N, out, out, C) of an image (H, W, C) for crop matrices (N, 2, 3).

    `into`, if given, receives the crops and is returned.
    """
    import cv2

    mode = cv2.BORDER_REPLICATE if border == "replicate" else cv2.BORDER_CONSTANT
    if into is None:
        into = np.empty((len(matrices), out, out, *image.shape[2:]), np.uint8)
    for crop, matrix in zip(into, matrices, strict=True):
        # the matrix already maps crop to image, which is what cv2 would otherwise invert to get
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        cv2.warpAffine(image, matrix, (out, out), dst=crop, flags=flags, borderMode=mode)
    return into


def warp_torch(
    images: torch.Tensor,
    matrices: torch.Tensor,
    out: int,
    border: Border = "replicate",
) -> torch.Tensor:
    """The same crops by torch, differentiable and on the images' device: (N, C, out, out).

    `images` are floating point, (N, C, H, W) with one image a matrix (N, 2, 3); give
    `image.expand(N, -1, -1, -1)` for many crops of one image, which copies nothing.
    """
    import torch

    height, width = images.shape[-2:]
    steps = torch.arange(out, dtype=matrices.dtype, device=matrices.device)
    v, u = torch.meshgrid(steps, steps, indexing="ij")
    crop = torch.stack([u, v, torch.ones_like(u)], dim=-1)
    pixels = torch.einsum("nij,hwj->nhwi", matrices, crop)
    # grid_sample's (-1, 1) are the outer edges of the image: half a pixel outside pixel centres
    size = pixels.new_tensor([width, height])
    grid = ((2 * pixels + 1) / size - 1).to(images.dtype)
    padding = "border" if border == "replicate" else "zeros"
    return torch.nn.functional.grid_sample(
        images, grid, mode="bilinear", padding_mode=padding, align_corners=False
    )
