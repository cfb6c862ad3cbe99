"""Files of data sets: whatever is wrong with one is said with its path."""

from __future__ import annotations

import json
import mmap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np

from hand_mesh_ros.data.calibrations import assumed_pinhole
from hand_mesh_ros.data.datasets.base import BadDataset, BadSample
from hand_mesh_ros.data.pixels import BadImage, decode_compressed
from hand_mesh_ros.data.samples import BoolArray
from hand_mesh_ros.geometry.cameras import project
from hand_mesh_ros.hand.stand_ins import RefusedPickleError
from hand_mesh_ros.hand.unpickle import load_pickle
from hand_mesh_ros.types import Camera, FloatArray, ImageArray


def array(value: Any, shape: tuple[int, ...], path: Path, what: str) -> FloatArray:
    """Finite numbers of a given shape, where -1 is any length; `BadSample` says what else."""
    try:
        numbers = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise BadSample(path, f"{what} holds no array of numbers") from error
    if numbers.ndim != len(shape) or any(
        w not in (-1, n) for w, n in zip(shape, numbers.shape, strict=True)
    ):
        raise BadSample(path, f"{what} has shape {numbers.shape}, it must be {shape}")
    if not np.isfinite(numbers).all():
        raise BadSample(path, f"{what} is not finite everywhere")
    return numbers


def item(content: Any, key: str | int, path: Path) -> Any:
    """``content[key]``; `BadSample` where it is not there."""
    try:
        return content[key]
    except (KeyError, IndexError, TypeError) as error:
        raise BadSample(path, f"'{key}' is missing") from error


def read_json(path: Path) -> Any:
    """The content of a JSON file; `BadSample` where it is missing or no JSON."""
    try:
        return json.loads(_bytes(path))
    except ValueError as error:
        raise BadSample(path, f"no complete JSON ({error})") from error


def read_pickle(path: Path) -> Mapping[str, Any]:
    """A pickled dict, read without executing it: see `hand.unpickle`, `stand_ins.plain`."""
    try:
        with path.open("rb") as file:
            content = load_pickle(file)
    except OSError as error:
        raise BadSample(path, f"cannot be read ({error.strerror})") from error
    except RefusedPickleError as error:
        raise BadSample(path, f"refused: {error}") from error
    if not isinstance(content, dict):
        raise BadSample(path, f"holds a {type(content).__name__}, not a dict")
    return content


def required(path: Path, hint: str) -> Path:
    """A file or folder that a data set cannot do without."""
    if not path.exists():
        raise BadDataset(f"{path} is missing; {hint}")
    return path


def existing(path: Path, what: str = "image") -> Path:
    """A file that one sample needs."""
    if not path.is_file():
        raise BadSample(path, f"{what} is missing")
    return path


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadSample(path, f"cannot be read ({error.strerror})") from error


@dataclass(frozen=True)
class ImageFile:
    """An image on disk, decoded when called: RGB uint8 (H, W, 3); `BadSample` where it is none."""

    path: Path

    def __call__(self) -> ImageArray:
        try:
            return decode_compressed(_bytes(self.path))
        except BadImage as error:
            raise BadSample(self.path, str(error)) from error

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, from the header alone."""
        from PIL import Image, UnidentifiedImageError

        try:
            with Image.open(existing(self.path)) as image:
                return image.size
        except UnidentifiedImageError as error:
            raise BadSample(self.path, "is no image") from error


@dataclass(frozen=True)
class MaskFile:
    """A mask image on disk, (H, W) bool when called: where it is brighter than half."""

    image: ImageFile

    def __call__(self) -> BoolArray:
        return np.asarray(self.image()[..., 0] > 127)


def mask_if_there(path: Path) -> MaskFile | None:
    """A mask that only some images have."""
    return MaskFile(ImageFile(path)) if path.is_file() else None


UNKNOWN_K = np.full((3, 3), np.nan)


def pinhole(
    name: str, size: tuple[int, int], K: FloatArray, T_camera_world: FloatArray | None = None
) -> Camera:
    """The camera of an image of ``size`` (width, height); K of NaN where it is not known."""
    T = np.eye(4) if T_camera_world is None else T_camera_world
    return Camera(name, *size, K=K, T_camera_world=T, frame_id=f"{name}_optical_frame")


def uncalibrated(name: str, size: tuple[int, int], assume: bool) -> Camera:
    """A camera whose intrinsics nobody published: K of NaN, or by choice 60 degrees across."""
    return assumed_pinhole(name, *size) if assume else pinhole(name, size, UNKNOWN_K)


def pixels(camera: Camera, joints: FloatArray | None) -> FloatArray | None:
    """Pixels (N, 2) of points (N, 3) in the camera's own axes; NaN where unknown or behind it."""
    return None if joints is None else project(camera.placed(np.eye(4)), joints)


class JsonRows(Sequence[FloatArray]):
    """A JSON list of matrices, of which only those that are asked for are parsed.

    FreiHAND's list of meshes is more than a gigabyte. Its elements end in "]]" and begin with
    "[[", which occurs nowhere else in a list of matrices, so that finding them is a plain search.
    """

    def __init__(self, path: Path, shape: tuple[int, int]) -> None:
        self.path, self.shape = path, shape

    def __reduce__(self) -> tuple[Callable[..., JsonRows], tuple[Any, ...]]:
        return JsonRows, (self.path, self.shape)

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, number: int) -> FloatArray: ...
    @overload
    def __getitem__(self, number: slice) -> list[FloatArray]: ...
    def __getitem__(self, number: int | slice) -> FloatArray | list[FloatArray]:
        if isinstance(number, slice):
            return [self[i] for i in range(len(self))[number]]
        start = self._ends[number - 1] if number else self._map.find(b"[")
        text = self._map[start + 1 : self._ends[number]].strip(b", \t\r\n")
        try:
            value = json.loads(text)
        except ValueError as error:
            raise BadSample(self.path, f"element {number} is no JSON ({error})") from error
        return array(value, self.shape, self.path, f"element {number}")

    @cached_property
    def _map(self) -> mmap.mmap | bytes:
        try:
            with self.path.open("rb") as file:
                found = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            raise BadDataset(f"{self.path}: cannot be read ({error.strerror})") from error
        except ValueError as error:
            raise BadDataset(f"{self.path}: the file is empty") from error
        if found[:1] != b"[" or not found[-64:].rstrip().endswith(b"]]]"):
            raise BadDataset(f"{self.path}: no complete JSON list of matrices; it is cut short")
        return found

    @cached_property
    def _ends(self) -> list[int]:
        """Where each element's last "]" ends, less one: a comma follows it or the list's end."""
        content = self._map
        separator = next((s for s in (b"]], [[", b"]],[[") if content.find(s) >= 0), None)
        last = content.rfind(b"]")  # the list's own
        ends: list[int] = []
        at = -1 if separator is None else content.find(separator)
        while at >= 0 and separator is not None:
            ends.append(at + 2)
            at = content.find(separator, at + 2)
        return [*ends, last]
