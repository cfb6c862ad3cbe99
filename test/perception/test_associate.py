"""Association: the views of each hand end up together, whatever stands beside it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from hand_mesh_ros.geometry.triangulation import epipolar_distance
from hand_mesh_ros.perception.associate import (
    AssociateSettings,
    associate,
    believable,
    pair_costs,
    track_likelihood,
)
from hand_mesh_ros.perception.view_arrays import view_arrays
from hand_mesh_ros.types import View

SETTINGS = AssociateSettings()


def two_hands(scene: Any, rng: np.random.Generator, apart: float = 0.16) -> list[Any]:
    """A right and a left hand beside each other, in any direction."""
    across = rng.normal(0, 1, 3)
    across *= apart / 2 / np.linalg.norm(across)
    return [
        scene.hand(rng, "right", scene.centre + across),
        scene.hand(rng, "left", scene.centre - across),
    ]


def numbered(groups: Iterable[list[View]], labelled: list[tuple[View, int]]) -> list[list[int]]:
    """The number of the true hand of every view in every group, sorted."""
    number = {id(view): n for view, n in labelled}
    return sorted([number[id(view)] for view in group] for group in groups)


@pytest.mark.parametrize("cameras", [2, 3, 4])
@pytest.mark.parametrize("seed", range(8))
def test_a_left_and_a_right_hand(scene: Any, cameras: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    labelled = scene.views(two_hands(scene, rng), scene.cameras(cameras), rng)
    groups = associate([view for view, _ in labelled], SETTINGS)
    assert numbered(groups, labelled) == [[0] * cameras, [1] * cameras]
    for group in groups:
        assert [view.index for view in group] == list(range(cameras))


@pytest.mark.parametrize("seed", range(8))
def test_two_right_hands(scene: Any, seed: int) -> None:
    """Geometry alone must tell them apart."""
    rng = np.random.default_rng(50 + seed)
    hands = [scene.hand(rng, "right", scene.centre + [0, y, 0.02]) for y in (-0.1, 0.1)]
    labelled = scene.views(hands, scene.cameras(4), rng)
    groups = associate([view for view, _ in labelled], SETTINGS)
    assert numbered(groups, labelled) == [[0] * 4, [1] * 4]


@pytest.mark.parametrize("seed", range(8))
def test_missing_views(scene: Any, seed: int) -> None:
    rng = np.random.default_rng(100 + seed)
    labelled = scene.views(two_hands(scene, rng), scene.cameras(4), rng)
    gone = {(int(rng.integers(4)), 0), (int(rng.integers(4)), 1)}
    labelled = [(view, n) for view, n in labelled if (view.index, n) not in gone]
    groups = associate([view for view, _ in labelled], SETTINGS)
    assert numbered(groups, labelled) == [[0] * 3, [1] * 3]


@pytest.mark.parametrize("seed", range(8))
def test_a_ghost_stays_alone(scene: Any, seed: int) -> None:
    """Something taken for a hand in one camera, beside a hand that all see."""
    rng = np.random.default_rng(200 + seed)
    cameras = scene.cameras(3)
    labelled = scene.views([scene.hand(rng, "right")], cameras, rng)
    ghost = scene.view(scene.hand(rng, "right", scene.centre + [0, 0.2, 0.1]), 1, cameras[1], rng)
    labelled.insert(int(rng.integers(4)), (ghost, 7))
    groups = associate([view for view, _ in labelled], SETTINGS)
    assert numbered(groups, labelled) == [[0, 0, 0], [7]]


@pytest.mark.parametrize("seed", range(4))
def test_two_ghosts_are_no_hand(scene: Any, seed: int) -> None:
    """Different false hands in different cameras have nothing in common."""
    rng = np.random.default_rng(300 + seed)
    cameras = scene.cameras(2)
    places = (scene.centre + [0, 0.15, 0.12], scene.centre - [0, 0.15, 0.12])
    ghosts = [
        scene.view(scene.hand(rng, "right", place), i, cameras[i], rng)
        for i, place in enumerate(places)
    ]
    assert sorted(len(g) for g in associate(ghosts, SETTINGS)) == [1, 1]


@pytest.mark.parametrize("seed", range(8))
def test_one_view_with_the_wrong_side(scene: Any, seed: int) -> None:
    rng = np.random.default_rng(400 + seed)
    labelled = scene.views(two_hands(scene, rng), scene.cameras(4), rng)
    swapped = int(rng.integers(len(labelled)))
    view, number = labelled[swapped]
    labelled[swapped] = (replace(view, right=1 - view.right), number)
    groups = associate([view for view, _ in labelled], SETTINGS)
    assert numbered(groups, labelled) == [[0] * 4, [1] * 4]


@pytest.mark.parametrize("noise", [0.5, 3.0, 8.0])
def test_noise_that_is_known_does_not_part_a_hand(scene: Any, noise: float) -> None:
    rng = np.random.default_rng(int(noise * 10))
    labelled = scene.views([scene.hand(rng, "left")], scene.cameras(4), rng, noise)
    groups = associate([view for view, _ in labelled], SETTINGS)
    assert numbered(groups, labelled) == [[0] * 4]


def test_nothing_and_one_view(scene: Any, rng: np.random.Generator) -> None:
    assert associate([], SETTINGS) == []
    view = scene.view(scene.hand(rng, "right"), 0, scene.cameras(1)[0], rng)
    assert associate([view], SETTINGS) == [[view]]


def test_costs_are_epipolar_distances_in_sigmas(scene: Any, rng: np.random.Generator) -> None:
    cameras = scene.cameras(2)
    hand = scene.hand(rng, "right")
    a, b = (scene.view(hand, i, c, rng, noise=2.0) for i, c in enumerate(cameras))
    cost = pair_costs(view_arrays([a, b]), AssociateSettings(side_cost=0.0))
    expected = epipolar_distance(cameras[0], cameras[1], a.uv, b.uv) / 2.0
    np.testing.assert_allclose(cost[0, 1], np.minimum(expected, 8).mean(), rtol=1e-6)
    np.testing.assert_allclose(cost, cost.T)
    assert np.isinf(np.diag(cost)).all()


def test_different_sides_cost(scene: Any, rng: np.random.Generator) -> None:
    cameras = scene.cameras(2)
    hand = scene.hand(rng, "right")
    a, b = (scene.view(hand, i, c, rng) for i, c in enumerate(cameras))
    same = pair_costs(view_arrays([a, b]), SETTINGS)[0, 1]
    other = pair_costs(view_arrays([a, replace(b, right=0.0)]), SETTINGS)[0, 1]
    np.testing.assert_allclose(other - same, 0.95 - 2 * 0.95 * 0.05, atol=1e-9)


def test_what_is_believable(scene: Any, rng: np.random.Generator) -> None:
    cameras = scene.cameras(3)
    hand = scene.hand(rng, "right")
    views = [scene.view(hand, i, c, rng) for i, c in enumerate(cameras)]
    assert believable(views, SETTINGS)
    shifted = replace(views[1], uv=views[1].uv + [0, 40])
    assert not believable([views[0], shifted, views[2]], SETTINGS)
    giant = [replace(v, uv=(v.uv - v.uv.mean(0)) * 3 + v.uv.mean(0)) for v in views]
    assert not believable(giant, SETTINGS)
    lost = replace(views[1], uv=np.full((21, 2), 1e5))  # no ray of this camera goes there
    assert not believable([views[0], lost], SETTINGS)


def test_tracks_tell_apart_what_geometry_cannot(scene: Any, rng: np.random.Generator) -> None:
    """Two right hands on one epipolar plane of two cameras: each view could be either's."""
    cameras = scene.cameras(2)
    across = cameras[1].centre - cameras[0].centre
    across /= np.linalg.norm(across)
    hand = scene.hand(rng, "right")
    hands = [hand.at(scene.centre + sign * 0.06 * across) for sign in (-1, 1)]
    views = [scene.view(h, i, c, rng) for i, c in enumerate(cameras) for h in hands]
    likely = track_likelihood(np.array([[0.01, 0.1], [0.1, 0.01]] * 2), SETTINGS)
    assert (likely.sum(1) < 1).all() and likely[0, 0] > 0.6
    arrays = view_arrays(views)
    plain, told = pair_costs(arrays, SETTINGS), pair_costs(arrays, SETTINGS, likely)
    assert told[0, 3] > plain[0, 3] + 0.5 * SETTINGS.track_cost * 0.6
    assert told[0, 2] - plain[0, 2] < 0.1
    # Where both tracks lie on a view, it says nothing.
    unsure = track_likelihood(np.full((4, 2), 0.01), SETTINGS)
    other = np.isfinite(plain)
    assert np.ptp(pair_costs(arrays, SETTINGS, unsure)[other] - plain[other]) < 1e-9


@pytest.mark.parametrize("seed", range(6))
def test_a_view_that_contradicts_two_others_is_in_no_group(scene: Any, seed: int) -> None:
    rng = np.random.default_rng(500 + seed)
    labelled = scene.views([scene.hand(rng, "right")], scene.cameras(4), rng)
    bad = int(rng.integers(4))
    view, _ = labelled[bad]
    labelled[bad] = (replace(view, uv=view.uv + 30 * np.array([1, -1])), 7)
    groups = associate([view for view, _ in labelled], SETTINGS)
    assert numbered(groups, labelled) == [[0, 0, 0]]
    # With one other only, nobody knows which of the two is wrong.
    pair = [labelled[bad], labelled[(bad + 1) % 4]]
    assert sorted(map(len, associate([view for view, _ in pair], SETTINGS))) in ([1, 1], [2])
