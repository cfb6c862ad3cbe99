"""``sensor_msgs/Image`` and ``CompressedImage`` to RGB arrays and back.

The pixels are the business of :mod:`hand_mesh_ros.data.pixels`; here are only the messages. A
``BadImage`` names the topic and what is wrong, ready to be logged as it is.
"""

from __future__ import annotations

from array import array
from typing import Any, Literal

import numpy as np
from builtin_interfaces.msg import Time
from numpy.typing import NDArray
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from hand_mesh_ros.data import pixels
from hand_mesh_ros.data.pixels import BadImage, UnknownEncoding
from hand_mesh_ros.types import DepthArray, ImageArray

__all__ = [
    "BadImage",
    "UnknownEncoding",
    "decode_compressed",
    "decode_depth",
    "decode_image",
    "encode_compressed",
    "encode_depth",
    "encode_image",
    "header",
    "nanoseconds",
]

_SWAPS: dict[str, str] = {"rgb8": "", "bgr8": "COLOR_RGB2BGR", "mono8": "COLOR_RGB2GRAY"}


def nanoseconds(stamp: Time) -> int:
    """Nanoseconds of a message's stamp."""
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


def header(stamp_ns: int, frame_id: str) -> Header:
    """A header with a stamp in nanoseconds."""
    sec, nanosec = divmod(stamp_ns, 1_000_000_000)
    return Header(stamp=Time(sec=sec, nanosec=nanosec), frame_id=frame_id)


def decode_image(msg: Image, topic: str) -> ImageArray:
    """RGB uint8 (H, W, 3); for tightly packed rgb8 a view of the message's own bytes.

    Every encoding of ``pixels.ENCODINGS``; one that is not there goes through ``cv_bridge`` where
    the distribution has it. Raises :class:`BadImage`.
    """
    big = bool(msg.is_bigendian)
    try:
        return pixels.decode(msg.encoding, msg.data, msg.width, msg.height, msg.step, big, topic)
    except UnknownEncoding as refusal:
        return _with_cv_bridge(msg, topic, refusal)


def decode_depth(msg: Image, topic: str) -> NDArray[np.float32]:
    """Depth in metres, float32 (H, W), NaN where unknown, of 16UC1 (mm) or 32FC1 (m)."""
    big = bool(msg.is_bigendian)
    return pixels.decode_depth(msg.encoding, msg.data, msg.width, msg.height, msg.step, big, topic)


def decode_compressed(msg: CompressedImage, topic: str) -> ImageArray:
    """RGB uint8 (H, W, 3) of a JPEG or PNG message; raises :class:`BadImage`.

    ``format`` ("jpeg", "rgb8; jpeg compressed bgr8", ...) speaks of the image before compression:
    the file itself says what it is, and its colours are in the file format's order.
    """
    if "compressedDepth" in msg.format:
        raise BadImage(
            f"{topic}: format {msg.format!r} is compressed depth, expected a colour image; "
            "subscribe to the topic of the colour camera"
        )
    return pixels.decode_compressed(msg.data, topic)


def encode_image(
    image: ImageArray,
    stamp_ns: int,
    frame_id: str,
    encoding: Literal["rgb8", "bgr8", "mono8"] = "rgb8",
) -> Image:
    """An Image message of an RGB uint8 (H, W, 3) array; ``stamp_ns`` in nanoseconds."""
    _require_rgb(image)
    if encoding not in _SWAPS:
        raise BadImage(f"cannot encode {encoding!r}; known are {', '.join(_SWAPS)}")
    if _SWAPS[encoding]:
        import cv2

        image = np.asarray(cv2.cvtColor(image, getattr(cv2, _SWAPS[encoding])), dtype=np.uint8)
    height, width = image.shape[:2]
    return Image(
        header=header(stamp_ns, frame_id),
        height=height,
        width=width,
        encoding=encoding,
        step=image.size // height,
        data=_byte_array(image),
    )


def encode_depth(
    depth: DepthArray, stamp_ns: int, frame_id: str, encoding: Literal["16UC1", "32FC1"] = "16UC1"
) -> Image:
    """An Image message of depth (H, W) in metres: millimetres, 0 where unknown; or 32FC1.

    16UC1 knows nothing of depths beyond 65.535 m.
    """
    if depth.ndim != 2 or depth.size == 0 or encoding not in ("16UC1", "32FC1"):
        raise BadImage(f"cannot encode depth of shape {depth.shape} as {encoding!r}")
    known = np.isfinite(depth) & (depth > 0)
    if encoding == "16UC1":
        known &= depth < 65.535
        values: NDArray[Any] = np.rint(np.where(known, depth, 0) * 1e3).astype("<u2")
    else:
        values = np.where(known, depth, np.nan).astype("<f4")
    height, width = values.shape
    return Image(
        header=header(stamp_ns, frame_id),
        height=height,
        width=width,
        encoding=encoding,
        step=width * values.itemsize,
        data=_byte_array(values.view(np.uint8)),
    )


def encode_compressed(
    image: ImageArray,
    stamp_ns: int,
    frame_id: str,
    kind: Literal["jpeg", "png"] = "jpeg",
    quality: int = 90,
) -> CompressedImage:
    """A CompressedImage of an RGB uint8 (H, W, 3) array; ``quality`` 1-100 is JPEG's."""
    import cv2

    _require_rgb(image)
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if kind == "jpeg" else []
    done, packed = cv2.imencode(f".{kind}", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    if not done:
        raise BadImage(f"OpenCV could not encode an image of {image.shape} as {kind}")
    message = CompressedImage(header=header(stamp_ns, frame_id))
    message.format = f"rgb8; {kind} compressed bgr8"
    message.data = _byte_array(packed)
    return message


def _require_rgb(image: ImageArray) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise BadImage(f"expected RGB uint8 (H, W, 3), got {image.dtype} {image.shape}")


def _byte_array(data: NDArray[np.uint8]) -> array[int]:
    # Any other way of filling a message's data costs ten to a thousand times as much.
    out = array("B")
    out.frombytes(np.ascontiguousarray(data).data.cast("B"))
    return out


def _with_cv_bridge(msg: Image, topic: str, refusal: UnknownEncoding) -> ImageArray:
    """The distribution's own conversion for encodings we do not know; else the refusal."""
    try:
        from cv_bridge import CvBridge, CvBridgeError
    except (ImportError, AttributeError):  # absent, or built for another NumPy
        raise refusal from None
    try:
        return np.ascontiguousarray(CvBridge().imgmsg_to_cv2(msg, "rgb8"), dtype=np.uint8)
    except CvBridgeError as error:
        raise BadImage(f"{refusal} (cv_bridge: {error})") from error
