"""HaMeR's evaluation files in small: HInt's three variants of one split, and HO-3D's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from layout_writers.files import save_image
from layout_writers.hamer_tars import hand_entry
from layout_writers.stage import Truth

HIDDEN = (3, 8)
PADDING = 1.5


def write(root: Path) -> list[Truth]:
    """Truths of a right and a left hand, which all files show."""
    entries = [hand_entry(111), hand_entry(112, "left")]
    truths = [truth for _, truth in entries]
    names = []
    for k, truth in enumerate(truths):
        names.append(f"images/{k}.jpg")
        save_image(root / names[-1], truth.picture.image)
    uv = np.stack([entry["keypoints_2d"] for entry, _ in entries])
    size = 200 * np.stack([entry["scale"] for entry, _ in entries])  # pixels here
    common: dict[str, Any] = {
        "center": np.stack([entry["center"] for entry, _ in entries]),
        "right": np.array([1.0, 0.0]),
        # Objects, which NumPy pickles: as people's own scripts write them.
        "extra_info": np.array([{"a": 1}, {}], dtype=object),
    }
    hidden = np.isin(np.arange(21), HIDDEN)
    for kind, counted in {"all": hidden | True, "vis": ~hidden, "occ": hidden}.items():
        points = uv.copy()
        points[:, :, 2] = counted
        np.savez(root / f"TEST_newdays_img_{kind}.npz", **common, scale=size,
                 hand_keypoints_2d=points, imgname=np.array(names, dtype=object))  # fmt: skip
    mano = {
        key: np.stack([entry[key] for entry, _ in entries])
        for key in ("hand_pose", "betas", "has_hand_pose", "has_betas")
    }
    np.savez(
        root / "ho3d_val.npz", **common, **mano, scale=PADDING * size.max(1), hand_keypoints_2d=uv,
        hand_keypoints_3d=np.stack([entry["keypoints_3d"] for entry, _ in entries]),
        imgname=np.array([name.encode() for name in names]),
    )  # fmt: skip
    return truths
