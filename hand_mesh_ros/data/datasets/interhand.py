"""InterHand2.6M: right and left hands, alone and together, before 80 to 140 cameras.

``annotations/SPLIT/InterHand2.6M_SPLIT_{data,camera,joint_3d,MANO_NeuralAnnot}.json`` and
``images/SPLIT/``. Joints and camera centres (``campos``) are millimetres in the world, MANO's
translations are metres there. Every hand of an image is a sample of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

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
    pinhole,
    pixels,
    read_json,
    required,
)
from hand_mesh_ros.data.datasets.mano import HandModels, Posed, check_models, posed
from hand_mesh_ros.data.samples import HandSample, StoredMano
from hand_mesh_ros.geometry.rotations import transform_points
from hand_mesh_ros.hand.layout import INTERHAND_TO_OPENPOSE
from hand_mesh_ros.types import FloatArray, Side

Split = Literal["train", "val", "test"]
INFO = DatasetInfo("interhand", "InterHand2.6M")
MM = 1e-3

_SLICES: dict[Side, slice] = {"right": slice(0, 21), "left": slice(21, 42)}
_ROOT = 20
_HANDS: dict[str, tuple[Side, ...]] = {
    "right": ("right",),
    "left": ("left",),
    "interacting": ("right", "left"),
}


def open_interhand(
    root: Path,
    split: Split = "train",
    *,
    models: HandModels | None = None,
    on_error: OnError = "raise",
) -> HandDataset:
    """InterHand2.6M (version 1.0) in the folder ``root``: one sample a hand of an image.

    The annotation files are read whole, when the first sample is asked for. ``models`` should be
    those of `mano.load_hand_models`, because of the left hand's shape. Raises ValueError for an
    unknown split, `BadDataset` where the annotation files are missing or broken.
    """
    if split not in get_args(Split):
        raise ValueError(f"InterHand2.6M has no split {split!r}; choose one of {get_args(Split)}")
    check_models(models, "mean_relative", INFO)
    return HandDataset(_InterHand(root, split, models), on_error)


@dataclass(frozen=True)
class _InterHand:
    root: Path
    split: Split
    models: HandModels | None

    info = INFO

    def index(self) -> Index:
        """Entries (number of the annotation, side)."""
        path = self._path("data")
        annotations = item(self._data, "annotations", path)
        unknown = {a.get("hand_type") for a in annotations} - _HANDS.keys()
        if unknown:
            raise BadDataset(f"{path}: unknown hand_type {sorted(map(str, unknown))}")
        entries = [(n, side) for n, a in enumerate(annotations) for side in _HANDS[a["hand_type"]]]
        return Index(entries)

    def group_of(self, entry: tuple[int, Side]) -> str:
        number, side = entry
        _, image = self._of(number)
        return f"Capture{image['capture']}/{image['seq_name']}/{image['frame_idx']}/{side}"

    def read(self, entry: tuple[int, Side]) -> HandSample:
        number, side = entry
        annotation, image = self._of(number)
        capture, frame = str(image["capture"]), str(image["frame_idx"])
        file = ImageFile(existing(self.root / "images" / self.split / image["file_name"]))
        camera_name = str(image["camera"])
        K, T_camera_world = self._camera(capture, camera_name)
        camera = pinhole(f"cam{camera_name}", file.size, K, T_camera_world)
        joints = transform_points(T_camera_world, self._joints(capture, frame, side))
        stored = self._mano(capture, frame, side, T_camera_world)
        mano, vertices = Posed(None, None) if stored is None else posed(stored, self.models)
        alone = annotation["hand_type"] == side
        sequence = f"Capture{capture}/{image['seq_name']}"
        return HandSample(
            dataset=INFO.name,
            split=self.split,
            name=f"{self.split}/{image['file_name'].removesuffix('.jpg')}/{side}",
            index=number,
            camera=camera,
            side=side,
            source=self._path("data"),
            load_image=file,
            joints=joints,
            uv=pixels(camera, joints),
            vertices=vertices,
            counted=self._counted(annotation, side) & np.isfinite(joints).all(-1),
            mano=mano,
            stored_mano=stored,
            box=self._box(annotation) if alone else None,
            group=self.group_of(entry),
            view=sorted(self._cameras[capture]["campos"]).index(camera_name),
            sequence=f"{sequence}/cam{camera_name}/{side}",
            frame=int(frame),
            extras={
                "hand_type": annotation["hand_type"],
                "hand_type_valid": annotation.get("hand_type_valid"),
                "subject": image.get("subject"),
            },
        )

    def _of(self, number: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """An annotation and its image; `BadSample` where one of them lacks what is needed."""
        path = self._path("data")
        annotation = self._data["annotations"][number]
        image = self._images.get(annotation.get("image_id"))
        if image is None:
            raise BadSample(path, f"annotation {number} is of no image")
        for key in ("capture", "seq_name", "camera", "frame_idx", "file_name"):
            item(image, key, path)
        return annotation, image

    def _camera(self, capture: str, name: str) -> tuple[FloatArray, FloatArray]:
        """K (3, 3) and ``T_camera_world`` (4, 4), metres; campos is the camera's centre."""
        path = self._path("camera")
        cameras = item(self._cameras, capture, path)
        centre, R, focal, principal = (
            array(item(item(cameras, key, path), name, path), shape, path, f"'{key}'")
            for key, shape in (("campos", (3,)), ("camrot", (3, 3)), ("focal", (2,)),
                               ("princpt", (2,)))
        )  # fmt: skip
        K, T = np.eye(3), np.eye(4)
        K[[0, 1], [0, 1]], K[:2, 2] = focal, principal
        T[:3, :3], T[:3, 3] = R, -R @ centre * MM
        return K, T

    def _joints(self, capture: str, frame: str, side: Side) -> FloatArray:
        """Joints (21, 3) in the world, metres; NaN for those that are not valid."""
        path = self._path("joint_3d")
        stored = item(item(self._joint_3d, capture, path), frame, path)
        valid = np.asarray(item(stored, "joint_valid", path), dtype=np.float64).ravel() > 0
        points = np.asarray(item(stored, "world_coord", path), dtype=np.float64)
        if points.shape != (42, 3) or valid.shape != (42,):
            raise BadSample(path, f"{capture}/{frame}: joints of shape {points.shape}, not 42 x 3")
        if not np.isfinite(points[valid]).all():
            raise BadSample(path, f"{capture}/{frame}: a valid joint is not finite")
        hand = _SLICES[side]
        points = np.where(valid[:, None], points * MM, np.nan)
        return np.asarray(points[hand][INTERHAND_TO_OPENPOSE])

    def _counted(self, annotation: dict[str, Any], side: Side) -> Any:
        """The annotation's own joint_valid, in the image; nothing without a valid wrist."""
        path = self._path("data")
        valid = array(np.ravel(item(annotation, "joint_valid", path)), (42,), path, "joint_valid")
        mine = valid[_SLICES[side]] > 0
        return (mine & mine[_ROOT])[INTERHAND_TO_OPENPOSE]

    def _box(self, annotation: dict[str, Any]) -> FloatArray:
        """x0, y0, x1, y1 of x, y, width, height: of all hands in the image, so of one alone."""
        path = self._path("data")
        x, y, w, h = array(item(annotation, "bbox", path), (4,), path, "'bbox'")
        return np.array([x, y, x + w, y + h])

    def _mano(
        self, capture: str, frame: str, side: Side, T_camera_world: FloatArray
    ) -> StoredMano | None:
        stored = ((self._fits.get(capture) or {}).get(frame) or {}).get(side)
        if stored is None:
            return None
        path = self._path("MANO_NeuralAnnot")
        pose, betas, transl = (
            array(np.ravel(item(stored, key, path)), (count,), path, f"'{key}'")
            for key, count in (("pose", 48), ("shape", 10), ("trans", 3))
        )
        return StoredMano(
            side, "mean_relative", pose[:3], pose[3:], betas, transl,
            T_camera_stored=T_camera_world,
        )  # fmt: skip

    def _path(self, what: str) -> Path:
        return self.root / "annotations" / self.split / f"InterHand2.6M_{self.split}_{what}.json"

    def _read(self, what: str) -> dict[str, Any]:
        path = required(self._path(what), "expected InterHand2.6M's folder, version 1.0")
        try:
            content = read_json(path)
        except BadSample as error:
            raise BadDataset(str(error)) from error
        if not isinstance(content, dict):
            raise BadDataset(f"{path} holds no mapping")
        return content

    @cached_property
    def _data(self) -> dict[str, Any]:
        return self._read("data")

    @cached_property
    def _images(self) -> dict[Any, dict[str, Any]]:
        return {image["id"]: image for image in item(self._data, "images", self._path("data"))}

    @cached_property
    def _cameras(self) -> dict[str, Any]:
        return self._read("camera")

    @cached_property
    def _joint_3d(self) -> dict[str, Any]:
        return self._read("joint_3d")

    @cached_property
    def _fits(self) -> dict[str, Any]:
        return self._read("MANO_NeuralAnnot") if self._path("MANO_NeuralAnnot").is_file() else {}
