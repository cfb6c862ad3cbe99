"""HaMeR's training tars (WebDataset): images with a pickled list of hands each, from ten data sets.

``KEY.jpg`` and ``KEY.data.pyd``, optionally ``KEY.detection.npz`` with masks. No cameras; 3D joints
are each data set's own, so that only their differences mean something; poses are total, those of
left hands not mirrored. The pickles are read by the restricted unpickler, which executes nothing.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hand_mesh_ros.data.datasets.base import (
    BadDataset,
    BadSample,
    DatasetInfo,
    HandDataset,
    Index,
    OnError,
    Problem,
)
from hand_mesh_ros.data.datasets.files import UNKNOWN_K, array, item, pinhole
from hand_mesh_ros.data.datasets.mano import HandModels, Posed, check_models, posed
from hand_mesh_ros.data.datasets.tars import ImageMember, Item, Member, items_of
from hand_mesh_ros.data.samples import BoolArray, HandSample, StoredMano
from hand_mesh_ros.hand.stand_ins import Array, RefusedPickleError, plain
from hand_mesh_ros.hand.unpickle import load_pickle
from hand_mesh_ros.types import FloatArray, Side

INFO = DatasetInfo("hamer_tars", "HaMeR's training tars")
_PERSON = 200.0  # px; the unit of their boxes
_IMAGES = ("jpg", "jpeg", "png")


@dataclass(frozen=True)
class Filters:
    """What HaMeR's training leaves out; see `ALL` for nothing.

    2D joints below ``min_confidence`` do not count; hands need more than ``min_joints`` that do,
    and a fit whose reprojection loss is below ``max_reprojection``; shapes beyond ``max_beta``
    are no shapes, and ``pose_with_shape``: without a shape there is no pose either.
    """

    min_confidence: float = 0.3
    min_joints: int = 4
    max_reprojection: float = 31000.0
    max_beta: float = 3.0
    pose_with_shape: bool = True


ALL = Filters(0.0, -1, np.inf, np.inf, False)


def open_hamer_tars(
    root: Path,
    *,
    pattern: str = "**/*.tar",
    filters: Filters = Filters(),  # noqa: B008 (frozen)
    models: HandModels | None = None,
    on_error: OnError = "raise",
) -> HandDataset:
    """The tars under the folder ``root``, one sample a hand, in the order of their names.

    Listing goes once through the tars' headers and annotations, not the images. `BadDataset` where
    there is no tar.
    """
    check_models(models, "total", INFO)
    return HandDataset(_HamerTars(root, pattern, filters, models), on_error)


@dataclass(frozen=True)
class Hand:
    """One element of a pickled list, its numbers checked."""

    uv: FloatArray  # (21, 3) px, confidence
    joints: FloatArray  # (21, 4) m, confidence
    centre: FloatArray  # (2,) px
    size: FloatArray  # (2,) px
    pose: FloatArray | None  # (48,)
    betas: FloatArray | None  # (10,)
    side: Side
    reprojection: float | None
    mask: int | None


@dataclass(frozen=True)
class MaskMember:
    """One of the masks (H, W) of an item."""

    member: Member
    number: int

    def __call__(self) -> BoolArray:
        try:
            with np.load(io.BytesIO(self.member.read()), allow_pickle=False) as file:
                return np.asarray(file["masks"][self.number] > 0)
        except (zipfile.BadZipFile, KeyError, IndexError, ValueError, OSError) as error:
            raise BadSample(self.member.path, f"{self.member.name}: no masks ({error})") from error


@dataclass(frozen=True)
class _HamerTars:
    root: Path
    pattern: str
    filters: Filters
    models: HandModels | None

    info = INFO

    def index(self) -> Index:
        """Entries (number, item, number of the hand in it)."""
        tars = sorted(self.root.glob(self.pattern))
        if not tars:
            raise BadDataset(f"{self.root} holds no {self.pattern}")
        entries: list[tuple[int, Item, int]] = []
        problems: list[Problem] = []
        for path in tars:
            for each in items_of(path, problems):
                try:
                    self._image(each)
                    hands = read_hands(each.member("data.pyd"))
                except BadSample as error:
                    problems.append(Problem(error.path, error.reason))
                    continue
                for k, hand in enumerate(hands):
                    if isinstance(hand, Problem):
                        problems.append(hand)
                    elif self._wanted(hand):
                        entries.append((len(entries), each, k))
        return Index(entries, tuple(problems))

    def group_of(self, entry: tuple[int, Item, int]) -> None:
        return None

    def read(self, entry: tuple[int, Item, int]) -> HandSample:
        number, each, k = entry
        hand = read_hands(each.member("data.pyd"))[k]
        if isinstance(hand, Problem):
            raise BadSample(hand.path, hand.reason)
        image = self._image(each)
        counted = self._confident(hand)
        known = hand.joints[:, 3] > 0
        stored = self._mano(hand)
        mano, vertices = Posed(None, None) if stored is None else posed(stored, self.models)
        masks = each.find("detection.npz")
        return HandSample(
            dataset=INFO.name,
            split=each.path.parent.name,
            name=f"{each.path.stem}/{each.key}/{k}",
            index=number,
            camera=pinhole("hamer_tars", image.size, UNKNOWN_K),
            side=hand.side,
            source=each.path,
            load_image=image,
            joints=np.where(known[:, None], hand.joints[:, :3], np.nan) if known.any() else None,
            uv=np.where(counted[:, None], hand.uv[:, :2], np.nan),
            vertices=vertices,
            counted=counted,
            placed=False,
            mano=mano,
            stored_mano=stored,
            box=np.r_[hand.centre - hand.size / 2, hand.centre + hand.size / 2],
            load_hand_mask=None
            if masks is None or hand.mask is None
            else MaskMember(masks, hand.mask),
            extras={"confidence": hand.uv[:, 2], "reprojection_loss": hand.reprojection},
        )

    def _image(self, each: Item) -> ImageMember:
        found = next((m for m in map(each.find, _IMAGES) if m is not None), None)
        if found is None:
            raise BadSample(each.path, f"{each.key}: image is missing")
        return ImageMember(found)

    def _confident(self, hand: Hand) -> BoolArray:
        confidence = hand.uv[:, 2]
        return np.asarray((confidence > 0) & (confidence >= self.filters.min_confidence))

    def _wanted(self, hand: Hand) -> bool:
        fits = hand.reprojection is None or hand.reprojection < self.filters.max_reprojection
        return fits and int(self._confident(hand).sum()) > self.filters.min_joints

    def _mano(self, hand: Hand) -> StoredMano | None:
        """Pose and shape; a pose whose shape is not known has NaN betas."""
        betas = hand.betas
        if betas is not None and np.abs(betas).max() > self.filters.max_beta:
            betas = None
        if hand.pose is None or (betas is None and self.filters.pose_with_shape):
            return None
        betas = np.full(10, np.nan) if betas is None else betas
        return StoredMano(hand.side, "total", hand.pose[:3], hand.pose[3:], betas)


def read_hands(member: Member) -> list[Hand | Problem]:
    """The hands of one image; `BadSample` for a pickle that is broken or not of plain values."""
    try:
        content = load_pickle(io.BytesIO(member.read()))
    except RefusedPickleError as error:
        raise BadSample(member.path, f"{member.name}: refused, {error}") from error
    if not isinstance(content, list):
        raise BadSample(member.path, f"{member.name}: no list of hands")
    return [_hand(each, member, k) for k, each in enumerate(content)]


def _hand(content: Any, member: Member, k: int) -> Hand | Problem:
    try:
        return _checked(content, member.path)
    except BadSample as error:
        return Problem(error.path, f"{member.name}: hand {k}: {error.reason}")
    except RefusedPickleError as error:
        return Problem(member.path, f"{member.name}: hand {k}: {error}")


def _checked(content: Any, path: Path) -> Hand:
    def numbers(key: str, shape: tuple[int, ...]) -> FloatArray:
        value = plain(item(content, key, path))
        return array(value.reshape(shape) if shape == () else value, shape, path, f"'{key}'")

    extra = content.get("extra_info", {}) if isinstance(content, Mapping) else {}
    extra = _unboxed(extra)
    losses = _unboxed(extra.get("fitting_loss", {}))
    loss, mask = losses.get("reprojection_loss"), extra.get("detection_npz_idx")
    return Hand(
        numbers("keypoints_2d", (21, 3)),
        numbers("keypoints_3d", (21, 4)),
        numbers("center", (2,)),
        numbers("scale", (2,)) * _PERSON,
        numbers("hand_pose", (48,)) if numbers("has_hand_pose", ()) > 0 else None,
        numbers("betas", (10,)) if numbers("has_betas", ()) > 0 else None,
        "right" if numbers("right", ()) > 0 else "left",
        None if loss is None else float(plain(loss).ravel()[0]),
        None if mask is None else int(plain(mask).ravel()[0]),
    )


def _unboxed(value: Any) -> Mapping[str, Any]:
    """A dict, or the one that an array of one object holds; empty for anything else."""
    if isinstance(value, Array) and isinstance(value.state, tuple):
        raw = value.state[-1]
        value = raw[0] if isinstance(raw, list) and len(raw) == 1 else {}
    return value if isinstance(value, dict) else {}
