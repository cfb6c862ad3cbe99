"""Which camera of a running cell is no longer where its calibration says.

Every answer of the pipeline says a little about every camera's pose: the step that bundle
adjustment would take from the calibration, points eliminated. Its normal equations are summed up
and forgotten slowly. What they ask for in the beginning is taken for granted (calibrations and
networks have small lasting errors); what they ask for later is tested camera by camera (a score
test): the camera whose own motion explains most of the disagreement is named, not those that
disagree with it, and what it explains is taken away before the next is looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.geometry.cameras import project
from hand_mesh_ros.geometry.projection import project_arrays, stack_cameras
from hand_mesh_ros.geometry.rotations import skew
from hand_mesh_ros.geometry.triangulation import triangulate
from hand_mesh_ros.perception.cell_bundle import POSE, reduced_system
from hand_mesh_ros.types import Camera, HandSet, View

Array = NDArray[np.float64]


@dataclass(frozen=True)
class DriftSettings:
    """``every``: seconds between answers looked at. ``half_life``: seconds of hands in view

    after which an observation counts half. ``learn``: seconds of hands in view that are taken for
    the normal state. ``limit``: how many times the expected error a camera's shift must be, and
    ``least`` pixels, to be called moved. ``turn``, ``shift``: radians and metres, one sigma, that
    cameras may move at all. ``gate``: radians within which a view that was matched to no hand is
    still of the nearest one. ``alike``: fraction of the best explanation that makes another one as
    good. ``tolerance``: how many times its sigma a landmark may err before it counts less, so that
    those of a camera that moved still count.
    """

    every: float = 0.2
    half_life: float = 30.0
    learn: float = 60.0
    limit: float = 1.5
    least: float = 4.0
    turn: float = 0.05
    shift: float = 0.05
    gate: float = 0.15
    alike: float = 0.8
    tolerance: float = 3.0


@dataclass(frozen=True)
class CameraDrift:
    """``px``: how far the camera's landmarks are shifted by the motion that explains them best;

    ``expected_px``: its usual error of a landmark (NaN while learning). ``moved``: it has moved by
    about ``degrees`` and ``metres``, or, if ``alike`` names others, one of them has: the views
    cannot tell which.
    """

    camera: str
    px: float
    expected_px: float
    moved: bool
    degrees: float
    metres: float
    alike: tuple[str, ...] = ()


@dataclass(eq=False)
class _Sum:
    """Exponentially forgotten sums: information, gradient, pixels' information, errors, weight."""

    information: Array
    gradient: Array
    by_pixel: Array  # (C, 6, 6)
    landmarks: Array  # (C,)
    error: Array  # (C,) sum of median errors, px
    hands: Array  # (C,)

    @classmethod
    def zero(cls, cameras: int) -> _Sum:
        P = cameras * POSE
        return cls(
            np.zeros((P, P)), np.zeros(P), np.zeros((cameras, POSE, POSE)),
            np.zeros(cameras), np.zeros(cameras), np.zeros(cameras),
        )  # fmt: skip

    def add(self, other: _Sum, keep: float) -> None:
        for name, value in vars(other).items():
            setattr(self, name, keep * getattr(self, name) + value)


class DriftMonitor:
    """Takes the pipeline's answers in; not thread-safe: one thread updates and reports."""

    def __init__(self, cameras: Sequence[str], settings: DriftSettings | None = None) -> None:
        self.settings = settings or DriftSettings()
        self._names = tuple(cameras)
        self.reset()

    def reset(self) -> None:
        """Begin to learn anew: cameras were calibrated, or a clock jumped back."""
        self._cameras: dict[str, Camera] = {}
        self._sum = _Sum.zero(len(self._names))
        self._normal: Array | None = None
        self._expected = np.full(len(self._names), np.nan)
        self._seconds, self._stamp_ns = 0.0, 0

    @property
    def learning(self) -> bool:
        """Whether the normal state is not known yet."""
        return self._normal is None

    def update(self, hands: HandSet) -> None:
        """Take one answer in. Hands that one camera alone saw say nothing; neither does time
        without hands."""
        elapsed = (hands.stamp_ns - self._stamp_ns) * 1e-9
        if 0 <= elapsed < self.settings.every - 1e-6:
            return
        groups = self._groups(hands)
        if not groups:
            return
        self._check_calibration(groups)
        # However long no hand was in view, it is no time; neither is a clock that jumps.
        elapsed = min(max(elapsed, 0.0), 2 * self.settings.every)
        self._stamp_ns = hands.stamp_ns
        self._seconds += elapsed
        self._sum.add(self._evidence(groups), 0.5 ** (elapsed / self.settings.half_life))
        if self._normal is None and self._seconds >= self.settings.learn:
            self._normal = self._asked_for()
            hands_seen = np.where(self._sum.hands > 0, self._sum.hands, np.nan)
            self._expected = self._sum.error / hands_seen

    def report(self) -> tuple[CameraDrift, ...]:
        """The state of every camera, in the order they were named."""
        names = self._names
        px, step = np.zeros(len(names)), np.zeros((len(names), POSE))
        alike: dict[int, tuple[str, ...]] = {}
        if self._normal is not None:
            residual = self._sum.gradient + self._sum.information @ self._normal
            left = np.ones(len(names), bool)
            while left.any():
                steps, gains, shifts = self._explained(residual)
                best = int(np.argmax(np.where(left, gains, -1)))
                px[best], left[best] = shifts[best], False
                if shifts[best] > self._limit()[best]:
                    step[best] = steps[best]
                    near = left & (gains > self.settings.alike * gains[best])
                    alike[best] = tuple(names[i] for i in np.flatnonzero(near))
                own = slice(best * POSE, (best + 1) * POSE)
                residual = residual + self._sum.information[:, own] @ steps[best]
        suspects = {name for others in alike.values() for name in others}
        return tuple(
            CameraDrift(
                camera=name,
                px=float(px[i]),
                expected_px=float(self._expected[i]),
                moved=i in alike or name in suspects,
                degrees=float(np.degrees(np.linalg.norm(step[i, :3]))),
                metres=float(np.linalg.norm(step[i, 3:])),
                alike=alike.get(i, ())
                or tuple(names[j] for j, others in alike.items() if name in others),
            )
            for i, name in enumerate(names)
        )

    def _limit(self) -> Array:
        limit = self.settings.limit * np.nan_to_num(self._expected)
        return np.asarray(np.maximum(limit, self.settings.least))

    def _loose(self) -> Array:
        """Information (6,) of how far cameras move at all."""
        s = self.settings
        return np.asarray(np.repeat([s.turn, s.shift], 3) ** -2.0, dtype=np.float64)

    def _asked_for(self) -> Array:
        """The step (C*6,) of all cameras together that the sums ask for."""
        prior = np.diag(np.tile(self._loose(), len(self._names)))
        return np.asarray(-np.linalg.solve(self._sum.information + prior, self._sum.gradient))

    def _explained(self, residual: Array) -> tuple[Array, Array, Array]:
        """For each camera alone: its step (C, 6), the gain (C,) in chi2, the shift (C,) in px."""
        count = len(self._names)
        steps, gains, shifts = np.zeros((count, POSE)), np.zeros(count), np.zeros(count)
        for i in range(count):
            own = slice(i * POSE, (i + 1) * POSE)
            pull = residual[own]
            steps[i] = -np.linalg.solve(
                self._sum.information[own, own] + np.diag(self._loose()), pull
            )
            gains[i] = -pull @ steps[i]
            square = steps[i] @ self._sum.by_pixel[i] @ steps[i]
            shifts[i] = np.sqrt(max(square, 0.0) / max(self._sum.landmarks[i], 1e-9))
        return steps, gains, shifts

    def _check_calibration(self, groups: Sequence[Sequence[View]]) -> None:
        """A camera whose calibration changed starts everything anew."""
        now = {v.camera.name: v.camera for views in groups for v in views}
        for name, camera in now.items():
            known = self._cameras.get(name, camera)
            same = np.array_equal(known.T_camera_world, camera.T_camera_world)
            if not (same and np.array_equal(known.K, camera.K)):
                self.reset()
                break
        self._cameras |= now

    def _groups(self, hands: HandSet) -> list[list[View]]:
        """Views by hand: those that made it, and unmatched ones that are likely of it.

        A camera that has moved far is first of all one whose views match nothing.
        """
        groups = [list(views) for views in hands.observed if len(views) > 1]
        spare = [*hands.unmatched, *(v[0] for v in hands.observed if len(v) == 1)]
        for view in spare:
            best, nearest = None, self.settings.gate * view.camera.focal
            for views in groups:
                if any(v.camera.name == view.camera.name for v in views):
                    continue
                off = np.nanmedian(
                    np.linalg.norm(project(view.camera, _points(views)) - view.uv, axis=-1)
                )
                if off < nearest:
                    best, nearest = views, float(off)
            if best is not None:
                best.append(view)
        return [
            known
            for views in groups
            if len(known := [v for v in views if v.camera.name in self._names]) > 1
        ]

    def _evidence(self, groups: Sequence[Sequence[View]]) -> _Sum:
        """What one instant's hands say."""
        names = self._names
        some = next(iter(self._cameras.values()))
        cameras = [self._cameras.get(n, replace(some, name=n)) for n in names]
        shape = len(groups), len(names), 21
        uv, sigma = np.full((*shape, 2), np.nan), np.full(shape, np.nan)
        points = np.stack([_points(views) for views in groups])
        for g, views in enumerate(groups):
            for view in views:
                place = g, names.index(view.camera.name)
                uv[place], sigma[place] = view.uv, view.sigma
        information, gradient, error = reduced_system(
            cameras, uv, self.settings.tolerance * sigma, points
        )
        stacked = stack_cameras(tuple(cameras))
        local = points[:, None] @ np.swapaxes(stacked.R, -1, -2) + stacked.t[:, None]
        here = stacked._replace(
            R=np.broadcast_to(np.eye(3), stacked.R.shape), t=np.zeros_like(stacked.t)
        )
        by_local = project_arrays(here, local).jacobian
        seen: NDArray[np.bool_] = np.asarray(np.isfinite(error).all(-1), dtype=bool)
        jacobian = np.concatenate([-by_local @ skew(local), by_local], -1) * seen[..., None, None]
        size = np.linalg.norm(error, axis=-1)
        hands = seen.any(-1)
        typical = np.where(hands, np.nan_to_num(np.median(np.where(seen, size, 0.0), -1)), 0.0)
        return _Sum(
            information,
            gradient,
            np.einsum("gcjkp,gcjkq->cpq", jacobian, jacobian),
            seen.sum((0, 2)).astype(np.float64),
            typical.sum(0),
            hands.sum(0).astype(np.float64),
        )


def _points(views: Sequence[View]) -> Array:
    uv, sigma = np.stack([v.uv for v in views]), np.stack([v.sigma for v in views])
    return triangulate([v.camera for v in views], uv, sigma)
