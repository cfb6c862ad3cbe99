"""HInt in small: pictures with 2D joints of one hand each, some hidden, some out of the image."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from layout_writers.files import save_image, save_json
from layout_writers.stage import Truth, draw, eye_around, random_hand

SIZE = (300, 200)
HIDDEN, OUTSIDE = (3, 8), (16,)


def write(root: Path) -> dict[str, Truth]:
    """Truths by "folder/name"; the left hand of `newdays` has joints of every kind."""
    truths = {}
    eye = eye_around(0.0, SIZE, 320)
    for seed, name in enumerate(
        ("TEST_newdays_img/a_l", "TEST_newdays_img/b_r", "TEST_ego4d_img/c_r", "VAL_epick_img/d_r")
    ):
        side = "left" if name.endswith("_l") else "right"
        hand = random_hand(90 + seed, side).at(np.array([0.01, 0, 0.5]))  # type: ignore[arg-type]
        vertices, joints = hand.points[0], hand.joints
        picture = draw(eye, [(vertices, hand.side)])
        uv = eye.pixels(joints)
        x = np.arange(21)
        content = {
            "bbox": [[*uv.min(0), *uv.max(0)]],
            "keypoints": uv,
            "existence": 1 - np.isin(x, OUTSIDE) if side == "left" else np.ones(21),
            "occlusion": 1 * np.isin(x, HIDDEN) if side == "left" else np.zeros(21),
        }
        if not name.startswith("TEST_ego4d"):  # whose images come from elsewhere
            save_image(root / f"{name}.jpg", picture.image)
        save_json(root / f"{name}.json", [content])
        truths[name] = Truth(joints, vertices, picture, eye)
    return truths
