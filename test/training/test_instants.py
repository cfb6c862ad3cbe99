"""Stores of instants: what is written is what the samples say, and batches are of it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from hand_mesh_ros.geometry.cameras import project
from hand_mesh_ros.geometry.crops import transform_points
from hand_mesh_ros.networks.assets import AssetError, landmark_network_path
from hand_mesh_ros.networks.evidence import CROP
from hand_mesh_ros.training.instant_data import InstantData
from hand_mesh_ros.training.instant_sources import open_instants
from hand_mesh_ros.training.instant_writer import StoreRequest, write_part
from hand_mesh_ros.training.instants import InstantStore, StoreError, crop_poses
from hand_mesh_ros.training.recipes import (
    Augmentation,
    DataSettings,
    Recipe,
    Supply,
    TrainerSettings,
)
from hand_mesh_ros.training.settings import RecipeError

OPTIONS = {"split": "train", "size": 128}
CAMERA = ("K", "D", "T_camera_world", "R_crop_camera", "crop_matrix", "left")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        landmark_network_path("hand_landmark_full")
    except AssetError as error:
        pytest.skip(str(error))
    out = tmp_path_factory.mktemp("store")
    write_part(StoreRequest("renders", OPTIONS, 40, 2, Augmentation()), out, 32)
    return out


def test_truths_lie_where_the_cameras_see_them(folder: Path) -> None:
    store = InstantStore(folder)
    fields = store.read(range(8), ["valid", "uv", "joints", "wrist", *CAMERA])
    assert fields["valid"].any(1).all() and fields["left"].any() and not fields["left"].all()
    # crops of left hands are mirrored
    uv = np.where(fields["left"][:, None, None, None], fields["uv"] * [-1.0, 1.0], fields["uv"])
    pixels = transform_points(fields["crop_matrix"], (uv + 1) * (CROP / 2) - 0.5)
    instants = open_instants("renders", 2, OPTIONS)
    for row in range(8):
        for view, sample in enumerate(instants(32 + row)):
            if fields["valid"][row, view]:
                np.testing.assert_allclose(pixels[row, view], sample.uv, atol=1e-2)
                expected = project(
                    replace(sample.camera, T_camera_world=np.eye(4)), sample.joints
                )
                np.testing.assert_allclose(pixels[row, view], expected, atol=1e-2)


def test_views_of_an_instant_agree_in_its_world(folder: Path) -> None:
    fields = InstantStore(folder).read(range(8), ["valid", "uv", "joints", "wrist", *CAMERA])
    T, focal = crop_poses(fields)
    both = fields["valid"].all(1)
    assert both.any()
    absolute = (fields["joints"] + fields["wrist"][..., None, :])[both]
    R, t = T[both][..., :3, :3], T[both][..., :3, 3]
    world = (absolute - t[..., None, :]) @ R
    np.testing.assert_allclose(world[:, 0], world[:, 1], atol=1e-5)
    rays = focal[both][..., None, None] * absolute[..., :2] / absolute[..., 2:]
    assert np.median(np.abs(rays - fields["uv"][both])) < 0.02


def test_a_store_is_the_same_again_and_its_gaps_are_told(folder: Path, tmp_path: Path) -> None:
    write_part(StoreRequest("renders", OPTIONS, 40, 2, Augmentation()), tmp_path, 32)
    one, other = InstantStore(folder).read([0, 5], ["coarse", "image"]), InstantStore(tmp_path)
    for name, array in other.read([0, 5], ["coarse", "image"]).items():
        np.testing.assert_array_equal(array, one[name])
    with pytest.raises(IndexError, match="8 instants"):
        other.read([8], ["image"])
    (tmp_path / "part-00001" / "image.npy").write_bytes(b"torn")
    with pytest.raises(StoreError, match="part-00001 is broken"):
        InstantStore(tmp_path)
    with pytest.raises(StoreError, match="hand-mesh data instants"):
        InstantStore(tmp_path / "none")


class _Reads:
    store_fields = ("joints", "coarse", "left")

    def __init__(self, views: str) -> None:
        self.store_views = views


@pytest.mark.parametrize("views", ["one", "all"])
def test_batches_hold_what_the_store_does(folder: Path, views: str) -> None:
    data = DataSettings(Supply(8, store=f"{folder}/"), Supply(8, store=f"{folder}/"))
    recipe = Recipe("r", "t", data, trainer=TrainerSettings(batch=3))
    made = InstantData(recipe, _Reads(views))  # type: ignore[arg-type]  # a protocol of a literal
    batches = list(made.loader("train"))
    assert len(batches) == 2  # the torn third one is left out
    shape = (3, 21, 3) if views == "one" else (3, 2, 21, 3)
    assert batches[0]["joints"].shape == shape and batches[0]["coarse"].dtype.is_floating_point
    again = list(made.loader("train"))
    later = list(made.loader("train", epoch=1))
    assert (again[0]["joints"] == batches[0]["joints"]).all()
    assert (later[0]["joints"] != batches[0]["joints"]).any()
    whole = InstantStore(folder).whole("joints").reshape(-1, 21, 3)
    rows = batches[0]["joints"].reshape(-1, 21, 3).numpy()
    assert all((whole == row).all((1, 2)).any() for row in rows)


@pytest.fixture(scope="module")
def unlabelled(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same instants without truth, as those of a film are."""
    out = Path(shutil.copytree(folder, tmp_path_factory.mktemp("film") / "store"))
    for file in out.glob("part-*/joints.npy"):
        np.save(file, np.full_like(np.load(file), np.nan))
    return out


@pytest.mark.parametrize("views", ["one", "all"])
def test_several_stores_have_their_shares_of_every_epoch(
    folder: Path, unlabelled: Path, views: str
) -> None:
    stores = Supply(12, stores={f"{folder}/": 3, f"{unlabelled}/": 1})
    recipe = Recipe("r", "t", DataSettings(stores, stores), trainer=TrainerSettings(batch=4))
    made = InstantData(recipe, _Reads(views))  # type: ignore[arg-type]  # a protocol of a literal
    orders = []
    for epoch in range(3):
        batches = list(made.loader("train", epoch))
        assert [len(b["left"]) for b in batches] == [4, 4, 4]
        joints = np.concatenate([b["joints"].numpy().reshape(4, -1) for b in batches])
        valid = np.concatenate([b["valid"].numpy().reshape(4, -1).any(1) for b in batches])
        blind = np.isnan(joints).any(1)
        assert blind.sum() == 3 and valid.all()
        orders.append(tuple(blind))
        coarse = np.concatenate([b["coarse"].numpy().reshape(4, -1) for b in batches])
        # what is told of one instant comes from one store, whole
        pairs = InstantStore(folder).read(range(8), ["joints", "coarse"])
        shape = (8, -1) if views == "all" else (16, -1)
        rows, truths = (pairs[name].reshape(shape) for name in ("coarse", "joints"))
        known = {r.astype(np.float32).tobytes(): truths[i].tobytes() for i, r in enumerate(rows)}
        for row, truth, hidden in zip(coarse, joints, blind, strict=True):
            assert hidden or known[row.tobytes()] == truth.tobytes()
    assert len(set(orders)) > 1  # mixed, and anew in every epoch


def test_truths_of_a_store_can_be_kept_from_training(folder: Path) -> None:
    """Of the same instants, with truths and without: what is seen stays."""
    name = f"{folder}/"
    told = {}
    for unlabelled in ((), (name,)):
        supply = Supply(4, store=name, unlabelled=unlabelled)
        recipe = Recipe("r", "t", DataSettings(supply, supply), trainer=TrainerSettings(batch=4))
        (told[bool(unlabelled)],) = InstantData(recipe, _Reads("all")).loader("train")  # type: ignore[arg-type]
    assert torch.equal(told[True]["coarse"], told[False]["coarse"])
    assert torch.equal(told[True]["valid"], told[False]["valid"])
    assert told[True]["joints"].isnan().all()
    assert told[False]["joints"][told[False]["valid"]].isfinite().all()
    with pytest.raises(ValueError, match="other is not one"):
        Supply(4, store=name, unlabelled=("other",))


def test_stores_that_do_not_fit_together_are_told(folder: Path, tmp_path: Path) -> None:
    narrow = Path(shutil.copytree(folder, tmp_path / "narrow"))
    for name in ("valid", "joints", "coarse"):
        file = narrow / "part-00001" / f"{name}.npy"
        np.save(file, np.load(file)[:, :1])
    supply = Supply(8, stores={f"{folder}/": 1, f"{narrow}/": 1})
    recipe = Recipe("r", "t", DataSettings(supply, supply), file="mine.yaml")
    made = InstantData(recipe, _Reads("all"))  # type: ignore[arg-type]  # a protocol of a literal
    with pytest.raises(RecipeError, match="mine.yaml: .*narrow.*equal --views"):
        made.loader("train")
    np.save(narrow / "part-00001" / "valid.npy", np.zeros((8, 1), bool))
    alone = Recipe("r", "t", DataSettings(*2 * (Supply(8, store=f"{narrow}/"),)))
    with pytest.raises(StoreError, match="no view of it can be used"):
        InstantData(alone, _Reads("one")).loader("train")  # type: ignore[arg-type]  # as above
