"""Recording what nodes publish into one MCAP file, and reading it back."""

from __future__ import annotations

import importlib
import shutil
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from rosbags.rosbag2 import Reader, StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from hand_mesh_ros.ros.environment import share_directory

# Not outputs of the perception: what every node publishes about itself.
_HOUSEKEEPING = ("/rosout", "/parameter_events", "transition_event")
_DEPTH = 200


class TopicRecorder:
    """Subscribes to everything that given nodes publish and writes the bytes as they come.

    ``few`` limits topics by their suffix to so many messages, after which the subscription ends
    (raw overlays would fill the disk). ``skip`` leaves out topics by suffix.
    """

    def __init__(
        self, node: Node, folder: Path, few: dict[str, int] | None = None, skip: Iterable[str] = ()
    ) -> None:
        self._node, self._folder = node, folder
        self._few, self._skip = few or {}, tuple(skip)
        shutil.rmtree(folder, ignore_errors=True)
        self._writer = Writer(folder, version=9, storage_plugin=StoragePlugin.MCAP)
        self._writer.open()
        self._store = _typestore()
        self._connections: dict[str, Any] = {}
        self._subscriptions: dict[str, Any] = {}
        self.counts: Counter[str] = Counter()
        self.arrivals: dict[str, list[float]] = {}
        self.stamps: dict[str, list[int]] = {}
        self.published: set[str] = set()

    def subscribe(self, node_names: Iterable[str]) -> None:
        """Subscribe to what the nodes publish and is not recorded yet; call it now and then."""
        for name in node_names:
            try:
                found = self._node.get_publisher_names_and_types_by_node(name, "/")
            except Exception:  # rclpy raises NodeNameNonExistentError until it is discovered
                continue
            for topic, types in found:
                if not topic.endswith((*_HOUSEKEEPING, *self._skip)):
                    self.published.add(topic)
                    if topic not in self._connections:
                        self._subscribe(topic, types[0])

    def close(self, target: Path) -> Path:
        """End the recording and leave it as the file ``target`` (.mcap)."""
        for subscription in self._subscriptions.values():
            self._node.destroy_subscription(subscription)
        self._subscriptions.clear()
        self._writer.close()
        (made,) = self._folder.glob("*.mcap")
        made.replace(target)
        shutil.rmtree(self._folder)
        return target

    def _subscribe(self, topic: str, type_name: str) -> None:
        publishers = self._node.get_publishers_info_by_topic(topic)
        latched = any(
            p.qos_profile.durability == DurabilityPolicy.TRANSIENT_LOCAL for p in publishers
        )
        qos = QoSProfile(
            depth=_DEPTH,
            reliability=ReliabilityPolicy.RELIABLE,
            durability=(
                DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE
            ),
        )
        self._connections[topic] = self._writer.add_connection(
            topic, type_name, typestore=self._store
        )
        self.arrivals[topic], self.stamps[topic] = [], []
        self._subscriptions[topic] = self._node.create_subscription(
            message_class(type_name), topic, lambda raw: self._on_message(topic, raw), qos, raw=True
        )

    def _on_message(self, topic: str, raw: bytes) -> None:
        self.arrivals[topic].append(time.monotonic())
        self.stamps[topic].append(_first_stamp(raw))
        self.counts[topic] += 1
        self._writer.write(self._connections[topic], time.time_ns(), raw)
        for suffix, most in self._few.items():
            if topic.endswith(suffix) and self.counts[topic] >= most:
                self._node.destroy_subscription(self._subscriptions.pop(topic))


def _first_stamp(raw: bytes) -> int:
    """Nanoseconds of the header stamp of a serialised message that begins with one (CDR), or 0."""
    if len(raw) < 12:
        return 0
    sec, nanosec = struct.unpack_from("<iI", raw, 4)
    return int(sec) * 1_000_000_000 + int(nanosec)


def read_mcap(
    path: Path, topics: Callable[[str], bool] = lambda _: True
) -> Iterator[tuple[str, Any]]:
    """(topic, message) of a recording, in the order of arrival, as rclpy's message classes."""
    with Reader(path) as reader:
        wanted = [c for c in reader.connections if topics(c.topic)]
        for connection, _, data in reader.messages(connections=wanted):
            kind = message_class(connection.msgtype)
            yield connection.topic, deserialize_message(bytes(data), kind)


def message_class(type_name: str) -> Any:
    """The Python class of ``package/msg/Name``; ModuleNotFoundError if it is not installed."""
    package, _, name = type_name.split("/")
    return getattr(importlib.import_module(f"{package}.msg"), name)


def _typestore() -> Any:
    store = get_typestore(Stores.ROS2_JAZZY)
    types: dict[str, Any] = {}
    for file in sorted((share_directory() / "msg").glob("*.msg")):
        types.update(get_types_from_msg(file.read_text(), f"hand_mesh_ros/msg/{file.stem}"))
    store.register(types)
    return store
