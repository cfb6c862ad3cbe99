"""Crops straight from whole frames, on the device: all hands of all cameras as one batch.

A frame is uploaded once, as it is; its pixels become floats only where a crop needs them. Frames
may be of different sizes. Matrices are those of `geometry.crops` and `geometry.published_crops`,
and so are the pixels, whose rule for shrunken regions is the published one: blurred first, by a
Gaussian over the frame, of which only the crop's neighbourhood is computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hand_mesh_ros.geometry.crops import Border
from hand_mesh_ros.geometry.published_crops import DEVIATION, MEAN

_REACH = 4.0  # standard deviations at which the published filter ends


class Pictures(NamedTuple):
    """Frames of any sizes on one device, their rows one after another.

    pixels: (P, 3) uint8 or floating. begin, width, height: (F,) int64, first pixel and size of each
    frame.
    """

    pixels: Tensor
    begin: Tensor
    width: Tensor
    height: Tensor


def upload(images: Sequence[NDArray[np.uint8]], device: torch.device | str) -> Pictures:
    """Images (H, W, 3) uint8 on the device; by way of pinned memory where that helps."""
    sizes = np.array([image.shape[:2] for image in images], dtype=np.int64).reshape(-1, 2)
    ends = sizes.prod(1).cumsum()
    rows = [torch.from_numpy(np.ascontiguousarray(image)).view(-1, 3) for image in images]
    pixels = torch.cat(rows) if len(rows) != 1 else rows[0]
    device = torch.device(device)
    if device.type == "cuda":
        pixels = pixels.pin_memory()
    begin = torch.from_numpy(ends - sizes.prod(1))
    height, width = torch.from_numpy(np.ascontiguousarray(sizes.T))
    return Pictures(
        pixels.to(device, non_blocking=True), begin.to(device), width.to(device), height.to(device)
    )


def crops_of(
    images: Sequence[NDArray[np.uint8]],
    index: NDArray[np.int_],
    matrices: NDArray[np.float64],
    out: int,
    device: torch.device | str,
    border: Border = "replicate",
    blur: NDArray[np.float64] | None = None,
) -> Tensor:
    """`sample` of images, which are uploaded first; on a CPU they stay where they are."""
    if torch.device(device).type == "cpu":
        return _by_opencv(images, index, matrices, out, border, blur)
    return sample(upload(images, device), index, matrices, out, border, blur)


def sample(
    pictures: Pictures,
    index: Tensor | NDArray[np.int_],
    matrices: NDArray[np.float64],
    out: int,
    border: Border = "replicate",
    blur: NDArray[np.float64] | None = None,
) -> Tensor:
    """Bilinear crops (N, 3, out, out) float32, 0..255, for crop matrices (N, 2, 3).

    index: (N,) the frame of each. Mirrored crops have matrices with a negative determinant.
    blur: (N,) standard deviations, frame pixels, of the Gaussian before; 0: none, and pixels are
    rounded to whole numbers then, as they are by `geometry.crops.warp`. Equal to that and to
    `geometry.published_crops.square_crops` but for float rounding.
    """
    if pictures.pixels.device.type == "cpu":
        return _by_opencv(_images(pictures), np.asarray(index), matrices, out, border, blur)
    return sample_in_batch(pictures, index, matrices, out, border, blur)


def sample_in_batch(
    pictures: Pictures,
    index: Tensor | NDArray[np.int_],
    matrices: NDArray[np.float64],
    out: int,
    border: Border = "replicate",
    blur: NDArray[np.float64] | None = None,
) -> Tensor:
    """`sample` as it is done on an accelerator, on any device."""
    device = pictures.pixels.device
    where = torch.as_tensor(index, dtype=torch.int64, device=device)
    maps = torch.as_tensor(matrices, dtype=torch.float64, device=device)
    sharp = np.ones(len(matrices), bool) if blur is None else ~(np.asarray(blur) > 0)
    if sharp.all():
        return _bilinear(pictures, where, maps, out, border).round_()
    crops = torch.empty((len(maps), 3, out, out), device=device)
    plain = torch.as_tensor(sharp, device=device)
    if sharp.any():
        crops[plain] = _bilinear(pictures, where[plain], maps[plain], out, border).round_()
    soft = ~plain
    assert blur is not None
    windows, moved = _blurred(
        pictures, where[soft], maps[soft], out, np.asarray(blur, dtype=np.float64)[~sharp], border
    )
    each = torch.arange(len(moved), device=device)
    crops[soft] = _bilinear(windows, each, moved, out, "replicate")
    return crops


def standardised(crops: Tensor) -> Tensor:
    """Crops (N, 3, S, S) of 0..255 as ImageNet's networks take them."""
    mean, deviation = (crops.new_tensor(v)[:, None, None] for v in (MEAN, DEVIATION))
    return (crops / 255 - mean) / deviation


def _images(pictures: Pictures) -> list[NDArray[np.uint8]]:
    """Views of pictures on a CPU as arrays (H, W, 3)."""
    pixels = pictures.pixels.numpy()
    begin, width, height = (v.tolist() for v in pictures[1:])
    return [
        pixels[b : b + w * h].reshape(h, w, 3)
        for b, w, h in zip(begin, width, height, strict=True)
    ]


def _by_opencv(
    images: Sequence[NDArray[np.uint8]], index: NDArray[np.int_], matrices: NDArray[np.float64],
    out: int, border: Border, blur: NDArray[np.float64] | None,
) -> Tensor:  # fmt: skip
    """`sample` on a CPU, which gains nothing from a batch, and for which OpenCV is faster.

    Channels are last in memory, as OpenCV has them and the landmark network wants them.
    """
    import cv2

    crops = np.empty((len(matrices), out, out, 3), np.float32)
    mode = cv2.BORDER_REPLICATE if border == "replicate" else cv2.BORDER_CONSTANT
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    sigmas = np.zeros(len(matrices)) if blur is None else np.asarray(blur)
    for crop, i, matrix, sigma in zip(crops, index, matrices, sigmas, strict=True):
        source: NDArray[Any] = images[i]
        if sigma > 0:
            source, matrix = _blurred_part(images[i], matrix, out, float(sigma))
        crop[:] = cv2.warpAffine(source, matrix, (out, out), flags=flags, borderMode=mode)
    return torch.from_numpy(crops).permute(0, 3, 1, 2)


def _blurred_part(
    image: NDArray[np.uint8], matrix: NDArray[np.float64], out: int, sigma: float
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """What a crop needs of a blurred image, float32, and the crop's matrix in it."""
    import cv2

    reach = int(_REACH * sigma + 0.5)
    corners = matrix @ np.array([[0, 0, out, out], [0, out, 0, out], [1, 1, 1, 1]])
    size = np.array(image.shape[1::-1])
    low = np.clip(np.floor(corners.min(1)).astype(int) - 1 - reach, 0, size - 1)
    high = np.clip(np.ceil(corners.max(1)).astype(int) + 2 + reach, low + 1, size)
    part = image[low[1] : high[1], low[0] : high[0]].astype(np.float32)
    kernel = _kernels(np.array([sigma]), np.array([reach]))[0]
    soft = cv2.sepFilter2D(part, -1, kernel, kernel, borderType=cv2.BORDER_REPLICATE)
    return soft, np.column_stack([matrix[:, :2], matrix[:, 2] - low])


def _bilinear(
    pictures: Pictures, index: Tensor, matrices: Tensor, out: int, border: Border
) -> Tensor:
    """Crops (N, 3, out, out) float32; coordinates in double precision, as a pixel of 4000 needs."""
    steps = torch.arange(out, dtype=torch.float64, device=matrices.device)
    along, down, offset = matrices.unbind(2)  # each (N, 2): by u and v
    u, v = (
        (along[:, i, None] * steps)[:, None]
        + (down[:, i, None] * steps + offset[:, i, None])[..., None]
        for i in (0, 1)
    )
    crops = torch.zeros((len(index), out, out, 3), device=matrices.device)
    width, height, begin = (
        value[index][:, None, None] for value in (pictures.width, pictures.height, pictures.begin)
    )
    left, top = u.floor(), v.floor()
    du, dv = (u - left).float(), (v - top).float()
    for right, wu in ((0, 1 - du), (1, du)):
        for below, wv in ((0, 1 - dv), (1, dv)):
            x, y = left.long() + right, top.long() + below
            weight = wu * wv
            if border == "zero":
                inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
                weight = torch.where(inside, weight, 0.0)
            x = torch.minimum(x.clamp_(min=0), width - 1)
            y = torch.minimum(y.clamp_(min=0), height - 1)
            pixels = pictures.pixels[(begin + y * width + x).flatten()].view(crops.shape)
            crops.addcmul_(pixels.float(), weight[..., None])
    return crops.permute(0, 3, 1, 2).contiguous()


def _blurred(
    pictures: Pictures, index: Tensor, maps: Tensor, out: int, sigma: NDArray[np.float64],
    border: Border,
) -> tuple[Pictures, Tensor]:  # fmt: skip
    """Blurred windows (one a crop, all as large as the largest) and the crops' matrices in them.

    Where the border is zero, the windows are blank beyond the frame.
    """
    device = maps.device
    corners = maps @ maps.new_tensor([[0, 0, out, out], [0, out, 0, out], [1, 1, 1, 1]])
    low = corners.amin(2).floor().long() - 1
    high = corners.amax(2).ceil().long() + 2
    size = (high - low).amax(0).tolist()
    reach = (_REACH * sigma + 0.5).astype(int)  # as scipy and scikit-image end it
    most = int(reach.max())
    x, y = (
        low[:, i, None] - most + torch.arange(size[i] + 2 * most, device=device) for i in (0, 1)
    )
    width, height = pictures.width[index][:, None], pictures.height[index][:, None]
    column = torch.minimum(x.clamp(min=0), width - 1)
    row = torch.minimum(y.clamp(min=0), height - 1)
    place = pictures.begin[index][:, None, None] + row[:, :, None] * width[..., None]
    pixels = pictures.pixels[(place + column[:, None, :]).flatten()]
    window = pixels.view(len(maps), len(y[0]), len(x[0]), 3).permute(0, 3, 1, 2).float()
    kernel = torch.as_tensor(_kernels(sigma, reach), dtype=torch.float32, device=device)
    kernel = kernel.repeat_interleave(3, dim=0)[:, None]
    flat = window.reshape(1, -1, *window.shape[2:])
    flat = torch.nn.functional.conv2d(flat, kernel[..., None, :], groups=len(kernel))
    flat = torch.nn.functional.conv2d(flat, kernel[..., None], groups=len(kernel))
    window = flat.view(len(maps), 3, *flat.shape[2:])
    if border == "zero":
        x, y = (value[:, most : value.shape[1] - most] for value in (x, y))
        inside = ((y >= 0) & (y < height))[:, :, None] & ((x >= 0) & (x < width))[:, None, :]
        window = window * inside[:, None]
    rows = window.permute(0, 2, 3, 1).reshape(-1, 3)
    many = torch.ones(len(maps), dtype=torch.int64, device=device)
    begin = torch.arange(len(maps), device=device) * (size[0] * size[1])
    moved = maps.clone()
    moved[:, :, 2] -= low
    return Pictures(rows, begin, many * size[0], many * size[1]), moved


def _kernels(
    sigma: NDArray[np.float64], reach: NDArray[np.int_]
) -> NDArray[np.float64]:
    """Gaussians (N, K), each ending at its own reach."""
    steps = np.arange(-reach.max(), reach.max() + 1)
    weight = np.exp(-0.5 * np.square(steps / sigma[:, None]))
    weight[np.abs(steps) > reach[:, None]] = 0
    return np.asarray(weight / weight.sum(1, keepdims=True))
