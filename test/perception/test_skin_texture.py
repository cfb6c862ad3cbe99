"""Skin and light told apart: known hands in known light, things before them, several pictures."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest

from hand_mesh_ros.geometry.cameras import look_at, project
from hand_mesh_ros.geometry.meshes import vertex_normals
from hand_mesh_ros.geometry.rotations import transform_points
from hand_mesh_ros.hand.model import HandModel, load_hand_model
from hand_mesh_ros.perception.hand_texture import most_telling
from hand_mesh_ros.perception.skin_colours import SkinColours, bilinear, sample_skin
from hand_mesh_ros.perception.skin_prior import albedo_prior
from hand_mesh_ros.perception.skin_texture import harmonics, skin_texture
from hand_mesh_ros.render.shading import Surface, composite, draw
from hand_mesh_ros.render.skin import base_albedo, random_person
from hand_mesh_ros.types import Camera, ImageArray

SIZE = 224
# logarithms: brightness of red, green and blue, then of the harmonics; light from above
LIGHT = np.array([0.12, 0.15, 0.05, 0.15, -0.3, -0.15, 0, 0.1, 0.05, 0, 0.1])
BLUE = np.array([0.02, 0.05, 0.6])


@dataclass(frozen=True, eq=False)
class Shot:
    """A picture of the flat hand: `radiance` (V, 3) is what its vertices send, `cover` (H, W)

    where a thing is before it, `seen` (V,) which are not behind the hand or turned away.
    """

    image: ImageArray
    uv: np.ndarray
    points: np.ndarray
    radiance: np.ndarray
    cover: np.ndarray

    def colours(self, masked: bool = True) -> SkinColours:
        skin = bilinear(1.0 - self.cover, self.uv) if masked else None
        return sample_skin(self.image, self.uv, self.points, model().faces, skin)

    @property
    def covered(self) -> np.ndarray:
        """Vertices that would be seen, but for the thing."""
        return (self.colours(False).weight > 0.2) & (bilinear(self.cover, self.uv) > 0.8)


@cache
def model() -> HandModel:
    return load_hand_model()


@cache
def true_albedo() -> np.ndarray:
    look = replace(random_person(3).skin, melanin=1.5, tint=np.array([1.0, 0.97, 0.95]))
    return look.albedo(model())


def shot(height: float = 0.45, aside: float = 0.1, covered: bool = False) -> Shot:
    """From `height` m above the back of the hand; negative: of the palm."""
    vertices, middle = model().v_template, model().v_template.mean(0)
    T = look_at(middle + [0.0, height, aside], middle, np.array([1.0, 0, 0]))
    K = np.array([[430.0, 0, 111.5], [0, 430, 111.5], [0, 0, 1]])
    camera = Camera("", SIZE, SIZE, K, T_camera_world=T)
    normals = vertex_normals(vertices, model().faces) @ T[:3, :3].T
    light = np.exp(LIGHT[:3] + harmonics(normals) @ LIGHT[3:, None])
    radiance = true_albedo() * light
    image = np.full((SIZE, SIZE, 3), 60, np.uint8)
    surface = Surface(vertices, model().faces, true_albedo(), np.zeros(len(vertices)))
    composite(image, draw(camera, surface, radiance, supersample=3))
    cover = np.zeros((SIZE, SIZE))
    if covered:
        cover[90:150] = 1
        image[90:150] = np.rint(255 * BLUE ** (1 / 2.2))
    return Shot(image, project(camera, vertices), transform_points(T, vertices), radiance, cover)


def off(albedo: np.ndarray) -> np.ndarray:
    return np.abs(albedo - true_albedo()).mean(1)


def test_albedo_and_light_of_a_known_hand_are_found() -> None:
    seen = shot()
    texture = skin_texture(model(), [seen.colours()])
    where = texture.observed
    before = off(base_albedo(model()))[where].mean()
    assert 0.2 < where.mean() < 0.6
    assert off(texture.albedo)[where].mean() < 0.35 * before
    log = np.log(texture.albedo / true_albedo())[where]
    assert np.abs(log - log.mean()).mean() < 0.06  # but for the common tone, it is all there
    normals = vertex_normals(seen.points, model().faces)
    again = np.log(texture.lit(0, normals) / seen.radiance)[where]
    assert np.abs(again).mean() < 0.05


def test_what_covers_the_hand_does_not_leak_with_the_mask_and_does_without() -> None:
    free, hidden = shot(), shot(covered=True)
    assert hidden.covered.sum() > 100
    masked = skin_texture(model(), [hidden.colours()])
    bare = skin_texture(model(), [hidden.colours(masked=False)])
    best = off(skin_texture(model(), [free.colours()]).albedo)
    assert off(masked.albedo)[hidden.covered].mean() < best[hidden.covered].mean() + 0.02
    assert off(bare.albedo)[hidden.covered].mean() > 1.5 * off(masked.albedo)[hidden.covered].mean()
    blueish = (bare.albedo[:, 2] / bare.albedo[:, 0])[hidden.covered].mean()
    assert blueish > 2 * (true_albedo()[:, 2] / true_albedo()[:, 0])[hidden.covered].mean()
    assert not masked.observed[hidden.covered].any() and bare.observed[hidden.covered].any()


def test_what_is_hidden_is_less_sure_and_says_so() -> None:
    back, palm = shot().colours(), shot(-0.45).colours()
    one, both = skin_texture(model(), [back]), skin_texture(model(), [back, palm])
    hidden = both.observed & ~one.observed
    assert hidden.sum() > 400
    assert (one.sigma > 1.05 * both.sigma)[hidden].all()
    covered = shot(covered=True)
    of_covered = skin_texture(model(), [covered.colours()])
    assert not of_covered.observed[covered.covered].any()
    assert (of_covered.sigma > 1.02 * one.sigma)[covered.covered & one.observed].all()


def test_several_pictures_tell_more_than_one() -> None:
    shots = [shot(), shot(-0.45), shot(0.3, -0.35), shot(-0.3, 0.35)]
    one = skin_texture(model(), [shots[0].colours()])
    all_of_them = skin_texture(model(), [s.colours() for s in shots])
    assert off(all_of_them.albedo).mean() < 0.9 * off(one.albedo).mean()
    assert all_of_them.observed.mean() > 1.8 * one.observed.mean()
    assert all_of_them.sigma.mean() < 0.8 * one.sigma.mean()
    assert all_of_them.light.shape == (4, 11)


@pytest.mark.parametrize("pictures", [0, 1])
def test_without_anything_seen_it_is_the_models_own_skin(pictures: int) -> None:
    nothing = SkinColours(np.zeros((model().num_vertices, 3)), np.zeros(model().num_vertices),
                          np.tile([0.0, 0, -1], (model().num_vertices, 1)))  # fmt: skip
    texture = skin_texture(model(), [nothing] * pictures)
    np.testing.assert_allclose(texture.albedo, base_albedo(model()), rtol=1e-9)
    assert not texture.observed.any()
    prior = albedo_prior(model())
    by_colour = [
        np.c_[prior.pigment[:, c], prior.even] ** 2 @ prior.sigma[prior.of_colour(c)] ** 2
        for c in range(3)
    ]
    variance = np.mean(by_colour, axis=0) + 0.08**2  # and each vertex's own
    np.testing.assert_allclose(texture.sigma, np.sqrt(variance), rtol=1e-6)
    assert texture.srgb.dtype == np.uint8 and texture.srgb.shape == (model().num_vertices, 3)


def test_grazing_dark_and_bright_places_do_not_count() -> None:
    seen = shot()
    for level in (0, 255):
        image = seen.image.copy()
        image[:112] = level
        weight = sample_skin(image, seen.uv, seen.points, model().faces).weight
        above = seen.uv[:, 1] < 110
        assert not weight[above].any() and weight[~above].any()
    normals = vertex_normals(seen.points, model().faces)
    facing = -(normals * seen.points).sum(1) / np.linalg.norm(seen.points, axis=1)
    weight = seen.colours().weight
    assert not weight[facing < 0.1].any()
    assert weight[facing > 0.9].mean() > 2 * weight[(facing > 0.2) & (facing < 0.4)].mean()


def test_what_the_hand_itself_hides_does_not_count() -> None:
    """Two squares that face the camera, the smaller one in front of the other's middle."""
    square = np.array([[-1.0, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0], [0, 0, 0]])
    faces = np.array([[0, 4, 1], [1, 4, 2], [2, 4, 3], [3, 4, 0]])
    points = np.concatenate([0.1 * square + [0, 0, 0.5], 0.03 * square + [0, 0, 0.4]])
    uv = 500 * points[:, :2] / points[:, 2:] + 112
    image = np.full((224, 224, 3), 100, np.uint8)
    weight = sample_skin(image, uv, points, np.concatenate([faces, faces + 5])).weight
    np.testing.assert_array_equal(weight > 0, [1, 1, 1, 1, 0, 1, 1, 1, 1, 1])


def test_a_vertex_outside_of_the_picture_or_of_the_lens_does_not_count() -> None:
    seen = shot()
    uv = seen.uv.copy()
    uv[:200, 0] += 500
    uv[200:300] = np.nan
    weight = sample_skin(seen.image, uv, seen.points, model().faces).weight
    assert not weight[:300].any() and weight[300:].any()


def test_the_pictures_that_are_kept_show_most_together() -> None:
    plain = SkinColours(np.zeros((8, 3)), np.zeros(8), np.zeros((8, 3)))

    def of(*which: int) -> SkinColours:
        return replace(plain, weight=np.isin(np.arange(8), which).astype(float))

    large, again, other, nothing = of(0, 1, 2, 3, 4), of(0, 1, 2, 3), of(5, 6), of()
    assert most_telling([large, again, other, nothing], 2) == [large, other]
    assert most_telling([nothing, large], 4) == [nothing, large]


def test_the_solution_is_that_of_plain_least_squares() -> None:
    """The short cuts (one Gram matrix for all colours) against rows written out one by one."""
    from hand_mesh_ros.perception import skin_texture as module

    colours, prior = shot().colours(), albedo_prior(model())
    seen = np.flatnonzero(colours.weight)
    shading = harmonics(colours.normals[seen])
    weight = colours.weight[seen]
    shading -= weight @ shading / weight.sum()
    count, size = len(seen), len(prior.sigma) + 11
    rows = np.zeros((count, 3, size))
    for c in range(3):
        rows[:, c, 0] = prior.pigment[seen, c]
        rows[:, c, 1 + 25 * c : 26 + 25 * c] = prior.even[seen]
        rows[:, c, len(prior.sigma) + c] = 1
        rows[:, c, len(prior.sigma) + 3 :] = shading
    target = np.log(colours.colours[seen]) - prior.mean[seen] - module._EXPOSURE
    root = np.sqrt(weight / (module._TOGETHER * module._NOISE**2))[:, None, None]
    A, b = (root * rows).reshape(-1, size), (root[..., 0] * target).reshape(-1)
    P = np.zeros((size, size))
    P[: len(prior.sigma), : len(prior.sigma)] = np.diag(prior.sigma**-2)
    P[len(prior.sigma) :, len(prior.sigma) :] = module._LIGHT_PRECISION
    x = np.linalg.solve(A.T @ A + P, A.T @ b)
    texture = skin_texture(model(), [colours])
    np.testing.assert_allclose(texture.light[0, 3:], x[-8:], atol=1e-9)
    unseen = np.setdiff1d(np.arange(model().num_vertices), seen)
    np.testing.assert_allclose(
        np.log(texture.albedo[unseen]), prior.at(x[: len(prior.sigma)])[unseen], atol=1e-9
    )
