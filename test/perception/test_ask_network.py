"""What a network tells of its errors, brought to where the solver can use it."""

from __future__ import annotations

import numpy as np

from hand_mesh_ros.perception.ask_network import about_common


def _drawn(covariance: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return rng.multivariate_normal(np.zeros(63), covariance, 20000).reshape(-1, 21, 3)


def test_covariances_about_the_common_place_are_those_of_drawn_hands() -> None:
    rng = np.random.default_rng(0)
    factor = rng.normal(0, 0.004, (63, 63))
    covariance = factor @ factor.T
    hands = _drawn(covariance, rng)
    away = hands - hands.mean(1, keepdims=True)
    found = np.einsum("npi,npj->pij", away, away) / len(away)
    told = about_common(covariance.reshape(21, 3, 21, 3))
    np.testing.assert_allclose(told, found, atol=0.05 * np.abs(found).max())


def test_what_all_points_share_is_not_counted() -> None:
    """A hand that is all of it a centimetre off somewhere is of no uncertain form."""
    shared = np.tile(1e-4 * np.eye(3), (21, 21)).reshape(21, 3, 21, 3)
    own = np.eye(63).reshape(21, 3, 21, 3) * 1e-6
    told = about_common(shared + own)
    np.testing.assert_allclose(told, np.tile(1e-6 * 20 / 21 * np.eye(3), (21, 1, 1)), atol=1e-12)
