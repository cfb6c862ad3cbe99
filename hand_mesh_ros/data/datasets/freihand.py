"""FreiHAND: 32,560 right hands before a green screen in four versions of background, 3,960 to test.

``{training,evaluation}_{K,xyz,mano,verts,scale}.json`` are lists by number of hand; image ``n`` of
version k is ``{split}/rgb/%08d.jpg`` of n + k N, with N the number of hands, and masks are those of
the first version. Metres, optical axes. Its joints are regressed from the posed mesh.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

from hand_mesh_ros.data.datasets.base import BadDataset, DatasetInfo, HandDataset, Index, OnError
from hand_mesh_ros.data.datasets.files import (
    ImageFile,
    JsonRows,
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
from hand_mesh_ros.data.datasets.mano import HandModels, Posed, check_models, num_vertices, posed
from hand_mesh_ros.data.samples import HandSample

Split = Literal["training", "evaluation"]
Version = Literal["gs", "hom", "sample", "auto"]
VERSIONS: tuple[Version, ...] = get_args(Version)
"""Backgrounds, in the order of their images: green screen, then three that replace it."""

INFO = DatasetInfo("freihand", "FreiHAND", tips="freihand", regressed=True)


def open_freihand(
    root: Path,
    split: Split = "training",
    *,
    versions: tuple[Version, ...] = VERSIONS,
    hands: tuple[float, float] = (0.0, 1.0),
    models: HandModels | None = None,
    on_error: OnError = "raise",
) -> HandDataset:
    """FreiHAND in the folder ``root``; ``versions`` of the training images' backgrounds.

    ``hands``: from which share of the list of hands to which, the same ones in every version; so
    (0, 0.95) is to train with and (0.95, 1) to validate, since there is no split for that.
    Evaluation has one version. Raises ValueError for unknown names and `BadDataset` where the
    lists are missing, cut short or of different lengths.
    """
    if split not in get_args(Split) or not set(versions) <= set(VERSIONS):
        raise ValueError(f"FreiHAND has no split {split!r} or no version of {versions}")
    if not 0 <= hands[0] < hands[1] <= 1:
        raise ValueError(f"FreiHAND's hands are shares from 0 to 1, the first smaller, not {hands}")
    check_models(models, "mean_relative", INFO)
    chosen = versions if split == "training" else VERSIONS[:1]
    return HandDataset(_FreiHand(root, split, chosen, hands, models), on_error)


@dataclass(frozen=True)
class _FreiHand:
    root: Path
    split: Split
    versions: tuple[Version, ...]
    hands: tuple[float, float]
    models: HandModels | None

    info = INFO

    def index(self) -> Index:
        hands = len(self._K)
        required(self._images, "expected FreiHAND's images there")
        for rows in (self._xyz, self._mano):
            if rows is not None and len(rows) != hands:
                raise BadDataset(
                    f"{rows.path} is a list of {len(rows)}, {self._K.path} of {hands}: one of "
                    "them is not complete"
                )
        numbers = (f.name.partition(".")[0] for f in os.scandir(self._images))
        highest = max((int(n) for n in numbers if n.isdecimal()), default=-1)
        if highest >= hands * len(VERSIONS):
            raise BadDataset(
                f"{self._images} has an image {highest:08d}, more than the {len(VERSIONS)} x "
                f"{hands} that {self._K.path} tells of: its lists are not complete"
            )
        # Image numbers: all hands of a version, then those of the next.
        starts = [VERSIONS.index(version) * hands for version in self.versions]
        first, last = (round(share * hands) for share in self.hands)
        return Index([start + hand for start in starts for hand in range(first, last)])

    def group_of(self, entry: int) -> None:
        return None

    def read(self, entry: int) -> HandSample:
        version, hand = divmod(int(entry), len(self._K))
        path = self._images / f"{entry:08d}.jpg"
        image = ImageFile(existing(path))
        K = self._K[hand]
        camera = pinhole("freihand", image.size, K)
        joints = None if self._xyz is None else self._xyz[hand]
        stored = None
        if self._mano is not None:
            numbers = array(self._mano[hand][0], (61,), self._mano.path, f"element {hand}")
            stored = hand_in_camera(numbers, K)
        mano, from_mano = Posed(None, None) if stored is None else posed(stored, self.models)
        vertices = from_mano if self._verts is None else self._verts[hand]
        return HandSample(
            dataset=INFO.name,
            split=self.split,
            name=f"{self.split}/{entry:08d}",
            index=int(entry),
            camera=camera,
            side="right",
            source=self._K.path if self._xyz is None else self._xyz.path,
            load_image=image,
            joints=joints,
            uv=pixels(camera, joints),
            vertices=vertices,
            mano=mano,
            stored_mano=stored,
            load_hand_mask=mask_if_there(self.root / self.split / "mask" / f"{hand:08d}.jpg"),
            extras={"background": VERSIONS[version], "hand": hand, "scale": self._scale(hand)},
        )

    def _scale(self, hand: int) -> float | None:
        """Length of the middle finger's first bone, m, which is given for evaluation too."""
        if self._scales is None:
            return None
        return float(array(item(self._scales, hand, self._path("scale")), (), self._path("scale"),
                           f"element {hand}"))  # fmt: skip

    @property
    def _images(self) -> Path:
        return self.root / self.split / "rgb"

    def _path(self, what: str) -> Path:
        return self.root / f"{self.split}_{what}.json"

    def _list(self, what: str, shape: tuple[int, int], needed: bool) -> JsonRows | None:
        path = self._path(what)
        if needed:
            required(path, "expected FreiHAND's folder with its lists beside training/ and so on")
        return JsonRows(path, shape) if path.is_file() else None

    @cached_property
    def _K(self) -> JsonRows:
        rows = self._list("K", (3, 3), needed=True)
        assert rows is not None
        return rows

    @cached_property
    def _scales(self) -> Any:
        return read_json(self._path("scale")) if self._path("scale").is_file() else None

    @cached_property
    def _xyz(self) -> JsonRows | None:
        return self._list("xyz", (21, 3), needed=self.split == "training")

    @cached_property
    def _mano(self) -> JsonRows | None:
        return self._list("mano", (1, 61), needed=self.split == "training")

    @cached_property
    def _verts(self) -> JsonRows | None:
        """The list of meshes, without counting it before it is needed: it is large."""
        rows = self._list("verts", (num_vertices(self.models, INFO), 3), needed=False)
        if rows is not None and len(rows) != len(self._K):
            raise BadDataset(f"{rows.path} is a list of {len(rows)}, not of {len(self._K)}")
        return rows
