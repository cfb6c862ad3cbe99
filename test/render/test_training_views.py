"""Scenes and their labels: what a sample says is what its picture shows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hand_mesh_ros.geometry.cameras import project
from hand_mesh_ros.hand.kinematics import forward
from hand_mesh_ros.hand.limits import pose_limits
from hand_mesh_ros.hand.mirror import mirror_model
from hand_mesh_ros.hand.model import load_hand_model
from hand_mesh_ros.render import scenes
from hand_mesh_ros.render.motion import gesture_pose
from hand_mesh_ros.render.scenes import SceneSpec, make_scene
from hand_mesh_ros.render.sheet import write_image

pytest.importorskip("warp", reason="warp-lang is missing")
views = pytest.importorskip("hand_mesh_ros.render.training_views")
SPEC = SceneSpec(5, 6, 7, 8, "held", "right", views=2, width=192, height=144)


def dilated(mask: np.ndarray) -> np.ndarray:
    return np.max([np.roll(mask, (r, c), (0, 1)) for r in (-1, 0, 1) for c in (-1, 0, 1)], axis=0)


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("occluder", ["none", "held", "free", "hand"])
def test_labels_agree_with_one_another(side, occluder) -> None:
    for sample in views.views_of(replace(SPEC, side=side, occluder=occluder)):
        amodal = sample.extras["load_amodal_mask"]()
        visible, depth = sample.hand_mask, sample.depth
        assert sample.image.shape == (144, 192, 3) and sample.image.dtype == np.uint8
        assert amodal.any() and not (visible & ~amodal).any()
        assert sample.visible_share == visible.sum() / amodal.sum()
        assert (depth[visible] > 0.2).all()
        if occluder in ("held", "free"):
            assert sample.object_mask.any() and not (sample.object_mask & visible).any()
        # The mesh, projected by the record's own camera, fills the amodal mask.
        camera = replace(sample.camera, T_camera_world=np.eye(4))
        uv = project(camera, sample.vertices)
        inside = (uv > 0).all(1) & (uv < [191, 143]).all(1)
        column, row = np.rint(uv[inside]).astype(int).T
        assert dilated(amodal)[row, column].all()
        np.testing.assert_allclose(project(camera, sample.joints), sample.uv, atol=1e-6)
        # A vertex that is seen lies on the surface that its pixel shows.
        seen = np.flatnonzero(inside & sample.extras["vertex_visibility"])
        column, row = np.rint(uv[seen]).astype(int).T
        away_from_rims = ~dilated(~visible)[row, column]
        seen, column, row = (each[away_from_rims] for each in (seen, column, row))
        assert len(seen) > 50 or occluder != "none"
        gap = np.abs(depth[row, column] - sample.vertices[seen, 2])
        assert np.sum(gap > 0.006) <= 0.1 * len(seen) + 8  # where fingers cross


def test_parameters_in_the_cameras_axes_give_the_mesh() -> None:
    for side in ("right", "left"):
        for sample in views.views_of(replace(SPEC, side=side)):
            model = load_hand_model() if side == "right" else mirror_model(load_hand_model())
            mano = sample.mano
            numbers = (mano.global_orient, mano.hand_pose, mano.betas, mano.transl)
            posed = forward(model, *(each[None] for each in numbers))
            np.testing.assert_allclose(posed.vertices[0], sample.vertices, atol=1e-6)
            np.testing.assert_allclose(posed.joints[0], sample.joints, atol=1e-6)


def test_cameras_of_one_instant_see_one_hand() -> None:
    first, second = views.views_of(SPEC)
    assert first.group == second.group is not None
    assert (first.view, second.view) == (0, 1) and first.name != second.name
    world = [
        (s.joints - s.camera.T_camera_world[:3, 3]) @ s.camera.T_camera_world[:3, :3]
        for s in (first, second)
    ]
    np.testing.assert_allclose(*world, atol=1e-9)


def test_the_same_numbers_draw_the_same_picture() -> None:
    first = views.SceneViews(SPEC).picture(1)
    np.testing.assert_array_equal(first, views.SceneViews(SPEC).picture(1))
    other = views.SceneViews(replace(SPEC, person=60)).picture(1)
    assert np.abs(first.astype(int) - other).mean() > 1


def test_something_before_the_hand_hides_joints() -> None:
    shares, seen = {}, {}
    for occluder in ("none", "held", "free", "hand"):
        made = [views.SceneViews(SceneSpec(n, n, n, n, occluder)).samples()[0] for n in range(12)]
        shares[occluder] = np.mean([s.visible_share for s in made])
        seen[occluder] = np.nanmean([s.visibility for s in made])
    assert shares["none"] > 0.97
    for occluder in ("held", "free", "hand"):
        assert shares[occluder] < 0.9
        assert seen[occluder] < seen["none"]


def test_no_joint_of_an_open_hand_is_hidden_by_its_own_flesh() -> None:
    model = load_hand_model()
    shown = []
    for n in range(6):
        made = views.SceneViews(SceneSpec(n, n, n, n))
        made.scene = _posed_flat(made.scene, model, gesture_pose("open"), turned=n % 2 == 1)
        shown.append(made.labels(0).joints_seen)
    assert np.nanmean(shown) > 0.97


def _posed_flat(scene, model, pose, *, turned):
    """The scene with its hand opened, palm or back to the first camera, without an arm."""
    from hand_mesh_ros.geometry.rotations import log_so3
    from hand_mesh_ros.render.sampling import _RAISED

    camera = scene.cameras[0]
    towards = camera.centre - scenes.CENTRE
    turn = np.arctan2(towards[1], towards[0]) + (np.pi if turned else 0)
    about = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    posed = forward(
        model, log_so3(about @ _RAISED)[None], pose[None], np.zeros((1, 10)), np.zeros((1, 3))
    )
    shift = scenes.CENTRE - posed.joints[0].mean(0)
    points = posed.vertices[0] + shift
    owner = np.zeros(len(model.faces), np.int8)
    normals = scenes.vertex_normals(points, model.faces)
    return replace(
        scene, points=points, normals=normals, joints=posed.joints[0] + shift, faces=model.faces,
        owner=owner,
    )  # fmt: skip


def test_motion_is_smooth_and_within_limits() -> None:
    places = [
        make_scene(replace(SPEC, occluder="none", clock=t)) for t in np.arange(0.5, 1.3, 0.02)
    ]
    joints = np.stack([s.joints for s in places])
    steps = np.linalg.norm(np.diff(joints, axis=0), axis=-1)
    assert 0.001 < steps.max() < 0.06
    assert np.linalg.norm(np.diff(joints, 2, axis=0), axis=-1).max() < 0.02
    lower, upper = pose_limits()
    for scene in places:
        assert (scene.mano.hand_pose > lower - 1e-9).all()
        assert (scene.mano.hand_pose < upper + 1e-9).all()


def test_photographs_may_stand_behind(tmp_path: Path) -> None:
    plain = np.full((60, 90, 3), (20, 200, 30), np.uint8)
    write_image(tmp_path / "wall.png", plain)
    settings = views.DrawSettings(backgrounds=tmp_path)
    made = views.SceneViews(replace(SPEC, occluder="none", views=1), settings)
    image, empty = made.picture(0), made.labels(0).owner < 0
    empty = ~dilated(dilated(~empty))
    assert image[empty][:, 1].mean() > 2 * image[empty][:, [0, 2]].mean()
    (tmp_path / "wall.png").write_bytes(b"no picture")
    with pytest.raises(OSError, match="wall.png"):
        views.SceneViews(made.spec, settings).picture(0)
    with pytest.raises(FileNotFoundError, match="no pictures"):
        (tmp_path / "none").mkdir()
        views.SceneViews(made.spec, views.DrawSettings(tmp_path / "none")).picture(0)


def test_numbers_that_make_no_picture_are_refused() -> None:
    with pytest.raises(ValueError, match="1 to 8 views"):
        make_scene(replace(SPEC, views=9))
