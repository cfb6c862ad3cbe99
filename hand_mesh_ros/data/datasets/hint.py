"""HInt: hands in the wild with 2D joints and whether each is occluded; no camera, no 3D.

``{TRAIN,VAL,TEST}_{newdays,epick,ego4d}_{img,seq}/NAME_{l,r}.{jpg,json}``. Ego4D's images are not
published with the annotations; until they are decoded beside them they count as missing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from hand_mesh_ros.data.datasets.base import (
    BadDataset,
    BadSample,
    DatasetInfo,
    HandDataset,
    Index,
    OnError,
)
from hand_mesh_ros.data.datasets.files import (
    ImageFile,
    array,
    existing,
    item,
    read_json,
    uncalibrated,
)
from hand_mesh_ros.data.samples import HandSample
from hand_mesh_ros.types import Side

Split = Literal["TRAIN", "VAL", "TEST"]
INFO = DatasetInfo("hint", "HInt")
_SIDES: dict[str, Side] = {"l": "left", "r": "right"}


def open_hint(
    root: Path,
    split: Split = "TEST",
    *,
    subsets: tuple[str, ...] | None = None,
    assume_intrinsics: bool = False,
    on_error: OnError = "raise",
) -> HandDataset:
    """HInt in the folder ``root``; ``subsets`` such as newdays_img, epick_img, ego4d_img.

    ``assume_intrinsics``: cameras of 60 degrees across, for methods that need one, in place of K of
    NaN; ``extras`` say so.
    Raises ValueError for an unknown split, `BadDataset` where a subset's folder is missing.
    """
    if split not in get_args(Split):
        raise ValueError(f"HInt has no split {split!r}; choose one of {get_args(Split)}")
    return HandDataset(_HInt(root, split, subsets, assume_intrinsics), on_error)


@dataclass(frozen=True)
class _HInt:
    root: Path
    split: Split
    subsets: tuple[str, ...] | None
    assumed: bool

    info = INFO

    def index(self) -> Index:
        """Entries (number, subset, name), by name; every annotation is one."""
        folders = sorted(p for p in self.root.glob(f"{self.split}_*") if p.is_dir())
        if self.subsets is not None:
            folders = [self.root / f"{self.split}_{subset}" for subset in self.subsets]
        missing = [str(folder) for folder in folders if not folder.is_dir()]
        if missing or not folders:
            raise BadDataset(
                f"{', '.join(missing) or self.root / f'{self.split}_*'}: no such folder; expected "
                "HInt's folder (HInt_annotation_partial), which has them"
            )
        names = [(folder, p.stem) for folder in folders for p in sorted(folder.glob("*.json"))]
        prefix = len(self.split) + 1
        return Index([(n, folder.name[prefix:], stem) for n, (folder, stem) in enumerate(names)])

    def group_of(self, entry: tuple[int, str, str]) -> None:
        return None

    def read(self, entry: tuple[int, str, str]) -> HandSample:
        number, subset, stem = entry
        folder = self.root / f"{self.split}_{subset}"
        path = folder / f"{stem}.json"
        content = read_json(path)
        if not isinstance(content, list) or len(content) != 1:
            raise BadSample(path, "is no list of one hand")
        shapes = {"bbox": (1, 4), "keypoints": (21, 2), "existence": (21,), "occlusion": (21,)}
        box, uv, existence, occlusion = (
            array(item(content[0], key, path), shape, path, f"'{key}'")
            for key, shape in shapes.items()
        )
        letter = stem.rpartition("_")[2]
        if letter not in _SIDES:
            raise BadSample(path, "its name ends in neither _l nor _r")
        image = ImageFile(existing(folder / f"{stem}.jpg"))
        there = existence > 0
        return HandSample(
            dataset=INFO.name,
            split=self.split,
            name=f"{folder.name}/{stem}",
            index=number,
            camera=uncalibrated("hint", image.size, self.assumed),
            side=_SIDES[letter],
            source=path,
            load_image=image,
            uv=np.where(there[:, None], uv, np.nan),
            visibility=np.where(there, 1.0 - (occlusion > 0), np.nan),
            counted=there,
            box=box[0],
            extras={"subset": subset, "assumed_intrinsics": self.assumed},
        )
