from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from hand_mesh_ros.geometry.cameras import look_at
from hand_mesh_ros.hand.model import load_hand_model
from hand_mesh_ros.render.scene_view import scene_view
from hand_mesh_ros.render.sheet import contact_sheet, write_image
from hand_mesh_ros.render.synthetic import SyntheticCell
from hand_mesh_ros.types import SIDES, Camera, TrackedHand

RED, BLUE = (np.full((60, 80, 3), c, dtype=np.uint8) for c in ((200, 0, 0), (0, 0, 200)))


def test_pictures_are_laid_out_in_rows_and_columns() -> None:
    wide = np.full((30, 90, 3), (0, 160, 0), dtype=np.uint8)
    sheet = contact_sheet([[RED, BLUE], [wide]], ["a", "b"], ["first", "second"], cell_height=60)
    assert sheet.dtype == np.uint8
    red, blue, green = (
        np.argwhere((sheet == np.array(c)).all(axis=2))
        for c in ((200, 0, 0), (0, 0, 200), (0, 160, 0))
    )
    assert len(red) == len(blue) == 60 * 80 and len(green) == 60 * 180
    assert (red[:, 0].min(), green[:, 1].min()) == (blue[:, 0].min(), red[:, 1].min())
    assert blue[:, 1].min() > red[:, 1].max() and green[:, 0].min() > red[:, 0].max()
    with pytest.raises(ValueError, match="no pictures"):
        contact_sheet([[]])


def test_write_image_keeps_colours(tmp_path: Path) -> None:
    path = write_image(tmp_path / "new" / "sheet.png", RED)
    assert np.array_equal(cv2.imread(str(path))[..., ::-1], RED)


def test_scene_view_shows_every_hand_whatever_the_cameras() -> None:
    faces = {side: load_hand_model(side=side).faces for side in SIDES}
    for count in (1, 2, 4, 8):
        cell = SyntheticCell(cameras=count, hands=SIDES, seconds=1, seed=count)
        hands = [TrackedHand(k, e) for k, e in enumerate(cell.ground_truth(3))]
        bare = scene_view(cell.cameras, [], faces, focus=np.array([0, 0, 0.36]))
        for shown in ([hands[0]], [hands[1]], hands):
            view = scene_view(cell.cameras, shown, faces, focus=np.array([0, 0, 0.36]))
            assert view.shape == (480, 640, 3)
            changed = (view != bare).any(axis=2)
            assert changed.sum() > 400 * len(shown)


def test_scene_view_frames_cells_of_any_shape(rng: np.random.Generator) -> None:
    """Every camera's frustum is drawn somewhere in the picture, however the cameras stand."""
    K = np.array([[500.0, 0, 320], [0, 500, 240], [0, 0, 1]])
    up = np.array([0.0, 0, 1])
    for _ in range(10):
        eyes = rng.uniform(-1, 1, (3, 3)) * rng.uniform(0.2, 3, 3) + [0, 0, 0.5]
        cameras = [
            Camera(f"c{k}", 640, 480, K, T_camera_world=look_at(e, rng.normal(0, 0.2, 3), up))
            for k, e in enumerate(eyes)
        ]
        whole = scene_view(cameras, [], {}, focus=np.zeros(3))
        frustum = (np.abs(whole.astype(int) - [70, 90, 120]) < 40).all(axis=2)
        count, *_ = cv2.connectedComponentsWithStats(frustum.astype(np.uint8))
        assert frustum.sum() > 150 and count > 1
        border = np.concatenate([frustum[0], frustum[-1], frustum[:, 0], frustum[:, -1]])
        assert not border.any()


def test_scene_view_of_an_unplaced_camera_and_no_hands() -> None:
    K = np.array([[500.0, 0, 320], [0, 500, 240], [0, 0, 1]])
    view = scene_view([Camera("one", 640, 480, K)], [], {}, (320, 200))
    assert view.shape == (200, 320, 3) and len(np.unique(view.reshape(-1, 3), axis=0)) > 10
