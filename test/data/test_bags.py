"""rosbag2 recordings, written here with rosbags and read back; grouping and static transforms."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from hand_mesh_ros.data import BadRecording, open_recording
from hand_mesh_ros.data.grouping import group
from hand_mesh_ros.data.static_frames import StaticFrames
from hand_mesh_ros.geometry.rotations import exp_so3, log_so3, matrix_to_quaternion

Image = NDArray[np.uint8]
MS = 1_000_000

# --------------------------------------------------------------------------- grouping, frames


@given(
    drops=st.lists(st.sets(st.integers(0, 19), max_size=8), min_size=1, max_size=4),
    jitter=st.integers(0, 15 * MS),
    seed=st.integers(0, 2**16),
)
def test_grouping_finds_the_instants(drops: list[set[int]], jitter: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    period, start = 33 * MS, 10**18
    stamps: list[list[int]] = []
    instants: list[list[int]] = []
    for own in drops:
        kept = [n for n in range(20) if n not in own]
        order = rng.permutation(kept) if seed % 2 else np.array(kept)
        late = rng.integers(0, jitter // 2 + 1, len(kept))
        stamps.append([start + int(n) * period + int(j) for n, j in zip(order, late, strict=True)])
        instants.append([int(n) for n in order])
    sets = group(stamps)
    found = [{instants[c][i] for c, i in members.items()} for members in sets]
    assert all(len(instant) == 1 for instant in found)
    order_found = [instant.pop() for instant in found]
    assert order_found == sorted(set().union(*instants))  # each once, oldest first
    assert sum(map(len, sets)) == sum(map(len, stamps))


def test_static_frames_compose_and_name_what_is_missing() -> None:
    rng = np.random.default_rng(3)
    frames = StaticFrames()
    poses: dict[str, NDArray[np.float64]] = {"base": np.eye(4)}
    for parent, child in [("base", "rig"), ("rig", "left"), ("rig", "mast"), ("mast", "right")]:
        R, t = exp_so3(rng.normal(size=3)), rng.normal(size=3)
        T = np.eye(4)
        T[:3, :3], T[:3, 3] = R, t
        poses[child] = poses[parent] @ T
        frames.add(parent, child, t, 2.0 * matrix_to_quaternion(R))  # need not be normalised
    root, (left, right) = frames.place(["left", "/right"])
    assert root == "base"
    np.testing.assert_allclose(left, np.linalg.inv(poses["left"]), atol=1e-12)
    np.testing.assert_allclose(right, np.linalg.inv(poses["right"]), atol=1e-12)
    world, (again,) = frames.place(["right"], world="left")
    np.testing.assert_allclose(again, np.linalg.inv(poses["right"]) @ poses["left"], atol=1e-12)
    assert frames.place(["right"])[0] == "right"
    with pytest.raises(ValueError, match="connects 'left' - 'lost', 'left' - 'gone'"):
        frames.place(["left", "lost", "gone"])
    with pytest.raises(ValueError, match="'nowhere' - 'left'"):
        frames.place(["left"], world="nowhere")
    frames.add("right", "base", np.zeros(3), np.array([0, 0, 0, 1.0]))
    with pytest.raises(ValueError, match="loop"):
        frames.place(["left", "right"])


# --------------------------------------------------------------------------- bags written here

T_BASE = {"left": (0.1, 0.2, 0.3), "right": (-0.4, 0.5, 0.6)}
VECTOR = {"left": np.array([0.3, -0.2, 0.1]), "right": np.array([-1.0, 0.5, 0.2])}
PERIOD = 100 * MS
START = 1_700_000_000_000_000_123


class BagWriter:
    """A bag of two synthetic cameras, written with rosbags."""

    def __init__(self, path: Path, plugin: str) -> None:
        from rosbags.rosbag2 import StoragePlugin, Writer
        from rosbags.typesys import Stores, get_typestore

        self.store = get_typestore(Stores.ROS2_JAZZY)
        self.writer = Writer(path, version=9, storage_plugin=StoragePlugin[plugin])
        self.connections: dict[str, Any] = {}

    def __enter__(self) -> BagWriter:
        self.writer.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.writer.close()

    def make(self, name: str, **fields: Any) -> Any:
        return self.store.types[name](**fields)

    def put(self, topic: str, message: Any, at: int) -> None:
        kind = message.__msgtype__
        if topic not in self.connections:
            self.connections[topic] = self.writer.add_connection(topic, kind, typestore=self.store)
        self.writer.write(self.connections[topic], at, self.store.serialize_cdr(message, kind))

    def header(self, stamp: int, frame: str) -> Any:
        time = self.make("builtin_interfaces/msg/Time", sec=stamp // 10**9, nanosec=stamp % 10**9)
        return self.make("std_msgs/msg/Header", stamp=time, frame_id=frame)

    def info(self, frame: str, stamp: int, width: int = 16) -> Any:
        region = self.make(
            "sensor_msgs/msg/RegionOfInterest",
            x_offset=0,
            y_offset=0,
            width=0,
            height=0,
            do_rectify=False,
        )
        K = np.array([20.0, 0, 7.5, 0, 21.0, 5.5, 0, 0, 1])
        return self.make(
            "sensor_msgs/msg/CameraInfo",
            header=self.header(stamp, frame),
            width=width,
            height=12,
            distortion_model="plumb_bob",
            d=np.array([0.1, 0.0, 0.01, 0.0, 0.0]),
            k=K,
            r=np.eye(3).reshape(-1),
            p=np.insert(K, [3, 6, 9], 0.0),
            binning_x=0,
            binning_y=0,
            roi=region,
        )

    def image(self, frame: str, stamp: int, image: Image, encoding: str = "rgb8") -> Any:
        return self.make(
            "sensor_msgs/msg/Image",
            header=self.header(stamp, frame),
            height=image.shape[0],
            width=image.shape[1],
            encoding=encoding,
            is_bigendian=0,
            step=image[0].size,
            data=image.reshape(-1),
        )

    def compressed(self, frame: str, stamp: int, image: Image) -> Any:
        packed = cv2.imencode(".png", image[..., ::-1])[1].reshape(-1)
        return self.make(
            "sensor_msgs/msg/CompressedImage",
            header=self.header(stamp, frame),
            format="rgb8; png compressed bgr8",
            data=packed,
        )

    def static(self, names: Sequence[str]) -> Any:
        transforms = []
        for name in names:
            x, y, z = T_BASE[name]
            a, b, c, d = matrix_to_quaternion(exp_so3(VECTOR[name])).tolist()
            transform = self.make(
                "geometry_msgs/msg/Transform",
                translation=self.make("geometry_msgs/msg/Vector3", x=x, y=y, z=z),
                rotation=self.make("geometry_msgs/msg/Quaternion", x=a, y=b, z=c, w=d),
            )
            transforms.append(
                self.make(
                    "geometry_msgs/msg/TransformStamped",
                    header=self.header(START, "base"),
                    child_frame_id=f"{name}_frame",
                    transform=transform,
                )
            )
        return self.make("tf2_msgs/msg/TFMessage", transforms=transforms)


def picture(camera: int, n: int) -> Image:
    return np.random.default_rng([camera, n]).integers(0, 256, (12, 16, 3), dtype=np.uint8)


def write_bag(path: Path, plugin: str, joined: Sequence[str] = ("left", "right")) -> Path:
    """``left`` is raw bgr8, ``right`` compressed with its CameraInfo elsewhere; 5 instants.

    Right lacks instant 2, is 3 ms late, and its instant 3 is recorded after left's instant 4.
    """
    with BagWriter(path, plugin) as bag:
        bag.put("/tf_static", bag.static(joined), START)
        bag.put("/left/camera_info", bag.info("left_frame", START), START)
        bag.put("/calibration/info_of_right", bag.info("right_frame", START), START)
        for n in range(5):
            stamp = START + n * PERIOD
            raw = bag.image("left_frame", stamp, picture(0, n)[..., ::-1], "bgr8")
            bag.put("/left/image_raw", raw, stamp + 30 * MS)
            bag.put(
                "/left/image_raw/compressed",
                bag.compressed("left_frame", stamp, raw_zero()),
                stamp + 31 * MS,
            )
            overlay = bag.image("left_frame", stamp, raw_zero())
            bag.put("/a/overlay", overlay, stamp + 40 * MS)
            if n != 2:
                late = 150 * MS if n == 3 else 35 * MS
                own = stamp + 3 * MS
                message = bag.compressed("right_frame", own, picture(1, n))
                bag.put("/right/image_raw/compressed", message, own + late)
            depth = bag.image("right_frame", stamp, np.zeros((12, 32, 1), np.uint8), "16UC1")
            bag.put("/right/depth", depth, stamp + 41 * MS)
    return path


def raw_zero() -> Image:
    return np.zeros((12, 16, 3), dtype=np.uint8)


@pytest.fixture(scope="module", params=["MCAP", "SQLITE3"])
def bag(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield write_bag(tmp_path_factory.mktemp("bags") / "cell", request.param)


def test_bag_comes_back_exactly(bag: Path) -> None:
    recording = open_recording(bag)
    assert [camera.name for camera in recording.cameras] == ["left", "right"]
    assert len(recording) == 5 and recording.fps == pytest.approx(10)
    sets = list(recording)
    for n, frame_set in enumerate(sets):
        names = ["left"] if n == 2 else ["left", "right"]
        assert [frame.camera.name for frame in frame_set.frames] == names
        for c, frame in enumerate(frame_set.frames):
            assert frame.stamp_ns == START + n * PERIOD + c * 3 * MS
            np.testing.assert_array_equal(frame.image, picture(c, n))
    assert [s.stamp_ns for s in sets] == sorted(s.stamp_ns for s in sets)
    for camera in recording.cameras:
        np.testing.assert_array_equal(camera.K, [[20, 0, 7.5], [0, 21, 5.5], [0, 0, 1]])
        np.testing.assert_array_equal(camera.D, [0.1, 0, 0.01, 0, 0])
        assert camera.frame_id == f"{camera.name}_frame"
        np.testing.assert_allclose(camera.centre, T_BASE[camera.name], atol=1e-12)
        R = camera.T_camera_world[:3, :3]
        np.testing.assert_allclose(log_so3(R.T), VECTOR[camera.name], atol=1e-12)
    assert len(list(recording)) == 5  # and again


def test_a_bag_by_its_file_and_by_a_folder_without_metadata(bag: Path, tmp_path: Path) -> None:
    (file,) = [f for f in bag.iterdir() if f.suffix in (".mcap", ".db3")]
    (tmp_path / file.name).write_bytes(file.read_bytes())
    for path in (file, tmp_path):
        recording = open_recording(path)
        assert sum(len(frame_set.frames) for frame_set in recording) == 9


def test_bag_options(bag: Path) -> None:
    chosen: Any = open_recording(bag, image_topics=("/left/image_raw/compressed",))
    assert [c.name for c in chosen.cameras] == ["left"] and chosen.world_frame == "left_frame"
    np.testing.assert_allclose(chosen.cameras[0].T_camera_world, np.eye(4), atol=1e-12)
    assert not next(iter(chosen)).frames[0].image.any()
    placed: Any = open_recording(bag, world_frame="right_frame")
    np.testing.assert_allclose(placed.cameras[1].T_camera_world, np.eye(4), atol=1e-12)
    with pytest.raises(BadRecording, match=r"no CameraInfo for /front; .*/left/image_raw \("):
        open_recording(bag, image_topics=("/front",))
    with pytest.raises(BadRecording, match="'map' - 'left_frame'"):
        open_recording(bag, world_frame="map")


def test_a_bag_without_extrinsics_names_the_pair(tmp_path: Path) -> None:
    path = write_bag(tmp_path / "loose", "MCAP", joined=["left"])
    with pytest.raises(BadRecording, match="loose: no static transform connects 'left_frame' - "):
        open_recording(path)


def test_a_message_that_cannot_be_decoded_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with BagWriter(tmp_path / "bag", "MCAP") as bag:
        bag.put("/camera_info", bag.info("f", START), START)
        for n in range(3):
            message = bag.image("f", 0, picture(0, n))  # the driver leaves stamps empty
            if n == 1:
                message.data = message.data[:-1]
            bag.put("/image_raw", message, START + n)
    with caplog.at_level(logging.WARNING):
        recording = open_recording(tmp_path / "bag")
        frames = [frame for frame_set in recording for frame in frame_set.frames]
    assert "/image_raw: images without a stamp" in caplog.text
    assert "/image_raw, message 1: the data is truncated" in caplog.text
    assert [frame.stamp_ns for frame in frames] == [START, START + 2]
    assert recording.cameras[0].name == "camera"


def test_a_bag_whose_images_do_not_fit_their_camera_info(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "bag", "MCAP") as bag:
        bag.put("/c/camera_info", bag.info("f", START, width=32), START)
        bag.put("/c/image_raw", bag.image("f", START, picture(0, 0)), START)
    with pytest.raises(BadRecording, match="/c/image_raw, message 0: image is 16x12 .* 32x12"):
        list(open_recording(tmp_path / "bag"))


@pytest.mark.parametrize("keep", [0.0, 0.5, 0.95])
def test_a_bag_cut_short_is_refused(bag: Path, tmp_path: Path, keep: float) -> None:
    (file,) = [f for f in bag.iterdir() if f.suffix in (".mcap", ".db3")]
    content = file.read_bytes()
    cut = tmp_path / file.name
    cut.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(BadRecording, match=file.name):
        list(open_recording(cut))
