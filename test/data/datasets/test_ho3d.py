"""HO-3D's layout: OpenGL's axes, MANO's order of joints, total poses, cameras by their digits."""

from __future__ import annotations

import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from layout_writers import ho3d as writer
from layout_writers.checks import check_mano, check_on_hand, check_truth
from layout_writers.stage import Truth

from hand_mesh_ros.data.datasets import BadDataset, BadSample, open_dataset
from hand_mesh_ros.data.datasets.ho3d import INFO, open_ho3d_v2, open_ho3d_v3
from hand_mesh_ros.geometry.rotations import invert_rigid, transform_points


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, list[Truth]]]:
    root = tmp_path_factory.mktemp("ho3d")
    return root, writer.write(root)


@pytest.fixture
def copy(written: tuple[Path, dict], tmp_path: Path) -> Path:
    return Path(shutil.copytree(written[0], tmp_path / "copy"))


def test_hands_lie_where_they_were_drawn(written: tuple, models: dict) -> None:
    root, truths = written
    data = open_dataset("ho3d_v3", root, "train", models=models)
    assert len(data) == 5 and INFO.tips == "ho3d"
    for sample, truth in zip(data, truths["train"], strict=True):
        check_truth(sample, truth)
        check_on_hand(sample)
        check_mano(sample, truth)
        assert sample.joints is not None and (sample.joints[:, 2] > 0.2).all()  # z is forward


def test_version_two_has_other_images(tmp_path: Path, models: dict) -> None:
    truths = writer.write(tmp_path, images="png")
    data = open_ho3d_v2(tmp_path, models=models)
    check_truth(data[0], truths["train"][0])
    np.testing.assert_array_equal(data[0].image, truths["train"][0].picture.image)
    with pytest.raises(BadSample, match="0000.jpg: image is missing"):
        open_ho3d_v3(tmp_path)[0]


def test_poses_are_total_and_stay_stored_without_a_model(written: tuple, models: dict) -> None:
    """The axes need the wrist of a model: t' = C (t + J0) - J0, not C t."""
    stored = open_ho3d_v3(written[0])[0]
    assert stored.mano is None and stored.stored_mano is not None
    assert stored.stored_mano.pose == "total"
    known = open_ho3d_v3(written[0], models=models)[0].mano
    assert known is not None
    np.testing.assert_array_equal(known.hand_pose, stored.stored_mano.hand_pose)
    C = writer.FLIP
    assert stored.stored_mano.transl is not None
    assert np.abs(known.transl - C @ stored.stored_mano.transl).max() > 0.01


def test_cameras_of_one_instant_agree_in_the_world(written: tuple) -> None:
    """The digit of a sequence is looked up in the calibration's order of cameras."""
    data = open_ho3d_v3(written[0])
    assert data.groups == {"ABF1/0000": (0, 2), "ABF1/0001": (1, 3)}
    for numbers in data.groups.values():
        views = [data[n] for n in numbers]
        worlds = [transform_points(invert_rigid(v.camera.T_camera_world), v.joints) for v in views]
        np.testing.assert_allclose(worlds[0], worlds[1], atol=1e-8)
        assert [v.view for v in views] == [1, 0]
    single = data[4]
    assert single.group is None and single.view is None
    np.testing.assert_array_equal(single.camera.T_camera_world, np.eye(4))


def test_depth_is_metres(written: tuple) -> None:
    """Red and green make 16 bits, whose product would overflow eight."""
    sample, truth = open_ho3d_v3(written[0])[0], written[1]["train"][0]
    assert sample.depth is not None and sample.depth.dtype == np.float32
    np.testing.assert_allclose(sample.depth, truth.picture.depth, atol=1e-4)
    assert sample.depth.max() > 0.3


def test_evaluation_with_published_truth(written: tuple) -> None:
    root, truths = written
    from layout_writers.stage import model_of

    data = open_ho3d_v3(root, "evaluation", models={"right": model_of("right")})
    for sample, truth in zip(data, truths["evaluation"], strict=True):
        check_truth(sample, truth)
        check_on_hand(sample)
        np.testing.assert_allclose(sample.vertices, truth.vertices, atol=1e-8)
        assert sample.mano is None and sample.box is not None
        np.testing.assert_allclose(sample.box, sample.joint_box, atol=1e-6)


def test_evaluation_without_truth_knows_the_wrist_only(copy: Path, written: tuple) -> None:
    for name in ("xyz", "verts"):
        (copy / f"evaluation_{name}.json").unlink()
    sample = open_ho3d_v3(copy, "evaluation")[1]
    assert sample.joints is not None and sample.uv is not None
    np.testing.assert_allclose(sample.joints[0], written[1]["evaluation"][1].joints[0], atol=1e-8)
    assert np.isnan(sample.joints[1:]).all() and np.isnan(sample.uv[1:]).all()
    assert sample.vertices is None


# --- Broken ---------------------------------------------------------------------------------


def _meta(copy: Path, **changes: object) -> None:
    path = copy / "train" / "ABF10" / "meta" / "0001.pkl"
    meta = pickle.loads(path.read_bytes()) | changes
    path.write_bytes(pickle.dumps(meta))


def test_frames_that_nobody_annotated_have_no_joints(copy: Path) -> None:
    _meta(copy, handJoints3D=None, handPose=None, handTrans=None, handBeta=None)
    sample = open_ho3d_v3(copy)[1]
    assert sample.joints is None and sample.uv is None and sample.stored_mano is None


def test_broken_annotations_are_named(copy: Path) -> None:
    _meta(copy, handJoints3D=np.full((21, 3), np.nan))
    (copy / "train" / "ABF10" / "meta" / "0000.pkl").write_bytes(b"\x80\x02}q\x00(X\x07")
    (copy / "train" / "ABF12" / "meta" / "0000.pkl").unlink()
    (copy / "train" / "MC1" / "rgb" / "0007.jpg").unlink()
    data = open_ho3d_v3(copy, on_error="skip")
    assert [s.name for s in data] == ["train/ABF12/0001"]
    told = [str(p) for p in data.problems]
    assert "ABF10/meta/0000.pkl: refused: it is no readable pickle" in told[0]
    assert "ABF10/meta/0001.pkl: 'handJoints3D' is not finite everywhere" in told[1]
    assert "ABF12/meta/0000.pkl: annotation is missing" in told[2]
    assert "MC1/rgb/0007.jpg: image is missing" in told[3]


def test_a_pickle_that_calls_something_is_refused(copy: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple:
            return os.mkdir, (str(copy / "executed"),)

    _meta(copy, handPose=Evil())
    with pytest.raises(BadSample, match=r"0001.pkl: refused: .*mkdir"):
        open_ho3d_v3(copy)[1]
    assert not (copy / "executed").exists()


def test_truths_of_another_number_are_refused(copy: Path) -> None:
    (copy / "evaluation.txt").write_text("SM1/0000\n")
    with pytest.raises(BadDataset, match="evaluation_xyz.json is a list of 2.*evaluation.txt of 1"):
        len(open_ho3d_v3(copy, "evaluation"))
    (copy / "evaluation.txt").unlink()
    with pytest.raises(BadDataset, match="evaluation.txt is missing"):
        len(open_ho3d_v3(copy, "evaluation"))


def test_a_camera_that_the_calibration_lacks_is_named(copy: Path) -> None:
    folder = copy / "calibration" / "ABF1" / "calibration"
    (folder / "cam_orders.txt").write_text("2\n4\n")
    with pytest.raises(BadSample, match="cam_orders.txt.*ABF10"):
        open_ho3d_v3(copy)[0]
