"""What the albedo of a hand may be, before any picture: a Gaussian of its logarithm.

The model's own tone with more or less pigment (by Beer and Lambert, powers of one another), a
tint, and smooth variation over the surface (the lowest modes of the mesh's Laplacian).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import eigsh

from hand_mesh_ros.hand.model import HandModel
from hand_mesh_ros.render.skin import PIGMENT, base_albedo
from hand_mesh_ros.types import FloatArray

_MODES = 24
# One standard deviation each, of logarithms: pigment, tint, smooth variation.
_MELANIN, _TINT, _SMOOTH = 0.4, 0.06, 0.06


@dataclass(frozen=True, eq=False)
class AlbedoPrior:
    """The logarithm of the albedo is ``mean`` (V, 3), plus one unknown times ``pigment`` (V, 3),

    plus, for each colour alone, S unknowns times ``even`` (V, S), whose first column is 1. The
    unknowns, in the order pigment, red, green, blue, have standard deviations ``sigma`` (1 + 3 S,).
    """

    mean: FloatArray
    pigment: FloatArray
    even: FloatArray
    sigma: FloatArray

    def of_colour(self, colour: int) -> FloatArray:
        """Which of the unknowns change one colour (0 red to 2 blue), (1 + S,)."""
        count = self.even.shape[1]
        first = 1 + colour * count
        return np.r_[0, first : first + count]

    def at(self, unknowns: FloatArray) -> FloatArray:
        """The logarithm of the albedo (V, 3)."""
        return self.mean + self.pigment * unknowns[0] + self.even @ unknowns[1:].reshape(3, -1).T

    def variance(self, covariance: FloatArray) -> FloatArray:
        """Mean variance (V,) of the three colours, by the unknowns' covariance."""
        total = np.zeros(len(self.mean))
        for colour in range(3):
            basis = np.column_stack([self.pigment[:, colour], self.even])
            own = self.of_colour(colour)
            total += ((basis @ covariance[np.ix_(own, own)]) * basis).sum(1)
        return total / 3


@lru_cache(maxsize=4)
def albedo_prior(model: HandModel) -> AlbedoPrior:
    """The prior of a hand model's skin."""
    mean = np.log(base_albedo(model))
    modes, spread = _smooth_modes(model)
    even = np.column_stack([np.ones(len(mean)), modes])
    sigma = np.r_[_MELANIN, np.tile(np.r_[_TINT, _SMOOTH * spread], 3)]
    return AlbedoPrior(mean, mean * PIGMENT, even, sigma)


def _smooth_modes(model: HandModel) -> tuple[FloatArray, FloatArray]:
    """Modes (V, M) of the mesh's Laplacian but the constant, of unit mean square, and how much of

    each there is (M,): less of the fast ones, a vector of length 1.
    """
    faces, count = np.asarray(model.faces), model.num_vertices
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    pairs = np.concatenate([edges, edges[:, ::-1]])
    joined = sparse.coo_matrix((np.ones(len(pairs)), pairs.T), (count, count)).tocsr()
    joined.data[:] = 1
    degree = np.asarray(joined.sum(1)).ravel()
    laplacian = sparse.diags(degree) - joined
    # A fixed start: the same modes in every process. A shift, as the matrix itself is singular.
    values, vectors = eigsh(
        laplacian.tocsc(), k=_MODES + 1, sigma=-1e-3, v0=np.ones(count) / np.sqrt(count)
    )
    order = np.argsort(values)[1:]
    amount = values[order] ** -0.5
    return vectors[:, order] * np.sqrt(count), amount / np.linalg.norm(amount)
