"""HanCo's layout: eight cameras from the world, two ways to store MANO, flags by frame."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from layout_writers import hanco as writer
from layout_writers.checks import check_mano, check_on_hand, check_truth, hand_pixels

from hand_mesh_ros.data.datasets import BadDataset, BadSample
from hand_mesh_ros.data.datasets.hanco import open_hanco
from hand_mesh_ros.geometry.rotations import invert_rigid, transform_points
from hand_mesh_ros.hand.kinematics import forward


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    root = tmp_path_factory.mktemp("hanco")
    return root, writer.write(root)


@pytest.fixture
def copy(written: tuple[Path, dict], tmp_path: Path) -> Path:
    return Path(shutil.copytree(written[0], tmp_path / "copy"))


def test_hands_lie_where_they_were_drawn(written: tuple, models: dict) -> None:
    root, truths = written
    data = open_hanco(root, keep="all", models=models)
    assert len(data) == 8 * 4
    for sample, (key, truth) in zip(data, sorted(truths.items()), strict=True):
        sequence, frame, camera = key
        assert sample.sequence == f"{sequence:04d}/cam{camera}"
        assert (sample.frame, sample.view, sample.side) == (frame, camera, "right")
        check_truth(sample, truth)
        check_on_hand(sample)
        check_mano(sample, truth)  # frame 2 from the fits by camera, the others from the world's
        assert sample.hand_mask is not None
        assert (sample.hand_mask == hand_pixels(sample.image)).mean() > 0.98


def test_cameras_of_one_instant_agree_in_the_world(written: tuple) -> None:
    data = open_hanco(written[0])
    assert [len(numbers) for numbers in data.groups.values()] == [8, 8, 8]
    for numbers in data.groups.values():
        worlds = [
            transform_points(invert_rigid(data[n].camera.T_camera_world), data[n].joints)
            for n in numbers
        ]
        np.testing.assert_allclose(worlds, np.stack([worlds[0]] * 8), atol=1e-8)


def test_flags_and_splits(written: tuple) -> None:
    """`is_valid` is not `has_fit`; HaMuCo trains below sequence 1200."""
    root, _ = written
    assert len(open_hanco(root)) == 8 * 3
    assert len(open_hanco(root, keep="has_fit")) == 8 * 4
    train, test = open_hanco(root, "train"), open_hanco(root, "test")
    assert [s.frame for s in train][::8] == [0, 2] and len(test) == 8
    assert {s.split for s in test} == {"test"} and test[0].extras["is_train"] is False
    assert train[0].extras["subject_id"] == 7
    # Numbers are those of all instants, whatever is kept.
    assert [train[0].index, train[8].index, test[0].index] == [0, 16, 24]
    with pytest.raises(ValueError, match="variant is 'rgb_mergd'"):
        open_hanco(root, variant="rgb_mergd")  # type: ignore[arg-type]


def test_published_joints_are_not_those_of_mano(written: tuple, models: dict) -> None:
    """The joint trap: they are taken from their file, and not made of the fit."""
    sample = open_hanco(written[0], models=models)[0]
    mano = sample.mano
    assert mano is not None and sample.joints is not None
    parts = (mano.global_orient, mano.hand_pose, mano.betas, mano.transl)
    skeleton = forward(models["right"], *(p[None] for p in parts)).joints[0]
    apart = np.linalg.norm(sample.joints - skeleton, axis=-1)
    np.testing.assert_allclose(apart, np.linalg.norm(writer.OFF), atol=1e-6)


def test_without_a_model_the_numbers_stay_stored(written: tuple) -> None:
    data = open_hanco(written[0])
    world, by_camera = data[0].stored_mano, data[8].stored_mano
    assert data[0].mano is None and data[0].vertices is None
    assert world is not None and world.transl is not None and world.anchor is None
    assert by_camera is not None and by_camera.transl is None and by_camera.anchor is not None
    assert by_camera.anchor[0] == 9


# --- Broken ---------------------------------------------------------------------------------


def test_a_missing_image_shifts_nothing(copy: Path, written: tuple) -> None:
    """Counting eight images a frame, all behind a missing one would be taken for others."""
    (copy / "rgb" / "0003" / "cam2" / "00000000.jpg").unlink()
    data = open_hanco(copy, on_error="skip")
    assert len(data) == 24
    seen = list(data)
    assert len(seen) == 23
    check_truth(seen[2], written[1][3, 0, 3])
    assert [str(p.path.relative_to(copy)) for p in data.problems] == ["rgb/0003/cam2/00000000.jpg"]
    whole = data.checked()
    assert [len(numbers) for numbers in whole.groups.values()] == [7, 8, 8]


def test_broken_annotations_are_named(copy: Path) -> None:
    cut = copy / "xyz" / "0003" / "00000000.json"
    cut.write_text(cut.read_text()[:100])
    short = copy / "calib" / "0003" / "00000002.json"
    content = json.loads(short.read_text())
    short.write_text(json.dumps({**content, "K": content["K"][:7]}))
    nan = copy / "shape" / "1200" / "00000000.json"
    nan.write_text(json.dumps({**json.loads(nan.read_text()), "shapes": [[float("nan")] * 10]}))
    data = open_hanco(copy, on_error="skip")
    assert list(data) == []
    told = [str(p) for p in data.problems]
    assert len(told) == 3  # each once, for eight cameras
    assert "xyz/0003/00000000.json: no complete JSON" in told[0]
    assert "'K' has shape (7, 3, 3), it must be (8, 3, 3)" in told[1]
    assert "'shapes' is not finite everywhere" in told[2]
    with pytest.raises(BadSample, match="00000000.json: no complete JSON"):
        open_hanco(copy)[0]


def test_a_broken_list_is_refused(copy: Path) -> None:
    path = copy / "meta.json"
    path.write_text(path.read_text()[:-3])
    with pytest.raises(BadDataset, match="meta.json: no complete JSON"):
        len(open_hanco(copy, on_error="skip"))
    path.write_text(json.dumps({"is_valid": [[True]], "has_fit": [[True, True]]}))
    with pytest.raises(BadDataset, match="'has_fit' has not as many frames as 'is_valid'"):
        len(open_hanco(copy))
    path.unlink()
    with pytest.raises(BadDataset, match="meta.json is missing"):
        len(open_hanco(copy))
