"""FreiHAND's layout: versions of backgrounds, regressed joints, poses relative to the mean."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from layout_writers import freihand as writer
from layout_writers.checks import check_mano, check_on_hand, check_truth, hand_pixels
from layout_writers.stage import Truth, model_of

from hand_mesh_ros.data.datasets import BadDataset, BadSample, open_dataset
from hand_mesh_ros.data.datasets.freihand import INFO, open_freihand
from hand_mesh_ros.hand.kinematics import forward

HANDS = 3


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, list[Truth]]]:
    root = tmp_path_factory.mktemp("freihand")
    return root, writer.write(root, HANDS)


@pytest.fixture
def copy(written: tuple[Path, dict], tmp_path: Path) -> Path:
    """To break; without the meshes, whose vertices are the free hand's and not MANO's 778."""
    root = Path(shutil.copytree(written[0], tmp_path / "copy"))
    (root / "training_verts.json").unlink()
    return root


def test_every_version_shows_the_same_hands(written: tuple, models: dict) -> None:
    root, truths = written
    data = open_freihand(root, models=models)
    assert len(data) == 4 * HANDS
    for number, sample in enumerate(data):
        truth = truths["training"][number % HANDS]
        check_truth(sample, truth) if number < HANDS else check_on_hand(sample)
        check_on_hand(sample)
        check_mano(sample, truth)
        assert sample.index == number and sample.side == "right"
        assert sample.extras["background"] == ("gs", "hom", "sample", "auto")[number // HANDS]
        assert sample.hand_mask is not None
        agreement = (sample.hand_mask == hand_pixels(sample.image)).mean()
        assert agreement > 0.99


def test_a_version_is_offset_by_the_number_of_hands(written: tuple, models: dict) -> None:
    data = open_freihand(written[0], versions=("sample",), models=models)
    assert [s.index for s in data] == [2 * HANDS + n for n in range(HANDS)]
    assert data[0].image[0, 0, 2] == pytest.approx(140, abs=8)  # the writer's tint of version 2


def test_shares_of_the_hands_are_the_same_in_every_version(written: tuple, models: dict) -> None:
    most, rest = (
        open_freihand(written[0], hands=hands, models=models)
        for hands in ((0.0, 0.67), (0.67, 1.0))
    )
    assert [s.extras["hand"] for s in most] == [0, 1] * 4
    assert [s.extras["hand"] for s in rest] == [2] * 4
    with pytest.raises(ValueError, match="shares from 0 to 1"):
        open_freihand(written[0], hands=(0.5, 0.5))


def test_evaluation_has_one_version_and_its_truth(written: tuple, models: dict) -> None:
    data = open_dataset("freihand", written[0], "evaluation", models=models)
    assert len(data) == 2
    for sample, truth in zip(data, written[1]["evaluation"], strict=True):
        check_truth(sample, truth)
        check_on_hand(sample)
        check_mano(sample, truth)
        assert sample.hand_mask is None
        bone = np.linalg.norm(truth.joints[9] - truth.joints[10])
        assert sample.extras["scale"] == pytest.approx(bone)


def test_joints_are_the_published_ones_not_those_of_the_skeleton(
    written: tuple, models: dict
) -> None:
    """The convention trap: regressed from the posed mesh, some tenths of a millimetre apart."""
    sample = open_freihand(written[0], models=models)[0]
    mano = sample.mano
    assert INFO.regressed and INFO.tips == "freihand"
    assert mano is not None and sample.joints is not None and sample.vertices is not None
    parts = (mano.global_orient, mano.hand_pose, mano.betas, mano.transl)
    skeleton = forward(models["right"], *(p[None] for p in parts)).joints[0]
    apart = np.linalg.norm(skeleton - sample.joints, axis=-1)
    assert 1e-4 < apart.max() < 5e-3
    regressed = model_of("right").J_regressor[0] @ sample.vertices
    np.testing.assert_allclose(sample.joints[0], regressed, atol=1e-9)


def test_poses_are_relative_to_the_mean(copy: Path, models: dict) -> None:
    """The mean-pose trap: without a model the numbers stay stored, and nothing is made of them."""
    plain, known = open_freihand(copy)[0], open_freihand(copy, models=models)[0]
    assert plain.mano is None and plain.stored_mano is not None
    assert plain.stored_mano.pose == "mean_relative"
    assert known.mano is not None
    mean = models["right"].hands_mean
    np.testing.assert_allclose(known.mano.hand_pose - mean, plain.stored_mano.hand_pose, atol=1e-12)


def test_a_model_without_a_mean_pose_is_refused(written: tuple) -> None:
    from hand_mesh_ros.hand.model import load_hand_model

    with pytest.raises(ValueError, match="mean pose.*free_hand"):
        open_freihand(written[0], models={"right": load_hand_model()})


def test_without_meshes_they_come_from_mano(copy: Path, written: tuple, models: dict) -> None:
    assert open_freihand(copy)[0].vertices is None
    check_mano(open_freihand(copy, models=models)[0], written[1]["training"][0])


def test_the_order_of_opening_does_not_matter_and_workers_may_have_it(
    written: tuple, models: dict
) -> None:
    data = open_freihand(written[0], models=models)
    last = data[-1]
    again = pickle.loads(pickle.dumps(data))
    np.testing.assert_array_equal(again[len(data) - 1].joints, last.joints)
    np.testing.assert_array_equal(again[len(data) - 1].image, last.image)
    with pytest.raises(IndexError):
        data[len(data)]


# --- Broken ---------------------------------------------------------------------------------


def test_a_list_that_is_cut_short_is_refused(copy: Path) -> None:
    path = copy / "training_xyz.json"
    path.write_text(path.read_text()[:-40])
    with pytest.raises(BadDataset, match="training_xyz.json.*cut short"):
        len(open_freihand(copy, on_error="skip"))


def test_lists_of_different_lengths_are_refused(copy: Path) -> None:
    path = copy / "training_mano.json"
    path.write_text(json.dumps(json.loads(path.read_text())[:-1]))
    with pytest.raises(BadDataset, match="training_mano.json is a list of 2.*training_K.json of 3"):
        len(open_freihand(copy))


def test_lists_that_are_all_too_short_for_the_images_are_refused(copy: Path) -> None:
    """Every later version's images would be taken for other hands."""
    for path in copy.glob("training_*.json"):
        path.write_text(json.dumps(json.loads(path.read_text())[:-1]))
    with pytest.raises(BadDataset, match="00000011"):
        len(open_freihand(copy))


def test_a_missing_image_is_named_and_skipped_by_choice(copy: Path) -> None:
    (copy / "training" / "rgb" / "00000004.jpg").unlink()
    data = open_freihand(copy)
    with pytest.raises(BadSample, match="00000004.jpg: image is missing"):
        data[4]
    with pytest.raises(BadSample, match="00000004.jpg"):
        list(data)
    lenient = open_freihand(copy, on_error="skip")
    assert [s.index for s in lenient] == [0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11]
    assert [p.path.name for p in lenient.problems] == ["00000004.jpg"]
    whole = lenient.checked()
    assert len(whole) == 11 and whole[4].index == 5
    assert [p.path.name for p in data.check()] == ["00000004.jpg"]


def test_an_annotation_that_is_not_a_number_is_named(copy: Path) -> None:
    path = copy / "training_xyz.json"
    content = json.loads(path.read_text())
    content[1][4][2] = float("nan")
    path.write_text(json.dumps(content))
    data = open_freihand(copy, versions=("gs",), on_error="skip")
    assert [s.index for s in data] == [0, 2]
    assert "training_xyz.json: element 1 is not finite" in str(data.problems[0])


def test_a_mesh_of_another_number_of_vertices_is_named(written: tuple) -> None:
    with pytest.raises(BadSample, match=r"training_verts.json: element 0 .*must be \(778, 3\)"):
        open_freihand(written[0])[0]


def test_an_image_that_is_cut_short_is_named_when_it_is_decoded(copy: Path) -> None:
    path = copy / "training" / "rgb" / "00000000.jpg"
    path.write_bytes(path.read_bytes()[:-300])
    sample = open_freihand(copy)[0]
    with pytest.raises(BadSample, match="00000000.jpg.*truncated"):
        _ = sample.image


def test_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadDataset, match="training_K.json is missing"):
        len(open_freihand(tmp_path))
    with pytest.raises(BadDataset, match="no such folder"):
        open_dataset("freihand", tmp_path / "nowhere")
    with pytest.raises(BadDataset, match="unknown data set 'frihand'.*freihand"):
        open_dataset("frihand", tmp_path)
    with pytest.raises(ValueError, match="split 'train'"):
        open_freihand(tmp_path, "train")  # type: ignore[arg-type]
