"""InterHand2.6M in small: right, left and both hands, two cameras, millimetres in the world."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from layout_writers.files import save_image, save_json
from layout_writers.stage import Hand, Truth, draw, eye_around, random_hand

SIZE = (256, 320)
CAMERAS = ("400262", "400053")
SCENES = ("right", "left", "interacting")
HIDDEN = 7
"""An OpenPose joint that nobody annotated, on left hands."""
CUT = 12
"""An OpenPose joint that one image's annotation does not count, on the right hand."""


def _fingertip_first(joints: np.ndarray) -> np.ndarray:
    """OpenPose's order in InterHand's: thumb to little finger from the tip inwards, the wrist."""
    fingers = [joints[1 + 4 * k : 5 + 4 * k][::-1] for k in range(5)]
    return np.concatenate([*fingers, joints[:1]])


def _position(openpose: int) -> int:
    """Where an OpenPose joint is in InterHand's 21."""
    marks = np.zeros((21, 1))
    marks[openpose] = 1
    return int(_fingertip_first(marks).argmax())


def write(root: Path, split: str = "train") -> list[tuple[str, int, str, Truth]]:
    """(scene, frame, side, truth) of every hand, annotations in order, right before left."""
    eyes = {c: eye_around(0.6 * k, SIZE, 350, 0.7) for k, c in enumerate(CAMERAS)}
    camera = {
        "campos": {c: 1000 * (-e.R.T @ e.t) for c, e in eyes.items()},
        "camrot": {c: e.R for c, e in eyes.items()},
        "focal": {c: e.K[[0, 1], [0, 1]] for c, e in eyes.items()},
        "princpt": {c: e.K[:2, 2] for c, e in eyes.items()},
    }
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    joint_3d: dict[str, Any] = {}
    mano: dict[str, Any] = {}
    out = []
    for frame, scene in enumerate(SCENES):
        sides = ("right", "left") if scene == "interacting" else (scene,)
        hands: dict[str, Hand] = {
            side: random_hand(80 + frame, side).at(  # type: ignore[arg-type]
                np.array([(-0.08 if side == "right" else 0.08) * (len(sides) - 1), 0, 0])
            )
            for side in sides
        }
        world, valid = np.ones((42, 3)), np.zeros((42, 1))
        for side, hand in hands.items():
            first = 0 if side == "right" else 21
            world[first : first + 21] = 1000 * _fingertip_first(hand.joints)
            valid[first : first + 21] = 1
            if side == "left":
                valid[first + _position(HIDDEN)] = 0
        joint_3d[str(frame)] = {"world_coord": world, "joint_valid": valid, "hand_type": scene}
        mano[str(frame)] = {
            side: None
            if side not in hands
            else {
                "pose": np.r_[hands[side].orient, hands[side].pose],
                "shape": hands[side].betas,
                "trans": hands[side].transl,
            }
            for side in ("right", "left")
        }
        for name, eye in eyes.items():
            seen = {side: hand.moved(eye.R, eye.t) for side, hand in hands.items()}
            picture = draw(eye, [(hand.points[0], hand.side) for hand in seen.values()])
            file = f"Capture0/{scene}/cam{name}/image{frame}.jpg"
            save_image(root / "images" / split / file, picture.image)
            uv = np.concatenate([eye.pixels(hand.joints) for hand in seen.values()])
            counted = valid.ravel().copy()
            if name == CAMERAS[1]:
                counted[_position(CUT)] = 0
            images.append(
                {"id": 500 + len(images), "file_name": file, "width": SIZE[0], "height": SIZE[1],
                 "capture": 0, "subject": 1, "seq_name": scene, "camera": name,
                 "frame_idx": frame}
            )  # fmt: skip
            annotations.append(
                {"id": len(annotations), "image_id": images[-1]["id"],
                 "bbox": np.r_[uv.min(0), np.ptp(uv, axis=0)], "joint_valid": counted[:, None],
                 "hand_type": scene, "hand_type_valid": 1}
            )  # fmt: skip
            for side, hand in seen.items():
                truth = Truth(hand.joints, hand.points[0], picture, eye)
                out.append((scene, frame, side, truth))
    contents = {"data": {"images": images, "annotations": annotations}, "camera": {"0": camera},
                "joint_3d": {"0": joint_3d}, "MANO_NeuralAnnot": {"0": mano}}  # fmt: skip
    for name, content in contents.items():
        save_json(root / "annotations" / split / f"InterHand2.6M_{split}_{name}.json", content)
    return out
