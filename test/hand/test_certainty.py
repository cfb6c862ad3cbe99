"""What a robot decides by: a radius that holds its share, and how much of a finger is seen."""

from __future__ import annotations

import numpy as np
import pytest

from hand_mesh_ros.hand.certainty import finger_visibility, safety_radius


def test_radius_holds_its_share(rng: np.random.Generator) -> None:
    root = 0.01 * rng.normal(size=(3, 3))
    covariance = root @ root.T
    radius = float(safety_radius(covariance))
    assert radius == pytest.approx(np.sqrt(7.815 * np.linalg.eigvalsh(covariance)[-1]), rel=1e-4)
    drawn = rng.normal(size=(20_000, 3)) @ root.T
    assert (np.linalg.norm(drawn, axis=1) < radius).mean() >= 0.95
    even = 0.01 * rng.normal(size=(20_000, 3))
    held = np.linalg.norm(even, axis=1) < safety_radius(1e-4 * np.eye(3))
    assert 0.945 < held.mean() < 0.955


def test_radius_is_unknown_where_the_covariance_is() -> None:
    covariance = np.tile(1e-4 * np.eye(3), (21, 1, 1))
    covariance[4, 0, 2] = np.nan
    radius = safety_radius(covariance)
    assert np.flatnonzero(np.isnan(radius)).tolist() == [4]
    np.testing.assert_allclose(np.delete(radius, 4), 0.01 * np.sqrt(7.815), rtol=1e-4)


def test_a_fingers_visibility_is_its_joints() -> None:
    visible = np.zeros((2, 21))
    visible[0, 5:9] = 1
    visible[1, 0] = visible[1, 17] = 1
    visible[1, 16] = np.nan
    wanted = [[0, 1, 0, 0, 0], [0, 0, 0, np.nan, 0.25]]
    np.testing.assert_allclose(finger_visibility(visible), wanted)
