"""Overlay pictures of those cameras that somebody looks at, drawn inside their messages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.ros.images import encode_compressed, encode_image
from hand_mesh_ros.ros.wire import Template, WireError, time_words
from hand_mesh_ros.types import Frame, HandSet, ImageArray, Side


class Overlays:
    """``raw`` and ``compressed`` publishers by camera; pictures are drawn for all at once."""

    def __init__(
        self,
        raw: Mapping[str, Any],
        compressed: Mapping[str, Any],
        faces: Mapping[Side, NDArray[np.integer]],
        complain: Callable[[str], None],
    ) -> None:
        self._raw, self._compressed, self._faces = raw, compressed, faces
        self._complain = complain
        self._canvases: dict[str, _Canvas] = {}

    def wanted(self, frame: Frame) -> bool:
        """Whether somebody subscribes to a picture of this camera, and there is one."""
        camera = frame.camera.name
        heard = _heard(self._raw[camera]) or _heard(self._compressed[camera])
        return heard and frame.observed is None

    def publish(self, hands: HandSet, frames: Sequence[Frame], alpha: float) -> None:
        """Draw the hands over the wanted ones of ``frames`` and publish them."""
        frames = [frame for frame in frames if self.wanted(frame)]
        if not frames:
            return
        from hand_mesh_ros.render import overlay

        canvases = [self._canvas(frame) for frame in frames]
        overlay.draw_views(
            [canvas.image for canvas in canvases],
            [frame.camera for frame in frames],
            hands.hands,
            self._faces,
            alpha=alpha,
        )
        for frame, canvas in zip(frames, canvases, strict=True):
            camera = frame.camera
            raw, compressed = self._raw[camera.name], self._compressed[camera.name]
            if _heard(raw):
                raw.publish(canvas.message())
            if _heard(compressed):
                compressed.publish(
                    encode_compressed(canvas.image, frame.stamp_ns, camera.frame_id)
                )

    def _canvas(self, frame: Frame) -> _Canvas:
        """The camera's canvas with the frame on it."""
        canvas = self._canvases.get(frame.camera.name)
        if canvas is None or not canvas.fits(frame):
            canvas = self._canvases[frame.camera.name] = _Canvas(frame, self._complain)
        canvas.begin(frame)
        return canvas


class _Canvas:
    """A picture inside the serialised Image that will carry it; beside it where that fails."""

    def __init__(self, frame: Frame, complain: Callable[[str], None]) -> None:
        self._frame = frame
        self._template: Template | None = None
        try:
            camera = frame.camera
            template = Template(encode_image(frame.image, frame.stamp_ns, camera.frame_id))
            template.verify(lambda _: _fill(template, frame))
        except WireError as error:
            complain(f"overlays are serialised the slow way from now on: {error}")
            self.image: ImageArray = np.empty_like(frame.image)
        else:
            self._template = template
            self.image = template["data"].reshape(frame.image.shape)

    def fits(self, frame: Frame) -> bool:
        """Whether the frame's message differs in its pixels and its stamp only."""
        known = self._frame
        return (
            frame.image.shape == known.image.shape
            and frame.camera.frame_id == known.camera.frame_id
        )

    def begin(self, frame: Frame) -> None:
        """Put the frame's picture on the canvas."""
        self._frame = frame
        if self._template is not None:
            _fill(self._template, frame)
        else:
            self.image[:] = frame.image

    def message(self) -> Any:
        """The canvas as it is now, ready to be published."""
        if self._template is not None:
            return self._template.tobytes()
        return encode_image(self.image, self._frame.stamp_ns, self._frame.camera.frame_id)


def _fill(template: Template, frame: Frame) -> None:
    template["header.stamp"] = time_words(frame.stamp_ns)
    template["data"] = frame.image.reshape(-1)


def _heard(publisher: Any) -> bool:
    return bool(publisher.get_subscription_count() > 0)
