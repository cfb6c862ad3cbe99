"""FreiHAND in small: N hands in four versions, and a few to evaluate."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from layout_writers.files import save_image, save_json
from layout_writers.stage import OPENPOSE_OF_MANO, Eye, Hand, Truth, draw, model_of, random_hand


def vector_61(hand: Hand, eye: Eye) -> np.ndarray:
    """48 of pose, 10 of shape, pixel of the middle knuckle, scale = mean focal length / depth."""
    knuckle = hand.points[1][4]  # MANO's fifth joint: the middle finger's first
    scale = 0.5 * (eye.K[0, 0] + eye.K[1, 1]) / knuckle[2]
    u, v = eye.pixels(knuckle[None])[0]
    return np.r_[hand.orient, hand.pose, hand.betas, u, v, scale]


def write(root: Path, hands: int = 3, evaluation: int = 2) -> dict[str, list[Truth]]:
    """Truths of the hands by split."""
    out: dict[str, list[Truth]] = {}
    for split, count, versions in (("training", hands, 4), ("evaluation", evaluation, 1)):
        lists: dict[str, list[object]] = {k: [] for k in ("K", "xyz", "mano", "verts", "scale")}
        out[split] = []
        for n in range(count):
            K = np.array([[430.0 + 9 * n, 0, 112], [0, 470, 108], [0, 0, 1]])
            eye = Eye(K, (224, 224))
            hand = random_hand(10 * versions + n).at(np.array([0.01, -0.01, 0.55 + 0.05 * n]))
            vertices, _ = hand.points
            model = model_of("right")
            # FreiHAND's rule: joints are regressed from the posed mesh.
            regressed = np.concatenate([model.J_regressor @ vertices, vertices[model.tips]])
            xyz = regressed[OPENPOSE_OF_MANO]
            picture = draw(eye, [(vertices, "right")])
            values = (K, xyz, vector_61(hand, eye)[None], vertices)
            for key, value in zip(("K", "xyz", "mano", "verts"), values, strict=True):
                lists[key].append(value)
            lists["scale"].append(float(np.linalg.norm(xyz[9] - xyz[10])))
            for version in range(versions):
                tint = picture.image.copy()
                tint[~picture.mask, 2] = 40 + 50 * version
                save_image(root / split / "rgb" / f"{version * count + n:08d}.jpg", tint)
            if split == "training":
                grey = np.where(picture.mask, 255, 0).astype(np.uint8)
                save_image(root / split / "mask" / f"{n:08d}.jpg", grey)
            out[split].append(Truth(xyz, vertices, picture, eye))
        for key, content in lists.items():
            save_json(root / f"{split}_{key}.json", content)
    return out
