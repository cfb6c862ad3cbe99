"""Calibration numbers, as ROS's CameraInfo words them, to a :class:`Camera`.

One validated way in for messages, calibration files and bags. The meaning of the fields is that of
``sensor_msgs/CameraInfo``: K and D describe the full-resolution raw image, P the full-resolution
rectified one; the region of interest is cut out first, in full-resolution pixels, and what is left
is binned.

Pixel centres. The centre of the top-left pixel is (0, 0), so a binned pixel ``u`` is the mean of
the full-resolution pixels ``b u ... b u + b - 1`` and its centre lies at ``b u + (b - 1) / 2``:

    f' = f / b        c' = (c - offset - (b - 1) / 2) / b

CameraInfo defines binning as combining pixels, so this is what its words mean;
``image_geometry`` leaves the half pixel out and differs by ``(b - 1) / (2 b)`` < 0.5 px.

Axes. The camera's optical axes are those in which the delivered image is a plain projection: the
rectified axes if ``rectified``, else the raw ones; ``frame_id`` is taken to name them. The
rectification R is therefore never applied, and neither is P's fourth column (a stereo pair's
baseline): where the camera stands is what TF says about its frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike

from hand_mesh_ros.types import Camera, DistortionModel, FloatArray

# Accepted number of coefficients for each name a driver may write. Drivers with more terms than
# eight (thin prism, and a sensor tilt that is nearly always zero) call them rational_polynomial.
_MODELS: dict[str, tuple[DistortionModel, tuple[int, ...]]] = {
    "": ("none", (0, 4, 5, 8, 12, 14)),
    "none": ("none", (0, 4, 5, 8, 12, 14)),
    "plumb_bob": ("plumb_bob", (0, 4, 5)),
    "rational_polynomial": ("rational_polynomial", (8, 12, 14)),
    "thin_prism": ("thin_prism", (12, 14)),
    "equidistant": ("equidistant", (4,)),
    "fisheye": ("equidistant", (4,)),
}


class BadCameraInfo(ValueError):
    """A calibration that cannot be used; the text names its source and what is wrong."""


class RegionLike(Protocol):
    """The fields of ``sensor_msgs/RegionOfInterest`` that are read."""

    x_offset: int
    y_offset: int
    width: int
    height: int


class CameraInfoLike(Protocol):
    """The fields of ``sensor_msgs/CameraInfo``, whichever library made the message."""

    header: Any
    width: int
    height: int
    distortion_model: str
    d: Any
    k: Any
    p: Any
    binning_x: int
    binning_y: int
    roi: Any


def camera_from_info(
    info: CameraInfoLike, name: str, rectified: bool = False, topic: str = ""
) -> Camera:
    """The camera of the image delivered beside a CameraInfo; extrinsics are left at identity.

    ``topic`` is only for messages. Raises :class:`BadCameraInfo`.
    """
    roi: RegionLike = info.roi
    return camera_from_numbers(
        name=name,
        source=topic or name,
        size=(info.width, info.height),
        K=info.k,
        D=info.d,
        P=info.p,
        model=info.distortion_model,
        rectified=rectified,
        roi=(roi.x_offset, roi.y_offset, roi.width, roi.height),
        binning=(info.binning_x, info.binning_y),
        frame_id=info.header.frame_id,
    )


def camera_from_numbers(
    *,
    name: str,
    source: str,
    size: tuple[int, int],
    K: ArrayLike,
    D: ArrayLike = (),
    P: ArrayLike | None = None,
    model: str = "plumb_bob",
    rectified: bool = False,
    roi: tuple[int, int, int, int] = (0, 0, 0, 0),
    binning: tuple[int, int] = (1, 1),
    frame_id: str = "",
) -> Camera:
    """A :class:`Camera` whose K belongs to the delivered image (see the module's text).

    ``size`` is (width, height) at full resolution; ``K`` 9 numbers, ``P`` 12, row-major; ``roi``
    (x_offset, y_offset, width, height), all zero or width or height zero meaning all that is right
    of and below the offset; ``binning`` 0 means 1. With ``rectified`` P's left 3x3 part is used
    and D ignored. ``source`` (a topic or a file) begins every error text. Raises
    :class:`BadCameraInfo`.
    """
    matrix = _projection(P if rectified else K, rectified, source)
    distortion, coefficients = ("none", np.zeros(0)) if rectified else _distortion(model, D, source)
    width, height = size
    if width <= 0 or height <= 0:
        raise BadCameraInfo(f"{source}: image size is {width}x{height}, expected both above zero")
    x, y, w, h = roi
    w, h = w or width - x, h or height - y
    if min(x, y) < 0 or w <= 0 or h <= 0 or x + w > width or y + h > height:
        raise BadCameraInfo(
            f"{source}: region of interest {w}x{h}+{x}+{y} leaves the image of {width}x{height}"
        )
    bins = np.maximum(binning, 1)
    delivered_width, delivered_height = w // int(bins[0]), h // int(bins[1])
    if delivered_width == 0 or delivered_height == 0:
        raise BadCameraInfo(f"{source}: binning {bins[0]}x{bins[1]} leaves nothing of {w}x{h}")
    matrix[:2, 2] -= np.array([x, y]) + (bins - 1) / 2
    matrix[:2] /= bins[:, None]
    return Camera(
        name=name,
        width=int(delivered_width),
        height=int(delivered_height),
        K=matrix,
        distortion=distortion,
        D=coefficients,
        frame_id=frame_id,
    )


def _numbers(values: ArrayLike, count: int | None, what: str, source: str) -> FloatArray:
    array = np.array(values, dtype=np.float64).reshape(-1)
    if count is not None and array.size != count:
        raise BadCameraInfo(f"{source}: {what} has {array.size} numbers, expected {count}")
    if not np.isfinite(array).all():
        raise BadCameraInfo(f"{source}: {what} holds numbers that are not finite: {array.tolist()}")
    return array


def _projection(values: ArrayLike | None, rectified: bool, source: str) -> FloatArray:
    """The 3x3 camera matrix out of K, or out of P for rectified images."""
    what = "P" if rectified else "K"
    if values is None:
        raise BadCameraInfo(f"{source}: rectified images need P, which is missing")
    flat = _numbers(values, 12 if rectified else 9, what, source)
    matrix = flat.reshape(3, -1)[:, :3].copy()
    if matrix[0, 0] == 0:
        raise BadCameraInfo(
            f"{source}: the camera is not calibrated ({what}[0] = 0); calibrate it or give "
            "an intrinsics file"
        )
    if matrix[0, 0] < 0 or matrix[1, 1] <= 0:
        raise BadCameraInfo(
            f"{source}: focal lengths in {what} are {matrix[0, 0]:g} and {matrix[1, 1]:g}, "
            "expected both above zero"
        )
    if not np.allclose(matrix[2], [0, 0, 1]) or matrix[1, 0] != 0:
        raise BadCameraInfo(f"{source}: {what} is no camera matrix (rows fx s cx, 0 fy cy, 0 0 1)")
    return matrix


def _distortion(model: str, D: ArrayLike, source: str) -> tuple[DistortionModel, FloatArray]:
    """The model's own name and its coefficients, as few as tell the same."""
    if model not in _MODELS:
        known = ", ".join(repr(key) for key in _MODELS)
        raise BadCameraInfo(f"{source}: unknown distortion model {model!r}; known are {known}")
    name, lengths = _MODELS[model]
    d = _numbers(D, None, "D", source)
    if d.size not in lengths:
        raise BadCameraInfo(
            f"{source}: D has {d.size} coefficients, expected {' or '.join(map(str, lengths))} "
            f"for distortion model {model!r}"
        )
    if name == "equidistant":
        return name, d
    if not d.any():
        return "none", np.zeros(0)
    if name == "none":
        raise BadCameraInfo(
            f"{source}: D is {d.tolist()} but distortion model {model!r} has no coefficients; "
            "name the model"
        )
    if d[12:].any():
        raise BadCameraInfo(
            f"{source}: D has a sensor tilt ({d[12]:g}, {d[13]:g} rad), which is not supported; "
            "recalibrate without CALIB_TILTED_MODEL"
        )
    if name == "rational_polynomial" and d[8:].any():
        name = "thin_prism"
    return name, d[: 12 if name == "thin_prism" else 8]


def size_mismatch(camera: Camera, image_size: Sequence[int]) -> str:
    """Empty if an image of (height, width, ...) fits the camera, else a text that says why not."""
    height, width = image_size[:2]
    if (width, height) == (camera.width, camera.height):
        return ""
    return f"image is {width}x{height} but its calibration is for {camera.width}x{camera.height}"
