"""What the solver can be told about a hand, and how it becomes arrays.

Observations mix freely. Missing values are NaN; what is missing weighs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.geometry.arrays import AnyArray, like
from hand_mesh_ros.geometry.projection import CameraArrays, stack_cameras
from hand_mesh_ros.hand.kinematics import BETAS, HAND_POSE, NUM_PARAMS, SCALE
from hand_mesh_ros.hand.limits import pose_limits, pose_prior
from hand_mesh_ros.hand.model import HandModel
from hand_mesh_ros.types import Camera

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Landmarks2D:
    """One view: ``uv`` (21, 2) distorted pixels with ``noise``.

    ``noise`` is one sigma (21,) in pixels or a covariance (21, 2, 2) in pixels squared; ``depth``
    (21,) along the optical axis in metres, with ``depth_sigma`` (21,), where a depth image gave it.
    """

    camera: Camera
    uv: Array
    noise: Array
    depth: Array | None = None
    depth_sigma: Array | None = None


@dataclass(frozen=True, eq=False)
class Points3D:
    """World points (21, 3), m, with ``noise`` (21,) one sigma or (21, 3, 3) covariances."""

    points: Array
    noise: Array


@dataclass(frozen=True, eq=False)
class Relative3D:
    """Points known up to their common position: (21, 3) m in world axes, with ``noise``.

    ``noise`` of each point about the common position: (21,) one sigma per axis in metres, or
    covariances (21, 3, 3) in square metres, because one view knows depth worse than directions.
    """

    points: Array
    noise: Array


@dataclass(frozen=True, eq=False)
class Observation:
    """Everything observed of one hand at one instant."""

    views: tuple[Landmarks2D, ...] = ()
    points: Points3D | None = None
    relative: tuple[Relative3D, ...] = ()

    @property
    def size(self) -> int:
        """How many numbers were observed."""
        pixels = sum(int(np.isfinite(v.uv).sum()) for v in self.views)
        depths = sum(int(np.isfinite(v.depth).sum()) for v in self.views if v.depth is not None)
        points = 0 if self.points is None else int(np.isfinite(self.points.points).sum())
        relative = sum(int(np.isfinite(r.points).sum()) for r in self.relative)
        return pixels + depths + points + relative

    def with_noise(self, factor: Array) -> Observation:
        """The same pixels with sigmas ``factor`` (21,) times what they were."""
        views = []
        for view in self.views:
            noise = np.asarray(view.noise, dtype=np.float64)
            wider = factor if noise.ndim == 1 else np.square(factor)[:, None, None]
            views.append(replace(view, noise=noise * wider))
        return replace(self, views=tuple(views))


@dataclass(frozen=True, eq=False)
class Prior:
    """Gaussian on the P unknowns: ``mean`` (P,), ``precision`` (P, P) inverse covariance.

    P is 61; or 62 where the hand's scale is unknown too (`with_scale`).
    """

    mean: Array
    precision: Array

    def with_shape(self, betas: Array, covariance: Array) -> Prior:
        """The same prior with a known shape (10,) of covariance (10, 10): a calibrated one."""
        mean, precision = self.mean.copy(), self.precision.copy()
        mean[BETAS] = betas
        precision[BETAS, :] = precision[:, BETAS] = 0
        precision[BETAS, BETAS] = np.linalg.inv(covariance)
        return Prior(mean, precision)

    def with_scale(self, mean: float, sigma: float) -> Prior:
        """The same prior of a hand whose scale is an unknown as well, its last: P is 62.

        ``mean`` and ``sigma`` are those of the factor itself, in ``points = scale * hand +
        transl``, not of its logarithm: so the unknowns are the kinematics' parameters, and what
        was measured in 3D depends on them linearly. The solver keeps it positive. Size is also
        what betas are about: only a known shape (`with_shape`) leaves all of it to the scale.
        Raises ``ValueError`` unless both are positive.
        """
        if not (0 < mean < np.inf and 0 < sigma < np.inf):
            raise ValueError(f"scale {mean} with sigma {sigma}: both must be positive and finite")
        precision = np.zeros((NUM_PARAMS + 1, NUM_PARAMS + 1))
        precision[:SCALE, :SCALE] = self.precision[:SCALE, :SCALE]
        precision[SCALE, SCALE] = 1 / sigma**2
        return Prior(np.append(self.mean[:SCALE], mean), precision)

    def loosened(self, part: slice, factor: float) -> Prior:
        """The same prior with sigmas of some of the parameters ``factor`` times as wide."""
        tighter = np.ones(len(self.mean))
        tighter[part] = 1 / factor
        return Prior(self.mean, self.precision * tighter * tighter[:, None])

    def times(self, part: slice, mean: Array, sigma: Array) -> Prior:
        """The product with an independent diagonal Gaussian on some of the parameters."""
        precision = self.precision.copy()
        index = np.arange(len(self.mean))[part]
        before = precision[index][:, index] @ self.mean[index]
        precision[index, index] += 1 / np.square(sigma)
        combined = self.mean.copy()
        combined[index] = np.linalg.solve(
            precision[index][:, index], before + np.asarray(mean) / np.square(sigma)
        )
        return Prior(combined, precision)


def default_prior(model: HandModel, shape_sigma: float = 1.0) -> Prior:
    """Pose and shape prior of a hand nobody has seen before.

    Position and heading are as good as free: 10 m and 10 rad keep a hand of which nothing was
    seen solvable, with the covariance that this deserves.
    """
    mean, sigma = np.zeros(NUM_PARAMS), np.full(NUM_PARAMS, 10.0)
    mean[HAND_POSE], sigma[HAND_POSE] = pose_prior(model.side)
    sigma[BETAS] = shape_sigma
    return Prior(mean, np.diag(1 / sigma**2))


class Problem(NamedTuple):
    """B hands as arrays, padded to V views and M relative sets; NumPy or torch.

    The ``whiten`` map differences to units of their sigma, zero where nothing was seen;
    ``depth_weight`` are inverse sigmas. What no hand has is None.
    """

    cameras: CameraArrays | None  # (B, V)
    uv: AnyArray  # (B, V, 21, 2)
    whiten: AnyArray  # (B, V, 21, 2, 2)
    depth: AnyArray  # (B, V, 21)
    depth_weight: AnyArray  # (B, V, 21)
    points: AnyArray  # (B, 21, 3)
    points_whiten: AnyArray  # (B, 21, 3, 3)
    relative: AnyArray  # (B, M, 21, 3)
    relative_whiten: AnyArray  # (B, M, 21, 3, 3)
    prior_mean: AnyArray  # (B, P), P = 61 or, with scale, 62
    prior_precision: AnyArray  # (B, P, P)
    lower: AnyArray  # (45,)
    upper: AnyArray  # (45,)

    def to(self, reference: AnyArray) -> Problem:
        """The same problem as arrays of the kind of ``reference``."""
        return Problem(
            *(
                value if value is None
                else value.to(reference) if isinstance(value, CameraArrays)
                else like(value, reference)
                for value in self
            )
        )  # fmt: skip

    def select(self, which: AnyArray) -> Problem:
        """Some of the hands, by a mask (B,)."""
        kept = {
            name: None if getattr(self, name) is None else getattr(self, name)[which]
            for name in self._fields
            if name not in ("cameras", "lower", "upper")
        }
        cameras = None if self.cameras is None else self.cameras.select(which)
        return self._replace(cameras=cameras, **kept)


def pack(model: HandModel, observations: Sequence[Observation], priors: Sequence[Prior]) -> Problem:
    """Observations of B hands of one side as NumPy arrays.

    Raises ``ValueError`` if only some of the priors are `Prior.with_scale`.
    """
    if len({len(p.mean) for p in priors}) > 1:
        raise ValueError("scale is unknown of some hands only: solve them apart, or `with_scale`")
    lower, upper = pose_limits(model.side)
    views = max((len(o.views) for o in observations), default=0)
    sets = max((len(o.relative) for o in observations), default=0)
    with_depth = any(v.depth is not None for o in observations for v in o.views)
    with_points = any(o.points is not None for o in observations)
    cameras, uv, whiten = _pack_views(observations, views) if views else (None, None, None)
    depth, depth_weight = _pack_depth(observations, views) if with_depth else (None, None)
    points, points_whiten = _pack_points(observations) if with_points else (None, None)
    relative, relative_whiten = _pack_relative(observations, sets) if sets else (None, None)
    return Problem(
        cameras, uv, whiten, depth, depth_weight, points, points_whiten, relative, relative_whiten,
        prior_mean=np.stack([p.mean for p in priors]),
        prior_precision=np.stack([p.precision for p in priors]),
        lower=lower,
        upper=upper,
    )  # fmt: skip


def _pack_views(
    observations: Sequence[Observation], count: int
) -> tuple[CameraArrays, Array, Array]:
    some = next(v.camera for o in observations for v in o.views)
    padded = [[v.camera for v in o.views] + [some] * (count - len(o.views)) for o in observations]
    stacked = stack_cameras(tuple(camera for row in padded for camera in row))
    lead = (len(observations), count)
    cameras = CameraArrays(
        R=stacked.R.reshape(*lead, 3, 3),
        t=stacked.t.reshape(*lead, 3),
        A=stacked.A.reshape(*lead, 2, 2),
        c=stacked.c.reshape(*lead, 2),
        k=stacked.k.reshape(-1, *lead),
        limit=stacked.limit.reshape(lead),
        fisheye=None if stacked.fisheye is None else stacked.fisheye.reshape(lead),
    )
    uv, whiten = np.zeros((*lead, 21, 2)), np.zeros((*lead, 21, 2, 2))
    for b, observation in enumerate(observations):
        for i, view in enumerate(observation.views):
            uv[b, i], whiten[b, i] = _whitened(view.uv, view.noise)
    return cameras, uv, whiten


def _pack_depth(observations: Sequence[Observation], count: int) -> tuple[Array, Array]:
    depth, weight = (np.zeros((len(observations), count, 21)) for _ in range(2))
    for b, observation in enumerate(observations):
        for i, view in enumerate(observation.views):
            if view.depth is not None and view.depth_sigma is not None:
                seen = np.isfinite(view.depth) & np.isfinite(view.depth_sigma)
                depth[b, i] = np.where(seen, view.depth, 0.0)
                weight[b, i] = np.where(seen, 1 / np.where(seen, view.depth_sigma, 1.0), 0.0)
    return depth, weight


def _pack_points(observations: Sequence[Observation]) -> tuple[Array, Array]:
    points, whiten = np.zeros((len(observations), 21, 3)), np.zeros((len(observations), 21, 3, 3))
    for b, observation in enumerate(observations):
        if observation.points is not None:
            points[b], whiten[b] = _whitened(observation.points.points, observation.points.noise)
    return points, whiten


def _pack_relative(observations: Sequence[Observation], count: int) -> tuple[Array, Array]:
    points = np.zeros((len(observations), count, 21, 3))
    whiten = np.zeros((len(observations), count, 21, 3, 3))
    for b, observation in enumerate(observations):
        for i, relative in enumerate(observation.relative):
            points[b, i], whiten[b, i] = _whitened(relative.points, relative.noise)
    return points, whiten


def _whitened(values: Array, noise: Array) -> tuple[Array, Array]:
    """Values (21, D) with NaN replaced by zero, and whitening matrices (21, D, D), zero there."""
    size = values.shape[-1]
    covariance = np.asarray(noise, dtype=np.float64)
    if covariance.ndim == 1:
        seen = np.isfinite(values).all(-1) & np.isfinite(covariance)
        inverse = np.where(seen, 1 / np.where(seen, covariance, 1.0), 0.0)
        return np.where(seen[:, None], values, 0.0), inverse[:, None, None] * np.eye(size)
    seen = np.asarray(np.isfinite(values).all(-1) & np.isfinite(covariance).all((-1, -2)))
    safe = np.where(seen[:, None, None], covariance, np.eye(size))
    whiten = np.linalg.inv(np.linalg.cholesky(safe))
    return np.where(seen[:, None], values, 0.0), np.where(seen[:, None, None], whiten, 0.0)

