"""DexYCB: ten people grasp objects before eight RGB-D cameras; right and left hands.

``SUBJECT/SEQUENCE/{meta.yml, SERIAL/{color,labels,aligned_depth_to_color}_%06d}`` and
``calibration/``. A subject's sequences are numbered by their names in order, and the splits S0-S3
go by that number: all hundred must be there. Optical axes, metres; the world is the master camera.
Joints (tips as in manopth) and pixels are -1 where no hand is seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hand_mesh_ros.data.datasets.base import (
    BadSample,
    DatasetInfo,
    HandDataset,
    Index,
    OnError,
    Problem,
)
from hand_mesh_ros.data.datasets.dexycb_files import (
    LabelMask,
    Labels,
    MillimetreDepth,
    Sequence,
    intrinsics,
    read_labels,
    read_sequence,
    shape_of,
    world_of,
)
from hand_mesh_ros.data.datasets.dexycb_splits import SERIALS, SUBJECTS, Setup, Split, chosen
from hand_mesh_ros.data.datasets.files import ImageFile, existing, pinhole, required
from hand_mesh_ros.data.datasets.mano import HandModels, Posed, check_models, posed
from hand_mesh_ros.data.samples import HandSample, StoredMano

INFO = DatasetInfo("dexycb", "DexYCB", tips="manopth")
PER_SUBJECT = 100


def open_dexycb(
    root: Path,
    split: Split = "train",
    *,
    setup: Setup = "s0",
    multi_view: bool = False,
    models: HandModels | None = None,
    on_error: OnError = "raise",
) -> HandDataset:
    """DexYCB in the folder ``root``: one of the splits of set-up S0-S3, in the publisher's order.

    Images without a hand are in it, with ``joints`` None. ``multi_view`` keeps what DexYCB-MV
    does: right hands, and instants at which all the split's cameras have all their pixels; it
    opens every label file. Raises ValueError for unknown names and for models without MANO's
    pose components, `BadDataset` where the folder is something else.
    """
    chosen(setup, split)
    check_models(models, "pca", INFO)
    return HandDataset(_DexYcb(root, setup, split, multi_view, models), on_error)


@dataclass(frozen=True)
class _DexYcb:
    root: Path
    setup: Setup
    split: Split
    multi_view: bool
    models: HandModels | None

    info = INFO

    def index(self) -> Index:
        """Entries (sequence, number of the camera, frame, number in the publisher's list)."""
        required(self.root / "calibration", "expected DexYCB's folder with its calibration")
        part = chosen(self.setup, self.split)
        entries: list[tuple[Sequence, int, int, int]] = []
        problems: list[Problem] = []
        for subject in (SUBJECTS[i] for i in part.subjects):
            folder = self.root / subject
            found = sorted(p for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []
            if len(found) != PER_SUBJECT:
                reason = f"holds {len(found)} sequences of {PER_SUBJECT}; the split is by number"
                problems.append(Problem(folder, reason if found else "is missing"))
                continue
            for path in (found[i] for i in part.sequences):
                try:
                    sequence = read_sequence(path)
                except BadSample as error:
                    problems.append(Problem(error.path, error.reason))
                    continue
                first = len(entries)
                pairs = [(c, f) for c in part.cameras for f in range(sequence.frames)]
                entries += [(sequence, c, f, first + k) for k, (c, f) in enumerate(pairs)]
        if self.multi_view:
            entries = self._seen_by_all(entries, len(part.cameras), problems)
        return Index(entries, tuple(problems))

    def group_of(self, entry: tuple[Sequence, int, int, int]) -> str:
        sequence, _, frame, _ = entry
        return f"{sequence.name}/{frame:06d}"

    def read(self, entry: tuple[Sequence, int, int, int]) -> HandSample:
        sequence, number, frame, index = entry
        folder = sequence.path / SERIALS[number]
        path = folder / f"labels_{frame:06d}.npz"
        labels = read_labels(path)
        image = ImageFile(existing(folder / f"color_{frame:06d}.jpg"))
        camera = pinhole(
            SERIALS[number],
            image.size,
            intrinsics(self.root, SERIALS[number]),
            world_of(self.root, sequence.extrinsics, SERIALS[number]),
        )
        stored = self._mano(sequence, labels)
        mano, vertices = Posed(None, None) if stored is None else posed(stored, self.models)
        depth = folder / f"aligned_depth_to_color_{frame:06d}.png"
        return HandSample(
            dataset=INFO.name,
            split=f"{self.setup}_{self.split}",
            name=f"{sequence.name}/{SERIALS[number]}/{frame:06d}",
            index=index,
            camera=camera,
            side=sequence.side,
            source=path,
            load_image=image,
            joints=labels.joints,
            uv=labels.uv,
            vertices=vertices,
            mano=mano,
            stored_mano=stored,
            group=self.group_of(entry),
            view=number,
            sequence=f"{sequence.name}/{SERIALS[number]}",
            frame=frame,
            load_depth=MillimetreDepth(depth) if depth.is_file() else None,
            load_hand_mask=LabelMask(path, 255, 255),
            load_object_mask=LabelMask(path, 1, 21),
            extras={"ycb_ids": sequence.objects, "grasped": sequence.grasped},
        )

    def _mano(self, sequence: Sequence, labels: Labels) -> StoredMano | None:
        numbers = labels.pose
        if numbers is None:
            return None
        betas = shape_of(self.root, sequence.calibration)
        return StoredMano(
            sequence.side, "pca", numbers[:3], numbers[3:48], betas, transl=numbers[48:]
        )

    def _seen_by_all(
        self,
        entries: list[tuple[Sequence, int, int, int]],
        cameras: int,
        problems: list[Problem],
    ) -> list[tuple[Sequence, int, int, int]]:
        """Those of DexYCB-MV: no joint of any view is without a pixel."""
        seen: dict[str, int] = {}
        for entry in entries:
            sequence, number, frame, _ = entry
            if sequence.side != "right":
                continue
            path = sequence.path / SERIALS[number] / f"labels_{frame:06d}.npz"
            try:
                uv = read_labels(path).uv
            except BadSample as error:
                problems.append(Problem(error.path, error.reason))
                continue
            key = self.group_of(entry)
            seen[key] = seen.get(key, 0) + bool(uv is not None and np.isfinite(uv).all())
        return [entry for entry in entries if seen.get(self.group_of(entry), 0) == cameras]
