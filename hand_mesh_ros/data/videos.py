"""Recordings kept as video files, or images, beside a calibration."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from hand_mesh_ros.data import calibrations
from hand_mesh_ros.data.films import Film, probe
from hand_mesh_ros.data.pixels import decode_compressed
from hand_mesh_ros.data.recordings import VIDEO_SUFFIXES, BadRecording, with_suffix
from hand_mesh_ros.data.timetables import Timetable, constant_rate, rate_of, read_timestamps
from hand_mesh_ros.geometry.intrinsics import size_mismatch
from hand_mesh_ros.types import Camera, Frame, FrameSet, ImageArray

_log = logging.getLogger(__name__)
ASSUMED_UNIT_M = 0.036
IMAGES_FPS = 30.0


@dataclass(frozen=True)
class VideoRecording:
    """One video a camera, and the timetable of their frames."""

    name: str
    cameras: tuple[Camera, ...]
    fps: float
    files: tuple[Path, ...]
    timetable: Timetable
    assumed_intrinsics: bool = False
    world_frame: str = "world"

    def __len__(self) -> int:
        return len(self.timetable)

    def __iter__(self) -> Iterator[FrameSet]:
        """Frame sets in time order; raises :class:`BadRecording` on an image of another size."""
        ended: set[int] = set()
        with ExitStack() as stack:
            films = [stack.enter_context(Film(file)) for file in self.files]
            for shots in self.timetable:
                frames = []
                for shot in shots:
                    image = films[shot.camera].at(shot.position)
                    if image is not None:
                        frames.append(self._frame(shot.camera, shot.stamp_ns, image))
                    elif shot.camera not in ended:
                        ended.add(shot.camera)
                        _log.warning("%s: no frame %d", self.files[shot.camera], shot.position)
                if frames:
                    yield FrameSet(tuple(frames))

    def _frame(self, index: int, stamp_ns: int, image: ImageArray) -> Frame:
        camera = self.cameras[index]
        if mismatch := size_mismatch(camera, image.shape):
            raise BadRecording(f"{self.files[index]}: {mismatch}")
        return Frame(camera, stamp_ns, image)


@dataclass(frozen=True)
class ImageRecording:
    """Images of one camera at a constant rate. ``cameras`` is that of the first image.

    With assumed intrinsics images may differ in size; each frame then carries its own camera.
    """

    name: str
    cameras: tuple[Camera, ...]
    fps: float
    files: tuple[Path, ...]
    assumed_intrinsics: bool = False
    world_frame: str = "world"

    def __len__(self) -> int:
        return len(self.files)

    def __iter__(self) -> Iterator[FrameSet]:
        (known,) = self.cameras
        assumed = lru_cache(calibrations.assumed_pinhole)
        for file, ((_, _, stamp_ns),) in zip(
            self.files, constant_rate([len(self)], self.fps), strict=True
        ):
            image = read_image(file, upright=self.assumed_intrinsics)
            camera = known
            if mismatch := size_mismatch(known, image.shape):
                if not self.assumed_intrinsics:
                    raise BadRecording(f"{file}: {mismatch}")
                camera = assumed(known.name, image.shape[1], image.shape[0])
            yield FrameSet((Frame(camera, stamp_ns, image),))


def read_image(file: Path, upright: bool) -> ImageArray:
    """RGB uint8 (H, W, 3) of an image file; ``upright`` applies its EXIF orientation."""
    return decode_compressed(file.read_bytes(), source=str(file), upright=upright)


def open_camera_array(folder: Path) -> VideoRecording:
    """A folder with camera_array.toml, timestamps.csv and cam_N.mp4."""
    cameras = calibrations.read_camera_array(folder / "camera_array.toml")
    files = {id_: _numbered_film(folder, id_) for id_ in cameras}
    frames = {id_: probe(file).frames for id_, file in files.items()}
    table = next((f for n in _TIMETABLES if (f := folder / n).exists()), folder / _TIMETABLES[0])
    timetable = read_timestamps(table, frames)
    return VideoRecording(
        name=folder.resolve().name,
        cameras=tuple(cameras.values()),
        fps=rate_of(timetable),
        files=tuple(files.values()),
        timetable=timetable,
    )


def open_board_cameras(
    folder: Path, unit_m: float | None = None, fps: float | None = None
) -> VideoRecording:
    """A folder with cN.dat, rot_trans_cN.dat and camN*.mp4; capture times from the frame rate.

    ``unit_m``: metres in one unit of the translations (a square of the calibration board).
    """
    if unit_m is None:
        unit_m = ASSUMED_UNIT_M
        _log.warning(
            "%s: the unit of its translations is not recorded; assuming %g m (give unit_m)",
            folder,
            unit_m,
        )
    ids = [file.stem[1:] for file in with_suffix(folder, (".dat",)) if file.stem[1:].isdigit()]
    files = tuple(_numbered_film(folder, id_) for id_ in ids)
    facts = [probe(file, fps) for file in files]
    rates = [fact.fps for fact in facts]
    if max(rates) - min(rates) > 0.01 * max(rates):
        raise BadRecording(f"{folder}: the videos' frame rates differ ({rates}); give fps")
    cameras = tuple(
        calibrations.read_dat(folder / f"c{id_}.dat", f"cam{id_}", fact[:2]).placed(
            calibrations.read_dat_pose(folder / f"rot_trans_c{id_}.dat", unit_m)
        )
        for id_, fact in zip(ids, facts, strict=True)
    )
    timetable = constant_rate([fact.frames for fact in facts], rates[0])
    return VideoRecording(folder.resolve().name, cameras, rates[0], files, timetable)


def open_video(
    file: Path, calibration: Path | str | None = None, fps: float | None = None
) -> VideoRecording:
    """One video of one camera, which is also the world."""
    facts = probe(file, fps)
    camera = _single_camera(file, file.stem, facts[:2], calibration)
    return VideoRecording(
        name=file.stem,
        cameras=(camera,),
        fps=facts.fps,
        files=(file,),
        timetable=constant_rate([facts.frames], facts.fps),
        assumed_intrinsics=calibration is None,
        world_frame=camera.frame_id,
    )


def open_images(
    files: Sequence[Path], calibration: Path | str | None = None, fps: float | None = None
) -> ImageRecording:
    """Images of one camera in this order, ``fps`` (30 by default) a second."""
    first = read_image(files[0], upright=calibration is None)
    name = files[0].resolve().parent.name if len(files) > 1 else files[0].stem
    camera = _single_camera(files[0], name, (first.shape[1], first.shape[0]), calibration)
    return ImageRecording(
        name=name,
        cameras=(camera,),
        fps=fps or IMAGES_FPS,
        files=tuple(files),
        assumed_intrinsics=calibration is None,
        world_frame=camera.frame_id,
    )


_TIMETABLES = ("timestamps.csv", "frame_time_history.csv")


def _single_camera(
    file: Path, name: str, size: tuple[int, int], calibration: Path | str | None
) -> Camera:
    name = calibrations.plain_name(name)
    if calibration is not None:
        return calibrations.read_calibration(Path(calibration), name, size)
    _log.warning(
        "%s: no calibration; assuming a pinhole with a horizontal field of view of 60 degrees, so "
        "sizes and distances are rough (give calibration)",
        file,
    )
    return calibrations.assumed_pinhole(name, *size)


def _numbered_film(folder: Path, number: str) -> Path:
    """The video of camera ``number``: cam_N, port_N, camN_test, camN, or the only camN*."""
    films = {file.stem: file for file in with_suffix(folder, VIDEO_SUFFIXES)}
    for stem in (f"cam_{number}", f"port_{number}", f"cam{number}_test", f"cam{number}"):
        if stem in films:
            return films[stem]
    start = f"cam{number}"
    found = [
        file
        for stem, file in films.items()
        if stem.startswith(start) and not stem[len(start) :][:1].isdigit()
    ]
    if len(found) != 1:
        names = ", ".join(file.name for file in found) or "none"
        raise BadRecording(
            f"{folder}: expected one video of camera {number} (cam_{number}.mp4 or "
            f"cam{number}_test.mp4), found {names}"
        )
    return found[0]
