"""Encoded pixels, as ``sensor_msgs`` words them, to arrays: one table of every encoding.

``rgb8`` with tightly packed rows comes out as a view of the given buffer; everything else costs
one conversion. Rows may be padded (``step``). 16-bit samples are scaled from their full range to 8
bits (65535 becomes 255, rounded), so a 12-bit camera that does not fill its container looks dark.
YUV is BT.601 of limited range, as V4L2 cameras deliver it and OpenCV converts it. ``8UC1``,
``8UC3`` and ``8UC4``, which name no colours, are read in OpenCV's order: grey, BGR, BGRA.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.types import ImageArray


class BadImage(ValueError):
    """An image that cannot be used; the text names its topic or file and what is wrong."""


class UnknownEncoding(BadImage):
    """An encoding that is not in the table."""


@dataclass(frozen=True)
class _Encoding:
    """``channels`` samples of ``depth`` bytes a pixel in ``rows``/2 times the image's rows.

    ``code`` names OpenCV's conversion to RGB; empty if the samples are RGB already. ``even`` is
    what the width (and, for two-plane formats, the height) must be divisible by.
    """

    channels: int
    code: str
    depth: int = 1
    even: tuple[int, int] = (1, 1)
    rows: int = 2


def _table() -> dict[str, _Encoding]:
    table = {}
    for depth in (1, 2):
        bits = 8 * depth
        table[f"rgb{bits}"] = _Encoding(3, "", depth)
        table[f"bgr{bits}"] = _Encoding(3, "BGR2RGB", depth)
        table[f"rgba{bits}"] = _Encoding(4, "RGBA2RGB", depth)
        table[f"bgra{bits}"] = _Encoding(4, "BGRA2RGB", depth)
        table[f"mono{bits}"] = _Encoding(1, "GRAY2RGB", depth)
        # ROS names a pattern by its first two rows, OpenCV by the second row's last two of three.
        for pattern, name in {"rggb": "BG", "bggr": "RG", "gbrg": "GR", "grbg": "GB"}.items():
            table[f"bayer_{pattern}{bits}"] = _Encoding(1, f"Bayer{name}2RGB", depth, even=(2, 2))
    table |= {"8UC1": table["mono8"], "8UC3": table["bgr8"], "8UC4": table["bgra8"]}
    uyvy, yuyv = (_Encoding(2, f"YUV2RGB_{n}", even=(2, 1)) for n in ("UYVY", "YUYV"))
    table |= {"uyvy": uyvy, "yuv422": uyvy, "yuyv": yuyv, "yuv422_yuy2": yuyv}
    for name in ("nv12", "nv21"):
        table[name] = _Encoding(1, f"YUV2RGB_{name.upper()}", even=(2, 2), rows=3)
    table["nv24"] = _Encoding(1, "nv24", rows=6)
    return table


_ENCODINGS = _table()
ENCODINGS: tuple[str, ...] = tuple(sorted(_ENCODINGS))
DEPTH_ENCODINGS: tuple[str, ...] = ("16UC1", "mono16", "32FC1")


def decode(
    encoding: str,
    data: Any,
    width: int,
    height: int,
    step: int,
    big_endian: bool = False,
    source: str = "image",
) -> ImageArray:
    """RGB uint8 (height, width, 3), C-contiguous, of raw pixels in any of :data:`ENCODINGS`.

    ``data`` is anything with a buffer (bytes, ``array.array``, ndarray); ``step`` is the length of
    a row in bytes. ``source`` (a topic or a file) begins every error text. Raises
    :class:`UnknownEncoding` and :class:`BadImage` (no pixels, rows or data too short).
    """
    try:
        kind = _ENCODINGS[encoding]
    except KeyError:
        hint = "; it is a depth encoding" if encoding in DEPTH_ENCODINGS else ""
        raise UnknownEncoding(
            f"{source}: unknown image encoding {encoding!r}{hint}; known are {', '.join(ENCODINGS)}"
        ) from None
    if width % kind.even[0] or height % kind.even[1]:
        raise BadImage(f"{source}: {encoding} cannot be {width}x{height}, an odd size")
    samples = _samples(data, width, height, step, big_endian, source, kind)
    return _to_rgb(samples, width, height, kind)


def decode_depth(
    encoding: str,
    data: Any,
    width: int,
    height: int,
    step: int,
    big_endian: bool = False,
    source: str = "depth image",
) -> NDArray[np.float32]:
    """Depth along the optical axis in metres, float32 (height, width), NaN where unknown (REP-118).

    ``16UC1`` (or ``mono16``) holds millimetres, 0 meaning unknown; ``32FC1`` metres, taken as they
    are. Raises as :func:`decode` does.
    """
    if encoding not in DEPTH_ENCODINGS:
        raise UnknownEncoding(
            f"{source}: unknown depth encoding {encoding!r}; known are {', '.join(DEPTH_ENCODINGS)}"
        )
    kind = _Encoding(1, "", depth=4 if encoding == "32FC1" else 2)
    samples = _samples(data, width, height, step, big_endian, source, kind)
    if encoding == "32FC1":
        return np.array(samples, dtype=np.float32)
    depth = samples * np.float32(1e-3)
    depth[samples == 0] = np.nan
    return depth


def _samples(
    data: Any,
    width: int,
    height: int,
    step: int,
    big_endian: bool,
    source: str,
    kind: _Encoding,
) -> NDArray[Any]:
    """The buffer as rows of samples in native byte order, without a copy where that can be."""
    if width <= 0 or height <= 0:
        raise BadImage(f"{source}: the image is {width}x{height}, it has no pixels")
    per_row = width * kind.channels
    row = per_row * kind.depth
    if step < row:
        raise BadImage(f"{source}: step is {step} bytes, expected at least {row} for {width} px")
    rows = height * kind.rows // 2
    buffer = np.frombuffer(data, np.uint8) if len(data) else np.zeros(0, np.uint8)
    if buffer.size < rows * step:
        raise BadImage(
            f"{source}: the data is truncated: expected {rows * step} bytes "
            f"({rows} rows of {step}), got {buffer.size}"
        )
    if kind.code == "nv24":  # its colour rows are twice as long, padding included
        return buffer[: rows * step].reshape(rows, step)
    order = ">" if big_endian else "<"
    dtype = np.dtype(f"{order}{'f' if kind.depth == 4 else 'u'}{kind.depth}")
    samples: NDArray[Any] = np.ndarray((rows, per_row), dtype, buffer, strides=(step, kind.depth))
    if kind.depth == 1:
        return samples
    return np.ascontiguousarray(samples, dtype=dtype.newbyteorder("="))


def _to_rgb(samples: NDArray[Any], width: int, height: int, kind: _Encoding) -> ImageArray:
    if kind.code == "nv24":
        return _nv24(samples, width, height)
    pixels = samples.reshape(len(samples), width, kind.channels)
    if kind.depth == 1 and not kind.code:
        return np.ascontiguousarray(pixels)
    import cv2

    if kind.depth == 2:  # 65535 / 257 = 255, and no sample lies half-way between two results
        pixels = cv2.convertScaleAbs(pixels, alpha=1 / 257).reshape(pixels.shape)
    if kind.code:
        pixels = cv2.cvtColor(pixels, getattr(cv2, f"COLOR_{kind.code}"))
    return np.asarray(pixels, dtype=np.uint8)


def _nv24(rows: NDArray[np.uint8], width: int, height: int) -> ImageArray:
    """Luma, then a full-size plane of (Cb, Cr) pairs; BT.601, limited range."""
    import cv2

    chroma = rows[height:].reshape(height, -1)[:, : 2 * width].reshape(height, width, 2)
    yuv = np.dstack([rows[:height, :width], chroma])
    to_rgb = np.array([[1.164383, 0, 1.596027], [1.164383, -0.391762, -0.812968]])
    to_rgb = np.vstack([to_rgb, [1.164383, 2.017232, 0]])
    offset = -to_rgb @ np.array([16.0, 128.0, 128.0])
    return np.asarray(cv2.transform(yuv, np.column_stack([to_rgb, offset])), dtype=np.uint8)


def decode_compressed(data: Any, source: str = "image", upright: bool = False) -> ImageArray:
    """RGB uint8 (H, W, 3) of a JPEG, PNG or whatever else OpenCV reads from memory.

    ``upright`` applies the EXIF orientation, which a calibration never knows of. Raises
    :class:`BadImage` if the data is not an image or ends too early (OpenCV would fill a truncated
    JPEG with grey and say nothing).
    """
    import cv2

    raw = memoryview(data).cast("B").tobytes() if len(data) else b""
    if not raw:
        raise BadImage(f"{source}: the compressed image is empty")
    if _cut_short(raw):
        raise BadImage(f"{source}: the compressed image is truncated ({len(raw)} bytes, no end)")
    flags = cv2.IMREAD_COLOR | (0 if upright else cv2.IMREAD_IGNORE_ORIENTATION)
    try:
        image = cv2.imdecode(np.frombuffer(raw, np.uint8), flags)
    except cv2.error as error:  # e.g. a header that asks for more pixels than OpenCV allows
        raise BadImage(f"{source}: the compressed image cannot be decoded: {error}") from error
    if image is None:
        raise BadImage(
            f"{source}: {len(raw)} bytes that begin with {raw[:4].hex(' ')} are no image OpenCV "
            "can decode; expected JPEG (ff d8) or PNG (89 50 4e 47)"
        )
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image), dtype=np.uint8)


def _cut_short(raw: bytes) -> bool:
    """A JPEG without end-of-image after its last start-of-scan, or a PNG without IEND."""
    if raw[:2] == b"\xff\xd8":
        return raw.rfind(b"\xff\xd9") < max(raw.rfind(b"\xff\xda"), 1)
    return raw[:8] == b"\x89PNG\r\n\x1a\n" and b"IEND" not in raw[-64:]
