"""Frames that bring their views along: an edge node beside the camera has seen the hands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.perception.observe import Observer, TimesItself
from hand_mesh_ros.types import Frame, View

Array = NDArray[np.float64]


class RemoteObserver:
    """An `Observer` that takes a frame's own views where it has any; others go to ``inner``.

    Hints and searches reach ``inner`` for the frames with images only: an edge node has searches
    of its own. ``inner`` is None where no camera sends images: no network is needed then.
    """

    def __init__(self, inner: Observer | None) -> None:
        self._inner = inner

    @property
    def timings(self) -> Mapping[str, float]:
        """What ``inner`` tells of itself, if it does."""
        return self._inner.timings if isinstance(self._inner, TimesItself) else {}

    def __call__(
        self, frames: Sequence[Frame], hints: Sequence[tuple[int, Array]], search: Sequence[int]
    ) -> list[View]:
        """See `Observer`. Raises ``RuntimeError`` for an image without an ``inner``."""
        brought = [
            replace(view, index=index, camera=frame.camera, frame=frame)
            for index, frame in enumerate(frames)
            for view in frame.observed or ()
        ]
        local = [index for index, frame in enumerate(frames) if frame.observed is None]
        if not local:
            return brought
        if self._inner is None:
            names = ", ".join(frames[index].camera.name for index in local)
            raise RuntimeError(f"an image of {names}, but no networks are loaded to look at it")
        # The inner observer knows of its frames only, by their places among themselves.
        place = {index: number for number, index in enumerate(local)}
        seen = self._inner(
            [frames[index] for index in local],
            [(place[index], roi) for index, roi in hints if index in place],
            [place[index] for index in search if index in place],
        )
        return [*brought, *(replace(view, index=local[view.index]) for view in seen)]
