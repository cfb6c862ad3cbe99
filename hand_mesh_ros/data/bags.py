"""rosbag2 recordings (MCAP, SQLite), read with ``rosbags``; no ROS installation is needed.

A first pass over the bag collects calibrations, static transforms and capture times, and decides
which frames make a set; every iteration is a second pass that decodes one set after the other.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hand_mesh_ros.data import pixels
from hand_mesh_ros.data.bag_contents import Contents, base, leaf, open_reader, read_contents
from hand_mesh_ros.data.calibrations import plain_name
from hand_mesh_ros.data.grouping import group, median_period
from hand_mesh_ros.data.recordings import BadRecording
from hand_mesh_ros.geometry.intrinsics import camera_from_info, size_mismatch
from hand_mesh_ros.types import Camera, Frame, FrameSet

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BagRecording:
    """Image topics of a bag. ``sets`` holds camera -> index into that topic's messages."""

    name: str
    cameras: tuple[Camera, ...]
    fps: float
    path: Path
    topics: tuple[str, ...]
    stamps: tuple[tuple[int, ...], ...]
    sets: tuple[dict[int, int], ...]
    world_frame: str
    assumed_intrinsics: bool = False

    def __len__(self) -> int:
        return len(self.sets)

    def __iter__(self) -> Iterator[FrameSet]:
        """Frame sets in time order; a message that cannot be decoded is left out, with a warning.

        Raises :class:`BadRecording` if images and CameraInfo differ in size.
        """
        place = {(c, i): n for n, members in enumerate(self.sets) for c, i in members.items()}
        pending: dict[int, dict[int, Frame | None]] = {}
        following = 0
        for camera, index, message in self._messages():
            number = place[camera, index]
            pending.setdefault(number, {})[camera] = self._frame(camera, index, message)
            # Messages arrive nearly, not exactly, in the order of their capture times.
            while len(pending.get(following, ())) == len(self.sets[following]):
                members = pending.pop(following)
                following += 1
                if frames := [frame for _, frame in sorted(members.items()) if frame is not None]:
                    yield FrameSet(tuple(frames))
                if following == len(self.sets):
                    return

    def _messages(self) -> Iterator[tuple[int, int, Any]]:
        counts = [0] * len(self.topics)
        with open_reader(self.path) as reader:
            wanted = [c for c in reader.connections if c.topic in self.topics]
            for connection, _, raw in reader.messages(connections=wanted):
                camera = self.topics.index(connection.topic)
                yield camera, counts[camera], reader.deserialize(raw, connection.msgtype)
                counts[camera] += 1

    def _frame(self, index: int, number: int, message: Any) -> Frame | None:
        camera, topic = self.cameras[index], self.topics[index]
        source = f"{self.path} {topic}, message {number}"
        try:
            if hasattr(message, "encoding"):
                image = pixels.decode(
                    message.encoding,
                    message.data,
                    message.width,
                    message.height,
                    message.step,
                    bool(message.is_bigendian),
                    source,
                )
            else:
                image = pixels.decode_compressed(message.data, source)
        except pixels.BadImage as error:
            _log.warning("%s; left out", error)
            return None
        if mismatch := size_mismatch(camera, image.shape):
            raise BadRecording(f"{source}: {mismatch}")
        return Frame(camera, self.stamps[index][number], image)


def open_bag(
    path: Path, image_topics: Sequence[str] | None = None, world_frame: str | None = None
) -> BagRecording:
    """The calibrated cameras of a bag: a folder, or a single .mcap or .db3 file.

    An image topic's CameraInfo is ``camera_info`` beside it, or else the one with the same
    ``frame_id``. Of several topics with the same CameraInfo one is taken, raw rather than
    compressed and as the camera took it rather than rectified; ``image_topics`` chooses others.
    Extrinsics come from ``/tf_static``, composed to ``world_frame`` (by default the root that the
    cameras share; a single camera's own frame). Raises :class:`BadRecording`.
    """
    contents = read_contents(path)
    topics = _choose(path, contents, image_topics)
    cameras = [
        camera_from_info(
            contents.infos[info],
            name=name,
            rectified="rect" in leaf(topic),
            topic=f"{path} {info}",
        )
        for (topic, info), name in zip(topics.items(), _names(topics), strict=True)
    ]
    frames = [
        camera.frame_id or contents.images[topic].frame_id
        for camera, topic in zip(cameras, topics, strict=True)
    ]
    try:
        world, poses = contents.frames.place(frames, world_frame)
    except ValueError as error:
        raise BadRecording(
            f"{path}: {error}; expected /tf_static to join the frames of all cameras"
        ) from error
    stamps = tuple(contents.images[topic].capture_times(f"{path} {topic}") for topic in topics)
    period = median_period(stamps)
    return BagRecording(
        name=path.resolve().stem,
        cameras=tuple(camera.placed(T) for camera, T in zip(cameras, poses, strict=True)),
        fps=1e9 / period if 0 < period < float("inf") else 1.0,
        path=path,
        topics=tuple(topics),
        stamps=stamps,
        sets=tuple(group(stamps)),
        world_frame=world,
    )


def _info_of(topic: str, contents: Contents) -> str | None:
    sibling = f"{base(topic).rsplit('/', 1)[0]}/camera_info"
    if sibling in contents.infos:
        return sibling
    frame_id = contents.images[topic].frame_id
    same = [
        n for n, info in contents.infos.items() if frame_id and info.header.frame_id == frame_id
    ]
    return min(same, default=None)


def _choose(path: Path, contents: Contents, asked: Sequence[str] | None) -> dict[str, str]:
    """image topic -> info topic, as asked for or else one image topic for each CameraInfo."""
    pairs = {topic: _info_of(topic, contents) for topic in sorted(contents.images)}
    described = ", ".join(f"{t} ({i or 'no CameraInfo'})" for t, i in pairs.items()) or "none"
    if asked is not None:
        chosen = {topic: pairs.get(topic) for topic in asked}
    else:
        chosen = {}
        for topic in sorted(pairs, key=lambda topic: _preference(topic, pairs[topic])):
            info, encoding = pairs[topic], contents.images[topic].encoding
            depth = encoding in ("16UC1", "32FC1") or "compressedDepth" in encoding
            if info is not None and not depth and info not in chosen.values():
                chosen[topic] = info
        chosen = dict(sorted(chosen.items()))
    usable = {topic: info for topic, info in chosen.items() if info is not None}
    if not usable or len(usable) < len(chosen):
        wanted = ", ".join(t for t in chosen if t not in usable) or "any image topic"
        raise BadRecording(
            f"{path}: no CameraInfo for {wanted}; expected images with a camera_info beside them "
            f"or of the same frame_id; image topics in the bag: {described}"
        )
    return usable


def _preference(topic: str, info: str | None) -> tuple[bool, bool, bool, bool, str]:
    """Small for the topic to take: beside its CameraInfo (an overlay is not), raw, colour."""
    apart = info is not None and base(topic).rsplit("/", 1)[0] != info.rsplit("/", 1)[0]
    name = leaf(topic)
    return apart, "rect" in name, topic.endswith("/compressed"), "mono" in name, topic


def _names(topics: Sequence[str] | dict[str, str]) -> list[str]:
    """Camera names: the topics' namespaces, or the whole topics if those are not unique."""
    short = [
        plain_name(base(t).rsplit("/", 1)[0]) if t.count("/") > 1 else "camera" for t in topics
    ]
    return short if len(set(short)) == len(short) else [plain_name(t) for t in topics]
