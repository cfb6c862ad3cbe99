"""The landmarks of a hand in one camera over time, gathered from the pipeline's answers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.types import Camera, FloatArray, HandSet, View


@dataclass(frozen=True, eq=False)
class LandmarkTrack:
    """What ``camera`` saw of hand number ``hand`` over F frames.

    ``stamps_ns`` (F,) are the camera's own stamps, increasing; ``uv`` (F, 21, 2) distorted pixels,
    NaN where not seen; ``sigma`` (F, 21) one standard deviation an axis, pixels.
    """

    camera: Camera
    hand: int
    stamps_ns: NDArray[np.int64]
    uv: FloatArray
    sigma: FloatArray


class TrackCollector:
    """Keeps the landmarks, but no images, of the hands of one frame set after another."""

    def __init__(self) -> None:
        self._cameras: dict[str, Camera] = {}
        self._seen: defaultdict[tuple[str, int], dict[int, View]] = defaultdict(dict)

    def add(self, hands: HandSet) -> None:
        """Take in the views of every hand; those without a frame have no time and are left out."""
        for hand, views in zip(hands.hands, hands.observed, strict=False):
            for view in views:
                if view.frame is not None:
                    self._cameras.setdefault(view.camera.name, view.camera)
                    key = view.camera.name, hand.track_id
                    self._seen[key].setdefault(view.frame.stamp_ns, _light(view))

    def tracks(self) -> list[LandmarkTrack]:
        """One track a camera and hand."""
        return [
            LandmarkTrack(
                camera=self._cameras[name],
                hand=hand,
                stamps_ns=np.array(sorted(views), dtype=np.int64),
                uv=np.stack([views[t].uv for t in sorted(views)]),
                sigma=np.stack([views[t].sigma for t in sorted(views)]),
            )
            for (name, hand), views in self._seen.items()
        ]


def collect(sets: Iterable[HandSet]) -> list[LandmarkTrack]:
    """The tracks of all hands of some frame sets."""
    collector = TrackCollector()
    for hands in sets:
        collector.add(hands)
    return collector.tracks()


def _light(view: View) -> View:
    return replace(view, frame=None)
