"""Cameras made of their last CameraInfo and /tf_static."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo
from tf2_msgs.msg import TFMessage

from hand_mesh_ros.geometry.frames import TransformTree
from hand_mesh_ros.geometry.rotations import invert_rigid
from hand_mesh_ros.ros.camera_info import camera_from_info
from hand_mesh_ros.ros.readers import matrix_of_transform
from hand_mesh_ros.ros.settings import CameraSettings
from hand_mesh_ros.types import Camera

Complain = Callable[[str, str], None]


@dataclass
class _Cache:
    """The camera made from the last CameraInfo, and what it was made from."""

    key: tuple[Any, ...] = ()
    camera: Camera | None = None


class CameraModels:
    """Calibrations as they come; `camera` builds one anew only when something has changed.

    Messages come in one thread, cameras are asked for in another.
    """

    def __init__(
        self,
        cameras: Sequence[CameraSettings],
        info_topics: Sequence[str],
        output_frame: str,
        complain: Complain,
    ) -> None:
        self._cameras, self._info_topics = tuple(cameras), tuple(info_topics)
        self._output_frame, self._complain = output_frame, complain
        self._infos: dict[int, CameraInfo] = {}
        self._caches = [_Cache() for _ in cameras]
        self._tree, self._tree_version = TransformTree(), 0
        self._lock = threading.Lock()

    def on_info(self, index: int, message: CameraInfo) -> None:
        """Keep a camera's newest CameraInfo."""
        self._infos[index] = message

    def on_transforms(self, message: TFMessage) -> None:
        """Take transforms of /tf_static in; what is none is complained of."""
        for stamped in message.transforms:
            parent, child = stamped.header.frame_id.lstrip("/"), stamped.child_frame_id.lstrip("/")
            q = stamped.transform.rotation
            if not abs(np.linalg.norm([q.x, q.y, q.z, q.w]) - 1) < 0.1:
                self._complain(f"tf {child}", f"/tf_static: {parent} -> {child} is no rotation")
                continue
            T = matrix_of_transform(stamped)
            try:
                with self._lock:
                    self._tree.set(parent, child, T)
                    self._tree_version += 1
            except ValueError as error:
                self._complain(f"tf {child}", f"/tf_static: {error}; ignored")

    def camera(self, index: int, image_frame: str, topic: str) -> Camera | None:
        """The camera whose images, of ``image_frame``, come on ``topic``; None: told why.

        Raises ``BadCameraInfo``.
        """
        settings = self._cameras[index]
        info, info_topic = self._infos.get(index), self._info_topics[index]
        if info is None:
            self._complain(
                f"{info_topic} missing",
                f"{info_topic}: no CameraInfo yet, {topic} has to wait; "
                f"check that it is published, or set camera.{settings.name}.info_topic",
            )
            return None
        cache = self._caches[index]
        frame = settings.frame_id or info.header.frame_id or image_frame
        with self._lock:
            version = self._tree_version
        key = (*_numbers(info), frame, version)
        if cache.key != key or cache.camera is None:
            cache.camera = None
            camera = camera_from_info(info, settings.name, settings.rectified, info_topic)
            T = self._extrinsics(frame)
            if T is None:
                self._complain(
                    f"{frame} tf",
                    f"/tf_static does not connect {self._output_frame!r} with {frame!r} (camera "
                    f"{settings.name}); publish it, or set output_frame or "
                    f"camera.{settings.name}.frame_id",
                )
                return None
            cache.key = key
            cache.camera = replace(camera, frame_id=frame, T_camera_world=T)
        return cache.camera

    def _extrinsics(self, frame: str) -> NDArray[np.float64] | None:
        if not self._output_frame or self._output_frame == frame:
            return np.eye(4)
        with self._lock:
            T = self._tree.lookup(self._output_frame, frame)
        return None if T is None else invert_rigid(T)

def _numbers(info: CameraInfo) -> tuple[Any, ...]:
    roi = info.roi
    return (
        info.width, info.height, info.distortion_model, tuple(info.d), tuple(info.k),
        tuple(info.p), info.binning_x, info.binning_y,
        roi.x_offset, roi.y_offset, roi.width, roi.height,
    )  # fmt: skip
