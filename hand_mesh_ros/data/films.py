"""Video files, read once from front to back, one frame in memory."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hand_mesh_ros.data.recordings import BadRecording
from hand_mesh_ros.types import ImageArray

_log = logging.getLogger(__name__)


class FilmFacts(NamedTuple):
    """Size in pixels, frames a second, and number of frames of a video file."""

    width: int
    height: int
    fps: float
    frames: int


class Film:
    """Sequential access to a video file; use as a context manager."""

    def __init__(self, path: Path) -> None:
        import cv2

        self.path = path
        self.capture = cv2.VideoCapture(str(path))
        self._next = 0
        if not self.capture.isOpened():
            raise BadRecording(f"{path}: OpenCV cannot open it; expected a video it can decode")

    def __enter__(self) -> Film:
        return self

    def __exit__(self, *_: object) -> None:
        self.capture.release()

    def at(self, position: int) -> ImageArray | None:
        """RGB uint8 (H, W, 3) of the frame at ``position``, None after the end.

        Positions must increase from call to call: frames between are skipped, never sought (seeking
        in compressed video is slow and, in some containers, off by frames).
        """
        import cv2

        if position < self._next:
            raise BadRecording(f"{self.path}: frame {position} asked for after {self._next - 1}")
        while self._next <= position:
            if not self.capture.grab():
                return None
            self._next += 1
        done, image = self.capture.retrieve()
        if not done:
            _log.warning("%s: frame %d cannot be decoded", self.path, position)
            return None
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image), dtype=np.uint8)


def probe(path: Path, fps: float | None = None) -> FilmFacts:
    """What a video file holds; ``fps`` overrides its own rate. Raises :class:`BadRecording`.

    The number of frames is the container's word for it, or counted where it has none.
    """
    import cv2

    with Film(path) as film:
        capture = film.capture
        rate = fps or capture.get(cv2.CAP_PROP_FPS)
        count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        first = film.at(0)
        if first is None:
            raise BadRecording(f"{path}: no frame can be decoded; expected a video")
        if count <= 0:
            count = 1
            while capture.grab():
                count += 1
    if not np.isfinite(rate) or rate <= 0:
        raise BadRecording(f"{path}: the file does not say its frame rate; give fps")
    height, width = first.shape[:2]
    return FilmFacts(width, height, float(rate), count)
