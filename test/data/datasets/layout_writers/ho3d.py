"""HO-3D in small: one recording of two cameras, one of a single camera, and evaluation."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from layout_writers.files import save_image, save_json
from layout_writers.stage import Eye, Hand, Picture, Truth, draw, eye_around, random_hand

UNIT = 0.00012498664727900177
# OpenGL's camera axes: y up and z backward.
FLIP = np.diag([1.0, -1.0, -1.0])
SIZE = (320, 240)
# The calibration's order of the cameras ABF10 and ABF12: the third digit comes first.
ORDER = (2, 0)


def _depth_image(picture: Picture) -> np.ndarray:
    """RGB: red holds the low byte of the steps, green the high one."""
    steps = np.round(picture.depth / UNIT).astype(int)
    return np.stack([steps % 256, steps // 256, 0 * steps], axis=-1).astype(np.uint8)


def _hand(seed: int) -> Hand:
    """HO-3D's poses are total."""
    return random_hand(seed, flat_hand_mean=True)


def _write_frame(
    folder: Path, frame: str, hand: Hand, eye: Eye, images: str, evaluation: bool
) -> tuple[Truth, np.ndarray, np.ndarray]:
    """One image of a hand given in optical axes; the truth, and points as HO-3D has them."""
    opengl = hand.moved(FLIP, np.zeros(3))
    joints, (vertices, _) = opengl.mano_order, opengl.points
    truth_joints, truth_vertices = hand.joints, hand.points[0]
    picture = draw(eye, [(truth_vertices, "right")])
    save_image(folder / "rgb" / f"{frame}.{images}", picture.image)
    save_image(folder / "depth" / f"{frame}.png", _depth_image(picture))
    meta: dict[str, Any] = {
        "camMat": eye.K,
        "objName": "021_bleach_cleanser",
        "objTrans": np.zeros(3),
        "objLabel": 12,
    }
    if evaluation:
        uv = eye.pixels(truth_joints)
        box = [float(n) for n in (*uv.min(0), *uv.max(0))]
        meta |= {"handJoints3D": joints[0], "handBoundingBox": box}
    else:
        meta |= {
            "handPose": np.r_[opengl.orient, opengl.pose],
            "handTrans": opengl.transl,
            "handBeta": opengl.betas,
            "handJoints3D": joints,
        }
    path = folder / "meta" / f"{frame}.pkl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(meta, protocol=2))
    return Truth(truth_joints, truth_vertices, picture, eye), joints, vertices


def write(root: Path, images: str = "jpg", truths: bool = True) -> dict[str, list[Truth]]:
    """Truths by split, in the order of its list."""
    eyes = {"ABF10": eye_around(0.5, SIZE, 300), "ABF12": eye_around(-0.4, SIZE, 320, 0.6)}
    out: dict[str, list[Truth]] = {"train": [], "evaluation": []}
    lines = []
    for sequence, eye in eyes.items():
        for n in (0, 1):
            world = _hand(40 + n)
            seen = world.moved(eye.R, eye.t)
            folder = root / "train" / sequence
            out["train"].append(_write_frame(folder, f"{n:04d}", seen, eye, images, False)[0])
            lines.append(f"{sequence}/{n:04d}")
    alone = eye_around(0.0, SIZE, 310)
    single = _hand(44).at(np.array([0, 0, 0.45]))
    out["train"].append(
        _write_frame(root / "train" / "MC1", "0007", single, alone, images, False)[0]
    )
    (root / "train.txt").write_text("\n".join([*lines, "MC1/0007"]) + "\n")

    calibration = root / "calibration" / "ABF1" / "calibration"
    calibration.mkdir(parents=True)
    (calibration / "cam_orders.txt").write_text("".join(f"{digit}\n" for digit in ORDER))
    for i, digit in enumerate(ORDER):
        np.savetxt(calibration / f"trans_{i}.txt", np.linalg.inv(eyes[f"ABF1{digit}"].M))

    lists: list[list[Any]] = [[], []]
    for n in (0, 1):
        hand = _hand(50 + n).at(np.array([0.01, 0, 0.5]))
        folder = root / "evaluation" / "SM1"
        truth, *stored = _write_frame(folder, f"{n:04d}", hand, alone, images, True)
        out["evaluation"].append(truth)
        for each, points in zip(lists, stored, strict=True):
            each.append(points)
    (root / "evaluation.txt").write_text("SM1/0000\nSM1/0001\n")
    if truths:
        for name, content in zip(("xyz", "verts"), lists, strict=True):
            save_json(root / f"evaluation_{name}.json", content)
    return out
