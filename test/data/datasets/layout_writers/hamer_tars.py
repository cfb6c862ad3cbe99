"""HaMeR's training tars in small: one whose image has two hands, one with what is left out."""

from __future__ import annotations

import io
import pickle
import tarfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from layout_writers.stage import Truth, draw, eye_around, random_hand

SIZE = (256, 256)


def _jpeg(image: np.ndarray) -> bytes:
    return bytes(cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 97])[1])


def _npz(masks: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, masks=masks)
    return buffer.getvalue()


def pack(path: Path, members: dict[str, bytes]) -> None:
    """A plain tar."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def hand_entry(seed: int, side: str = "right", **changes: Any) -> tuple[dict[str, Any], Truth]:
    """One element of a pickled list; its pose is total and, for a left hand, not mirrored."""
    eye = eye_around(0.2, SIZE, 400)
    hand = random_hand(seed, side, flat_hand_mean=True)  # type: ignore[arg-type]
    hand = hand.at(np.array([-0.05 if side == "right" else 0.07, 0, 0.6]))
    vertices, joints = hand.points[0], hand.joints
    uv = eye.pixels(joints)
    ones = np.ones((21, 1))
    size = np.ptp(uv, axis=0)
    entry = {
        "keypoints_2d": np.hstack([uv, ones]).astype(np.float32),
        "keypoints_3d": np.hstack([joints, ones]).astype(np.float32),
        "center": (uv.min(0) + uv.max(0)) / 2,
        "scale": size / 200.0,
        "hand_pose": np.r_[hand.orient, hand.pose].astype(np.float32),
        "betas": hand.betas.astype(np.float32),
        "has_hand_pose": np.float32(1.0),
        "has_betas": np.array(1.0),
        "right": 1.0 if side == "right" else 0.0,
        # An array of one object, as the original code stores it.
        "extra_info": {"fitting_loss": np.array({"reprojection_loss": np.float64(120.5)})},
    }
    picture = draw(eye, [(vertices, hand.side)])
    return entry | changes, Truth(joints, vertices, picture, eye)


def write(root: Path) -> dict[str, list[Truth]]:
    """Truths by key: ``both`` has a right and a left hand with masks, ``one`` a right one."""
    right, left = hand_entry(101), hand_entry(102, "left")
    for number, (entry, _) in enumerate((left, right)):
        entry["extra_info"]["detection_npz_idx"] = number
    eye = right[1].eye
    both = draw(eye, [(right[1].vertices, "right"), (left[1].vertices, "left")])
    masks = np.stack([left[1].picture.mask, right[1].picture.mask])
    pack(
        root / "coco-train" / "000000.tar",
        {
            "images/both.jpg": _jpeg(both.image),
            "images/both.data.pyd": pickle.dumps([right[0], left[0]]),
            "images/both.detection.npz": _npz(masks),
        },
    )
    one = hand_entry(103)
    pack(
        root / "freihand-train" / "000000.tar",
        {
            "one.jpg": _jpeg(one[1].picture.image),
            "one.data.pyd": pickle.dumps([one[0]], protocol=2),
        },
    )
    return {"both": [right[1], left[1]], "one": [one[1]]}


def write_one(path: Path, *entries: Any, image: bytes | None = None) -> None:
    """A tar of one sample ``x`` with any entries."""
    picture = hand_entry(103)[1].picture.image
    content = _jpeg(picture) if image is None else image
    pack(path, {"x.jpg": content, "x.data.pyd": pickle.dumps(list(entries))})
