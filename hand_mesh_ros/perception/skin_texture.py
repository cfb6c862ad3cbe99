"""Skin and light told apart: the colours that pictures show of a hand to its albedo.

A colour is albedo times light. In logarithms that is a sum, and with Gaussian priors on both the
answer is one linear system, with its uncertainty: where nothing was seen, the albedo is what the
rest of the hand lets expect, and says so.

The albedo's prior is `skin_prior`'s, and detail that each vertex has alone. The light's: spherical
harmonics to the second order of the normal, as irradiance needs no more (Ramamoorthi and Hanrahan
2001), here of its logarithm, with a colour and brightness of each picture's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import block_diag

from hand_mesh_ros.hand.model import HandModel
from hand_mesh_ros.perception.skin_colours import SkinColours
from hand_mesh_ros.perception.skin_prior import AlbedoPrior, albedo_prior
from hand_mesh_ros.types import FloatArray

# One standard deviation each, of logarithms: a vertex's detail, light by direction, brightness of
# a picture, its white balance, noise of a colour.
_DETAIL, _SHADING, _BRIGHTNESS, _BALANCE, _NOISE = 0.08, 0.38, 0.26, 0.10, 0.18
# Of the harmonics, relative to the first order's.
_ORDERS = np.array([1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.5])
# Mean logarithm of what lit skin shows over its albedo, as cameras expose.
_EXPOSURE = 0.15
# Neighbouring colours err together (a shadow, a gloss): so many of them tell as much as one would.
_TOGETHER = 90.0
_SEEN = 0.25  # weight from which on a vertex counts as observed
_LIGHT = 11  # numbers of a picture's light


@dataclass(frozen=True, eq=False)
class SkinTexture:
    """Albedo (V, 3) linear 0..1, its ``sigma`` (V,) of the logarithm, and which vertices were

    ``observed`` (V,); the others are completed. ``light`` (P, 11): of each picture, logarithms of
    the brightness of red, green and blue, then what `harmonics` of the normal add to all three.
    """

    albedo: FloatArray
    sigma: FloatArray
    observed: NDArray[np.bool_]
    light: FloatArray

    @property
    def srgb(self) -> NDArray[np.uint8]:
        """The albedo as colours (V, 3) of a screen, by the power law that `to_linear` undoes."""
        return np.asarray(np.rint(255 * self.albedo ** (1 / 2.2)), dtype=np.uint8)

    def lit(self, picture: int, normals: FloatArray) -> FloatArray:
        """Linear radiance (V, 3) of all vertices in a picture's light, by their normals (V, 3)."""
        light = self.light[picture]
        shade = harmonics(normals) @ light[3:]
        return np.asarray(self.albedo * np.exp(light[:3] + shade[:, None]))


def skin_texture(model: HandModel, pictures: Sequence[SkinColours]) -> SkinTexture:
    """The albedo that explains the colours of one or several pictures of one hand.

    Least squares: what is not skin must have no weight. With no picture, or nothing seen in any,
    it is the prior's mean.
    """
    prior = albedo_prior(model)
    seen = [_Picture.of(picture, prior) for picture in pictures]
    first = len(prior.sigma)
    places = [np.r_[:first, k : k + _LIGHT] for k in first + _LIGHT * np.arange(len(seen))]
    matrix = block_diag(np.diag(prior.sigma**-2.0), *[_LIGHT_PRECISION] * len(seen))
    vector = np.zeros(len(matrix))
    for picture, place in zip(seen, places, strict=True):
        block, column = picture.equations(prior)
        matrix[np.ix_(place, place)] += block
        vector[place] += column
    covariance = np.linalg.inv(matrix)
    solution = covariance @ vector
    count = model.num_vertices
    total, pull, most = np.zeros(count), np.zeros((count, 3)), np.zeros(count)
    for picture, place in zip(seen, places, strict=True):
        vertices, weight = picture.vertices, picture.weight
        error = picture.target - picture.explained(solution[place], prior)
        total[vertices] += weight
        pull[vertices] += weight[:, None] * error
        most[vertices] = np.maximum(most[vertices], weight)
    information = _DETAIL**-2 + total / _NOISE**2
    detail = pull / (_NOISE**2 * information)[:, None]
    light = [s.light(solution[place][first:]) for s, place in zip(seen, places, strict=True)]
    return SkinTexture(
        albedo=np.clip(np.exp(prior.at(solution[:first]) + detail), 0.003, 0.95),
        sigma=np.sqrt(prior.variance(covariance[:first, :first]) + 1 / information),
        observed=most >= _SEEN,
        light=np.reshape(light, (-1, _LIGHT)),
    )


def harmonics(normals: FloatArray) -> FloatArray:
    """Real spherical harmonics 1 to 8 (..., 8) of unit normals, without their constant factors."""
    x, y, z = np.moveaxis(np.asarray(normals), -1, 0)
    return np.stack([x, y, z, x * y, y * z, 3 * z * z - 1, x * z, x * x - y * y], axis=-1)


@dataclass(frozen=True, eq=False)
class _Picture:
    """The N ``vertices`` that a picture shows: their ``weight`` (N,), and ``target`` (N, 3), the

    logarithms to be explained. ``basis`` (N, S + 8 + 3): the prior's even columns, the harmonics
    about their ``middle`` (8,), and the pigment of the three colours.
    """

    vertices: NDArray[np.intp]
    weight: FloatArray
    target: FloatArray
    basis: FloatArray
    middle: FloatArray

    @classmethod
    def of(cls, picture: SkinColours, prior: AlbedoPrior) -> _Picture:
        seen = np.flatnonzero(picture.weight)
        weight = picture.weight[seen]
        shading = harmonics(picture.normals[seen])
        # About the mean of what is seen, which is what a camera's exposure keeps in bounds.
        middle = weight @ shading / max(float(weight.sum()), 1e-9)
        colours = np.maximum(picture.colours[seen], 1e-4)
        basis = np.hstack([prior.even[seen], shading - middle, prior.pigment[seen]])
        return cls(seen, weight, np.log(colours) - prior.mean[seen] - _EXPOSURE, basis, middle)

    def equations(self, prior: AlbedoPrior) -> tuple[FloatArray, FloatArray]:
        """Normal equations of the albedo's unknowns and this light's."""
        scaled = self.basis * (self.weight / (_TOGETHER * _NOISE**2))[:, None]
        gram, right = scaled.T @ self.basis, scaled.T @ self.target
        size = len(prior.sigma) + _LIGHT
        matrix, vector = np.zeros((size, size)), np.zeros(size)
        for colour in range(3):
            rows, columns = self._columns(colour, prior)
            np.add.at(matrix, np.ix_(rows, rows), gram[np.ix_(columns, columns)])
            np.add.at(vector, rows, right[columns, colour])
        return matrix, vector

    def explained(self, unknowns: FloatArray, prior: AlbedoPrior) -> FloatArray:
        """What the unknowns say of `target` (N, 3)."""
        by_column = np.zeros((self.basis.shape[1], 3))
        for colour in range(3):
            rows, columns = self._columns(colour, prior)
            np.add.at(by_column[:, colour], columns, unknowns[rows])
        return np.asarray(self.basis @ by_column)

    def light(self, own: FloatArray) -> FloatArray:
        """The light (11,), of harmonics about zero, and with the exposure."""
        brightness = own[:3] + _EXPOSURE - self.middle @ own[3:]
        return np.concatenate([brightness, own[3:]])

    @staticmethod
    def _columns(colour: int, prior: AlbedoPrior) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """The unknowns that a colour depends on, and the columns of the basis they belong to."""
        even, light = prior.even.shape[1], len(prior.sigma)
        rows = np.r_[prior.of_colour(colour), light + colour, light + 3 : light + _LIGHT]
        # the even light of a colour has the prior's first column, which is one, too
        return rows, np.r_[even + 8 + colour, :even, 0, even : even + 8]


def _light_precision() -> FloatArray:
    covariance = np.diag(np.r_[np.zeros(3), (_SHADING * _ORDERS) ** 2])
    covariance[:3, :3] = _BRIGHTNESS**2 + _BALANCE**2 * np.eye(3)
    return np.asarray(np.linalg.inv(covariance))


_LIGHT_PRECISION = _light_precision()
