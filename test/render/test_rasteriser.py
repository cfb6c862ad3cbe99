from __future__ import annotations

import numpy as np
import pytest

from hand_mesh_ros.render.rasteriser import rasterise, rasterise_region

WIDTH, HEIGHT, FOCAL = 72, 56, 60.0


def pinhole(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    uv = FOCAL * points[:, :2] / points[:, 2:] + [(WIDTH - 1) / 2, (HEIGHT - 1) / 2]
    return uv, points[:, 2]


def pixel_rays() -> np.ndarray:
    u, v = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    x, y = (u - (WIDTH - 1) / 2) / FOCAL, (v - (HEIGHT - 1) / 2) / FOCAL
    return np.stack([x, y, np.ones_like(x)], axis=-1)


def cast(points: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Brute force: every ray against every triangle. Depth, face and barycentric weights."""
    rays = pixel_rays().reshape(-1, 3)
    best, ids = np.full(len(rays), np.inf), np.full(len(rays), -1)
    weights = np.zeros((len(rays), 3))
    for f, (a, b, c) in enumerate(points[faces]):
        matrix = np.stack([a, b, c], axis=1)
        if abs(np.linalg.det(matrix)) < 1e-12:
            continue
        w = rays @ np.linalg.inv(matrix).T
        depth = 1 / np.maximum(w.sum(axis=1), 1e-12)
        nearer = (w >= 0).all(axis=1) & (depth < best)
        best[nearer], ids[nearer] = depth[nearer], f
        weights[nearer] = w[nearer] / w[nearer].sum(axis=1, keepdims=True)
    shape = HEIGHT, WIDTH
    return best.reshape(shape), ids.reshape(shape), weights.reshape(*shape, 3)


def test_equals_a_ray_cast_for_random_triangles(rng: np.random.Generator) -> None:
    centres = rng.uniform([-0.6, -0.5, 0.8], [0.6, 0.5, 1.6], (120, 1, 3))
    points = (centres + rng.normal(0, 0.12, (120, 3, 3))).reshape(-1, 3)
    faces = np.arange(360).reshape(-1, 3)
    depth, ids, weights = cast(points, faces)
    got = rasterise(*pinhole(points), faces, WIDTH, HEIGHT)
    same = got.face_ids == ids
    assert same.mean() > 0.999  # pixels exactly on an edge may go to either side
    covered = same & (ids >= 0)
    assert covered.sum() > 500
    np.testing.assert_allclose(got.depth[covered], depth[covered], rtol=1e-5)
    np.testing.assert_allclose(got.barycentric[covered], weights[covered], atol=1e-4)
    assert np.isinf(got.depth[got.face_ids < 0]).all()


def test_depth_of_a_slanted_plane_is_perspective_correct() -> None:
    points = np.array([[-9, -9, 0.0], [9, -9, 0], [9, 9, 0], [-9, 9, 0]])
    points[:, 2] = 6 + 0.5 * points[:, 0]
    got = rasterise(*pinhole(points), np.array([[0, 1, 2], [0, 2, 3]]), WIDTH, HEIGHT)
    assert got.mask.all()
    expected = 6 / (1 - 0.5 * pixel_rays()[..., 0])
    np.testing.assert_allclose(got.depth, expected, rtol=1e-5)


def test_sphere_depth_and_outline(sphere: tuple[np.ndarray, np.ndarray]) -> None:
    vertices, faces = sphere
    got = rasterise(*pinhole(vertices * 0.3 + [0, 0, 1.2]), faces, WIDTH, HEIGHT)
    rays = pixel_rays()
    squared = (rays**2).sum(axis=-1)
    root = (1.2 / squared) ** 2 - (1.2**2 - 0.3**2) / squared
    inside = root > 0
    assert (got.mask == inside).mean() > 0.99
    well_inside = got.mask & (root > 0.02)
    analytic = 1.2 / squared - np.sqrt(np.maximum(root, 0))
    np.testing.assert_allclose(got.depth[well_inside], analytic[well_inside], atol=2e-3)


def test_a_closed_surface_has_no_cracks_and_culling_changes_nothing(
    sphere: tuple[np.ndarray, np.ndarray],
) -> None:
    vertices, faces = sphere
    uv, depth = pinhole(vertices * 0.3 + [0.013, 0.007, 1.2])
    both = rasterise(uv, depth, faces, WIDTH, HEIGHT)
    culled = rasterise(uv, depth, faces, WIDTH, HEIGHT, cull_backfaces=True)
    assert both.mask.sum() > 400
    np.testing.assert_allclose(both.depth[culled.mask], culled.depth[culled.mask], rtol=1e-6)
    columns = [np.flatnonzero(row) for row in both.mask]
    assert all((np.diff(c) == 1).all() for c in columns)


def test_shared_vertices_on_pixel_centres_leave_no_hole() -> None:
    u, v = np.meshgrid(np.arange(5, 30, 5.0), np.arange(5, 30, 5.0))
    uv = np.stack([u.ravel(), v.ravel()], axis=1)
    quad = np.arange(20).reshape(4, 5)[:, :4].ravel()
    faces = np.concatenate([quad[:, None] + [0, 1, 6], quad[:, None] + [0, 6, 5]])
    got = rasterise(uv, np.ones(25), faces, WIDTH, HEIGHT)
    assert got.mask[5:26, 5:26].all() and got.mask.sum() == 21 * 21


def test_nearer_occluder_wins_whatever_the_order() -> None:
    square = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0.0]])
    points = np.concatenate([square + [0, 0, 3], 0.2 * square + [0, 0, 2]])
    faces = np.array([[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]])
    for order in (np.arange(4), np.arange(4)[::-1]):
        got = rasterise(*pinhole(points), faces[order], WIDTH, HEIGHT)
        assert order[got.face_ids[HEIGHT // 2, WIDTH // 2]] >= 2
        assert set(np.unique(got.depth[got.mask])) == {2.0, 3.0}


@pytest.mark.parametrize("bad", [(0, 0.0), (1, -2.0), (2, np.nan)])
def test_faces_behind_the_near_plane_or_without_pixels_are_left_out(
    bad: tuple[int, float],
) -> None:
    uv, depth = np.array([[5.0, 5], [60, 6], [30, 50]]), np.ones(3)
    depth[bad[0]] = bad[1]
    assert not rasterise(uv, depth, np.array([[0, 1, 2]]), WIDTH, HEIGHT).mask.any()
    uv[1] = np.nan
    assert not rasterise(uv, np.ones(3), np.array([[0, 1, 2]]), WIDTH, HEIGHT).mask.any()


def test_huge_and_outside_triangles(rng: np.random.Generator) -> None:
    huge = np.array([[-1e6, -1e6], [1e6, -1e6], [0, 1e6]])
    faces = np.array([[0, 1, 2]])
    assert rasterise(huge, np.ones(3), faces, WIDTH, HEIGHT).mask.all()
    outside = rasterise_region(huge / 1e5 + [500, 0], np.ones(3), faces, WIDTH, HEIGHT)
    assert outside.face_ids.size == 0
    # Many full-picture triangles need several passes of bounded memory.
    many = rng.uniform(0.5, 2, 2000)
    uv, depth = np.tile(huge, (2000, 1)), np.repeat(many, 3)
    got = rasterise(uv, depth, np.arange(6000).reshape(-1, 3), WIDTH, HEIGHT)
    assert (got.face_ids == np.argmin(many)).all()
