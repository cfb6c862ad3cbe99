"""Instants without truth: the hands that the landmark pipeline finds in a recording.

What it says of a hand is kept as far as it takes to find it again: its side, and where its
landmarks are in each view. What to learn from it is made of the views' evidence later, by
`pseudo_labels`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from hand_mesh_ros.data.recordings import Recording, open_recording, part_of, part_range
from hand_mesh_ros.data.samples import HandSample
from hand_mesh_ros.perception.build import build_pipeline
from hand_mesh_ros.perception.pipeline import PipelineSettings
from hand_mesh_ros.training.examples import FOUND
from hand_mesh_ros.training.instant_sources import InstantOf, SourceEnd
from hand_mesh_ros.types import FrameSet, Side, View

Group = list[HandSample]


class InstantsInOrder:
    """A hand of a recording by its number; the recording is read on as far as that one.

    An earlier number than the last begins with the recording anew, which gives the same. Only the
    last instant's pictures are kept.
    """

    def __init__(self, name: str, groups: Callable[[], Iterator[tuple[int, Group]]],
                 sets: int) -> None:  # fmt: skip
        self._name, self._groups, self._sets = name, groups, sets
        self._running = groups()
        self._next, self._read = 0, 0
        self._last: Group = []

    @property
    def progress(self) -> tuple[int, int]:
        """Frame sets that have been read, and how many there are."""
        return self._read, self._sets

    def __call__(self, number: int) -> Group:
        """Raises SourceEnd past the last one, ValueError where there is none at all."""
        if number < self._next - 1:
            self._running, self._next = self._groups(), 0
        while self._next <= number:
            found = next(self._running, None)
            if found is None:
                self._read = self._sets
                if self._next == 0:
                    raise ValueError(f"{self._name}: no hand was found that two cameras see")
                raise SourceEnd(f"{self._name} has {self._next} instants, not {number + 1}")
            self._read, self._last = found
            self._next += 1
        return self._last


def recording(
    views: int,
    *,
    path: str,
    begin: float = 0.0,
    end: float = 1.0,
    every: int = 1,
    **options: Any,
) -> InstantOf:
    """Hands in a recording of calibrated cameras (`open_recording`, which takes the `options`).

    Each hand that at least two cameras see in every `every`-th frame set between the fractions
    `begin` and `end` of all sets is an instant, of up to `views` of those views. Raises
    BadRecording, ValueError for a part or a choice that is none, or a lens that stores do not know.
    """
    own = ((key, tuple(v) if isinstance(v, list) else v) for key, v in options.items())
    return _in_order(str(path), begin, end, every, views, tuple(sorted(own)))


@lru_cache(maxsize=1)
def _in_order(
    path: str, begin: float, end: float, every: int, views: int, options: tuple[Any, ...]
) -> InstantsInOrder:
    """One for all parts of a store, so that each goes on where the last one ended."""
    folder = Path(path).expanduser()
    opened = open_recording(folder, **dict(options))
    sets = len(range(*part_range(opened, begin, end)))
    if every < 1:
        raise ValueError(f"every is {every}: take every frame set (1) or fewer")
    if min(views, len(opened.cameras)) < 2:
        raise ValueError(f"{path}: {len(opened.cameras)} cameras, {views} views: two are needed")
    for camera in opened.cameras:
        if camera.distortion in ("equidistant", "thin_prism"):
            raise ValueError(f"{path}: {camera.name} is {camera.distortion}: stores hold no such D")

    def groups() -> Iterator[tuple[int, Group]]:
        return _groups(opened, folder, begin, end, every, views)

    return InstantsInOrder(path, groups, sets)


def _groups(
    opened: Recording, path: Path, begin: float, end: float, every: int, views: int
) -> Iterator[tuple[int, Group]]:
    """Hands, each with how many sets of the part have been read."""
    pipeline, _ = build_pipeline(pipeline=PipelineSettings(search_every=1))
    for read, (number, frames) in enumerate(part_of(opened, begin, end), 1):
        result = pipeline.process(frames)
        if number % every:
            continue
        for hand, seen in zip(result.hands, result.observed, strict=True):
            if len(seen) > 1:
                name = f"{opened.name}/{number:06d}/{hand.track_id}"
                side = hand.estimate.side
                some = sorted(seen, key=lambda view: view.index)[:views]
                yield read, [_sample(opened.name, path, name, number, frames, side, view)
                             for view in some]  # fmt: skip


def _sample(
    dataset: str, path: Path, name: str, number: int, frames: FrameSet, side: Side, view: View
) -> HandSample:
    image = frames.frames[view.index].image
    return HandSample(
        dataset=dataset,
        split="unlabelled",
        name=f"{name}/{view.camera.name}",
        index=number,
        camera=view.camera,
        side=side,
        source=path,
        load_image=lambda: image,
        group=name,
        view=view.index,
        frame=number,
        stamp=frames.frames[view.index].stamp_ns * 1e-9,
        extras={FOUND: view.uv},
    )
