"""HanCo in small: two sequences before eight cameras, one on each side of HaMuCo's split."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from layout_writers.files import save_image, save_json
from layout_writers.freihand import vector_61
from layout_writers.stage import Truth, draw, eye_around, random_hand

SEQUENCES = {3: 3, 1200: 1}
"""Frames by sequence; all others up to the last are empty."""
OFF = np.array([0.0, 0.0015, 0.0])
"""Published joints are not exactly those of the MANO hand."""


def write(root: Path) -> dict[tuple[int, int, int], Truth]:
    """Truths by (sequence, frame, camera); of sequence 3, frame 1 has a fit that is not valid.

    Frame 2 of sequence 3 has only the fits by camera.
    """
    count = max(SEQUENCES) + 1
    meta: dict[str, list[list[Any]]] = {
        key: [[] for _ in range(count)]
        for key in ("is_train", "is_valid", "has_fit", "object_id", "subject_id")
    }
    truths = {}
    eyes = [eye_around(0.7 * k, (224, 224), 400, 0.6) for k in range(8)]
    for sequence, frames in SEQUENCES.items():
        for frame in range(frames):
            said = {"is_train": sequence == 3, "is_valid": (sequence, frame) != (3, 1),
                    "has_fit": True, "object_id": None, "subject_id": 7}  # fmt: skip
            for key, value in said.items():
                meta[key][sequence].append(value)
            instant = f"{sequence:04d}/{frame:08d}.json"
            world = random_hand(sequence + frame).at(np.array([0.01, 0.02, 0]))
            save_json(
                root / "calib" / instant,
                {"K": [eye.K for eye in eyes], "M": [eye.M for eye in eyes]},
            )
            save_json(root / "xyz" / instant, world.joints + OFF)
            if (sequence, frame) != (3, 2):
                shape = {
                    "poses": np.r_[world.orient, world.pose][None],
                    "shapes": world.betas[None],
                    "global_t": world.transl[None, None],
                }
                save_json(root / "shape" / instant, shape)
            for camera, eye in enumerate(eyes):
                hand = world.moved(eye.R, eye.t)
                vertices = hand.points[0]
                picture = draw(eye, [(vertices, "right")])
                name = f"{sequence:04d}/cam{camera}/{frame:08d}"
                save_image(root / "rgb" / f"{name}.jpg", picture.image)
                grey = np.where(picture.mask, 255, 0).astype(np.uint8)
                save_image(root / "mask_hand" / f"{name}.jpg", grey)
                save_json(root / "shape" / f"{name}.json", vector_61(hand, eye))
                joints = (world.joints + OFF) @ eye.R.T + eye.t
                truths[sequence, frame, camera] = Truth(joints, vertices, picture, eye)
    save_json(root / "meta.json", meta)
    return truths
