"""Skin and light told apart: the colours that pictures show of a hand to its albedo.

A colour is albedo times light. In logarithms that is a sum, and with Gaussian priors on both the
answer is one linear system, with its uncertainty: where nothing was seen, the albedo is what the
rest of the hand lets expect, and says so.

The albedo's prior: the model's own tone with more or less pigment (by Beer and Lambert, powers of
one another), a tint, smooth variation over the surface (the lowest modes of the mesh's Laplacian),
and detail that each vertex has alone. The light's: spherical harmonics to the second order of the
normal, as irradiance needs no more (Ramamoorthi and Hanrahan 2001), here of its logarithm, with a
colour and brightness of each picture's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import eigsh

from hand_mesh_ros.hand.model import HandModel
from hand_mesh_ros.perception.skin_colours import SkinColours
from hand_mesh_ros.types import FloatArray

# Even skin of a model that brings no colours, linear light.
_PLAIN = np.array([0.55, 0.33, 0.24])
# How the exponents of red, green and blue grow with pigment: haemoglobin and melanin absorb blue
# most, so pale skin changes most in red.
_PIGMENT = np.array([1.55, 0.86, 0.63])
_MODES = 24
# One standard deviation each, of logarithms: pigment, tint, smooth variation, a vertex's detail,
# light by direction, brightness of a picture, its white balance, noise of a colour.
_MELANIN, _TINT, _SMOOTH, _DETAIL = 0.4, 0.06, 0.06, 0.08
_SHADING, _BRIGHTNESS, _BALANCE, _NOISE = 0.35, 0.28, 0.09, 0.18
# Neighbouring colours err together (a shadow, a gloss): so many of them tell as much as one would.
_TOGETHER = 200.0
# Mean logarithm of what lit skin shows over its albedo, as cameras expose.
_EXPOSURE = 0.1
_ROUNDS = 8
_SEEN = 0.25  # weight from which on a vertex counts as observed


@dataclass(frozen=True, eq=False)
class SkinTexture:
    """Albedo (V, 3) linear 0..1, its ``sigma`` (V,) of the logarithm, and which vertices were

    ``observed`` (V,); the others are completed. ``light`` (P, 11): of each picture, logarithms of
    the brightness of red, green and blue, then the harmonics 1 to 8 of the normal.
    """

    albedo: FloatArray
    sigma: FloatArray
    observed: np.ndarray
    light: FloatArray


def skin_texture(model: HandModel, pictures: Sequence[SkinColours]) -> SkinTexture:
    """The albedo that explains the colours of one or several pictures of one hand.

    Robust (Cauchy weights): a shadow, a ring or a missed occluder is an outlier, not skin. With no
    picture, or nothing seen in any, it is the prior's mean.
    """
    basis, prior = _albedo_basis(model)  # (V, 3, A), (A,)
    base = _log_base(model)
    lights = [_light_basis(p.normals, p.weight) for p in pictures]
    count, each = basis.shape[2], 11
    size = count + each * len(pictures)
    precision = np.zeros((size, size))
    precision[:count, :count] = np.diag(1 / prior**2)
    start = np.zeros(size)
    for k in range(len(pictures)):
        own = slice(count + each * k, count + each * (k + 1))
        precision[own, own] = _light_precision()
    weights = [p.weight.copy() for p in pictures]
    rows = [np.concatenate([basis, light], axis=2) for light in lights]
    targets = [np.log(np.maximum(p.colours, 1e-4)) - base - _EXPOSURE for p in pictures]
    solution, covariance = start, np.linalg.inv(precision)
    for _ in range(_ROUNDS):
        matrix, vector = precision.copy(), np.zeros(size)
        for k, (row, target, weight) in enumerate(zip(rows, targets, weights, strict=True)):
            where = np.r_[:count, count + each * k : count + each * (k + 1)]
            scaled = row * (weight / (_TOGETHER * _NOISE**2))[:, None, None]
            matrix[np.ix_(where, where)] += np.einsum("vca,vcb->ab", scaled, row)
            vector[where] += np.einsum("vca,vc->a", scaled, target)
        covariance = np.linalg.inv(matrix)
        solution = covariance @ vector
        for k, (row, target) in enumerate(zip(rows, targets, strict=True)):
            where = np.r_[:count, count + each * k : count + each * (k + 1)]
            error = np.abs(target - row @ solution[where]).max(axis=1)
            weights[k] = pictures[k].weight / (1 + (error / (2.5 * _NOISE)) ** 2)
    smooth = base + basis @ solution[:count]
    detail, left = _detail(rows, targets, weights, solution, count)
    spread = np.einsum("vca,ab,vcb->v", basis, covariance[:count, :count], basis) / 3
    seen = np.max([w for w in weights], axis=0) if weights else np.zeros(len(base))
    albedo = np.clip(np.exp(smooth + detail), 0.003, 0.95)
    light = solution[count:].reshape(len(pictures), each)
    return SkinTexture(albedo, np.sqrt(spread + left), seen >= _SEEN, light)


def harmonics(normals: FloatArray) -> FloatArray:
    """Real spherical harmonics 1 to 8 (..., 8) of unit normals, without their constant factors."""
    x, y, z = np.moveaxis(np.asarray(normals), -1, 0)
    return np.stack(
        [x, y, z, x * y, y * z, 3 * z * z - 1, x * z, x * x - y * y], axis=-1
    )


def _detail(
    rows: list[FloatArray], targets: list[FloatArray], weights: list[FloatArray],
    solution: FloatArray, count: int,
) -> tuple[FloatArray, FloatArray]:  # fmt: skip
    """What each vertex differs by from the smooth albedo (V, 3), and the variance that is left."""
    if not rows:
        return np.zeros((1, 3)), np.array(_DETAIL**2)
    total = np.zeros(len(rows[0]))
    pulled = np.zeros((len(rows[0]), 3))
    for k, (row, target, weight) in enumerate(zip(rows, targets, weights, strict=True)):
        where = np.r_[:count, count + 11 * k : count + 11 * (k + 1)]
        pulled += weight[:, None] * (target - row @ solution[where])
        total += weight
    information = 1 / _DETAIL**2 + total / _NOISE**2
    return pulled / _NOISE**2 / information[:, None], 1 / information


def _log_base(model: HandModel) -> FloatArray:
    base = model.albedo if model.albedo is not None else np.tile(_PLAIN, (model.num_vertices, 1))
    return np.log(base)


@lru_cache(maxsize=4)
def _albedo_basis(model: HandModel) -> tuple[FloatArray, FloatArray]:
    """How the logarithm of the albedo (V, 3) may vary, (V, 3, A), and by how much (A,)."""
    modes, spread = _smooth_modes(model)
    pigment = (_log_base(model) * _PIGMENT)[..., None]
    tint = np.broadcast_to(np.eye(3), (model.num_vertices, 3, 3))
    smooth = np.einsum("vm,cd->vcmd", modes, np.eye(3)).reshape(model.num_vertices, 3, -1)
    prior = np.concatenate([[_MELANIN], np.full(3, _TINT), np.repeat(spread, 3)])
    return np.concatenate([pigment, tint, smooth], axis=2), prior


def _smooth_modes(model: HandModel) -> tuple[FloatArray, FloatArray]:
    """Modes (V, M) of the mesh's Laplacian but the constant, and each one's sigma (M,)."""
    faces, count = np.asarray(model.faces), model.num_vertices
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    pairs = np.concatenate([edges, edges[:, ::-1]])
    joined = sparse.coo_matrix((np.ones(len(pairs)), pairs.T), (count, count)).tocsr()
    joined.data[:] = 1
    degree = np.asarray(joined.sum(1)).ravel()
    laplacian = sparse.diags(degree) - joined
    # a fixed start: the same modes in every process; a shift, as the matrix itself is singular
    values, vectors = eigsh(
        laplacian.tocsc(), k=_MODES + 1, sigma=-1e-3, v0=np.ones(count) / np.sqrt(count)
    )
    order = np.argsort(values)[1:]
    relative = values[order] / values[order][0]
    sigma = relative**-0.5
    unit = vectors[:, order] * np.sqrt(count)
    return unit, _SMOOTH * sigma / np.linalg.norm(sigma)


def _light_basis(normals: FloatArray, weight: FloatArray) -> FloatArray:
    """Of the mean brightness (three columns) and how it varies with direction (eight)."""
    shading = harmonics(normals)
    # about the mean of what is seen, which is what a camera's exposure keeps in bounds
    shading = shading - weight @ shading / max(float(weight.sum()), 1e-9)
    colour = np.broadcast_to(np.eye(3), (len(normals), 3, 3))
    grey = np.broadcast_to(shading[:, None, :], (len(normals), 3, 8))
    return np.concatenate([colour, grey], axis=2)


def _light_precision() -> FloatArray:
    covariance = np.zeros((11, 11))
    covariance[:3, :3] = _BRIGHTNESS**2 + _BALANCE**2 * np.eye(3)
    scale = np.array([1, 1, 1, 0.6, 0.6, 0.3, 0.6, 0.6])
    covariance[3:, 3:] = np.diag((_SHADING * scale) ** 2)
    return np.linalg.inv(covariance)
