"""Points that move smoothly, fitted to what cameras saw of them at their own times.

Each landmark's trajectory is a uniform cubic B-spline; its control points minimise the whitened
distance of the trajectory, at the time of each picture, to the ray of the landmark in it. The
problem is linear in the control points (but for the depth that turns metres into pixels, which
is that of the last step) and block-banded in time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.linalg import solveh_banded

from hand_mesh_ros.types import Camera

Array = NDArray[np.float64]

# One sigma of the acceleration, m/s^2, that is expected where no picture tells.
_ACCELERATION = 15.0
# Seconds by which a spline goes on beyond the stamps: as far as offsets may shift them.
MARGIN = 0.6
_NEAR = 0.05
# The uniform cubic B-spline: weights of four control points by powers of the phase.
_BASIS = np.array([[1, 4, 1, 0], [-3, 0, 3, 0], [3, -6, 3, 0], [-1, 3, -3, 1]]) / 6.0


@dataclass(frozen=True, eq=False)
class Strand:
    """N pictures of L landmarks that move together, of any of the cameras, in any order.

    ``camera`` (N,) index; ``times`` (N,) s; ``xy`` (N, L, 2) undistorted normalised coordinates
    (0 where not seen); ``weight`` (N, L): focal length over sigma, 0 where not seen.
    """

    camera: NDArray[np.int64]
    times: Array
    xy: Array
    weight: Array


@dataclass(frozen=True, eq=False)
class Rows:
    """Linearised whitened residuals of a strand at some offsets.

    ``residual`` (N, L, 2); ``drift`` (N, L, 2) its derivative by the time of the picture;
    ``A`` (N, L, 2, 3) by the point; ``B`` (K, N) the spline's weights; ``system`` the banded
    normal matrix of the control points.
    """

    residual: Array
    drift: Array
    A: Array
    B: sparse.csr_array
    system: Array
    prior: Array

    def solve(self, right: Array) -> Array:
        """Normal matrix inverse times (L, K, 3, C)."""
        shape = right.shape
        solved = solveh_banded(self.system, right.reshape(-1, shape[-1]), lower=True)
        return np.asarray(solved.reshape(shape))

    def gather(self, of_rows: Array) -> Array:
        """Transposed Jacobian times (N, L, 2, C): (L, K, 3, C)."""
        on_points = np.einsum("nlri,nlrc->nlic", self.A, of_rows)
        n, landmarks, _, columns = on_points.shape
        summed = self.B @ on_points.reshape(n, -1)
        return summed.reshape(-1, landmarks, 3, columns).swapaxes(0, 1)

    def spread(self, of_controls: Array) -> Array:
        """Jacobian times (L, K, 3, C): (N, L, 2, C)."""
        landmarks, knots, _, columns = of_controls.shape
        on_points = self.B.T @ of_controls.swapaxes(0, 1).reshape(knots, -1)
        points = on_points.reshape(-1, landmarks, 3, columns)
        return np.asarray(np.einsum("nlri,nlic->nlrc", self.A, points))


class Trajectory:
    """The splines of one strand; ``controls`` (L, K, 3) m is what is fitted."""

    def __init__(self, strand: Strand, cameras: Sequence[Camera], spacing: float) -> None:
        self.strand, self.spacing = strand, spacing
        self._begin = float(strand.times.min()) - MARGIN
        self.knots = int(np.ceil((np.ptp(strand.times) + 2 * MARGIN) / spacing)) + 3
        P = np.stack([c.T_camera_world[:3] for c in cameras])[strand.camera]
        self._third = P[:, 2]
        rows = strand.xy[..., None] * P[:, None, 2:3] - P[:, None, :2]
        self._direction, self._constant = rows[..., :3], rows[..., 3]
        centre = np.mean([c.centre for c in cameras], axis=0)
        landmarks = strand.xy.shape[1]
        self.controls: Array = np.tile(centre, (landmarks, self.knots, 1))
        self._depth = np.full(strand.weight.shape, 1.0)

    def rows(self, offsets: Array, robust: Array) -> Rows:
        """Residuals and derivatives at camera ``offsets`` (C,) s; ``robust`` (N, L) weights."""
        B, dB = self._basis(self.strand.times + offsets[self.strand.camera])
        points, velocity = self._at(B), self._at(dB)
        root = (np.sqrt(robust) * self.strand.weight / self._depth)[..., None]
        A = self._direction * root[..., None]
        residual = np.einsum("nlri,nli->nlr", A, points) + self._constant * root
        drift = np.einsum("nlri,nli->nlr", A, velocity)
        system, prior = self._system(B, A)
        return Rows(residual, drift, A, B, system, prior)

    def distances(self, offsets: Array) -> Array:
        """Whitened distances (N, L) of rays and trajectories, without robust weights."""
        B, _ = self._basis(self.strand.times + offsets[self.strand.camera])
        miss = np.einsum("nlri,nli->nlr", self._direction, self._at(B)) + self._constant
        return np.asarray(np.linalg.norm(miss, axis=-1) * self.strand.weight / self._depth)

    def settle(self) -> None:
        """Take the depths of the pictures' landmarks from the trajectory as it is."""
        B, _ = self._basis(self.strand.times)
        depth = np.einsum("nlj,nj->nl", self._at(B), self._third[:, :3]) + self._third[:, 3, None]
        self._depth = np.maximum(depth, _NEAR)

    def speed(self, offsets: Array) -> Array:
        """Speeds (N, L) of the landmarks at the pictures' times, m/s."""
        _, dB = self._basis(self.strand.times + offsets[self.strand.camera])
        return np.asarray(np.linalg.norm(self._at(dB), axis=-1))

    def _at(self, B: sparse.csr_array) -> Array:
        landmarks = len(self.controls)
        flat = B.T @ self.controls.swapaxes(0, 1).reshape(self.knots, -1)
        return np.asarray(flat.reshape(-1, landmarks, 3))

    def _basis(self, times: Array) -> tuple[sparse.csr_array, sparse.csr_array]:
        """Weights (K, N) of the control points at some times, and their derivatives by time."""
        place = np.clip((times - self._begin) / self.spacing, 0, self.knots - 3 - 1e-9)
        first = place.astype(np.int64)
        u = (place - first)[:, None]
        powers = np.concatenate([np.ones_like(u), u, u * u, u**3], axis=1)
        slopes = np.concatenate([0 * u, np.ones_like(u), 2 * u, 3 * u * u], axis=1)
        row = (first[:, None] + np.arange(4)).ravel()
        column = np.repeat(np.arange(len(times)), 4)
        shape = self.knots, len(times)
        value = sparse.csr_array(((powers @ _BASIS).ravel(), (row, column)), shape)
        slope = sparse.csr_array(((slopes @ _BASIS / self.spacing).ravel(), (row, column)), shape)
        return value, slope

    def _system(self, B: sparse.csr_array, A: Array) -> tuple[Array, Array]:
        """Lower banded normal matrix (12, L K 3), and the prior's pull on the controls."""
        landmarks, K = A.shape[1], self.knots
        squares = np.einsum("nlri,nlrj->nlij", A, A).reshape(len(A), -1)
        band = np.zeros((12, landmarks, K, 3))
        second = sparse.diags_array(
            [1.0, -2.0, 1.0], offsets=[0, 1, 2], shape=(K - 2, K)
        ).toarray()
        stiff = second.T @ second / (_ACCELERATION * self.spacing**2) ** 2
        for apart in range(4):
            pairs = B[apart:].multiply(B[: K - apart]).tocsr()
            blocks = (pairs @ squares).reshape(K - apart, landmarks, 3, 3).swapaxes(0, 1)
            diagonal = np.diagonal(stiff, apart)[:, None, None]
            blocks = blocks + (diagonal + 1e-6 * (apart == 0)) * np.eye(3)
            for r in range(3):
                for c in range(3):
                    if (below := 3 * apart + r - c) >= 0:
                        band[below, :, : K - apart, c] += blocks[:, :, r, c]
        pull = np.einsum("jk,lki->lji", stiff, self.controls)
        return band.reshape(12, -1), pull
