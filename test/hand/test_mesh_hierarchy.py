"""Levels of a hand's mesh: topology, up-sampling, spirals, and the file they are kept in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hand_mesh_ros.hand.carry import carrying
from hand_mesh_ros.hand.decimate import collapsed
from hand_mesh_ros.hand.kinematics import forward
from hand_mesh_ros.hand.mesh_hierarchy import MeshHierarchy, MeshLevel, mesh_hierarchy
from hand_mesh_ros.hand.model import load_hand_model

MANO_FACES = (1538, 761, 374, 183, 86)


def edges_of(faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Edges (E, 2) and how many faces each has."""
    every = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    return np.unique(np.sort(every, axis=1), axis=0, return_counts=True)


def mano_sized() -> tuple[np.ndarray, np.ndarray]:
    """A hand of 778 vertices and 1538 faces, as MANO's: open at the wrist, with a rim of 16.

    The free hand, reduced, without some vertices at the wrist that leave such a hole.
    """
    model = load_hand_model()
    counts = range(795, 778, -1)
    for count, (kept, faces) in zip(
        counts, collapsed(model.v_template, model.faces, list(counts)), strict=True
    ):
        vertices = model.v_template[kept]
        for centre in np.argsort(-vertices[:, 0])[:40]:
            order = np.argsort(((vertices - vertices[centre]) ** 2).sum(1))
            left = faces[~np.isin(faces, order[: count - 778]).any(1)]
            used, flat = np.unique(left, return_inverse=True)
            if len(used) == 778 and len(left) == MANO_FACES[0]:
                return vertices[used], flat.reshape(left.shape)
    raise AssertionError("no such hole")


@pytest.fixture(scope="module")
def open_hand() -> tuple[np.ndarray, np.ndarray]:
    return mano_sized()


@pytest.fixture(scope="module")
def levels(open_hand: tuple[np.ndarray, np.ndarray]) -> MeshHierarchy:
    return mesh_hierarchy(*open_hand)


def test_a_mesh_of_manos_size_has_manos_levels(levels: MeshHierarchy) -> None:
    assert levels.sizes == (778, 389, 195, 98, 49)
    for level, published in zip(levels.levels, MANO_FACES, strict=True):
        # of an open surface: twice the vertices, less two and the rim, which may shrink
        assert abs(len(level.faces) - published) <= 6


def test_every_level_is_a_surface_of_the_same_topology(levels: MeshHierarchy) -> None:
    for level in levels.levels:
        edges, of = edges_of(level.faces)
        assert set(np.unique(level.faces)) == set(range(len(level)))
        assert set(of) == {1, 2}
        assert len(level) - len(edges) + len(level.faces) == 1
        rim = edges[of == 1]
        assert (np.bincount(rim.ravel())[np.unique(rim)] == 2).all()


def test_levels_are_vertices_of_the_mesh_itself(levels: MeshHierarchy) -> None:
    for finer, coarser in zip(levels.levels, levels.levels[1:], strict=False):
        assert np.isin(coarser.vertices, finer.vertices).all()
        assert (np.diff(coarser.vertices) > 0).all()


def up(level: MeshLevel, values: np.ndarray) -> np.ndarray:
    return np.asarray((values[level.up_vertices] * level.up_weights[..., None]).sum(1))


def test_up_sampling_keeps_what_is_there_and_linear_fields_nearly(
    open_hand: tuple[np.ndarray, np.ndarray], levels: MeshHierarchy
) -> None:
    vertices, _ = open_hand
    slope, offset = np.array([[3.0, -1, 2], [0.5, 4, 1]]), np.array([1.0, -2])
    for finer, coarser in zip(levels.levels, levels.levels[1:], strict=False):
        assert np.abs(coarser.up_weights.sum(1) - 1).max() < 1e-9
        assert coarser.up_weights.min() >= -1e-12
        field = vertices @ slope.T + offset
        made, wanted = up(coarser, field[coarser.vertices]), field[finer.vertices]
        shared = np.isin(finer.vertices, coarser.vertices)
        assert np.abs(made - wanted)[shared].max() < 1e-9
        assert np.abs(made - wanted).mean() < 0.02 * np.ptp(field, axis=0).mean()


def test_spirals_go_round_outwards(
    open_hand: tuple[np.ndarray, np.ndarray], levels: MeshHierarchy
) -> None:
    level = levels.levels[0]
    edges, _ = edges_of(level.faces)
    near = {tuple(e) for e in edges.tolist()} | {tuple(e[::-1]) for e in edges.tolist()}
    assert (level.spirals[:, 0] == np.arange(len(level))).all()
    for spiral in level.spirals.tolist():
        assert len(set(spiral)) == 9
        ring = sum((spiral[0], v) in near for v in spiral[1:])
        degree = sum((spiral[0], v) in near for v in range(len(level)))
        assert ring == min(degree, 8)
        assert all((spiral[0], v) in near for v in spiral[1 : 1 + ring])


def test_a_hierarchy_is_kept_and_a_torn_file_is_made_again(tmp_path: Path) -> None:
    number = np.arange(36).reshape(6, 6)
    a, b, c, d = (v.ravel() for v in (number[:-1, :-1], number[1:, :-1], number[:-1, 1:],
                                      number[1:, 1:]))  # fmt: skip
    faces = np.concatenate([np.stack([a, b, c], 1), np.stack([c, b, d], 1)])
    corners = np.stack([number.ravel() % 6, number.ravel() // 6, np.zeros(36)], 1)
    first = mesh_hierarchy(corners, faces, 2, 4, cache=tmp_path)
    assert first.sizes == (36, 18)
    (file,) = tmp_path.glob("*.npz")
    stamp = file.stat().st_mtime_ns
    again = mesh_hierarchy(corners, faces, 2, 4, cache=tmp_path)
    assert file.stat().st_mtime_ns == stamp
    for a, b in zip(first.levels, again.levels, strict=True):
        for name, value in vars(a).items():
            assert (value == getattr(b, name)).all()
    file.write_bytes(file.read_bytes()[:200])
    assert mesh_hierarchy(corners, faces, 2, 4, cache=tmp_path).sizes == first.sizes
    mesh_hierarchy(corners * 2, faces, 2, 4, cache=tmp_path)
    assert len(list(tmp_path.glob("*.npz"))) == 2


def test_what_cannot_be_reduced_says_so() -> None:
    faces = np.array([[0, 1, 2], [0, 2, 3], [0, 3, 1], [1, 3, 2]])
    corners = np.array([[0.0, 0, 1], [1, 0, 0], [-0.5, 0.8, 0], [-0.5, -0.8, 0]])
    with pytest.raises(ValueError, match="reduced to 2 vertices: 4 are left"):
        mesh_hierarchy(corners, faces, 2)


def test_displacements_of_few_vertices_carry_all(rng: np.random.Generator) -> None:
    model = load_hand_model()
    kept = np.arange(0, model.num_vertices, 6)
    near, weights = carrying(model, kept, 10)
    zeros = np.zeros((20, 3))
    pose, betas = rng.normal(0, 0.4, (20, 45)), rng.normal(0, 1, (20, 10))
    posed = forward(model, zeros, pose, betas, zeros).vertices
    assert posed is not None
    moved = posed - model.v_template
    carried = (moved[:, kept][:, near] * weights[..., None]).sum(2)
    error = np.linalg.norm(carried - moved, axis=-1)
    assert error[:, kept].max() < 1e-12
    assert error.mean() < 0.06 * np.linalg.norm(moved, axis=-1).mean()
