"""HanCo: 1,518 sequences of right hands before eight synchronised cameras, 224 x 224 pixels.

``{variant}/SID/camC/FID.jpg``, ``calib``, ``xyz`` and ``shape/SID/FID.json``, and ``meta.json``.
K and M (world to camera) are in metres and optical axes; joints are the world's, and not exactly
the joints of the MANO hand, which is in the world too (or by camera, in ``shape/SID/camC``).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from hand_mesh_ros.data.datasets.base import BadDataset, DatasetInfo, HandDataset, Index, OnError
from hand_mesh_ros.data.datasets.files import (
    ImageFile,
    array,
    existing,
    item,
    mask_if_there,
    pinhole,
    pixels,
    read_json,
    required,
)
from hand_mesh_ros.data.datasets.freiburg import hand_in_camera
from hand_mesh_ros.data.datasets.mano import HandModels, Posed, check_models, posed
from hand_mesh_ros.data.samples import HandSample, StoredMano
from hand_mesh_ros.geometry.rotations import transform_points
from hand_mesh_ros.types import FloatArray

Split = Literal["train", "test", "all"]
Variant = Literal["rgb", "rgb_merged", "rgb_homo", "rgb_color_auto", "rgb_color_sample"]
Keep = Literal["is_valid", "has_fit", "all"]
CAMERAS = 8
FIRST_TEST = 1200
"""HaMuCo's split: sequences below are for training."""

INFO = DatasetInfo("hanco", "HanCo")


def open_hanco(
    root: Path,
    split: Split = "all",
    *,
    variant: Variant = "rgb",
    keep: Keep = "is_valid",
    models: HandModels | None = None,
    on_error: OnError = "raise",
) -> HandDataset:
    """HanCo in the folder ``root``.

    ``split``: HaMuCo's, sequences below 1200 or from there on, or all. ``variant``: ``rgb`` is the
    original before a green screen, the others have other backgrounds. ``keep``: instants whose
    MANO fit was verified, that have a fit, or all. Raises ValueError for unknown names,
    `BadDataset` where ``meta.json`` is missing or broken.
    """
    for name, value, known in (("split", split, Split), ("variant", variant, Variant),
                               ("keep", keep, Keep)):  # fmt: skip
        if value not in get_args(known):
            raise ValueError(f"HanCo: {name} is {value!r}; choose one of {get_args(known)}")
    check_models(models, "mean_relative", INFO)
    return HandDataset(_HanCo(root, split, variant, keep, models), on_error)


@dataclass(frozen=True)
class _HanCo:
    root: Path
    split: Split
    variant: Variant
    keep: Keep
    models: HandModels | None

    info = INFO

    def index(self) -> Index:
        """Entries (sequence, frame, camera): eight for every instant, whatever files there are."""
        valid = self._flags(self.keep if self.keep != "all" else "is_valid")
        entries = [
            (sequence, frame, camera)
            for sequence, frames in enumerate(valid)
            if self.split == "all" or (sequence < FIRST_TEST) == (self.split == "train")
            for frame, kept in enumerate(frames)
            if kept or self.keep == "all"
            for camera in range(CAMERAS)
        ]
        return Index(entries)

    def group_of(self, entry: tuple[int, int, int]) -> str:
        sequence, frame, _ = entry
        return f"{sequence:04d}/{frame:08d}"

    def read(self, entry: tuple[int, int, int]) -> HandSample:
        sequence, frame, number = entry
        instant = self.group_of(entry)
        image_name = f"{sequence:04d}/cam{number}/{frame:08d}.jpg"
        image = ImageFile(existing(self.root / self.variant / image_name))
        K, M = self._camera(instant, number)
        camera = pinhole(f"cam{number}", image.size, K, M)
        path = self.root / "xyz" / f"{instant}.json"
        joints = transform_points(M, array(read_json(path), (21, 3), path, "the list"))
        stored = self._mano(sequence, frame, number, K, M)
        mano, vertices = Posed(None, None) if stored is None else posed(stored, self.models)
        return HandSample(
            dataset=INFO.name,
            split="train" if sequence < FIRST_TEST else "test",
            name=f"{self.variant}/{image_name.removesuffix('.jpg')}",
            index=(self._first(sequence) + frame) * CAMERAS + number,
            camera=camera,
            side="right",
            source=path,
            load_image=image,
            joints=joints,
            uv=pixels(camera, joints),
            vertices=vertices,
            mano=mano,
            stored_mano=stored,
            group=instant,
            view=number,
            sequence=f"{sequence:04d}/cam{number}",
            frame=frame,
            load_hand_mask=mask_if_there(self.root / "mask_hand" / image_name),
            extras=self._said_of(sequence, frame),
        )

    def _camera(self, instant: str, number: int) -> tuple[FloatArray, FloatArray]:
        path = self.root / "calib" / f"{instant}.json"
        calibration = read_json(path)
        K = array(item(calibration, "K", path), (CAMERAS, 3, 3), path, "'K'")
        M = array(item(calibration, "M", path), (CAMERAS, 4, 4), path, "'M'")
        return K[number], M[number]

    def _mano(
        self, sequence: int, frame: int, number: int, K: FloatArray, M: FloatArray
    ) -> StoredMano | None:
        """The hand in the world where there is one, else the one of this camera."""
        path = self.root / "shape" / f"{sequence:04d}" / f"{frame:08d}.json"
        if path.is_file():
            content = read_json(path)
            pose, betas, transl = (
                array(item(content, key, path), shape, path, f"'{key}'").ravel()
                for key, shape in (("poses", (1, 48)), ("shapes", (1, 10)),
                                   ("global_t", (1, 1, 3)))
            )  # fmt: skip
            return StoredMano(
                "right", "mean_relative", pose[:3], pose[3:], betas, transl, T_camera_stored=M
            )
        path = path.parent / f"cam{number}" / path.name
        if not path.is_file():
            return None
        numbers = np.ravel(array(np.ravel(read_json(path)), (61,), path, "the list"))
        return hand_in_camera(numbers, K)

    def _flags(self, key: str) -> list[list[Any]]:
        if key not in self._meta:
            raise BadDataset(f"{self.root / 'meta.json'}: '{key}' is missing")
        return self._meta[key]

    def _said_of(self, sequence: int, frame: int) -> dict[str, Any]:
        return {key: lists[sequence][frame] for key, lists in self._meta.items()}

    def _first(self, sequence: int) -> int:
        return self._starts[sequence]

    @cached_property
    def _starts(self) -> list[int]:
        """Number of the first instant of every sequence."""
        lengths = [len(frames) for frames in self._flags("is_valid")]
        return [0, *np.cumsum(lengths).tolist()]

    @cached_property
    def _meta(self) -> dict[str, list[list[Any]]]:
        """What is said of each sequence's frames: lists that agree in their lengths."""
        path = required(self.root / "meta.json", "expected HanCo's folder (its calib_meta archive)")
        try:
            content = read_json(path)
        except ValueError as error:
            raise BadDataset(str(error)) from error
        if not isinstance(content, dict):
            raise BadDataset(f"{path} holds no mapping")
        lengths: list[list[int]] = []
        for key, lists in content.items():
            if not isinstance(lists, list) or not all(isinstance(each, list) for each in lists):
                raise BadDataset(f"{path}: '{key}' is no list of lists")
            lengths.append([len(each) for each in lists])
            if lengths[-1] != lengths[0]:
                raise BadDataset(
                    f"{path}: '{key}' has not as many frames as '{next(iter(content))}'"
                )
        return content
