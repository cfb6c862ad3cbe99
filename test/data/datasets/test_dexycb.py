"""DexYCB's layout: splits by number, poses as components, extrinsics to the master, both sides."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from layout_writers import dexycb as writer
from layout_writers.checks import check_mano, check_on_hand, check_truth, hand_pixels

from hand_mesh_ros.data.datasets import BadDataset, BadSample, HandDataset
from hand_mesh_ros.data.datasets.dexycb import INFO, open_dexycb
from hand_mesh_ros.data.datasets.dexycb_splits import SERIALS, SUBJECTS, chosen
from hand_mesh_ros.geometry.rotations import invert_rigid, transform_points

OTHERS = 9  # subjects that the miniature does not have


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    root = tmp_path_factory.mktemp("dexycb")
    return root, writer.write(root)


@pytest.fixture
def copy(written: tuple[Path, dict], tmp_path: Path) -> Path:
    return Path(shutil.copytree(written[0], tmp_path / "copy"))


def _open(root: Path, *split: str, **options: object) -> HandDataset:
    return open_dexycb(root, *split, on_error="skip", **options)  # type: ignore[arg-type]


def test_hands_of_both_sides_lie_where_they_were_drawn(written: tuple, models: dict) -> None:
    root, truths = written
    for split, number, side, frames in (("train", 0, "right", 2), ("val", 4, "left", 1)):
        data = _open(root, split, models=models)
        assert len(data) == 8 * frames
        for n, sample in enumerate(data):
            camera, frame = divmod(n, frames)  # the publisher's order: all frames of a camera
            truth = truths[number, camera, frame]
            assert (sample.side, sample.view, sample.frame) == (side, camera, frame)
            assert sample.index == n and sample.camera.name == SERIALS[camera]
            check_truth(sample, truth)
            check_on_hand(sample)
            check_mano(sample, truth)
            assert sample.hand_mask is not None and sample.object_mask is not None
            assert (sample.hand_mask == hand_pixels(sample.image)).mean() > 0.98
            assert sample.object_mask.sum() == 54 and not sample.hand_mask[:6, :9].any()
            assert sample.depth is not None
            np.testing.assert_allclose(sample.depth, truth.picture.depth, atol=6e-4)
    assert INFO.tips == "manopth"


def test_poses_are_components_and_stay_stored_without_a_model(written: tuple, models: dict) -> None:
    plain, known = (_open(written[0], "train", models=m)[0] for m in (None, models))
    assert plain.mano is None and plain.vertices is None and plain.stored_mano is not None
    assert plain.stored_mano.pose == "pca" and known.mano is not None
    right = models["right"]
    total = right.hands_mean + plain.stored_mano.hand_pose @ right.hands_components
    np.testing.assert_allclose(known.mano.hand_pose, total, atol=1e-12)


def test_extrinsics_map_cameras_to_the_master(written: tuple) -> None:
    """The direction trap: taken the other way round, the views would not agree."""
    data = _open(written[0], "train")
    assert {len(numbers) for numbers in data.groups.values()} == {8} and len(data.groups) == 2
    for numbers in data.groups.values():
        views = [data[n] for n in numbers]
        master = next(v for v in views if v.camera.name == writer.MASTER)
        np.testing.assert_allclose(master.camera.T_camera_world, np.eye(4), atol=1e-12)
        for view in views:
            world = transform_points(invert_rigid(view.camera.T_camera_world), view.joints)
            np.testing.assert_allclose(world, master.joints, atol=1e-8)


def test_images_without_a_hand_say_so(tmp_path: Path, models: dict) -> None:
    writer.write(tmp_path, {0: ("right", 2)}, without_hand=1)
    data = _open(tmp_path, "train", models=models)
    empty = [s for s in data if s.frame == 1]
    assert len(empty) == 8
    for sample in empty:
        assert sample.joints is None and sample.uv is None
        assert sample.mano is None and sample.stored_mano is None and sample.vertices is None
        assert sample.hand_mask is not None and not sample.hand_mask.any()
    assert {s.frame for s in _open(tmp_path, "train", multi_view=True)} == {0}


def test_multi_view_drops_instants_that_a_view_lacks_and_left_hands(
    copy: Path, written: tuple
) -> None:
    assert len(_open(copy, "val", multi_view=True)) == 0  # a left hand
    path = copy / writer.SUBJECT / "20200709_140000" / SERIALS[3] / "labels_000001.npz"
    labels = dict(np.load(path))
    labels["joint_2d"][0, 7] = -1
    np.savez_compressed(path, **labels)
    data = _open(copy, "train", multi_view=True)
    assert list(data.groups) == [f"{writer.SUBJECT}/20200709_140000/000000"]
    one = next(s for s in _open(copy, "train") if s.frame == 1 and s.view == 3)
    assert one.uv is not None and np.flatnonzero(np.isnan(one.uv).any(-1)).tolist() == [7]


# --- Splits ---------------------------------------------------------------------------------


@pytest.mark.parametrize("setup", ["s0", "s1", "s2", "s3"])
def test_splits_are_apart(setup: str) -> None:
    parts = [chosen(setup, split) for split in ("train", "val", "test")]  # type: ignore[arg-type]
    sets = [{(s, c, q) for s in p.subjects for c in p.cameras for q in p.sequences} for p in parts]
    assert not (sets[0] & sets[1] or sets[0] & sets[2] or sets[1] & sets[2])
    assert sets[0] | sets[1] | sets[2] == {
        (s, c, q) for s in range(10) for c in range(8) for q in range(100)
    }


def test_splits_hold_out_what_they_say() -> None:
    assert all(q % 5 == 4 for q in chosen("s0", "test").sequences)
    assert chosen("s0", "val").subjects == (0, 1)
    assert chosen("s1", "train").subjects == (0, 1, 2, 3, 4, 5, 9)
    assert chosen("s1", "test").subjects == (7, 8)
    assert (chosen("s2", "val").cameras, chosen("s2", "test").cameras) == ((6,), (7,))
    assert {q // 5 for q in chosen("s3", "test").sequences} == {7, 11, 15}
    assert {q // 5 for q in chosen("s3", "val").sequences} == {3, 19}
    with pytest.raises(ValueError, match="'s4'"):
        chosen("s4", "train")  # type: ignore[arg-type]


def test_set_ups_on_disk(written: tuple) -> None:
    root, _ = written
    assert {s.view for s in _open(root, "test", setup="s2")} == {7}
    assert {s.sequence.split("/")[1] for s in _open(root, "train", setup="s3")} == {
        "20200709_140000",
        "20200709_140004",
    }
    assert len(_open(root, "test", setup="s1")) == 0


# --- Broken ---------------------------------------------------------------------------------


def test_missing_subjects_are_named(written: tuple) -> None:
    data = _open(written[0], "train")
    len(data)
    assert [p.path.name for p in data.problems] == list(SUBJECTS[1:])
    with pytest.raises(BadSample, match="20200813-subject-02: is missing"):
        len(open_dexycb(written[0], "train"))
    with pytest.raises(BadDataset, match="calibration is missing"):
        len(_open(written[0] / writer.SUBJECT, "train"))


def test_a_subject_without_all_sequences_is_not_split(copy: Path) -> None:
    """The split is by number: one missing folder would shift all behind it."""
    shutil.rmtree(copy / writer.SUBJECT / "20200709_140050")
    data = _open(copy, "train")
    assert len(data) == 0
    assert "holds 99 sequences of 100" in str(data.problems[0])


def test_broken_files_are_named(copy: Path) -> None:
    folder = copy / writer.SUBJECT / "20200709_140000"
    cut = folder / SERIALS[0] / "labels_000000.npz"
    cut.write_bytes(cut.read_bytes()[:200])
    nan = folder / SERIALS[1] / "labels_000001.npz"
    np.savez_compressed(nan, **{**np.load(nan), "joint_3d": np.full((1, 21, 3), np.nan)})
    short = folder / SERIALS[2] / "labels_000000.npz"
    np.savez_compressed(short, **{**np.load(short), "pose_m": np.zeros((1, 48))})
    (folder / SERIALS[4] / "color_000001.jpg").unlink()
    data = _open(copy, "train")
    assert len(list(data)) == 16 - 4
    told = [str(p) for p in data.problems[OTHERS:]]
    assert "836212060125/labels_000000.npz: is no .npz archive" in told[0]
    assert "'joint_3d' is not finite everywhere" in told[1]
    assert "'pose_m' has shape (1, 48), it must be (1, 51)" in told[2]
    assert "932122060857/color_000001.jpg: image is missing" in told[3]


def test_a_broken_description_of_a_sequence_is_named(copy: Path) -> None:
    path = copy / writer.SUBJECT / "20200709_140001" / "meta.yml"
    path.write_text("num_frames: [1, 2\n")
    data = _open(copy, "train")
    assert len(data) == 16
    assert "20200709_140001/meta.yml: no YAML" in str(data.problems[0])


def test_yaml_does_not_make_objects(copy: Path) -> None:
    path = copy / "calibration" / "mano_20200514-subject-01" / "mano.yml"
    path.write_text(f"betas: !!python/object/apply:os.mkdir ['{copy}/executed']\n")
    from hand_mesh_ros.data.datasets.dexycb_files import shape_of

    with pytest.raises(BadSample, match="mano.yml: no YAML of plain values"):
        shape_of(copy, "20200514-subject-01")
    assert not (copy / "executed").exists()
