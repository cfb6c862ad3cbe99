"""HaMeR's tars: pickles that are not run, several hands an image, what its training leaves out."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from layout_writers import hamer_tars as writer
from layout_writers.checks import check_on_hand, hand_pixels, share_on
from layout_writers.stage import model_of

from hand_mesh_ros.data.datasets import BadDataset, BadSample
from hand_mesh_ros.data.datasets.hamer_tars import ALL, Filters, open_hamer_tars
from hand_mesh_ros.hand.kinematics import forward


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    root = tmp_path_factory.mktemp("tars")
    return root, writer.write(root)


def test_hands_lie_where_they_were_drawn(written: tuple) -> None:
    root, truths = written
    data = open_hamer_tars(root)
    assert [(s.split, s.side) for s in data] == [
        ("coco-train", "right"),
        ("coco-train", "left"),
        ("freihand-train", "right"),
    ]
    for sample, truth in zip(data, truths["both"] + truths["one"], strict=True):
        check_on_hand(sample)
        assert sample.joints is not None and sample.uv is not None and sample.box is not None
        np.testing.assert_allclose(sample.joints, truth.joints, atol=1e-6)
        np.testing.assert_allclose(sample.uv, truth.eye.pixels(truth.joints), atol=1e-3)
        np.testing.assert_allclose(sample.box, sample.joint_box, atol=1e-3)
        assert not sample.placed and not sample.calibrated


def test_poses_are_total_and_left_hands_are_left(written: tuple) -> None:
    """Without a model, since they are total and in the camera's axes; the place is not known."""
    for sample, truth in zip(
        open_hamer_tars(written[0]), written[1]["both"] + written[1]["one"], strict=True
    ):
        mano = sample.mano
        assert mano is not None and sample.side is not None and np.isnan(mano.transl).all()
        assert mano.model_id == f"mano_{sample.side}" and not mano.mirrored
        parts = (mano.global_orient, mano.hand_pose, mano.betas, np.zeros(3))
        again = forward(model_of(sample.side), *(p[None] for p in parts)).vertices[0]
        np.testing.assert_allclose(
            again - again.mean(0), truth.vertices - truth.vertices.mean(0), atol=1e-6
        )


def test_masks_are_those_of_each_hand(written: tuple) -> None:
    right, left, alone = open_hamer_tars(written[0])
    masks = [right.hand_mask, left.hand_mask]
    for sample, mask in zip((right, left), masks, strict=True):
        assert mask is not None and sample.uv is not None
        assert share_on(mask, sample.uv) == 1.0
    assert masks[0] is not None and masks[1] is not None
    assert ((masks[0] | masks[1]) == hand_pixels(right.image)).mean() > 0.99
    assert alone.hand_mask is None


# --- What training leaves out ---------------------------------------------------------------


def _one(tmp_path: Path, filters: Filters = Filters(), **changes: object):  # noqa: B008, ANN202
    entry, _ = writer.hand_entry(103, **changes)
    writer.write_one(tmp_path / "t.tar", entry)
    return open_hamer_tars(tmp_path, filters=filters)


def test_joints_of_little_confidence_do_not_count(tmp_path: Path) -> None:
    points, _ = writer.hand_entry(103)
    keypoints = points["keypoints_2d"].copy()
    keypoints[5, 2], keypoints[6, 2] = 0.29, 0.3
    sample = _one(tmp_path, keypoints_2d=keypoints)[0]
    assert sample.counted is not None and sample.uv is not None
    assert np.flatnonzero(~sample.counted).tolist() == [5] and np.isnan(sample.uv[5]).all()
    keypoints[4:, 2] = 0.1
    assert len(_one(tmp_path, keypoints_2d=keypoints)) == 0
    keypoints[4, 2] = 0.9  # five are more than four
    assert len(_one(tmp_path, keypoints_2d=keypoints)) == 1


def test_bad_fits_are_left_out(tmp_path: Path) -> None:
    extra = {"fitting_loss": np.array({"reprojection_loss": np.float64(31000.0)})}
    assert len(_one(tmp_path, extra_info=extra)) == 0
    assert len(_one(tmp_path, ALL, extra_info=extra)) == 1
    assert len(_one(tmp_path, extra_info={})) == 1


def test_extreme_shapes_take_their_poses_with_them(tmp_path: Path) -> None:
    betas = np.r_[3.5, np.zeros(9)]
    assert _one(tmp_path, betas=betas)[0].stored_mano is None
    kept = _one(tmp_path, ALL, betas=betas)[0].mano
    assert kept is not None and kept.betas[0] == 3.5
    alone = _one(tmp_path, Filters(pose_with_shape=False), betas=betas)[0].mano
    assert alone is not None and np.isnan(alone.betas).all() and np.isfinite(alone.hand_pose).all()
    assert _one(tmp_path, has_hand_pose=0.0)[0].mano is None


def test_joints_without_depth_are_unknown(tmp_path: Path) -> None:
    assert _one(tmp_path, keypoints_3d=np.zeros((21, 4)))[0].joints is None


# --- Broken ---------------------------------------------------------------------------------


def test_a_pickle_that_calls_something_is_refused(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple:
            return os.mkdir, (str(tmp_path / "executed"),)

    writer.write_one(tmp_path / "evil.tar", Evil())
    with pytest.raises(BadSample, match=r"evil.tar: x.data.pyd: refused.*mkdir"):
        len(open_hamer_tars(tmp_path))
    assert not (tmp_path / "executed").exists()


def test_broken_hands_and_images_are_named(tmp_path: Path) -> None:
    good, _ = writer.hand_entry(103)
    nan = {**good, "keypoints_2d": np.full((21, 3), np.nan)}
    short = {**good, "hand_pose": np.zeros(45)}
    lacking = {k: v for k, v in good.items() if k != "center"}
    writer.write_one(tmp_path / "a.tar", nan, short, good, lacking, 7)
    writer.pack(tmp_path / "b.tar", {"y.data.pyd": pickle.dumps([good])})
    writer.write_one(tmp_path / "c.tar", good, image=b"no image")
    writer.pack(tmp_path / "d.tar", {"z.jpg": b"\xff\xd8"})
    data = open_hamer_tars(tmp_path, on_error="skip")
    assert [s.name for s in data] == ["a/x/2"]
    told = [str(p) for p in data.problems]
    for text, reason in zip(
        told,
        (
            "a.tar: x.data.pyd: hand 0: 'keypoints_2d' is not finite everywhere",
            "hand 1: 'hand_pose' has shape (45,), it must be (48,)",
            "hand 3: 'center' is missing",
            "hand 4: 'keypoints_2d' is missing",
            "b.tar: y: image is missing",
            "d.tar: z.data.pyd is missing",
            "c.tar: x.jpg is no image",  # told when the sample is read
        ),
        strict=True,
    ):
        assert reason in text


def test_a_tar_that_is_cut_short_keeps_what_is_whole(tmp_path: Path) -> None:
    good, _ = writer.hand_entry(103)
    members = {}
    for key in ("a", "b"):
        writer.write_one(tmp_path / "whole.tar", good)
        members |= {f"{key}.data.pyd": pickle.dumps([good]), f"{key}.jpg": os.urandom(30000)}
    writer.pack(tmp_path / "whole.tar", members)
    content = (tmp_path / "whole.tar").read_bytes()
    (tmp_path / "whole.tar").unlink()
    (tmp_path / "cut.tar").write_bytes(content[:45000])
    data = open_hamer_tars(tmp_path, on_error="skip")
    assert len(data) == 1
    assert "cut.tar: no complete tar" in str(data.problems[0])
    (tmp_path / "cut.tar").unlink()
    with pytest.raises(BadDataset, match="holds no"):
        len(open_hamer_tars(tmp_path))
