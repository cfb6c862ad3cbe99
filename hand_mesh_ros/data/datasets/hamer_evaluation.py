"""HaMeR's evaluation files: ``NAME.npz`` beside folders of other people's images.

``freihand_val``, ``ho3d_val`` and ``TEST_{newdays,epick,ego4d}_img_{all,vis,occ}``: boxes, 2D and
3D joints with confidences, MANO where there is one. Unlike in the training tars, ``scale`` is in
pixels. In HInt's three variants the confidences of 2D joints say which of them count.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.data.datasets.base import (
    BadDataset,
    BadSample,
    DatasetInfo,
    HandDataset,
    Index,
    OnError,
)
from hand_mesh_ros.data.datasets.files import ImageFile, array, existing, uncalibrated
from hand_mesh_ros.data.datasets.mano import HandModels, Posed, check_models, posed
from hand_mesh_ros.data.datasets.pickled_names import read_names
from hand_mesh_ros.data.samples import HandSample, StoredMano

INFO = DatasetInfo("hamer_evaluation", "HaMeR's evaluation files")

_ARRAYS: dict[str, tuple[int, ...]] = {
    "center": (2,),
    "scale": (-1,),
    "right": (),
    "hand_pose": (48,),
    "has_hand_pose": (),
    "betas": (10,),
    "has_betas": (),
    "hand_keypoints_2d": (21, 3),
    "hand_keypoints_3d": (21, 4),
}
_NEEDED = ("center", "scale")


def open_hamer_evaluation(
    root: Path,
    split: str,
    *,
    images: Path | None = None,
    assume_intrinsics: bool = False,
    models: HandModels | None = None,
    on_error: OnError = "raise",
) -> HandDataset:
    """``root/split.npz``; its image names are relative to ``images`` (by default ``root``).

    ``assume_intrinsics`` as in `hint.open_hint`, and for FreiHAND's and HO-3D's images too.
    `BadDataset` where the file is missing or its arrays are of different lengths.
    """
    check_models(models, "total", INFO)
    return HandDataset(
        _HamerEvaluation(root, split, images or root, assume_intrinsics, models), on_error
    )


@dataclass(frozen=True)
class _HamerEvaluation:
    root: Path
    split: str
    images: Path
    assumed: bool
    models: HandModels | None

    info = INFO

    def index(self) -> Index:
        names, arrays = self._content
        lengths = {"imgname": len(names), **{key: len(each) for key, each in arrays.items()}}
        if len(set(lengths.values())) != 1:
            raise BadDataset(f"{self._path}: arrays of different lengths: {lengths}")
        return Index(range(len(names)))

    def group_of(self, entry: int) -> None:
        return None

    def read(self, entry: int) -> HandSample:
        names, arrays = self._content
        image = ImageFile(existing(self.images / names[entry]))
        row = {
            key: array(np.atleast_1d(each[entry]) if key == "scale" else each[entry],
                       _ARRAYS[key], self._path, f"'{key}' of {names[entry]}")
            for key, each in arrays.items()
        }  # fmt: skip
        stored = self._mano(row)
        mano, vertices = Posed(None, None) if stored is None else posed(stored, self.models)
        points, joints = row.get("hand_keypoints_2d"), row.get("hand_keypoints_3d")
        size = np.broadcast_to(row["scale"], (2,))
        tight = self.split.startswith("TEST_")  # those of FreiHAND and HO-3D have padding
        return HandSample(
            dataset=INFO.name,
            split=self.split,
            name=f"{self.split}/{entry:06d}",
            index=entry,
            camera=uncalibrated("hamer_evaluation", image.size, self.assumed),
            side="right" if row.get("right", np.float64(1)) > 0 else "left",
            source=self._path,
            load_image=image,
            joints=None if joints is None else _known(joints),
            uv=None if points is None else _known(points),
            vertices=vertices,
            counted=None if points is None else points[:, 2] > 0,
            placed=False,
            mano=mano,
            stored_mano=stored,
            box=np.r_[row["center"] - size / 2, row["center"] + size / 2] if tight else None,
            extras={
                "image": names[entry],
                "center": row["center"],
                "scale": row["scale"],
                "assumed_intrinsics": self.assumed,
            },
        )

    def _mano(self, row: dict[str, NDArray[np.float64]]) -> StoredMano | None:
        there = all(row.get(f"has_{key}", 0) > 0 for key in ("hand_pose", "betas"))
        if not there or not {"hand_pose", "betas"} <= row.keys():
            return None
        right = row.get("right", np.float64(1)) > 0
        pose = row["hand_pose"]
        return StoredMano("right" if right else "left", "total", pose[:3], pose[3:], row["betas"])

    @property
    def _path(self) -> Path:
        return self.root / f"{self.split}.npz"

    @cached_property
    def _content(self) -> tuple[list[str], dict[str, NDArray[Any]]]:
        path = self._path
        if not path.is_file():
            raise BadDataset(f"{path} is missing; expected HaMeR's evaluation files in {self.root}")
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {key: np.asarray(file[key]) for key in _ARRAYS if key in file.files}
            names = read_names(path, "imgname")
        except BadSample as error:
            raise BadDataset(str(error)) from error
        except (zipfile.BadZipFile, KeyError, ValueError, OSError, EOFError) as error:
            raise BadDataset(f"{path} is no .npz archive of such arrays ({error})") from error
        if missing := [key for key in _NEEDED if key not in arrays]:
            raise BadDataset(f"{path}: {', '.join(missing)} missing")
        return names, arrays


def _known(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points (21, d) of (21, d + 1) with confidences; NaN where that is zero."""
    return np.where(points[:, -1:] > 0, points[:, :-1], np.nan)
