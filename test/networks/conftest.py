"""A drawing for the landmark networks."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

FINGERS = {  # width, then joints from root to tip
    "thumb": (30, [(285, 340), (240, 300), (205, 268), (183, 240)]),
    "index": (25, [(281, 250), (270, 190), (265, 150)]),
    "middle": (26, [(307, 240), (303, 170), (301, 122)]),
    "ring": (25, [(333, 243), (340, 180), (345, 138)]),
    "little": (21, [(357, 258), (375, 212), (385, 180)]),
}


@pytest.fixture(scope="session")
def drawn_hand() -> np.ndarray:
    """A cartoon (480, 640, 3) of an open left hand, fingers up, palm towards the camera."""
    image = np.full((480, 640, 3), (70, 90, 110), np.uint8)
    skin, light = (224, 172, 140), (240, 196, 170)
    cv2.fillConvexPoly(image, np.array([(268, 262), (372, 262), (360, 372), (285, 372)]), skin)
    cv2.ellipse(image, (320, 290), (56, 70), 0, 0, 360, skin, -1)
    cv2.line(image, (322, 350), (322, 479), skin, 66)
    for width, joints in FINGERS.values():
        cv2.polylines(image, [np.array(joints)], False, skin, width)
        for joint in joints:
            cv2.circle(image, joint, width // 2, skin, -1)
        cv2.circle(image, joints[-1], width // 2 - 5, light, -1)
    return cv2.GaussianBlur(image, (0, 0), 1.5)


@pytest.fixture(scope="session")
def drawn_fingertips() -> np.ndarray:
    return np.array([joints[-1] for _, joints in FINGERS.values()])
