"""DexYCB in small: one person's hundred sequences, of which a few have images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml

from layout_writers.files import save_image
from layout_writers.stage import Hand, Picture, Truth, draw, eye_around, random_hand

SUBJECT = "20200709-subject-01"
SERIALS = (
    "836212060125", "839512060362", "840412060917", "841412060263", "932122060857",
    "932122060861", "932122061900", "932122062010",
)  # fmt: skip
MASTER = SERIALS[2]
SIZE = (160, 120)


def _save_yaml(path: Path, content: Any) -> None:
    """As the publisher's files are: by PyYAML's full dumper, which writes tuples as Python's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.dump(content))


def _labels(picture: Picture, hand: Hand | None, truth: Truth | None) -> dict[str, np.ndarray]:
    seg = np.where(picture.mask, 255, 0).astype(np.uint8)
    seg[:6, :9] = 5  # an object in the corner
    labels = {"seg": seg, "pose_y": np.zeros((1, 3, 4), np.float32)}
    if hand is None or truth is None:
        empty = {"pose_m": np.zeros((1, 51)), "joint_3d": -np.ones((1, 21, 3)),
                 "joint_2d": -np.ones((1, 21, 2))}  # fmt: skip
        return labels | empty
    numbers = np.r_[hand.orient, hand.pose, hand.transl]
    uv = truth.eye.pixels(truth.joints)
    return labels | {"pose_m": numbers[None], "joint_3d": truth.joints[None], "joint_2d": uv[None]}


def write(
    root: Path,
    shown: dict[int, tuple[str, int]] | None = None,
    size: tuple[int, int] = SIZE,
    without_hand: int | None = None,
) -> dict[tuple[int, int, int], Truth]:
    """Truths by (number of the sequence, camera, frame).

    ``shown``: number of a sequence to side and frames; all others have no frames.
    ``without_hand``: a frame in which no camera sees a hand.
    """
    shown = {0: ("right", 2), 4: ("left", 1)} if shown is None else shown
    eyes = [eye_around(0.5 * k, size, 220, 0.5 + 0.02 * k) for k in range(8)]
    truths: dict[tuple[int, int, int], Truth] = {}
    betas = random_hand(60).betas
    calibration = root / "calibration"
    master = eyes[SERIALS.index(MASTER)].M
    to_master = {
        serial: (master @ np.linalg.inv(eye.M))[:3].ravel().tolist()
        for serial, eye in zip(SERIALS, eyes, strict=True)
    }
    _save_yaml(
        calibration / "extrinsics_20200702_151821" / "extrinsics.yml",
        {
            "master": MASTER,
            # The tag on which a safe loader fails.
            "extrinsics": {**to_master, "apriltag": tuple(np.eye(4)[:3].ravel().tolist())},
        },
    )
    _save_yaml(calibration / "mano_20200514-subject-01" / "mano.yml", {"betas": betas.tolist()})
    for serial, eye in zip(SERIALS, eyes, strict=True):
        K = eye.K.tolist()
        colour = {"fx": K[0][0], "fy": K[1][1], "ppx": K[0][2], "ppy": K[1][2]}
        depth = {"fx": 1.0, "fy": 1.0, "ppx": 0.0, "ppy": 0.0}
        path = calibration / "intrinsics" / f"{serial}_640x480.yml"
        _save_yaml(path, {"color": colour, "depth": depth})
    for n in range(100):
        folder = root / SUBJECT / f"20200709_{140000 + n}"
        side, frames = shown.get(n, ("right", 0))
        meta = {
            "serials": list(SERIALS), "num_frames": frames, "extrinsics": "20200702_151821",
            "mano_calib": ["20200514-subject-01"], "mano_sides": [side], "ycb_ids": [5, 11],
            "ycb_grasp_ind": 0,
        }  # fmt: skip
        _save_yaml(folder / "meta.yml", meta)
        for frame in range(frames):
            pose = random_hand(61 + n + frame, side, components=True)  # type: ignore[arg-type]
            world = replace(pose, betas=betas).at(np.zeros(3))
            for c, (serial, eye) in enumerate(zip(SERIALS, eyes, strict=True)):
                hand = world.moved(eye.R, eye.t)
                vertices = hand.points[0]
                seen = frame != without_hand
                picture = draw(eye, [(vertices, hand.side)] if seen else [])
                truth = Truth(hand.joints, vertices, picture, eye)
                labels = _labels(picture, hand if seen else None, truth if seen else None)
                save_image(folder / serial / f"color_{frame:06d}.jpg", picture.image)
                np.savez_compressed(folder / serial / f"labels_{frame:06d}.npz", **labels)
                millimetres = np.round(1000 * picture.depth).astype(np.uint16)
                name = f"aligned_depth_to_color_{frame:06d}.png"
                cv2.imwrite(str(folder / serial / name), millimetres)
                truths[n, c, frame] = truth
    return truths
