"""The figures of SiMA-Hand's bench, on a store of eight rendered instants."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from hand_mesh_ros.evaluation.bench_sima import four_errors, number_of_views, occlusion
from hand_mesh_ros.evaluation.sima_ablations import Row, Size, ablate, draw, table
from hand_mesh_ros.evaluation.sima_figures import (
    BINS,
    ERRORS,
    ViewErrors,
    landmark_errors,
    store_errors,
)
from hand_mesh_ros.hand.model import load_hand_model
from hand_mesh_ros.networks.assets import AssetError, landmark_network_path
from hand_mesh_ros.networks.sima import Sima, SimaHands, SimaSettings
from hand_mesh_ros.networks.sima_weights import hierarchy_cache
from hand_mesh_ros.training.instant_data import _tiny
from hand_mesh_ros.training.instants import InstantStore
from hand_mesh_ros.training.sima_module import crop_axes_of, truth_of


@pytest.fixture(scope="module")
def store() -> InstantStore:
    pytest.importorskip("warp", reason="the training renderer needs warp-lang")
    try:
        landmark_network_path("hand_landmark_full")
    except AssetError as error:
        pytest.skip(str(error))
    return InstantStore(_tiny("validation"))


class Knowing(Sima):
    """A network that answers with the truth, moved a little: errors must be of what was moved."""

    def together(self, views, mask, axes=None) -> SimaHands:  # type: ignore[no-untyped-def]
        hands = super().together(views, mask, axes)
        truth, vertices = truth_of(views, mask, self.layer)  # type: ignore[attr-defined]
        R, root = truth.rotation, truth.joints0[:, :1]
        moved = torch.tensor([0.0, 0.003, 0.004])
        return hands._replace(
            vertices=(vertices - root) @ R.mT + moved, joints=truth.joints + 0.0, rotation=R
        )


def test_errors_are_of_what_is_wrong(store: InstantStore) -> None:
    from hand_mesh_ros.networks.mano_layer import ManoLayer

    model = load_hand_model()
    network = Knowing(model, SimaSettings(multi=True), hierarchy_cache()).eval()
    network.layer = ManoLayer(model)
    found = store_errors(network, model, store)
    views = int(store.whole("valid").sum())
    assert all(found.errors[name].shape == (views,) for name in ERRORS)
    assert found.mean("mpjpe") < 1e-3 and found.mean("pa_mpjpe") < 1e-3
    assert found.mean("mpvpe") == pytest.approx(5.0, abs=0.01)
    assert found.mean("pa_mpvpe") < 0.01
    assert len(store_errors(network, model, store, views=2).shown) == 2 * len(store)
    batch = {k: torch.from_numpy(store.read([0], [k])[k]) for k in
             ("R_crop_camera", "T_camera_world", "left", "rotations")}  # fmt: skip
    world = crop_axes_of(batch).mT.float() @ batch["rotations"][:, :, 0]
    assert torch.allclose(world, world[:, :1].expand_as(world), atol=1e-3)


def test_landmarks_and_curves(store: InstantStore) -> None:
    found = landmark_errors(store)
    assert 2 < found.mean("pa_mpjpe") < found.mean("mpjpe") < 200
    torch.manual_seed(0)
    network = Sima(load_hand_model(), SimaSettings(multi=True), hierarchy_cache()).eval()
    curve = number_of_views(network, store, lambda *_: None)
    assert list(curve) == [1, 2, 3, 4] and np.isfinite(list(curve.values())).all()


def test_figures_by_visible_share() -> None:
    shown = np.array([0.2, 0.6, 0.6, 0.8, 0.95, 1.0])
    untaught = ViewErrors({name: np.full(6, 10.0) for name in ERRORS}, shown)
    taught = ViewErrors({name: np.array([6.0, 7, 9, 9, 10, 10]) for name in ERRORS}, shown)
    found = {"landmarks": untaught, "svr": untaught, "svr_taught": taught, "mvr": taught}
    assert untaught.counts().tolist() == [1, 2, 1, 2] and len(BINS) == 5
    assert four_errors(found)["svr_taught_pa_mm"] == pytest.approx(8.5)
    figures = occlusion(found)
    assert figures["shown_0_50_taught_gain_pa_mm"] == 4
    assert figures["shown_50_75_taught_gain_pa_mm"] == 2
    spread = figures["shown_50_75_taught_gain_pa_mm_standard_error"]
    assert spread == pytest.approx(1 / 2**0.5, 1e-2)
    assert figures["shown_90_100_taught_gain_mpjpe_mm"] == 0


def test_an_ablation_is_trained_once(store: InstantStore, tmp_path: Path) -> None:
    small = ("data.train.store=smoke", "data.validation.store=smoke", "trainer.batch=4")
    rows = (Row("sima_mvr", "without JFF", (*small, "model.joint=false")),)
    size = Size(instants=8, epochs=1, seeds=2)
    found = ablate(lambda *_: None, tmp_path, size, rows, store)
    (runs,) = found.values()
    assert len(runs) == 2 and runs[0] != runs[1]
    files = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/weights.safetensors")}
    assert {file.parent.name for file in files} == {"sima_mvr-0-0-8x1", "sima_mvr-0-1-8x1"}
    assert ablate(lambda *_: None, tmp_path, size, rows, store) == found
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in files.items())
    ((name, means),) = table(found)
    keys = {*ERRORS, "pa_mpjpe_occluded"}
    assert name == "sima_mvr: without JFF" and set(means) == keys | {f"{k}_std" for k in keys}
    first, second = (run["mpjpe"] for run in runs)
    assert means["mpjpe_std"] == pytest.approx(abs(first - second) / 2, abs=0.006)
    assert draw(found, tmp_path / "plot.png").stat().st_size > 1000
