"""InterHand2.6M's layout: millimetres, camera centres, fingertips first, both sides."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layout_writers import interhand as writer
from layout_writers.checks import check_mano, check_on_hand

from hand_mesh_ros.data.datasets import BadDataset, BadSample
from hand_mesh_ros.data.datasets.interhand import open_interhand
from hand_mesh_ros.data.datasets.mano import load_hand_models, with_left_corrected
from hand_mesh_ros.geometry.rotations import invert_rigid, transform_points
from hand_mesh_ros.hand.layout import INTERHAND_TO_OPENPOSE, JOINT_NAMES


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list]:
    root = tmp_path_factory.mktemp("interhand")
    return root, writer.write(root)


@pytest.fixture
def copy(written: tuple[Path, list], tmp_path: Path) -> Path:
    return Path(shutil.copytree(written[0], tmp_path / "copy"))


def _edit(root: Path, what: str) -> tuple[Path, Any]:
    path = root / "annotations" / "train" / f"InterHand2.6M_train_{what}.json"
    return path, json.loads(path.read_text())


def test_hands_of_both_sides_lie_where_they_were_drawn(written: tuple, models: dict) -> None:
    root, truths = written
    data = open_interhand(root, models=models)
    assert len(data) == len(truths) == 2 * (1 + 1 + 2)
    for sample, (scene, frame, side, truth) in zip(data, truths, strict=True):
        assert (sample.side, sample.frame) == (side, frame)
        assert sample.extras["hand_type"] == scene
        known = np.arange(21) != (writer.HIDDEN if side == "left" else -1)
        assert sample.joints is not None and sample.uv is not None
        assert np.isnan(sample.joints[~known]).all() and np.isnan(sample.uv[~known]).all()
        np.testing.assert_allclose(sample.joints[known], truth.joints[known], atol=1e-8)
        uv = truth.eye.pixels(truth.joints)
        np.testing.assert_allclose(sample.uv[known], uv[known], atol=1e-4)
        np.testing.assert_allclose(sample.camera.K, truth.eye.K)
        np.testing.assert_allclose(sample.camera.T_camera_world, truth.eye.M, atol=1e-12)
        check_on_hand(sample)
        check_mano(sample, truth)


def test_joints_that_do_not_count_in_an_image(written: tuple) -> None:
    """An image's own joint_valid is not that of the 3D joint, which stays known."""
    data = open_interhand(written[0])
    first, second = data[0], data[1]
    assert first.counted is not None and first.counted.all()
    assert second.counted is not None and second.joints is not None
    assert np.flatnonzero(~second.counted).tolist() == [writer.CUT]
    assert np.isfinite(second.joints).all()
    left = data[2]
    assert left.counted is not None and not left.counted[writer.HIDDEN]


def test_without_a_valid_wrist_nothing_counts(copy: Path) -> None:
    path, content = _edit(copy, "data")
    content["annotations"][0]["joint_valid"][20] = [0]
    path.write_text(json.dumps(content))
    sample = open_interhand(copy)[0]
    assert sample.counted is not None and not sample.counted.any()


def test_a_box_is_of_all_hands_and_so_only_of_one_that_is_alone(written: tuple) -> None:
    for sample in open_interhand(written[0]):
        if sample.extras["hand_type"] == "interacting":
            assert sample.box is None
        elif sample.side == "right":
            np.testing.assert_allclose(sample.box, sample.joint_box, atol=1e-4)


def test_cameras_of_one_instant_agree_in_the_world(written: tuple) -> None:
    data = open_interhand(written[0])
    assert len(data.groups) == 4 and {len(g) for g in data.groups.values()} == {2}
    for a, b in data.groups.values():
        one, two = data[a], data[b]
        assert one.side == two.side and {one.view, two.view} == {0, 1}
        np.testing.assert_allclose(
            transform_points(invert_rigid(one.camera.T_camera_world), one.joints),
            transform_points(invert_rigid(two.camera.T_camera_world), two.joints),
            atol=1e-8,
        )


def test_order_of_joints() -> None:
    """Fingers from the tip inwards, the thumb first; the wrist is the last of a hand."""
    names = [None] * 21
    for openpose, stored in enumerate(INTERHAND_TO_OPENPOSE):
        names[stored] = JOINT_NAMES[openpose]
    assert names[:5] == ["thumb_tip", "thumb_ip", "thumb_mcp", "thumb_cmc", "index_tip"]
    assert names[19:] == ["little_mcp", "wrist"]


def test_the_left_hands_shape_directions_are_corrected(models: dict, tmp_path: Path) -> None:
    """MANO_LEFT.pkl's x is the right hand's: a left hand would grow to the wrong side."""
    published = {
        **models,
        "left": replace(models["left"], shapedirs=models["left"].shapedirs * [[-1.0], [1], [1]]),
    }
    np.testing.assert_array_equal(
        published["left"].shapedirs[:, 0], models["right"].shapedirs[:, 0]
    )
    fixed = with_left_corrected(published)
    np.testing.assert_allclose(fixed["left"].shapedirs, models["left"].shapedirs)
    assert with_left_corrected(models)["left"] is models["left"]  # nothing to correct
    # The same through files, as users have them.
    arrays = ("v_template", "shapedirs", "posedirs", "J_regressor", "lbs_weights", "parents",
              "faces", "tips", "hands_mean", "hands_components")  # fmt: skip
    for side, model in published.items():
        content = {name: getattr(model, name) for name in arrays}
        np.savez(tmp_path / f"{side}.npz", **content, side=side, model_id=f"mano_{side}")
    loaded = load_hand_models(tmp_path / "right.npz", tmp_path / "left.npz")
    np.testing.assert_allclose(loaded["left"].shapedirs, models["left"].shapedirs)


# --- Broken ---------------------------------------------------------------------------------


def test_a_file_that_is_cut_short_is_refused(copy: Path) -> None:
    path, _ = _edit(copy, "joint_3d")
    path.write_text(path.read_text()[:-20])
    with pytest.raises(BadDataset, match="joint_3d.json: no complete JSON"):
        open_interhand(copy, on_error="skip")[0]
    path.unlink()
    with pytest.raises(BadDataset, match="joint_3d.json is missing"):
        open_interhand(copy)[0]


def test_broken_annotations_are_named(copy: Path) -> None:
    path, joints = _edit(copy, "joint_3d")
    joints["0"]["0"]["world_coord"][3][1] = float("nan")
    joints["0"]["1"]["world_coord"].pop()
    path.write_text(json.dumps(joints))
    path, content = _edit(copy, "data")
    content["annotations"][4]["image_id"] = 1
    path.write_text(json.dumps(content))
    path, cameras = _edit(copy, "camera")
    del cameras["0"]["focal"][writer.CAMERAS[1]]
    path.write_text(json.dumps(cameras))
    data = open_interhand(copy, on_error="skip")
    assert list(data) == []
    told = " | ".join(map(str, data.problems))
    assert "joint_3d.json: 0/0: a valid joint is not finite" in told
    assert "joint_3d.json: 0/1: joints of shape (41, 3), not 42 x 3" in told
    assert "data.json: annotation 4 is of no image" in told
    assert f"camera.json: '{writer.CAMERAS[1]}' is missing" in told


def test_an_unknown_kind_of_hand_is_refused(copy: Path) -> None:
    path, content = _edit(copy, "data")
    content["annotations"][0]["hand_type"] = "both"
    path.write_text(json.dumps(content))
    with pytest.raises(BadDataset, match="data.json: unknown hand_type .*both"):
        len(open_interhand(copy))


def test_a_missing_image_is_named(copy: Path) -> None:
    (copy / "images/train/Capture0/left/cam400053/image1.jpg").unlink()
    with pytest.raises(BadSample, match="cam400053/image1.jpg: image is missing"):
        list(open_interhand(copy))
