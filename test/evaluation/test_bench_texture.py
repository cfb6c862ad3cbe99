"""What `hand-mesh bench texture` counts, on two instants, and the files of a recording's hands."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hand_mesh_ros.evaluation.bench_texture import (
    KINDS,
    StoredView,
    stored_views,
    texture_figures,
)
from hand_mesh_ros.hand.model import load_hand_model
from hand_mesh_ros.networks.assets import AssetError, landmark_network_path
from hand_mesh_ros.networks.hand_mask import load_hand_mask
from hand_mesh_ros.training.instant_writer import StoreRequest, write_part
from hand_mesh_ros.training.instants import InstantStore


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> InstantStore:
    """Four instants of the training renderer, of two views; some with a thing in the way."""
    try:
        landmark_network_path("hand_landmark_full")
    except AssetError as error:
        pytest.skip(str(error))
    out = tmp_path_factory.mktemp("store")
    options = {"split": "validation", "size": 128}
    write_part(StoreRequest("renders", options, 4, 2, None), out, 0)
    return InstantStore(out)


@pytest.fixture(scope="module")
def views(store: InstantStore) -> list[StoredView]:
    model, network = load_hand_model(), load_hand_mask()
    return list(stored_views(store, model, network, None, lambda *_: None))


def test_vertices_lie_where_their_pictures_show_them(views: list[StoredView]) -> None:
    """Visible ones on the hand's own pixels, covered ones on others, hidden ones wherever."""
    assert len(views) >= 6
    for view in views:
        np.testing.assert_array_equal(sum(np.asarray(view.kinds[k], int) for k in KINDS), 1)
        assert view.true[view.kinds["visible"]].mean() > 0.75
        assert (view.true[view.kinds["covered"]] < 0.2).all()
        assert view.found[view.kinds["visible"]].mean() > 0.6
        both, either = view.overlap
        assert 0.6 * either < both <= either


def test_figures_are_of_the_mesh_they_are_given(
    store: InstantStore, views: list[StoredView]
) -> None:
    figures = texture_figures(store)
    assert figures["texture_views"] == len(views)
    assert figures["texture_visible_mask_same_tone"] < 0.6 * figures["texture_visible_mask"]
    assert 0 < figures["texture_coverage_68"] < 1
    without, with_it = (figures[f"texture_covered_{n}"] for n in ("no_mask", "mask"))
    assert figures["texture_gain_percent"] == pytest.approx(100 * (1 - with_it / without))
    toned = [figures[f"texture_covered_{n}_same_tone"] for n in ("mask", "no_mask")]
    assert toned[0] < toned[1]
    there = {(view.instant, k % 2): view.mesh for k, view in enumerate(views)}
    if len(there) == len(views) == 8:
        same = texture_figures(store, lambda i, v: there[i, v])
        aside = texture_figures(store, lambda i, v: there[i, v] + [0.05, 0, 0])
        name = "texture_visible_mask"
        assert same[name] == figures[name]
        assert aside["texture_visible_no_mask"] > figures["texture_visible_no_mask"]


def test_a_backends_meshes_lie_on_the_true_ones(
    store: InstantStore, tmp_path: Path
) -> None:
    """Of a left hand, which is mirrored; `store` says that there are networks."""
    from hand_mesh_ros.evaluation.texture_meshes import backend_meshes

    write_part(StoreRequest("renders-v1", {"split": "test"}, 1, 4, None), tmp_path, 0)
    one = InstantStore(tmp_path)
    assert one.whole("left").all()
    meshes = backend_meshes(one)
    true = list(stored_views(one, load_hand_model(), load_hand_mask(), None, lambda *_: None))
    for view, stored in zip(np.flatnonzero(one.whole("valid")[0]), true, strict=True):
        found = meshes(0, int(view))
        assert found is not None
        assert np.linalg.norm(found - stored.mesh, axis=1).mean() < 0.02
    kept = stored_views(
        one, load_hand_model(), load_hand_mask(), lambda i, v: None, lambda *_: None
    )
    assert not list(kept)


def test_a_recordings_hands_are_written(tmp_path: Path) -> None:
    from hand_mesh_ros.data.recordings import open_recording
    from hand_mesh_ros.evaluation.reconstruct import reconstruct
    from hand_mesh_ros.perception.build import build_pipeline
    from hand_mesh_ros.render.sheet import write_image
    from hand_mesh_ros.render.synthetic import SyntheticCell

    try:
        landmark_network_path("hand_landmark_full")
    except AssetError as error:
        pytest.skip(str(error))
    cell = SyntheticCell(1, ("right",), 0.2, 10.0, 0, 320, 240)
    source = tmp_path / "film"
    source.mkdir()
    for k in range(2):
        write_image(source / f"{k:02d}.png", cell.frame_set(k).frames[0].image)
    pipeline, models = build_pipeline()
    out = tmp_path / "out"
    recording = open_recording(source)
    report = reconstruct(recording, pipeline, models, out, False, lambda *_: None, texture=True)
    assert report["textures"] == ["texture_right_1.glb"]
    assert (out / "texture_right_1.glb").read_bytes()[:4] == b"glTF"
    notes = json.loads((out / "texture_right_1.json").read_text())
    assert (notes["side"], notes["track_id"], notes["pictures"]) == ("right", 1, 2)
    assert notes["observed_share"] == pytest.approx(np.mean(notes["observed"]), abs=1e-3)
    assert 0.05 < notes["observed_share"] < 0.7
    lines = (out / "texture_right_1.obj").read_text().splitlines()
    model = models["right"]
    places = np.array([line.split()[1:4] for line in lines if line.startswith("v ")], float)
    shape = model.shapedirs @ np.array(notes["betas"])
    assert np.abs(shape).max() > 2e-4  # a flat hand of its own shape
    np.testing.assert_allclose(places, model.v_template + shape, atol=2e-5)
    assert sum(line.startswith("f ") for line in lines) == len(model.faces)
