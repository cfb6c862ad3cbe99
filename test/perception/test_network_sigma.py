"""Sigmas of a network's answers: the rule, its file, and its calibration on known errors."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hand_mesh_ros.perception.network_sigma import (
    LEVEL,
    SigmaRule,
    fit_scale_and_floor,
    load_sigma_rule,
    sigma_file,
    sigma_rule_of,
)


def test_scale_and_floor_of_known_errors_are_found(rng: np.random.Generator) -> None:
    """Errors that grow with the spread, by another law at each joint's level."""
    scale, floor = np.array([0.5, 1, 2, 3, 4]), np.array([5, 4, 3, 2, 1]) * 1e-3
    spread = rng.gamma(2.0, 2e-3, (4000, 21))
    sigma = np.hypot(floor[LEVEL], scale[LEVEL] * spread)
    error = sigma[..., None] * rng.normal(size=(4000, 21, 2))
    error[:20] = np.nan
    scales, floors, usual = fit_scale_and_floor(error, spread)
    rule = SigmaRule(uv_scale=scales, uv_floor=floors, uv_usual=usual)
    apart = rule.uv_sigma(spread) / sigma
    assert 0.9 < np.quantile(apart, 0.02) < np.quantile(apart, 0.98) < 1.1
    typical = np.sqrt(np.square(sigma).mean(0))
    without = rule.uv_sigma(None)  # as wide as most are, where nothing says how wide
    assert ((0.5 * typical < without) & (without < 1.05 * typical)).all()


def test_wrong_answers_do_not_widen_the_sigmas_of_right_ones(rng: np.random.Generator) -> None:
    spread = rng.gamma(2.0, 2e-3, (2000, 21))
    sigma = np.hypot(5e-3, 2 * spread)
    error = sigma[..., None] * rng.normal(size=(2000, 21, 2))
    error[::8] = rng.normal(0, 0.2, error[::8].shape)
    scales, floors, usual = fit_scale_and_floor(error, spread)
    rule = SigmaRule(uv_scale=scales, uv_floor=floors, uv_usual=usual)
    apart = rule.uv_sigma(spread) / sigma
    assert 0.85 < np.quantile(apart, 0.02) < np.quantile(apart, 0.98) < 1.15


def test_errors_that_do_not_follow_the_spread(rng: np.random.Generator) -> None:
    spread = rng.gamma(2.0, 2e-3, (2000, 21))
    scales, floors, _ = fit_scale_and_floor(0.01 * rng.normal(size=(2000, 21, 3)), spread)
    np.testing.assert_allclose(floors, 0.01, rtol=0.05)
    assert max(scales) * 4e-3 < 3e-3
    with pytest.raises(ValueError, match="only 9 answers"):
        fit_scale_and_floor(np.ones((9, 21, 2)), np.ones((9, 21)))


def test_the_file_lies_beside_the_weights(tmp_path: Path) -> None:
    weights = tmp_path / "some.ckpt"
    assert sigma_rule_of(weights) == SigmaRule()
    rule = replace(SigmaRule(), uv_scale=(1.0, 2.0, 3.0, 4.0, 5.0), calibration="here")
    rule.save(sigma_file(weights))
    assert sigma_rule_of(weights) == rule


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"format": "other"}, "format is not"),
        ({"uv_scale": [1, 2]}, "uv_scale is"),
        ({"joint_floor": [1, 2, 3, 4, -5]}, "joint_floor is"),
        ({"pose_sigma": "wide"}, "wide"),
        ({"uv_usual": None}, "uv_usual is"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, change: dict[str, object], complaint: str) -> None:
    path = tmp_path / "rule.json"
    SigmaRule().save(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ValueError, match=rf"rule\.json is no calibration.*{complaint}"):
        load_sigma_rule(path)
