"""Every image encoding against hand-made pixels or OpenCV's own conversions."""

from __future__ import annotations

import sys
import types
from array import array

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("sensor_msgs.msg", reason="needs ROS 2 messages (pip extra [ros])")
from sensor_msgs.msg import CompressedImage, Image  # noqa: E402

from hand_mesh_ros.data.pixels import ENCODINGS  # noqa: E402
from hand_mesh_ros.ros.images import (  # noqa: E402
    BadImage,
    decode_compressed,
    decode_depth,
    decode_image,
    encode_compressed,
    encode_image,
    nanoseconds,
)

W, H = 8, 6
Bytes = NDArray[np.uint8]


def rows_of(samples: NDArray[np.generic], order: str = "<") -> Bytes:
    """Samples as rows of bytes, in the given byte order."""
    ordered = np.ascontiguousarray(samples, dtype=samples.dtype.newbyteorder(order))
    return ordered.view(np.uint8).reshape(len(samples), -1)


def message(encoding: str, rows: Bytes, pad: int = 0, big: bool = False, height: int = H) -> Image:
    """A message of packed rows; padding is filled with noise that must not show up."""
    noise = np.random.default_rng(1).integers(0, 256, (len(rows), pad), dtype=np.uint8)
    step = rows.shape[1] + pad
    if encoding == "nv24":  # colour rows are twice as long, and so is their padding
        chroma = rows[H:].reshape(H, -1)
        rows = np.vstack(
            [
                np.hstack([rows[:H], noise[:H]]),
                np.hstack([chroma, noise[H:].reshape(H, -1)]).reshape(2 * H, -1),
            ]
        )
    else:
        rows = np.hstack([rows, noise])
    out = Image(encoding=encoding, width=W, height=height, step=step, is_bigendian=int(big))
    out.data = array("B", rows.tobytes())
    return out


def scaled(samples: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """16 bits to 8 in integers only: 65535 is 255, rounded."""
    return ((samples.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)


def yuv_to_rgb(
    y: NDArray[np.uint8], u: NDArray[np.uint8], v: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """BT.601, limited range, in floating point (ITU-R BT.601-7)."""
    y_, u_, v_ = (np.asarray(c, dtype=float) for c in (y, u, v))
    luma, cb, cr = (y_ - 16) * 255 / 219, (u_ - 128) * 255 / 224, (v_ - 128) * 255 / 224
    kr, kb = 0.299, 0.114
    red, blue = luma + 2 * (1 - kr) * cr, luma + 2 * (1 - kb) * cb
    green = luma - (2 * kr * (1 - kr) * cr + 2 * kb * (1 - kb) * cb) / (1 - kr - kb)
    return np.clip(np.round(np.stack([red, green, blue], -1)), 0, 255).astype(np.uint8)


def planes(
    rng: np.random.Generator,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
    """Full-size luma and chroma that stay inside the RGB cube's neighbourhood."""
    y = rng.integers(60, 200, (H, W), dtype=np.uint8)
    u, v = rng.integers(90, 170, (2, H, W), dtype=np.uint8)
    return y, u, v


@pytest.mark.parametrize("pad", [0, 5])
@pytest.mark.parametrize(
    ("encoding", "order"),
    [
        ("rgb8", [0, 1, 2]),
        ("bgr8", [2, 1, 0]),
        ("8UC3", [2, 1, 0]),
        ("rgba8", [0, 1, 2, 3]),
        ("bgra8", [2, 1, 0, 3]),
        ("8UC4", [2, 1, 0, 3]),
    ],
)
def test_colour_channels(
    encoding: str, order: list[int], pad: int, rng: np.random.Generator
) -> None:
    image = rng.integers(0, 256, (H, W, 4), dtype=np.uint8)
    decoded = decode_image(message(encoding, rows_of(image[..., order]), pad), "/t")
    np.testing.assert_array_equal(decoded, image[..., :3])
    assert decoded.dtype == np.uint8 and decoded.flags.c_contiguous


@pytest.mark.parametrize("pad", [0, 5])
@pytest.mark.parametrize("encoding", ["mono8", "8UC1"])
def test_grey(encoding: str, pad: int, rng: np.random.Generator) -> None:
    grey = rng.integers(0, 256, (H, W), dtype=np.uint8)
    decoded = decode_image(message(encoding, rows_of(grey), pad), "/t")
    np.testing.assert_array_equal(decoded, np.repeat(grey[..., None], 3, -1))


@pytest.mark.parametrize("pad", [0, 5])
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize(
    ("encoding", "order"),
    [
        ("mono16", [0]),
        ("rgb16", [0, 1, 2]),
        ("bgr16", [2, 1, 0]),
        ("rgba16", [0, 1, 2, 3]),
        ("bgra16", [2, 1, 0, 3]),
    ],
)
def test_sixteen_bits(
    encoding: str, order: list[int], big: bool, pad: int, rng: np.random.Generator
) -> None:
    image = rng.integers(0, 65536, (H, W, 4), dtype=np.uint16)
    image[0, :4, 0] = [0, 65535, 256, 255]
    rows = rows_of(image[..., order], ">" if big else "<")
    decoded = decode_image(message(encoding, rows, pad, big), "/t")
    expected = image[..., [0, 0, 0]] if len(order) == 1 else image[..., :3]
    np.testing.assert_array_equal(decoded, scaled(expected))


@pytest.mark.parametrize("pad", [0, 6])
@pytest.mark.parametrize(
    ("encoding", "luma_first"),
    [("yuv422", False), ("uyvy", False), ("yuyv", True), ("yuv422_yuy2", True)],
)
def test_yuv422(encoding: str, luma_first: bool, pad: int, rng: np.random.Generator) -> None:
    y, u, v = planes(rng)
    u, v = (np.repeat(c[:, ::2], 2, axis=1) for c in (u, v))
    chroma = np.where(np.arange(W) % 2 == 0, u, v)
    pair = [y, chroma] if luma_first else [chroma, y]
    decoded = decode_image(message(encoding, rows_of(np.stack(pair, -1)), pad), "/t")
    difference = decoded.astype(int) - yuv_to_rgb(y, u, v)
    assert np.abs(difference).max() <= 1  # OpenCV's fixed point


@pytest.mark.parametrize("pad", [0, 6])
@pytest.mark.parametrize("encoding", ["nv12", "nv21", "nv24"])
def test_two_planes(encoding: str, pad: int, rng: np.random.Generator) -> None:
    y, u, v = planes(rng)
    if encoding == "nv24":
        chroma = np.stack([u, v], -1).reshape(2 * H, W)
    else:
        pair = [u[::2, ::2], v[::2, ::2]]
        chroma = np.stack(pair if encoding == "nv12" else pair[::-1], -1).reshape(H // 2, W)
        u, v = (c[::2, ::2].repeat(2, 0).repeat(2, 1) for c in (u, v))
    decoded = decode_image(message(encoding, np.vstack([y, chroma]), pad), "/t")
    assert np.abs(decoded.astype(int) - yuv_to_rgb(y, u, v)).max() <= 1


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("pad", [0, 4])
@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
def test_bayer(pattern: str, pad: int, bits: int) -> None:
    colour = np.array([200, 90, 30], dtype=np.uint8)
    mosaic = np.empty((H, W), dtype=np.uint8)
    for i, letter in enumerate(pattern):
        mosaic[i // 2 :: 2, i % 2 :: 2] = colour["rgb".index(letter)]
    samples = mosaic if bits == 8 else mosaic.astype(np.uint16) * 257
    decoded = decode_image(message(f"bayer_{pattern}{bits}", rows_of(samples), pad), "/t")
    # A plain surface must come out plain, in its own colour.
    np.testing.assert_array_equal(decoded, np.broadcast_to(colour, (H, W, 3)))


def test_every_encoding_of_the_table_is_tested_here() -> None:
    bayer = {f"bayer_{p}{b}" for p in ("rggb", "bggr", "gbrg", "grbg") for b in (8, 16)}
    tested = bayer | {"rgb8", "bgr8", "8UC3", "rgba8", "bgra8", "8UC4", "mono8", "8UC1", "mono16"}
    tested |= {"rgb16", "bgr16", "bgra16", "rgba16", "nv12", "nv21", "nv24"}
    tested |= {"yuv422", "uyvy", "yuyv", "yuv422_yuy2"}
    assert set(ENCODINGS) == tested


def test_packed_rgb_is_a_view() -> None:
    msg = message("rgb8", np.zeros((H, W * 3), np.uint8))
    image = decode_image(msg, "/t")
    assert np.shares_memory(image, np.frombuffer(msg.data, np.uint8))
    padded = message("rgb8", np.zeros((H, W * 3), np.uint8), pad=2)
    assert not np.shares_memory(decode_image(padded, "/t"), np.frombuffer(padded.data, np.uint8))


@pytest.mark.parametrize("pad", [0, 2])
def test_depth(pad: int) -> None:
    millimetres = np.arange(H * W, dtype=np.uint16).reshape(H, W) * 100
    expected = millimetres / 1000.0
    expected[0, 0] = np.nan  # zero is "no measurement"
    for order, big in (("<", False), (">", True)):
        msg = message("16UC1", rows_of(millimetres, order), pad, big)
        np.testing.assert_allclose(decode_depth(msg, "/d"), expected, rtol=1e-6)
    metres = np.linspace(0, 3, H * W, dtype=np.float32).reshape(H, W)
    metres[1, 1] = np.nan
    depth = decode_depth(message("32FC1", rows_of(metres), pad), "/d")
    assert depth.dtype == np.float32
    np.testing.assert_array_equal(depth, metres)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"data": array("B", bytes(10))}, "expected 144 bytes .* got 10"),
        ({"data": array("B")}, "expected 144 bytes .* got 0"),
        ({"encoding": "rgb7"}, "unknown image encoding 'rgb7'.*bayer_rggb8.*yuv422"),
        ({"encoding": ""}, "unknown image encoding ''"),
        ({"encoding": "32FC1"}, "depth encoding"),
        ({"width": 0}, "no pixels"),
        ({"height": 0}, "no pixels"),
        ({"step": W * 3 - 1}, "step is 23 bytes, expected at least 24"),
        ({"step": 0}, "step is 0"),
        ({"width": 2**31, "step": 2**32 - 1}, "step is"),
        ({"height": 2**31}, "truncated"),
        ({"encoding": "yuyv", "width": 7}, "odd size"),
        ({"encoding": "nv12", "height": 5}, "odd size"),
        (
            {"encoding": "nv12", "step": W * 3, "data": array("B", bytes(144))},
            "216 bytes.*got 144",
        ),
    ],
)
def test_refusals_name_the_topic(change: dict[str, object], words: str) -> None:
    msg = message("rgb8", np.zeros((H, W * 3), np.uint8))
    for field, value in change.items():
        setattr(msg, field, value)
    with pytest.raises(BadImage, match=f"(?s)^/front/image_raw: .*{words}"):
        decode_image(msg, "/front/image_raw")


def test_depth_refuses_colour() -> None:
    with pytest.raises(BadImage, match="^/d: unknown depth encoding 'rgb8'.*16UC1"):
        decode_depth(message("rgb8", np.zeros((H, W * 3), np.uint8)), "/d")


def test_unknown_encodings_go_through_cv_bridge_where_there_is_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # cv_bridge is not on PyPI: a stand-in with its interface shows that ours calls it rightly.
    class Refusal(Exception):
        pass

    class Bridge:
        def imgmsg_to_cv2(self, msg: Image, encoding: str) -> NDArray[np.uint8]:
            if msg.encoding != "exotic8":
                raise Refusal("cannot")
            return np.full((msg.height, msg.width, 3), len(encoding), dtype=np.uint8)

    module = types.ModuleType("cv_bridge")
    module.CvBridge, module.CvBridgeError = Bridge, Refusal  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cv_bridge", module)
    msg = message("exotic8", np.zeros((H, W), np.uint8))
    assert (decode_image(msg, "/t") == len("rgb8")).all()
    msg.encoding = "nonsense"
    with pytest.raises(BadImage, match="^/t: unknown image encoding 'nonsense'.*cannot"):
        decode_image(msg, "/t")


def smooth_picture() -> NDArray[np.uint8]:
    u, v = np.meshgrid(np.linspace(0, 255, 64), np.linspace(0, 255, 48))
    return np.stack([u, v, 255 - u], -1).astype(np.uint8)


@pytest.mark.parametrize("kind", ["jpeg", "png"])
@pytest.mark.parametrize("words", ["{k}", "rgb8; {k} compressed bgr8", "bgr8; {k} compressed bgr8"])
def test_compressed(kind: str, words: str) -> None:
    image = smooth_picture()
    _, packed = cv2.imencode(f".{kind}", image[..., ::-1])
    msg = CompressedImage(format=words.format(k=kind), data=array("B", packed.tobytes()))
    decoded = decode_compressed(msg, "/t")
    assert np.abs(decoded.astype(int) - image).mean() < (3 if kind == "jpeg" else 1e-9)
    assert decoded.flags.c_contiguous


@pytest.mark.parametrize("kind", ["jpeg", "png"])
def test_compressed_grey(kind: str) -> None:
    grey = smooth_picture()[..., 0]
    _, packed = cv2.imencode(f".{kind}", grey)
    msg = CompressedImage(format=f"mono8; {kind} compressed ", data=array("B", packed.tobytes()))
    decoded = decode_compressed(msg, "/t")
    assert decoded.shape == (48, 64, 3)
    assert np.abs(decoded.astype(int) - grey[..., None]).max() <= (4 if kind == "jpeg" else 0)


@pytest.mark.parametrize("kind", ["jpeg", "png"])
@pytest.mark.parametrize("keep", [0.0, 0.3, 0.9])
def test_truncated_compressed_images_are_refused(kind: str, keep: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    msg = encode_compressed(noise, 1, "f", kind)  # type: ignore[arg-type]
    msg.data = msg.data[: int(keep * len(msg.data))]
    with pytest.raises(BadImage, match="^/t: the compressed image is (truncated|empty)"):
        decode_compressed(msg, "/t")


def test_jpeg_with_bytes_after_its_end_is_taken() -> None:
    msg = encode_compressed(smooth_picture(), 1, "f")
    msg.data = msg.data + array("B", bytes(100))
    assert decode_compressed(msg, "/t").shape == (48, 64, 3)


def test_rubbish_and_depth_are_refused() -> None:
    rubbish = CompressedImage(format="jpeg", data=array("B", b"hello, this is no image"))
    with pytest.raises(BadImage, match="^/t: 23 bytes that begin with 68 65 6c 6c"):
        decode_compressed(rubbish, "/t")
    depth = CompressedImage(format="16UC1; compressedDepth png", data=array("B", bytes(30)))
    with pytest.raises(BadImage, match="^/t: .*compressed depth"):
        decode_compressed(depth, "/t")


@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "mono8"])
def test_encoding_comes_back(encoding: str, rng: np.random.Generator) -> None:
    image = rng.integers(0, 256, (H, W, 3), dtype=np.uint8)
    if encoding == "mono8":
        image = np.repeat(image[..., :1], 3, -1)
    stamp = 1_763_700_000_123_456_789
    msg = encode_image(image[:, ::-1], stamp, "cam", encoding)  # type: ignore[arg-type]
    assert nanoseconds(msg.header.stamp) == stamp and msg.header.frame_id == "cam"
    assert msg.step * msg.height == len(msg.data)
    np.testing.assert_array_equal(decode_image(msg, "/t"), image[:, ::-1])


def test_only_rgb_can_be_encoded() -> None:
    with pytest.raises(BadImage, match="expected RGB uint8"):
        encode_image(np.zeros((4, 4), np.uint8), 1, "f")
    with pytest.raises(BadImage, match="yuyv"):
        encode_image(np.zeros((4, 4, 3), np.uint8), 1, "f", "yuyv")  # type: ignore[arg-type]
