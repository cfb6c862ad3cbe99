"""Recordings: calibrated cameras and their frame sets, whatever they are stored in.

:func:`open_recording` looks at a path and finds out what it is; every kind of recording is then
the same to its user: cameras, a rate, and frame sets in time order with their capture times.
Iterating reads the files once, from front to back, a few frames at a time; iterating again starts
again.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Protocol

from hand_mesh_ros.types import Camera, FrameSet

VIDEO_SUFFIXES = (".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v", ".mjpeg")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
BAG_SUFFIXES = (".mcap", ".db3")

EXPECTED = (
    "expected a folder with camera_array.toml, timestamps.csv and cam_N.mp4; a folder with cN.dat, "
    "rot_trans_cN.dat and camN*.mp4; a rosbag2 folder or its .mcap or .db3 file; a video file; or "
    "a folder of images"
)


class BadRecording(ValueError):
    """A recording that cannot be read; the text names the file and what was expected."""


class Recording(Protocol):
    """Frame sets of calibrated cameras in time order; ``fps`` is sets a second."""

    @property
    def name(self) -> str: ...

    @property
    def cameras(self) -> tuple[Camera, ...]: ...

    @property
    def fps(self) -> float: ...

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[FrameSet]: ...


def open_recording(
    path: Path | str,
    *,
    unit_m: float | None = None,
    calibration: Path | str | None = None,
    fps: float | None = None,
    image_topics: tuple[str, ...] | None = None,
    world_frame: str | None = None,
) -> Recording:
    """Find out what ``path`` is and open it.

    ``unit_m``: metres in one unit of ``rot_trans_cN.dat`` (by default 0.036, with a warning).
    ``calibration``: intrinsics of a single video or folder of images (by default a pinhole with a
    horizontal field of view of 60 degrees, with a warning and ``assumed_intrinsics`` set).
    ``fps``: rate of a recording that has no capture times, instead of the file's own (30 for
    images). ``image_topics`` and ``world_frame`` choose the image topics of a bag and the frame of
    its extrinsics (by default all that are calibrated, and the root they have in common).

    Raises :class:`BadRecording`, and ``BadCameraInfo`` or ``BadImage`` for a calibration or an
    image that makes no sense; all name the file (or topic), and all are ValueErrors.
    """
    path = Path(path)
    if not path.exists():
        raise BadRecording(f"{path}: no such file or folder; {EXPECTED}")
    if _is_bag(path):
        from hand_mesh_ros.data.bags import open_bag

        return open_bag(path, image_topics=image_topics, world_frame=world_frame)

    from hand_mesh_ros.data import videos

    if path.is_file():
        if path.suffix.lower() in VIDEO_SUFFIXES:
            return videos.open_video(path, calibration=calibration, fps=fps)
        if path.suffix.lower() in IMAGE_SUFFIXES:
            return videos.open_images([path], calibration=calibration, fps=fps)
        raise BadRecording(f"{path}: unknown kind of file; {EXPECTED}")
    if (path / "camera_array.toml").exists():
        return videos.open_camera_array(path)
    if (path / "c0.dat").exists():
        return videos.open_board_cameras(path, unit_m=unit_m, fps=fps)
    images = with_suffix(path, IMAGE_SUFFIXES)
    if images:
        return videos.open_images(images, calibration=calibration, fps=fps)
    films = with_suffix(path, VIDEO_SUFFIXES)
    if len(films) == 1:
        return videos.open_video(films[0], calibration=calibration, fps=fps)
    found = f"{len(films)} videos without calibration" if films else "nothing that can be played"
    raise BadRecording(f"{path}: found {found}; {EXPECTED}")


def part_range(recording: Recording, begin: float, end: float) -> tuple[int, int]:
    """The first frame set from one fraction of all of them up to another, and the first after it.

    Raises ValueError unless 0 <= begin < end <= 1.
    """
    if not 0 <= begin < end <= 1:
        raise ValueError(f"a part of a recording is 0 <= begin < end <= 1, not {begin} to {end}")
    return round(begin * len(recording)), round(end * len(recording))


def part_of(
    recording: Recording, begin: float = 0.0, end: float = 1.0
) -> Iterator[tuple[int, FrameSet]]:
    """The frame sets of such a part, each with its number; parts that meet share none.

    Raises ValueError as `part_range` does, at once.
    """
    return islice(enumerate(recording), *part_range(recording, begin, end))


def with_suffix(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """Files of a folder with one of the suffixes, in natural order (2 before 10)."""
    import re

    def natural(file: Path) -> list[tuple[int, str]]:
        return [(int(part or 0), text) for text, part in re.findall(r"(\D*)(\d*)", file.name)]

    files = (f for f in folder.iterdir() if f.is_file() and f.suffix.lower() in suffixes)
    return sorted(files, key=natural)


def _is_bag(path: Path) -> bool:
    if path.is_file():
        return path.suffix.lower() in BAG_SUFFIXES
    return (path / "metadata.yaml").exists() or bool(with_suffix(path, BAG_SUFFIXES))
