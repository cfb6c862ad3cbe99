"""HaMeR's evaluation files: boxes in pixels, what counts by variant, names that are pickled."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from layout_writers import hamer_evaluation as writer
from layout_writers.checks import check_on_hand

from hand_mesh_ros.data.datasets import BadDataset, BadSample
from hand_mesh_ros.data.datasets.hamer_evaluation import open_hamer_evaluation


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list]:
    root = tmp_path_factory.mktemp("evaluation")
    return root, writer.write(root)


@pytest.fixture
def copy(written: tuple[Path, list], tmp_path: Path) -> Path:
    return Path(shutil.copytree(written[0], tmp_path / "copy"))


def test_variants_count_other_joints(written: tuple) -> None:
    root, truths = written
    hidden = np.isin(np.arange(21), writer.HIDDEN)
    for kind, counted in {"all": hidden | True, "vis": ~hidden, "occ": hidden}.items():
        data = open_hamer_evaluation(root, f"TEST_newdays_img_{kind}")
        assert [s.side for s in data] == ["right", "left"]
        for sample, truth in zip(data, truths, strict=True):
            assert sample.counted is not None and sample.uv is not None
            np.testing.assert_array_equal(sample.counted, counted)
            uv = truth.eye.pixels(truth.joints)
            np.testing.assert_allclose(sample.uv[counted], uv[counted], atol=1e-3)
            # The box is tight and in pixels, not in units of 200 of them.
            np.testing.assert_allclose(sample.box, np.r_[uv.min(0), uv.max(0)], atol=1e-3)
            if kind == "all":
                check_on_hand(sample)


def test_boxes_with_padding_are_not_taken_for_tight_ones(written: tuple) -> None:
    root, truths = written
    for sample, truth in zip(open_hamer_evaluation(root, "ho3d_val"), truths, strict=True):
        assert sample.box is None
        side = np.ptp(truth.eye.pixels(truth.joints), axis=0).max()
        np.testing.assert_allclose(sample.extras["scale"], writer.PADDING * side, atol=1e-3)
        np.testing.assert_allclose(sample.joints, truth.joints, atol=1e-6)
        assert sample.mano is not None and sample.mano.side == sample.side
        assert not sample.placed


def test_a_pickle_that_calls_something_is_refused(copy: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple:
            return os.mkdir, (str(copy / "executed"),)

    path = copy / "TEST_newdays_img_all.npz"
    arrays = dict(np.load(path, allow_pickle=True)) | {"imgname": np.array([Evil(), 1], object)}
    np.savez(path, **arrays)
    with pytest.raises(BadDataset, match=r"all.npz: 'imgname': refused.*mkdir"):
        len(open_hamer_evaluation(copy, path.stem))
    assert not (copy / "executed").exists()


def test_broken_files_are_named(copy: Path) -> None:
    with pytest.raises(BadDataset, match="TEST_x.npz is missing"):
        len(open_hamer_evaluation(copy, "TEST_x"))
    path = copy / "ho3d_val.npz"
    arrays = dict(np.load(path, allow_pickle=True))
    np.savez(path, **{**arrays, "betas": arrays["betas"][:1]})
    with pytest.raises(BadDataset, match="ho3d_val.npz: arrays of different lengths.*'betas': 1"):
        len(open_hamer_evaluation(copy, "ho3d_val"))
    nan = arrays["hand_keypoints_2d"].copy()
    nan[1, 2, 0] = np.nan
    np.savez(path, **{**arrays, "hand_keypoints_2d": nan})
    (copy / "images" / "0.jpg").unlink()
    data = open_hamer_evaluation(copy, "ho3d_val", on_error="skip")
    assert list(data) == []
    assert "images/0.jpg: image is missing" in str(data.problems[0])
    assert "'hand_keypoints_2d' of images/1.jpg is not finite" in str(data.problems[1])
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(BadDataset, match="ho3d_val.npz is no .npz archive"):
        len(open_hamer_evaluation(copy, "ho3d_val"))
    with pytest.raises(BadSample):
        open_hamer_evaluation(copy, "TEST_newdays_img_all")[0]
