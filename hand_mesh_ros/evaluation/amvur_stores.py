"""What AMVUR is judged on: `renders-v1`'s test images as stores, as they are and disturbed.

Made when they are first asked for, and kept beside the stores of training.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final, Literal

import numpy as np

from hand_mesh_ros.training.instant_sources import STORES, InstantOf, benchmark, folder_of
from hand_mesh_ros.training.instant_writer import StoreRequest, write_part
from hand_mesh_ros.training.instants import PART, InstantStore
from hand_mesh_ros.training.recipes import Augmentation
from hand_mesh_ros.types import ImageArray

Progress = Callable[[int, int, str], None]
Disturbance = Literal["none", "blur", "dark", "bright"]

DISTURBED: Final = ("blur", "dark", "bright", "shift")
"""Blurred by 1.5 pixels of 256, half and 1.7 times as bright, regions off by 8 % of their side."""
_SHIFTED: Final = Augmentation(scale=0.0, shift=0.08, rotation=0.0, gain=0.0, noise=0.0)
_BLUR, _GAINS = 1.5, {"dark": 0.5, "bright": 1.7}
SINGLES: Final = 400
_FEWER: Final = 120  # of the disturbed ones


def opened(name: str, progress: Progress, limit: int | None = None) -> InstantStore:
    """The store `test`, `test-single` or `test-blur` and so on; made if it is not there.

    limit: instants at most, if it has to be made.
    """
    request = _request(name)
    count = request.count if limit is None else min(limit, request.count)
    folder = folder_of(name)
    folder.mkdir(parents=True, exist_ok=True)
    for first in range(0, count, PART):
        progress(first, count, f"images of {name}")
        if not _done(folder, first):
            _make(replace(request, count=count), folder, first)
    return InstantStore(folder)


def disturbed(views: int, *, how: Disturbance, split: str = "test") -> InstantOf:
    """A source of single images of `renders-v1`; for `instant_writer`."""
    plain = benchmark(views, split=split, part="single")

    def instant(number: int) -> list[object]:
        return [
            replace(s, load_image=partial(_changed, s.load_image, how)) for s in plain(number)
        ]

    return instant  # type: ignore[return-value]


def _make(request: StoreRequest, folder: Path, first: int) -> None:
    """A part, in a folder of this process until it is whole: another may be at the same part."""
    own = folder / f".by-{os.getpid()}"
    try:
        write_part(request, own, first)
        if not _done(folder, first):
            shutil.rmtree(folder / _part(first), ignore_errors=True)
        with suppress(OSError):  # the other one was faster
            (own / _part(first)).rename(folder / _part(first))
    finally:
        shutil.rmtree(own, ignore_errors=True)


def _done(folder: Path, first: int) -> bool:
    return (folder / _part(first) / "done.json").is_file()


def _part(first: int) -> str:
    return f"part-{first // PART:05d}"


def _request(name: str) -> StoreRequest:
    if name in STORES:
        known = STORES[name]
        return StoreRequest(known.source, known.options, known.count, 4, None)
    _, _, how = name.partition("-")
    if how == "single":
        return StoreRequest("renders-v1", {"part": "single"}, SINGLES, 1, None)
    if how not in DISTURBED:
        raise ValueError(f"no store {name!r}: choose test, test-single or test-{DISTURBED}")
    source = f"{__name__}:{disturbed.__name__}"
    options = {"how": "none" if how == "shift" else how}
    return StoreRequest(source, options, _FEWER, 1, _SHIFTED if how == "shift" else None)


def _changed(load: Callable[[], ImageArray], how: Disturbance) -> ImageArray:
    image = load()
    if how == "blur":
        from scipy.ndimage import gaussian_filter

        return np.ascontiguousarray(gaussian_filter(image, (_BLUR, _BLUR, 0)))
    if how in _GAINS:
        return np.clip(image * _GAINS[how], 0, 255).astype(np.uint8)
    return image
