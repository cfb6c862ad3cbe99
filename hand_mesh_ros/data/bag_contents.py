"""What a rosbag2 recording holds, found in one pass that decodes no image."""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hand_mesh_ros.data.recordings import BAG_SUFFIXES, BadRecording, with_suffix
from hand_mesh_ros.data.static_frames import StaticFrames

if TYPE_CHECKING:
    from rosbags.highlevel import AnyReader

_log = logging.getLogger(__name__)
_RAW, _COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
_INFO, _TF = "sensor_msgs/msg/CameraInfo", "tf2_msgs/msg/TFMessage"


@dataclass
class ImageTopic:
    """What is known of an image topic; ``stamps`` and ``logged`` in nanoseconds, in bag order.

    ``encoding`` is that of the first message, or its format if it is compressed.
    """

    frame_id: str
    encoding: str
    stamps: list[int] = field(default_factory=list)
    logged: list[int] = field(default_factory=list)

    def capture_times(self, source: str) -> tuple[int, ...]:
        """Header stamps; if any is zero, the times of recording, with a warning."""
        if all(self.stamps):
            return tuple(self.stamps)
        _log.warning("%s: images without a stamp; using the times they were recorded at", source)
        return tuple(self.logged)


@dataclass
class Contents:
    """Image topics, the first CameraInfo of each topic, and the static transforms."""

    images: dict[str, ImageTopic] = field(default_factory=dict)
    infos: dict[str, Any] = field(default_factory=dict)
    frames: StaticFrames = field(default_factory=StaticFrames)


@contextmanager
def open_reader(path: Path) -> Iterator[AnyReader]:
    """A reader of the bag; whatever it stumbles over becomes a :class:`BadRecording`."""
    import apsw
    from rosbags.highlevel import AnyReader, AnyReaderError
    from rosbags.rosbag2 import ReaderError
    from rosbags.typesys import Stores, get_typestore

    loose = path.is_dir() and not (path / "metadata.yaml").exists()
    files = with_suffix(path, BAG_SUFFIXES) if loose else [path]
    try:
        # The type store serves SQLite bags of distributions that did not record definitions.
        with AnyReader(files, default_typestore=get_typestore(Stores.ROS2_JAZZY)) as reader:
            yield reader
    except (AnyReaderError, ReaderError, apsw.Error, struct.error, OSError) as error:
        raise BadRecording(
            f"{path}: not a readable rosbag2 recording ({error}); if its recorder was killed, "
            "`ros2 bag reindex` or `mcap recover` may mend it"
        ) from error


def read_contents(path: Path) -> Contents:
    """One pass over the bag. Raises :class:`BadRecording` if it cannot be read."""
    contents = Contents()
    with open_reader(path) as reader:
        wanted = [
            c
            for c in reader.connections
            if c.msgtype in (_RAW, _COMPRESSED, _INFO)
            or (c.msgtype == _TF and leaf(c.topic) == "tf_static")
        ]
        for connection, logged, raw in reader.messages(connections=wanted) if wanted else ():
            topic, kind = connection.topic, connection.msgtype
            if kind == _TF:
                message: Any = reader.deserialize(raw, kind)
                for item in message.transforms:
                    _add_transform(contents.frames, item)
            elif kind == _INFO:
                if topic not in contents.infos:
                    contents.infos[topic] = reader.deserialize(raw, kind)
            else:
                if topic not in contents.images:
                    first: Any = reader.deserialize(raw, kind)
                    encoding = first.encoding if kind == _RAW else first.format
                    contents.images[topic] = ImageTopic(first.header.frame_id, encoding)
                contents.images[topic].stamps.append(_stamp_ns(raw))
                contents.images[topic].logged.append(logged)
    return contents


def _stamp_ns(raw: bytes | memoryview) -> int:
    """Stamp of a serialised message that begins with a header, without reading the rest (CDR)."""
    sec, nanosec = struct.unpack_from("<iI" if raw[1] & 1 else ">iI", raw, 4)
    return int(sec) * 1_000_000_000 + int(nanosec)


def _add_transform(frames: StaticFrames, item: Any) -> None:
    t, q = item.transform.translation, item.transform.rotation
    frames.add(
        item.header.frame_id,
        item.child_frame_id,
        np.array([t.x, t.y, t.z]),
        np.array([q.x, q.y, q.z, q.w]),
    )


def leaf(topic: str) -> str:
    """Last part of a topic's name, without its transport."""
    return base(topic).rsplit("/", 1)[-1]


def base(topic: str) -> str:
    """The image topic itself, without its transport."""
    return topic.removesuffix("/compressed").removesuffix("/compressedDepth")
