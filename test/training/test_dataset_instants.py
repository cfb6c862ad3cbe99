"""Data sets with several cameras as instants, into a store, with labels from its own views."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from hand_mesh_ros.networks.assets import AssetError, landmark_network_path
from hand_mesh_ros.training.instant_sources import open_instants
from hand_mesh_ros.training.instant_writer import StoreRequest, write_part
from hand_mesh_ros.training.instants import LABEL_FIELDS, InstantStore, StoreError
from hand_mesh_ros.training.pseudo_labels import ensure_labels

# The writers of small data sets stand beside the readers' tests.
sys.path.append(str(Path(__file__).resolve().parents[1] / "data" / "datasets"))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from layout_writers import hanco

    folder = tmp_path_factory.mktemp("hanco")
    hanco.write(folder)
    return folder


def _options(root: Path, **more: object) -> dict[str, object]:
    return {"name": "hanco", "root": str(root), "split": "all", **more}


def test_an_instant_is_one_moment_in_some_of_its_cameras(root: Path) -> None:
    instants = open_instants("dataset", 3, _options(root))
    groups = [instants(number) for number in range(3)]
    assert [len({s.view for s in group}) for group in groups] == [3, 3, 3]
    assert all(len({s.group for s in group}) == 1 for group in groups)
    assert len({group[0].group for group in groups}) == 3
    again = open_instants("dataset", 3, _options(root))(1)
    assert [s.name for s in again] == [s.name for s in groups[1]]
    with pytest.raises(IndexError, match="3 instants, not 4"):
        instants(3)


def test_what_cannot_be_read_is_left_out_by_choice(root: Path, tmp_path: Path) -> None:
    import shutil

    from hand_mesh_ros.data.datasets import BadSample

    copy = Path(shutil.copytree(root, tmp_path / "copy"))
    for image in copy.glob("rgb/*/cam[0-5]/*.jpg"):
        image.unlink()
    kept = open_instants("dataset", 4, _options(copy, on_error="skip"))
    assert {s.view for s in kept(0)} == {6, 7}
    with pytest.raises(BadSample):
        open_instants("dataset", 4, _options(copy))(0)


def test_a_data_set_of_single_views_is_refused(tmp_path: Path) -> None:
    from layout_writers import freihand

    freihand.write(tmp_path, 2)
    options = {"name": "freihand", "root": str(tmp_path), "split": "training"}
    with pytest.raises(ValueError, match="no instants of several cameras"):
        open_instants("dataset", 4, options)


def test_a_store_of_it_gets_labels_from_its_own_views(root: Path, tmp_path: Path) -> None:
    """The drawn hands are no hands to the network, but labels are there, or are said not to be."""
    try:
        landmark_network_path("hand_landmark_full")
    except AssetError as error:
        pytest.skip(str(error))
    write_part(StoreRequest("dataset", _options(root), 2, 4, None), tmp_path, 0)
    fields = ("valid", "joints", *LABEL_FIELDS)
    with pytest.raises(StoreError, match="no instants"):
        InstantStore(tmp_path, fields)
    assert ensure_labels(tmp_path) == 1 and ensure_labels(tmp_path) == 0
    read = InstantStore(tmp_path, fields).read([0, 1], fields)
    assert read["valid"].any() and np.isfinite(read["joints"][read["valid"]]).all()
    sigma = read["label_sigma"]
    known = np.isfinite(sigma)
    assert (sigma[known] > 0).all()
    assert (np.isfinite(read["label_uv"]).all(-1) == known).all()
    assert not known[~read["valid"]].any()
