"""Matching hands of several cameras, by sides and by geometry."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from hand_mesh_ros.perception.cell_views import by_geometry, by_side, matched, views_of


def _sides(views: Any) -> np.ndarray:
    return views.right > 0


def test_sides_match_hands_without_geometry(
    scene: Any, stage: Any, rng: np.random.Generator
) -> None:
    cameras = stage.ring(3)
    views = stage.cell_views(stage.wander(scene, cameras, 20, rng), cameras)
    labels = by_side(views)
    assert np.array_equal(labels, 2 * views.instant + _sides(views))
    hands = matched(views, labels, 3)
    assert len(hands.instant) == len(np.unique(labels)) and hands.seen.sum() == len(views)


def test_a_side_that_is_not_sure_is_not_matched(
    scene: Any, stage: Any, rng: np.random.Generator
) -> None:
    cameras = stage.ring(2)
    instants = [
        (stamp, [replace(v, right=0.55) if v.index == 1 else v for v in views])
        for stamp, views in stage.wander(scene, cameras, 10, rng)
    ]
    views = stage.cell_views(instants, cameras)
    labels = by_side(views)
    assert (labels[views.camera == 1] == -1).all() and (labels[views.camera == 0] >= 0).all()
    assert len(matched(views, labels, 2).instant) == 0


def test_geometry_matches_hands_whose_sides_are_wrong(
    scene: Any, stage: Any, rng: np.random.Generator
) -> None:
    cameras = stage.ring(4)
    instants = stage.wander(scene, cameras, 15, rng, reach=0.03)
    truth = _sides(stage.cell_views(instants, cameras))
    wrong = [
        (stamp, [replace(v, right=1 - v.right) if rng.random() < 0.15 else v for v in views])
        for stamp, views in instants
    ]
    views = stage.cell_views(wrong, cameras)
    labels = by_geometry(views, cameras, 0.02)
    for label in np.unique(labels):
        own = labels == label
        assert len(set(truth[own])) == 1 and len(set(views.camera[own])) == own.sum()
        assert len(set(views.instant[own])) == 1
    assert matched(views, labels, 4).seen.sum() > 0.9 * len(views)


def test_views_of_a_pipeline_are_flattened(
    scene: Any, stage: Any, rng: np.random.Generator
) -> None:
    cameras = stage.ring(3)
    ((stamp, views),) = stage.wander(scene, cameras, 1, rng)
    hands = stage.hand_set(stamp, views[1:], cameras)
    hands = replace(hands, unmatched=(views[0],))
    ((found_stamp, found),) = views_of([hands])
    assert found_stamp == stamp and {id(v) for v in found} == {id(v) for v in views}


def test_some_instants(scene: Any, stage: Any, rng: np.random.Generator) -> None:
    cameras = stage.ring(2)
    views = stage.cell_views(stage.wander(scene, cameras, 10, rng), cameras)
    some = views.at(np.array([3, 7]))
    assert len(some.stamps_ns) == 2 and set(some.instant) == {0, 1}
    assert np.array_equal(some.uv[some.instant == 1], views.uv[views.instant == 7])
