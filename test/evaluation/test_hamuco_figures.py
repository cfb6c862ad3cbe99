"""HaMuCo's figures, on a store whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hand_mesh_ros.evaluation.bench_hamuco import by_occlusion, draw, summary
from hand_mesh_ros.evaluation.hamuco_figures import Errors, errors_of, pa_mm
from hand_mesh_ros.hand.model import load_hand_model
from hand_mesh_ros.networks.assets import AssetError
from hand_mesh_ros.networks.hamuco import Hamuco


def _errors() -> Errors:
    rng = np.random.default_rng(0)
    views = {n: rng.uniform(5, 20, (6, 4)) for n in ("landmarks", "world", "single", "cross")}
    views["landmarks"][0, 1] = np.nan
    triangulated = rng.uniform(5, 20, (6, 4))
    triangulated[:, 0] = np.nan
    return Errors(
        **views, multi=rng.uniform(5, 20, (6, 4)), triangulated=triangulated,
        fitted=rng.uniform(5, 20, 6), solved=rng.uniform(5, 20, 6),
        shown=np.array([1.0, 0.95, 0.5, 0.7, 1.0, 0.85]),
    )  # fmt: skip


def test_figures_are_means_of_what_is_known(tmp_path) -> None:  # type: ignore[no-untyped-def]
    errors = _errors()
    figures = summary(errors)
    assert figures["instants"] == 6 and figures["instants_occluded"] == 3
    assert figures["landmarks_pa_mm"] == pytest.approx(np.nanmean(errors.landmarks), abs=1e-3)
    hidden = [2, 3, 5]
    expected = errors.multi[hidden, 3].mean()
    assert figures["hamuco_multi_pa_mm_occluded"] == pytest.approx(expected, abs=1e-3)
    two = errors.triangulated[:, 1].mean()
    assert figures["triangulation_2_views_pa_mm"] == pytest.approx(two, abs=1e-3)
    assert sum(count for _, count, _ in by_occlusion(errors)) == 6
    draw(errors, "test", tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 5000


def test_pa_is_blind_to_size_and_turn_only() -> None:
    rng = np.random.default_rng(1)
    true = rng.normal(size=(2, 3, 21, 3))
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    turn *= np.sign(np.linalg.det(turn))
    assert pa_mm(2 * true @ turn.T + 1, true).max() < 1e-6
    assert pa_mm(true * [-1, 1, 1], true).min() > 100
    assert np.isnan(pa_mm(np.full_like(true, np.nan), true)).all()


def test_an_untrained_network_is_measured_beside_the_landmark_backend() -> None:
    from hand_mesh_ros.training.instant_data import _tiny
    from hand_mesh_ros.training.instants import InstantStore

    try:
        store = InstantStore(_tiny("validation"))
    except AssetError as error:
        pytest.skip(str(error))
    torch.manual_seed(0)
    errors = errors_of(Hamuco(load_hand_model()), store)
    valid = np.isfinite(errors.single)
    assert errors.single.shape == (len(store), store.views) and valid.any()
    assert (np.isfinite(errors.landmarks) == valid).all()
    assert np.isnan(errors.triangulated[:, 0]).all() and np.isfinite(errors.multi[:, -1]).all()
    # what it was trained for it cannot know, the landmark network has seen hands before
    assert np.nanmean(errors.landmarks) < np.nanmean(errors.single)
    assert np.nanmean(errors.fitted) < np.nanmean(errors.landmarks)
