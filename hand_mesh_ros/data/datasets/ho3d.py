"""HO-3D, versions 2 and 3: right hands with objects, up to five RGB-D cameras at a time.

``train.txt`` and ``evaluation.txt`` list "SEQ/ID"; ``{train,evaluation}/SEQ/{rgb,depth,meta}/ID``.
The files' camera axes are OpenGL's (y up, z backward), joints in MANO's order with tips after
them, poses total. Evaluation's meta files have the wrist only; its truth is in
``evaluation_{xyz,verts}.json`` beside the lists, which the authors publish with their evaluation.
"""

from __future__ import annotations

from collections.abc import Mapping
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
    JsonRows,
    array,
    existing,
    item,
    pinhole,
    pixels,
    read_pickle,
    required,
)
from hand_mesh_ros.data.datasets.ho3d_files import DepthFile, MultiCamera, rig_of
from hand_mesh_ros.data.datasets.mano import HandModels, Posed, check_models, num_vertices, posed
from hand_mesh_ros.data.samples import HandSample, StoredMano
from hand_mesh_ros.hand.conventions import change_axes, convert_points, to_openpose
from hand_mesh_ros.hand.stand_ins import RefusedPickleError, plain
from hand_mesh_ros.types import FloatArray

Split = Literal["train", "evaluation"]
ImageType = Literal["png", "jpg"]
INFO = DatasetInfo("ho3d", "HO-3D", tips="ho3d")


def open_ho3d_v2(root: Path, split: Split = "train", **options: Any) -> HandDataset:
    """HO-3D version 2, whose images are PNG; see `open_ho3d`."""
    return open_ho3d(root, split, "png", **options)


def open_ho3d_v3(root: Path, split: Split = "train", **options: Any) -> HandDataset:
    """HO-3D version 3, whose images are JPEG; see `open_ho3d`."""
    return open_ho3d(root, split, "jpg", **options)


def open_ho3d(
    root: Path,
    split: Split,
    images: ImageType,
    *,
    models: HandModels | None = None,
    on_error: OnError = "raise",
) -> HandDataset:
    """HO-3D in the folder ``root``.

    Raises ValueError for an unknown split, `BadDataset` where its list is missing or has another
    length than the truths of evaluation.
    """
    if split not in get_args(Split):
        raise ValueError(f"HO-3D has no split {split!r}; choose one of {get_args(Split)}")
    check_models(models, "total", INFO)
    return HandDataset(_Ho3d(root, split, images, models), on_error)


@dataclass(frozen=True)
class _Ho3d:
    root: Path
    split: Split
    images: ImageType
    models: HandModels | None

    info = INFO

    def index(self) -> Index:
        path = required(self.root / f"{self.split}.txt", "expected HO-3D's folder with its lists")
        lines = [line.strip() for line in path.read_text().splitlines() if line.strip()]
        bad = next((line for line in lines if line.count("/") != 1), None)
        if bad is not None:
            raise BadDataset(f"{path}: '{bad}' is not SEQUENCE/NUMBER")
        for truths in self._truths:
            if len(truths) != len(lines):
                raise BadDataset(
                    f"{truths.path} is a list of {len(truths)}, {path} of {len(lines)}"
                )
        return Index([(number, *line.split("/")) for number, line in enumerate(lines)])

    def group_of(self, entry: tuple[int, str, str]) -> str | None:
        _, sequence, frame = entry
        rig = rig_of(self.root, sequence)
        return None if rig is None else f"{rig.name}/{frame}"

    def read(self, entry: tuple[int, str, str]) -> HandSample:
        number, sequence, frame = entry
        folder = self.root / self.split / sequence
        path = folder / "meta" / f"{frame}.pkl"
        meta = read_pickle(existing(path, "annotation"))
        image = ImageFile(existing(folder / "rgb" / f"{frame}.{self.images}"))
        rig = rig_of(self.root, sequence)
        camera = pinhole(sequence, image.size, _numbers(meta, "camMat", (3, 3), path), _place(rig))
        stored = _mano(meta, path)
        mano, from_mano = Posed(None, None) if stored is None else posed(stored, self.models)
        joints, vertices = self._points(number, meta, path)
        depth = folder / "depth" / f"{frame}.png"
        return HandSample(
            dataset=INFO.name,
            split=self.split,
            name=f"{self.split}/{sequence}/{frame}",
            index=number,
            camera=camera,
            side="right",
            source=path,
            load_image=image,
            joints=joints,
            uv=pixels(camera, joints),
            vertices=from_mano if vertices is None else vertices,
            mano=mano,
            stored_mano=stored,
            box=_box(meta, path),
            group=self.group_of(entry),
            view=None if rig is None else rig.view,
            sequence=sequence,
            frame=int(frame) if frame.isdecimal() else None,
            load_depth=DepthFile(depth) if depth.is_file() else None,
            extras={"object": meta.get("objName")},
        )

    def _points(
        self, number: int, meta: Mapping[str, Any], path: Path
    ) -> tuple[FloatArray | None, FloatArray | None]:
        """Joints and vertices in this package's order and axes, from truths or the meta file."""
        if self._truths:
            joints, vertices = (truths[number] for truths in self._truths)
            return _optical_joints(joints), convert_points(vertices, "opengl", "opencv")
        if self.split == "train":
            if meta.get("handJoints3D") is None:
                return None, None
            return _optical_joints(_numbers(meta, "handJoints3D", (21, 3), path)), None
        wrist = _numbers(meta, "handJoints3D", (3,), path)
        joints = np.full((21, 3), np.nan)
        joints[0] = convert_points(wrist, "opengl", "opencv")
        return joints, None

    @cached_property
    def _truths(self) -> tuple[JsonRows, ...]:
        """Joints and vertices of the evaluation split, where its authors' files are there."""
        names = (("xyz", 21), ("verts", num_vertices(self.models, INFO)))
        paths = [(self.root / f"evaluation_{name}.json", count) for name, count in names]
        if self.split == "train" or not all(path.is_file() for path, _ in paths):
            return ()
        return tuple(JsonRows(path, (count, 3)) for path, count in paths)


def _optical_joints(joints: FloatArray) -> FloatArray:
    return convert_points(to_openpose(joints, "ho3d"), "opengl", "opencv")


def _mano(meta: Mapping[str, Any], path: Path) -> StoredMano | None:
    if any(meta.get(key) is None for key in ("handPose", "handTrans", "handBeta")):
        return None
    pose = _numbers(meta, "handPose", (48,), path)
    T = np.eye(4)
    T[:3, :3] = change_axes("opengl", "opencv")
    return StoredMano(
        "right",
        "total",
        pose[:3],
        pose[3:],
        _numbers(meta, "handBeta", (10,), path),
        transl=_numbers(meta, "handTrans", (3,), path),
        T_camera_stored=T,
    )


def _box(meta: Mapping[str, Any], path: Path) -> FloatArray | None:
    """Given for the evaluation's images: x0, y0, x1, y1 pixels."""
    if meta.get("handBoundingBox") is None:
        return None
    value = meta["handBoundingBox"]
    if isinstance(value, list | tuple):
        value = [float(plain(each)) for each in value]
        return array(value, (4,), path, "'handBoundingBox'")
    return _numbers(meta, "handBoundingBox", (4,), path)


def _numbers(meta: Mapping[str, Any], key: str, shape: tuple[int, ...], path: Path) -> FloatArray:
    value = item(meta, key, path)
    try:
        return array(plain(value), shape, path, f"'{key}'")
    except RefusedPickleError as error:
        raise BadSample(path, f"'{key}': {error}") from error


def _place(rig: MultiCamera | None) -> FloatArray | None:
    return None if rig is None else rig.T_camera_world
