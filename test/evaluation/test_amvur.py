"""What AMVUR's sigmas are worth: temperatures, fusion, and a file that carries them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy.stats import chi2

from hand_mesh_ros.evaluation.amvur_answers import Answers, common_mode, fusion
from hand_mesh_ros.evaluation.amvur_stores import opened
from hand_mesh_ros.evaluation.bench_amvur import of_views, sigmas
from hand_mesh_ros.evaluation.metrics.uncertainty import nees
from hand_mesh_ros.geometry.rotations import exp_so3
from hand_mesh_ros.hand.model import load_hand_model
from hand_mesh_ros.networks.amvur import AmvurNetwork, AmvurSettings
from hand_mesh_ros.networks.amvur_calibration import (
    Calibration,
    temperature,
    temperatures,
)
from hand_mesh_ros.networks.assets import AssetError
from hand_mesh_ros.perception.amvur_network import open_amvur, own_rule
from hand_mesh_ros.perception.fuse_robust import fuse_robust


def random_answers(
    rng: np.random.Generator, instants: int, views: int, common: float = 0.0
) -> Answers:
    """Views whose errors are just what their covariances say: cigars along the rays."""
    count = instants * views
    axes = exp_so3(rng.normal(size=(count, 3)))
    sigma = np.where(rng.uniform(size=(count, 21, 1)) < 0.3, 4.0, 1.0) * [0.004, 0.004, 0.015]
    instant = np.repeat(np.arange(instants), views)
    world = 0.05 * rng.normal(size=(instants, 21, 3))
    world[:, 0] = 0
    shared = common * rng.normal(size=(instants, 21, 3))
    true = world[instant] @ np.swapaxes(axes, -1, -2)
    told = (world + shared)[instant] @ np.swapaxes(axes, -1, -2)
    joints = told + sigma * rng.normal(size=sigma.shape)
    joints[:, 0] = 0
    blank = np.zeros((count, 21))
    return Answers(
        joints=joints, prior=joints, true=true, covariance=sigma[..., None] ** 2 * np.eye(3),
        uv=np.zeros((count, 21, 2)), true_uv=np.zeros((count, 21, 2)), uv_sigma=blank + 1,
        visible=blank + 1, visibility=(sigma[..., 0] < 0.01).astype(float), presence=blank[:, 0],
        shown=rng.uniform(0.5, 1, count), axes=axes, instant=instant,
    )  # fmt: skip


def test_calibration_recovers_a_known_temperature(rng: np.random.Generator) -> None:
    truth = np.array([[1.0, 2.0, 0.5, 1.5, 3.0], [1.0, 1.2, 0.8, 0.9, 1.1]])
    seen = rng.uniform(size=(6000, 21)) < 0.6
    level = np.array([0] + 5 * [1, 2, 3, 4])
    factor = truth[seen.astype(int), level]
    squared = factor**2 * chi2.rvs(3, size=seen.shape, random_state=rng)
    squared[:, 0] = np.nan
    np.testing.assert_allclose(temperatures(squared, seen, 3), truth, rtol=0.03)
    assert temperature(2.25 * chi2.ppf(np.linspace(0.001, 0.999, 999), 2), 2) == pytest.approx(
        1.5, rel=0.01
    )


def test_groups_of_a_few_have_their_levels_factor(rng: np.random.Generator) -> None:
    seen = np.ones((400, 21), dtype=bool)
    squared = 4 * chi2.rvs(3, size=seen.shape, random_state=rng)
    found = temperatures(squared, seen, 3)
    np.testing.assert_allclose(found[0], found[1])
    np.testing.assert_allclose(temperatures(squared[:1], seen[:1], 3), 1)


def test_calibration_scales_sigmas_and_has_a_name() -> None:
    calibration = Calibration()
    assert calibration.id == "none"
    calibration.joints[1] = 2.0
    calibration.places[0] = 3.0
    assert calibration.id.startswith("amvur-")
    covariance = torch.eye(3).expand(1, 20, 3, 3)
    visible = torch.full((1, 21), -1.0)
    visible[0, 8] = 1.0
    known = calibration(covariance, torch.zeros(1, 21), visible)
    assert known.covariance.shape == (1, 21, 3, 3)
    torch.testing.assert_close(known.covariance[0, 8], 4 * torch.eye(3))
    torch.testing.assert_close(known.covariance[0, 7], torch.eye(3))
    assert known.uv_sigma[0, 7] == 3 and known.uv_sigma[0, 8] == 1


def test_fusion_by_covariance_beats_the_mean_and_is_honest(rng: np.random.Generator) -> None:
    """Reference section 16.3: full precision, the mean and one view, with its noise."""
    answers = random_answers(rng, 400, 3)
    found = fusion(answers, 0.0)
    assert found.fused.mean() < 0.5 * found.mean.mean() < 0.5 * found.single.mean()
    # a t's weights cost a little where errors are Gaussian after all
    assert 0.9 < found.nees.mean() / 3 < 1.2
    figures = of_views(answers, 0.0)
    assert figures["fusion_gain_percent"] > 50


def test_common_mode_is_what_fusion_cannot_average_away(rng: np.random.Generator) -> None:
    answers = random_answers(rng, 300, 3, common=0.005)
    assert fusion(answers, 0.0).nees.mean() / 3 > 2
    common = common_mode(answers)
    assert common == pytest.approx(0.005, rel=0.25)
    assert fusion(answers, common).nees.mean() / 3 == pytest.approx(1, abs=0.05)


def test_a_view_that_errs_badly_counts_less(rng: np.random.Generator) -> None:
    covariance = np.tile(1e-4 * np.eye(3), (4, 1, 1, 1))
    points = 0.01 * rng.normal(size=(4, 1, 3))
    plain, _ = fuse_robust(points, covariance, freedom=1e9)
    np.testing.assert_allclose(plain, points.mean(0))
    points[0] += 1.0
    robust, spread = fuse_robust(points, covariance)
    assert np.linalg.norm(robust - points[1:].mean(0)) < 0.01
    assert np.linalg.norm(points.mean(0) - points[1:].mean(0)) > 0.2
    assert np.trace(spread[0]) > 3e-4 / 4  # and the answer is less sure for it


def test_sigmas_of_true_covariances_are_right(rng: np.random.Generator) -> None:
    figures = sigmas(random_answers(rng, 500, 1))
    assert figures["coverage_68"] == pytest.approx(68, abs=1.5)
    assert figures["coverage_95"] == pytest.approx(95, abs=1)
    assert figures["nees"] == pytest.approx(1, abs=0.03)
    assert figures["spearman"] > 0.5


def test_answers_are_put_together_and_taken_apart(rng: np.random.Generator) -> None:
    first, second = random_answers(rng, 3, 2), random_answers(rng, 2, 2)
    both = first.and_(second)
    assert len(both) == 10 and both.instant.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    again = both.of(both.instant > 2)
    np.testing.assert_array_equal(again.joints, second.joints)
    squared = nees(both.errors, both.covariance[:, 1:])
    assert squared.shape == (10, 20)


def test_a_file_carries_settings_and_calibration(tmp_path: Path) -> None:
    model = load_hand_model()
    made = AmvurNetwork(model, AmvurSettings(vertices=16, prior_hidden=32, covariance="mixing"))
    made.calibration.joints.fill_(1.25)
    path = tmp_path / "weights.safetensors"
    notes = {name: json.dumps(value) for name, value in made.notes.items()}
    save_file(dict(made.weights()), path, metadata=notes)
    again = open_amvur(path, model)
    assert again.settings == made.settings and again.calibration.id == made.calibration.id
    rule = own_rule(again.calibration.id)
    own = np.tile(np.diag([1e-4, 1e-4, 9e-4]), (21, 1, 1))
    np.testing.assert_allclose(rule.joint_covariance(own), own)
    assert rule.calibration == again.calibration.id


@pytest.mark.parametrize(
    ("notes", "problem"),
    [
        ({}, "metadata do not say"),
        ({"amvur": '{"vertices": 16, "wings": 2}'}, "another version"),
        ({"amvur": '{"vertices": 17}'}, "not of this AMVUR"),
    ],
)
def test_other_files_are_refused_by_name(
    tmp_path: Path, notes: dict[str, str], problem: str
) -> None:
    made = AmvurNetwork(load_hand_model(), AmvurSettings(vertices=16))
    path = tmp_path / "weights.safetensors"
    save_file(dict(made.weights()), path, metadata=notes or {"x": "1"})
    with pytest.raises(AssetError, match=problem) as raised:
        open_amvur(path, load_hand_model())
    assert str(path) in str(raised.value)


def test_an_unknown_store_is_refused() -> None:
    with pytest.raises(ValueError, match="test-fog"):
        opened("test-fog", lambda *_: None)
