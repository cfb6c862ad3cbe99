from __future__ import annotations

import numpy as np
import pytest

from hand_mesh_ros.geometry.cameras import project
from hand_mesh_ros.geometry.meshes import vertex_normals
from hand_mesh_ros.render.shading import (
    Lamp,
    Surface,
    composite,
    draw,
    illuminate,
    join,
    reach,
    sky,
    to_linear,
    to_srgb,
)
from hand_mesh_ros.types import Camera

Mesh = tuple[np.ndarray, np.ndarray]


def ball(mesh: Mesh, centre: tuple[float, float, float], radius: float, grey: float) -> Surface:
    n = len(mesh[0])
    vertices = mesh[0] * radius + centre
    return Surface(vertices, mesh[1], np.full((n, 3), grey), np.zeros(n))


def test_normals_of_a_sphere_point_outwards(sphere: Mesh) -> None:
    normals = vertex_normals(*sphere)
    assert (normals * sphere[0]).sum(axis=1).min() > 0.999


def test_srgb_round_trip_below_the_roll_off() -> None:
    values = np.linspace(0, 0.85, 50)
    np.testing.assert_allclose(to_srgb(to_linear(values)), values, atol=1e-12)
    assert (np.diff(to_srgb(np.linspace(0, 5, 200))) >= 0).all() and to_srgb(np.array(50.0)) <= 1


def test_light_falls_on_the_side_of_the_lamp(sphere: Mesh) -> None:
    surface = ball(sphere, (0, 0, 0), 0.05, 0.5)
    lamp = Lamp(np.array([1.0, 0, 0]), np.ones(3))
    light = illuminate(surface, vertex_normals(*sphere), [lamp])
    x = sphere[0][:, 0]
    assert light[x > 0.9].min() > 0.4 and light[x < -0.5].max() == 0


def test_an_occluder_casts_its_shadow_and_only_there(sphere: Mesh) -> None:
    """A ball between the lamp and a larger one: shade within its outline, light outside."""
    big, small = ball(sphere, (0, 0, 0), 0.1, 0.5), ball(sphere, (0, 0, 0.3), 0.03, 0.5)
    lit = reach(join([big, small]), np.array([0.0, 0, 1]))[: len(sphere[0])]
    top = big.vertices[:, 2] > 0
    off_axis = np.linalg.norm(big.vertices[:, :2], axis=1)
    assert lit[top & (off_axis < 0.02)].max() == 0
    assert lit[top & (off_axis > 0.045)].min() == 1


def test_an_even_sky_lights_a_ball_evenly(sphere: Mesh) -> None:
    surface = ball(sphere, (0, 0, 0), 0.05, 1.0)
    grey = np.full(3, 0.5)
    light = illuminate(surface, vertex_normals(*sphere), sky(grey, grey, count=60))
    assert (light.std(axis=0) < 0.03 * light.mean(axis=0)).all()
    # The cosine integral gives 0.5 exactly; light that bleeds around the edge adds to it.
    assert 0.5 < light.min() and light.max() < 0.75


@pytest.mark.parametrize("supersample", [1, 2, 3])
def test_drawn_coverage_equals_the_projected_area(
    supersample: int, sphere: Mesh, camera: Camera
) -> None:
    surface = ball(sphere, (0.02, 0.03, 0.01), 0.05, 0.5)
    layer = draw(camera, surface, surface.albedo, supersample=supersample)
    assert layer is not None
    uv = project(camera, surface.vertices)
    middle, radius = (uv.min(axis=0) + uv.max(axis=0)) / 2, np.ptp(uv, axis=0) / 2
    assert layer.alpha.sum() == pytest.approx(np.pi * radius.prod(), rel=0.01)
    rows, columns = (np.arange(w.start, w.stop) for w in layer.window)
    total = layer.alpha.sum()
    centroid = (layer.alpha.sum(axis=0) @ columns, layer.alpha.sum(axis=1) @ rows)
    np.testing.assert_allclose(np.array(centroid) / total, middle, atol=0.15)


def test_composite_keeps_the_background_where_nothing_is(sphere: Mesh, camera: Camera) -> None:
    surface = ball(sphere, (0, 0, 0), 0.03, 1.0)
    image = np.full((480, 640, 3), 40, dtype=np.uint8)
    layer = draw(camera, surface, surface.albedo)
    assert layer is not None
    composite(image, layer)
    u, v = np.rint(project(camera, np.zeros(3))).astype(int)
    assert image[v, u].min() > 200
    assert (image == 40).all(axis=2).sum() == image[..., 0].size - (layer.alpha > 0).sum()
    assert draw(camera, ball(sphere, (2, 0, 0), 0.03, 1.0), surface.albedo) is None
