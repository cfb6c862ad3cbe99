"""Gauss-Newton over time offsets and trajectories together; see `time_offsets` for the method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.perception.trajectories import MARGIN, Rows, Strand, Trajectory
from hand_mesh_ros.types import Camera

Array = NDArray[np.float64]

# Offsets have come to rest when none moves by more, s.
_STEP = 3e-5


@dataclass(frozen=True)
class OffsetSettings:
    """``largest``: offset that is looked for, s, below `trajectories.MARGIN`.

    An offset is given where its sigma is at most ``max_sigma`` s, and at most ``max_noise`` of what
    looks like motion is noise. ``spacing``: least seconds between a trajectory's control points.
    ``gap``: a hand unseen for longer, s, begins a new trajectory. ``outlier``: residuals beyond so
    many sigmas count less. ``block``: seconds within which errors are taken for one.
    """

    largest: float = 0.3
    max_sigma: float = 0.005
    max_noise: float = 0.25
    spacing: float = 0.12
    gap: float = 0.5
    outlier: float = 3.0
    block: float = 0.5
    iterations: int = 25


class OffsetFit:
    """Offsets (C,) s and trajectories on their way to the minimum.

    ``scale`` is one sigma of the residuals in units of the landmarks' sigma, ``scale_before`` that
    of trajectories alone. ``free`` are the cameras but for the reference.
    """

    def __init__(
        self,
        strands: Sequence[Strand],
        cameras: Sequence[Camera],
        reference: int,
        settings: OffsetSettings,
    ) -> None:
        self.settings = settings
        steps = [
            np.diff(np.sort(s.times[s.camera == c])) for s in strands for c in np.unique(s.camera)
        ]
        period = float(np.median(np.concatenate(steps)))
        self._spacing = max(settings.spacing, 1.2 * period)
        self._trajectories = [Trajectory(s, cameras, self._spacing) for s in strands]
        self._robust = [np.ones_like(s.weight) for s in strands]
        self.offsets = np.zeros(len(cameras))
        self.free = np.array([i for i in range(len(cameras)) if i != reference])
        self.scale = self.scale_before = 1.0

    def run(self) -> None:
        """Trajectories without offsets first, then all together until nothing moves."""
        for _ in range(3):
            self._step(move=False)
            self._weigh()
        self.scale_before = self.scale
        for _ in range(self.settings.iterations):
            step = self._step(move=True)
            self._weigh()
            if step < _STEP:
                break

    @property
    def speed(self) -> float:
        """Median speed of the landmarks, m/s."""
        speeds = [t.speed(self.offsets)[t.strand.weight > 0] for t in self._trajectories]
        return float(np.median(np.concatenate(speeds)))

    def uncertainty(self) -> tuple[Array, Array]:
        """Sigmas (C,) s of the offsets (infinite where nothing tells; 0 for the reference), and

        the part (C,) of the apparent motion that noise explains.
        """
        S, information, noise, squares = self._evidence()
        sigma, fraction = np.zeros(len(self.offsets)), np.zeros(len(self.offsets))
        usable = np.maximum(1 - noise / np.maximum(information, 1e-300), 0.0)
        usable[information <= 0] = 0.0
        inverse = np.linalg.pinv(S * np.sqrt(np.outer(usable, usable)))
        # White noise, or blocks of time that err together: what is worse.
        white, blocks = self.scale**2 * np.diag(inverse), np.diag(inverse @ squares @ inverse)
        variance = np.maximum(white, blocks)
        told = (usable > 0) & (variance > 0)
        sigma[self.free] = np.sqrt(np.where(told, variance, np.inf))
        fraction[self.free] = 1 - usable
        return sigma, fraction

    def _rows(self, i: int, offsets: Array) -> tuple[Rows, Array]:
        rows = self._trajectories[i].rows(offsets, self._robust[i])
        own = self._trajectories[i].strand.camera[:, None] == self.free
        drift = rows.drift[..., None] * own[:, None, None, :]
        return rows, drift

    def _step(self, move: bool) -> float:
        """One Gauss-Newton step; returns the largest change of an offset, s."""
        count = len(self.free)
        S, e = np.zeros((count, count)), np.zeros(count)
        solved = []
        for i in range(len(self._trajectories)):
            rows, drift = self._rows(i, self.offsets)
            G = rows.gather(drift)
            g = rows.gather(rows.residual[..., None]) + rows.prior[..., None]
            x = rows.solve(np.concatenate([G, g], axis=-1))
            S += np.einsum("nlrc,nlrd->cd", drift, drift)
            S -= np.einsum("lkic,lkid->cd", G, x[..., :-1])
            e -= np.einsum("nlrc,nlr->c", drift, rows.residual)
            e += np.einsum("lkic,lki->c", G, x[..., -1])
            solved.append(x)
        delta = np.zeros(count)
        if move:
            delta = np.clip(np.linalg.pinv(S, rcond=1e-9) @ e, -0.05, 0.05)
            limit = min(1.5 * self.settings.largest, 0.9 * MARGIN)
            moved = np.clip(self.offsets[self.free] + delta, -limit, limit)
            delta = moved - self.offsets[self.free]
            self.offsets[self.free] = moved
        for trajectory, x in zip(self._trajectories, solved, strict=True):
            trajectory.controls = trajectory.controls - x[..., -1] - x[..., :-1] @ delta
            trajectory.settle()
        return float(np.abs(delta).max(initial=0.0))

    def _weigh(self) -> None:
        """Weights of Cauchy's loss, with the scale that the inner half of the residuals has."""
        distances = [t.distances(self.offsets) for t in self._trajectories]
        seen = [t.strand.weight > 0 for t in self._trajectories]
        inner = np.median(np.concatenate([d[s] for d, s in zip(distances, seen, strict=True)]))
        # The median of a Rayleigh distribution is 1.1774 sigma.
        self.scale = max(float(inner) / 1.1774, 1e-6)
        cut = self.settings.outlier * self.scale
        self._robust = [1 / (1 + (d / cut) ** 2) for d in distances]

    def pictures(self, camera: int) -> int:
        """How many pictures of hands are of a camera."""
        return sum(int((t.strand.camera == camera).sum()) for t in self._trajectories)

    def _evidence(self) -> tuple[Array, Array, Array, Array]:
        """Information (F, F) on the free offsets; by offset (F,) what all apparent motion and

        what noise alone gives of it; squares (F, F) of the gradients of blocks of time.
        """
        count = len(self.free)
        S, squares = np.zeros((count, count)), np.zeros((count, count))
        total, rows_of, knots, rows_all = np.zeros(count), np.zeros(count), 0.0, 0.0
        for i, trajectory in enumerate(self._trajectories):
            rows, drift = self._rows(i, self.offsets)
            own = drift - rows.spread(rows.solve(rows.gather(drift)))
            S += np.einsum("nlrc,nlrd->cd", own, own)
            total += np.einsum("nlrc,nlrc->c", drift, drift)
            gradient = np.einsum("nlrc,nlr->nc", own, rows.residual)
            strand = trajectory.strand
            block = (strand.times / self.settings.block).astype(np.int64)
            sums = np.zeros((block.max() + 1, count))
            np.add.at(sums, block, gradient)
            squares += sums.T @ sums
            weights = self._robust[i] * (strand.weight > 0)
            rows_of += 2 * np.array([weights[strand.camera == c].sum() for c in self.free])
            rows_all += 2 * weights.sum()
            knots += 3 * weights.shape[1] * (np.ptp(strand.times) / self._spacing + 3)
        # White noise that passes a spline has frequencies up to pi / spacing: the mean square of
        # its derivative is (pi / spacing)^2 / 3 of what the fit takes of it.
        taken = min(knots / max(rows_all, 1.0), 1.0)
        noise = rows_of * self.scale**2 * taken * (np.pi / self._spacing) ** 2 / 3
        return S, total, noise, squares

    def profile(self, camera: int, around: Array) -> Array:
        """Rise (G,) of -2 log likelihood if one offset is shifted by ``around`` (G,) s, and the

        trajectories follow.
        """
        costs = []
        for shift in (0.0, *around):
            offsets = self.offsets.copy()
            offsets[camera] += shift
            costs.append(sum(self._cost(i, offsets) for i in range(len(self._trajectories))))
        return (np.array(costs[1:]) - costs[0]) / self.scale**2

    def _cost(self, i: int, offsets: Array) -> float:
        rows = self._trajectories[i].rows(offsets, self._robust[i])
        g = rows.gather(rows.residual[..., None]) + rows.prior[..., None]
        return float((rows.residual**2).sum() - (g * rows.solve(g)).sum())
