from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from hand_mesh_ros.geometry.cameras import project
from hand_mesh_ros.render.overlay import draw_hands, draw_views, track_colour
from hand_mesh_ros.render.rasteriser import rasterise
from hand_mesh_ros.render.shading import project_surface
from hand_mesh_ros.types import SIDES, Camera, HandEstimate, ManoParameters, Side, TrackedHand

Mesh = tuple[np.ndarray, np.ndarray]
DARK = np.full((480, 640, 3), 20, dtype=np.uint8)


def hand(
    centre: np.ndarray, mesh: Mesh | None, side: Side = "right", track: int = 1
) -> TrackedHand:
    """A ball of 4 cm with joints on its surface stands in for a hand's outline."""
    angle = np.linspace(0, 2 * np.pi, 21)
    joints = centre + 0.03 * np.stack([0 * angle, np.cos(angle), np.sin(angle)], axis=1)
    zeros = np.zeros(3)
    estimate = HandEstimate(
        side, joints, np.full((21, 3, 3), np.nan), np.eye(4), np.full((6, 6), np.nan),
        ManoParameters("ball", side, zeros, np.zeros(45), np.zeros(10), zeros),
        1.0, 1.0, np.ones(21), np.ones(21), np.zeros((0, 21)), (), "unknown",
        None if mesh is None else centre + 0.04 * mesh[0],
    )  # fmt: skip
    return TrackedHand(track, estimate)


def test_changes_pixels_only_near_the_hand(sphere: Mesh, camera: Camera) -> None:
    centre = np.array([0.0, 0.12, 0.05])
    image = DARK.copy()
    out = draw_hands(image, camera, [hand(centre, sphere)], {"right": sphere[1]})
    assert np.array_equal(image, DARK), "the input picture must not change"
    changed = np.argwhere((out != DARK).any(axis=2))[:, ::-1]
    uv = project(camera, centre + 0.04 * sphere[0])
    assert len(changed) > 1000
    assert (changed >= uv.min(axis=0) - 60).all() and (changed <= uv.max(axis=0) + 60).all()


def test_mesh_outline_follows_the_distorted_projection(sphere: Mesh, camera: Camera) -> None:
    centre = np.array([0.0, 0.33, 0.14])  # where distortion moves it by many pixels
    vertices = centre + 0.04 * sphere[0]
    out = draw_hands(DARK, camera, [hand(centre, sphere)], {"right": sphere[1]}, draw_joints=False)
    T = camera.T_camera_world
    changed = (out != DARK).any(axis=2)

    def covered(distortion: np.ndarray | None) -> float:
        rotation, _ = cv2.Rodrigues(T[:3, :3])
        uv, _ = cv2.projectPoints(vertices, rotation, T[:3, 3], camera.K, distortion)
        outline = np.zeros(DARK.shape[:2], np.uint8)
        cv2.fillConvexPoly(outline, cv2.convexHull(np.rint(uv[:, 0]).astype(np.int32)), 1)
        outline = cv2.erode(outline, np.ones((3, 3)))
        return float(changed[outline > 0].mean())

    assert covered(camera.D) == 1
    assert covered(None) < 0.9


def test_skeleton_only_without_vertices(camera: Camera) -> None:
    bare = hand(np.zeros(3), None)
    out = draw_hands(DARK, camera, [bare], {}, draw_joints=False)
    for u, v in np.rint(project(camera, bare.estimate.joints)).astype(int):
        assert (out[v, u] != DARK[v, u]).any()


def test_nearer_hand_hides_the_farther_one(sphere: Mesh, camera: Camera) -> None:
    towards = camera.centre / np.linalg.norm(camera.centre)
    near, far = hand(0.1 * towards, sphere, "left", 1), hand(-0.1 * towards, sphere, "right", 2)
    faces = {side: sphere[1] for side in SIDES}
    u, v = np.rint(project(camera, np.zeros(3))).astype(int)
    for order in ([near, far], [far, near]):
        out = draw_hands(DARK, camera, order, faces, alpha=1, draw_joints=False)
        assert out[v, u, 2] > out[v, u, 0], "the left hand is cold and in front"


@pytest.mark.parametrize(
    "centre", [(2.0, 0.1, 0.2), (0.0, 3.0, 0.0), (0.8, 0.1, 0.2), (np.nan, 0.0, 0.0)]
)
def test_hands_out_of_sight_are_survived(
    centre: tuple[float, float, float], sphere: Mesh, camera: Camera
) -> None:
    out = draw_hands(DARK, camera, [hand(np.array(centre), sphere)], {"right": sphere[1]})
    assert out.shape == DARK.shape and out.dtype == np.uint8
    if centre[0] != 0.8:  # around the lens itself, parts may be in view
        assert np.array_equal(out, DARK)


def test_partly_outside_and_odd_sizes(sphere: Mesh, camera: Camera) -> None:
    small = replace(camera, width=97, height=61)
    edge = hand(np.array([0.0, 0.36, 0.2]), sphere)
    out = draw_hands(DARK[:61, :97], small, [edge], {"right": sphere[1]})
    assert out.shape == (61, 97, 3)


def test_all_cameras_at_once_are_the_cameras_one_by_one(sphere: Mesh, camera: Camera) -> None:
    turned = camera.T_camera_world.copy()
    turned[:2] *= -1  # upside down
    cameras = [
        camera,
        camera.placed(turned),
        replace(camera, width=320, height=200, distortion="equidistant", D=camera.D[:4]),
    ]
    hands = [
        hand(np.array([0.0, 0.1, 0.05]), sphere, "right", 1),
        hand(np.array([0.0, -0.1, 0.0]), None, "left", 2),
        hand(np.array([0.05, 0.0, 0.1]), sphere, "left", 3),
    ]
    faces = {side: sphere[1] for side in SIDES}
    images = [DARK[: c.height, : c.width].copy() for c in cameras]
    draw_views(images, cameras, hands, faces)
    for image, one in zip(images, cameras, strict=True):
        alone = draw_hands(DARK[: one.height, : one.width], one, hands, faces)
        assert (alone != DARK[: one.height, : one.width]).any()
        np.testing.assert_array_equal(image, alone)


def test_the_painter_sees_what_a_z_buffer_sees(sphere: Mesh, camera: Camera) -> None:
    towards = camera.centre / np.linalg.norm(camera.centre)
    side = np.cross(towards, [0.0, 0.0, 1.0])
    balls = [hand(0.05 * towards, sphere), hand(-0.05 * towards + 0.05 * side, sphere, "left", 2)]
    faces = {s: sphere[1] for s in SIDES}
    out = draw_hands(DARK, camera, balls, faces, alpha=1, draw_joints=False)
    vertices = np.concatenate([b.estimate.vertices for b in balls])
    both = np.concatenate([sphere[1], sphere[1] + len(sphere[0])])
    seen = rasterise(*project_surface(camera, vertices), both, 640, 480, cull_backfaces=True)
    owner = seen.face_ids >= len(sphere[1])
    # Not compared: rims, which OpenCV paints half a pixel wider. The labels cover a few percent.
    inner = cv2.erode((seen.face_ids >= 0).astype(np.uint8), np.ones((5, 5))) > 0
    rim = cv2.morphologyEx(owner.astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((5, 5))) > 0
    for number, expected in ((0, track_colour("right", 1)), (1, track_colour("left", 2))):
        pixels = out[inner & ~rim & (owner == number)].astype(float)
        assert len(pixels) > 500
        saturation = pixels[:, 0] - pixels[:, 2]
        assert np.mean(np.sign(saturation) == np.sign(expected[0] - expected[2])) > 0.9


def test_colours_tell_sides_and_tracks_apart() -> None:
    for track in range(12):
        right, left = track_colour("right", track), track_colour("left", track)
        assert right[0] > right[2] and left[2] > left[0]
        assert np.abs(right - track_colour("right", track + 1)).max() > 0.02
