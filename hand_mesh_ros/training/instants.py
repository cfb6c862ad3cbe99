"""Instants: hands in several views, with what the landmark network says of every crop, on disk.

The small networks see no pixels but `networks.evidence`, which never changes: computing it once
makes a training epoch of many thousands of crops a matter of seconds on a CPU. A store is a folder
of parts, each a folder of one `.npy` a field, (I, V, ...) for I instants and V views. It is made
by `instant_writer`, in any number of processes, and can be gone on with.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

VERTICES = -1  # as many as the hand model has
# name -> (shape after (I, V), dtype); what is unknown is NaN, and `valid` is False where a view
# shows no usable hand (all its other fields are 0 then)
VIEW_FIELDS: dict[str, tuple[tuple[int, ...], str]] = {
    "valid": ((), "bool"),
    # evidence, see `networks.evidence.Evidence`
    "fine": ((28, 28, 40), "float16"),
    "middle": ((14, 14, 112), "float16"),
    "coarse": ((7, 7, 192), "float16"),
    "landmarks": ((21, 3), "float32"),
    "world": ((21, 3), "float32"),
    "presence": ((), "float32"),
    "right": ((), "float32"),
    # truth, see `examples.Example`: of a right hand, in the axes of the crop
    "joints": ((21, 3), "float32"),
    "uv": ((21, 2), "float32"),
    "rotations": ((16, 3, 3), "float32"),
    "betas": ((10,), "float32"),
    "wrist": ((3,), "float32"),  # metres, in the crop's axes
    # 1 seen, 0 hidden, NaN not said; the visible share of the hand's own pixels
    "visibility": ((21,), "float32"),
    "visible_share": ((), "float32"),
    "vertices_seen": ((VERTICES,), "bool"),
    # pictures: the crop, and who owns its pixels (`render.labels.ViewLabels.numbered`)
    "image": ((112, 112, 3), "uint8"),
    "owner": ((56, 56), "uint8"),
    # the camera: K, D (padded with 0), extrinsics, and the crop in it
    "K": ((3, 3), "float64"),
    "D": ((8,), "float64"),
    "T_camera_world": ((4, 4), "float64"),
    "crop_matrix": ((2, 3), "float64"),  # of a crop of 224 pixels, before mirroring
    "R_crop_camera": ((3, 3), "float64"),  # before mirroring
}
# the same for one instant: whether it is a left hand (mirrored in all fields), skin (linear RGB)
INSTANT_FIELDS: dict[str, tuple[tuple[int, ...], str]] = {
    "left": ((), "bool"),
    "albedo": ((VERTICES, 3), "float16"),
    "occluder": ((), "int8"),  # index into `OCCLUDERS`
}
# what `pseudo_labels` adds to a store, without any truth: landmarks of a fit to all views together,
# in the crop (-1..1) and in its axes, m from the landmark of the wrist; one sigma of those, m
LABEL_FIELDS: dict[str, tuple[tuple[int, ...], str]] = {
    "label_uv": ((21, 2), "float32"),
    "label_points": ((21, 3), "float32"),
    "label_sigma": ((21,), "float32"),
}
# what only a labelled store knows; NaN where it does not
TRUTH_FIELDS = (
    "joints", "uv", "rotations", "betas", "wrist", "visibility", "visible_share"
)  # fmt: skip
OCCLUDERS = ("none", "held", "free", "hand")
PART = 32


class StoreError(Exception):
    """A store that is missing, broken or of another version; says which folder and what to do."""


@dataclass(frozen=True)
class _Part:
    first: int
    count: int
    arrays: Mapping[str, Array]


class InstantStore:
    """Reads a store; arrays are mapped into memory, not read, until they are asked for.

    `fields`: those to open (None: all but labels). Raises StoreError.
    """

    def __init__(self, folder: Path, fields: Iterable[str] | None = None) -> None:
        self.folder = folder
        wanted = list(fields) if fields is not None else [*VIEW_FIELDS, *INSTANT_FIELDS]
        unknown = set(wanted) - set(VIEW_FIELDS) - set(INSTANT_FIELDS) - set(LABEL_FIELDS)
        if unknown:
            raise StoreError(f"a store has no fields {', '.join(sorted(unknown))}")
        self._parts: list[_Part] = []
        first = 0
        for part in sorted(folder.glob("part-*")):
            if not all((part / name).is_file() for name in _marks_of(wanted)):
                continue  # still being written, or come while others were labelled
            try:
                arrays = {name: np.load(part / f"{name}.npy", mmap_mode="r") for name in wanted}
            except (OSError, ValueError) as error:
                raise StoreError(
                    f"{part} is broken ({error}): delete it and run `hand-mesh data instants` again"
                ) from error
            count = int(json.loads((part / "done.json").read_text())["instants"])
            self._parts.append(_Part(first, count, arrays))
            first += count
        if not self._parts:
            raise StoreError(
                f"{folder} holds no instants: make them with `hand-mesh data instants --out "
                f"{folder}`"
            )
        self._firsts = np.array([part.first for part in self._parts])
        self._length = first

    def __len__(self) -> int:
        return self._length

    @property
    def views(self) -> int:
        """Views an instant."""
        for part in self._parts:
            for name, array in part.arrays.items():
                if name not in INSTANT_FIELDS:
                    return int(array.shape[1])
        raise StoreError(f"{self.folder}: no field of views is open")

    def read(
        self, instants: Sequence[int] | NDArray[np.integer], fields: Iterable[str]
    ) -> dict[str, Array]:
        """Fields of some instants, (N, V, ...) or, for those of an instant, (N, ...)."""
        rows = np.asarray(instants, dtype=np.int64)
        if len(rows) and not (0 <= rows.min() and rows.max() < self._length):
            raise IndexError(f"{self.folder} holds {self._length} instants")
        which = np.searchsorted(self._firsts, rows, side="right") - 1
        out: dict[str, Array] = {}
        for name in fields:
            sample = self._parts[0].arrays[name]
            made = np.empty((len(rows), *sample.shape[1:]), sample.dtype)
            for number in np.unique(which):
                here = which == number
                part = self._parts[number]
                made[here] = part.arrays[name][rows[here] - part.first]
            out[name] = made
        return out

    def whole(self, name: str) -> Array:
        """One field of all instants, in memory."""
        return np.concatenate([np.asarray(part.arrays[name]) for part in self._parts])


def _marks_of(fields: Iterable[str]) -> list[str]:
    """Files that say that a part is all there."""
    return ["done.json", *(["labels.json"] if LABEL_FIELDS.keys() & set(fields) else [])]


def crop_poses(fields: Mapping[str, Array]) -> tuple[Array, Array]:
    """Where the crops' axes are: T_crop_world (..., V, 4, 4), and their focal lengths (..., V).

    In a world that is mirrored (x) for left hands, so that what is seen is a right hand in all
    views: points of that world times T are the crop's axes, and x / z times the focal length is
    about x of the crop, -1..1 (about, because a crop is flat and off the lens's axis; `crop_lens`
    has it exactly). Needs the fields K, T_camera_world, R_crop_camera, crop_matrix and left.
    """
    from hand_mesh_ros.networks.evidence import CROP

    R = np.asarray(fields["R_crop_camera"])
    T = np.zeros((*R.shape[:-2], 4, 4))
    T[..., :3, :3], T[..., 3, 3] = R, 1
    T = T @ fields["T_camera_world"]
    mirror = np.diag([-1.0, 1, 1, 1])
    left = np.asarray(fields["left"])[..., None, None, None]
    T = np.where(left, mirror @ T @ mirror, T)
    K, matrix = np.asarray(fields["K"]), np.asarray(fields["crop_matrix"])
    pixels = np.sqrt(np.abs(np.linalg.det(K[..., :2, :2])))
    side = CROP * np.sqrt(np.abs(np.linalg.det(matrix[..., :2])))
    return T, pixels / np.maximum(side / 2, 1e-9)


def crop_cameras(fields: Mapping[str, Array]) -> tuple[Array, Array, Array]:
    """The same as a network is told: rotations of world points into the crops' axes (..., V, 3, 3),

    half a crop's width over its focal length (..., V), and the cameras' centres (..., V, 3), m.
    Views that are not valid have some; needs the field `valid`, too. Single precision.
    """
    T, focal = crop_poses(fields)
    there = np.asarray(fields["valid"])[..., None, None]
    T = np.where(there, T, np.eye(4))
    centres = -(np.swapaxes(T[..., :3, :3], -1, -2) @ T[..., :3, 3:])[..., 0]
    return (
        T[..., :3, :3].astype(np.float32),
        (1 / np.maximum(focal, 1.0)).astype(np.float32),
        centres.astype(np.float32),
    )
