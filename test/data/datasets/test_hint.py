"""HInt's layout: 2D only, no camera, occlusion by joint, sides by file name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from layout_writers import hint as writer
from layout_writers.checks import check_on_hand

from hand_mesh_ros.data.datasets import BadDataset, BadSample
from hand_mesh_ros.data.datasets.hint import open_hint


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    root = tmp_path_factory.mktemp("hint")
    return root, writer.write(root)


@pytest.fixture
def copy(written: tuple[Path, dict], tmp_path: Path) -> Path:
    return Path(shutil.copytree(written[0], tmp_path / "copy"))


def test_joints_lie_on_the_hand(written: tuple) -> None:
    root, truths = written
    data = open_hint(root, "TEST", subsets=("newdays_img",))
    assert [(s.name, s.side) for s in data] == [
        ("TEST_newdays_img/a_l", "left"),
        ("TEST_newdays_img/b_r", "right"),
    ]
    for sample in data:
        check_on_hand(sample)
        truth = truths[sample.name]
        uv = truth.eye.pixels(truth.joints)
        known = np.isfinite(sample.uv).all(-1)
        np.testing.assert_allclose(sample.uv[known], uv[known])
        np.testing.assert_allclose(sample.box, np.r_[uv.min(0), uv.max(0)])


def test_seen_hidden_and_outside_are_three_things(written: tuple) -> None:
    left, right = open_hint(written[0], "TEST", subsets=("newdays_img",))
    assert left.visibility is not None and left.counted is not None and left.uv is not None
    assert np.flatnonzero(left.visibility == 0).tolist() == list(writer.HIDDEN)
    assert np.flatnonzero(np.isnan(left.visibility)).tolist() == list(writer.OUTSIDE)
    assert np.flatnonzero(~left.counted).tolist() == list(writer.OUTSIDE)
    assert np.isnan(left.uv[list(writer.OUTSIDE)]).all()
    assert right.visibility is not None and (right.visibility == 1).all()


def test_no_camera_and_no_depth_are_made_up(written: tuple) -> None:
    sample = open_hint(written[0], "VAL")[0]
    assert not sample.calibrated and np.isnan(sample.camera.K).all()
    assert (sample.camera.width, sample.camera.height) == writer.SIZE
    assert sample.joints is None and sample.vertices is None and sample.mano is None


def test_intrinsics_may_be_assumed_by_choice(written: tuple) -> None:
    sample = open_hint(written[0], "VAL", assume_intrinsics=True)[0]
    assert np.isfinite(sample.camera.K).all() and not sample.calibrated
    half_width = sample.camera.width / 2 / sample.camera.K[0, 0]
    assert np.degrees(2 * np.arctan(half_width)) == pytest.approx(60)
    assert sample.extras["assumed_intrinsics"] is True


def test_ego4d_images_that_are_not_there_are_named(written: tuple) -> None:
    data = open_hint(written[0], on_error="skip")
    assert [s.name for s in data] == ["TEST_newdays_img/a_l", "TEST_newdays_img/b_r"]
    assert [p.path.name for p in data.problems] == ["c_r.jpg"]
    with pytest.raises(BadSample, match="TEST_ego4d_img/c_r.jpg: image is missing"):
        list(open_hint(written[0]))


def test_broken_annotations_are_named(copy: Path) -> None:
    folder = copy / "TEST_newdays_img"
    content = json.loads((folder / "a_l.json").read_text())
    (folder / "a_l.json").write_text(json.dumps([{**content[0], "keypoints": [[1, 2]] * 20}]))
    (folder / "b_r.json").write_text(json.dumps(content)[:50])
    for name, broken in {
        "e_x": content,
        "f_r": content * 2,
        "g_r": [{**content[0], "bbox": [[0, float("nan"), 1, 1]]}],
        "h_r": [{k: v for k, v in content[0].items() if k != "occlusion"}],
    }.items():
        (folder / f"{name}.json").write_text(json.dumps(broken))
    data = open_hint(copy, subsets=("newdays_img",), on_error="skip")
    assert list(data) == []
    for problem, reason in zip(
        data.problems,
        (
            r"a_l.json: 'keypoints' has shape (20, 2), it must be (21, 2)",
            "b_r.json: no complete JSON",
            "e_x.json: its name ends in neither _l nor _r",
            "f_r.json: is no list of one hand",
            "g_r.json: 'bbox' is not finite everywhere",
            "h_r.json: 'occlusion' is missing",
        ),
        strict=True,
    ):
        assert reason in str(problem)


def test_another_folder_is_refused(tmp_path: Path, written: tuple) -> None:
    with pytest.raises(BadDataset, match=r"TEST_\*: no such folder"):
        len(open_hint(tmp_path))
    with pytest.raises(BadDataset, match="TEST_ego4d_seq: no such folder"):
        len(open_hint(written[0], subsets=("newdays_img", "ego4d_seq")))
