"""One hand from what several views tell of it: where to begin, what is known before, which side.

The part that all backends share which see landmarks, joints or relative 3D, whatever network they
come from. It makes hands metric: by several views, by depth, or by a calibrated shape.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.geometry.alignment import procrustes
from hand_mesh_ros.geometry.cameras import undistort
from hand_mesh_ros.geometry.rotations import invert_rigid, transform_points
from hand_mesh_ros.geometry.triangulation import triangulate
from hand_mesh_ros.hand.kinematics import BETAS, HAND_POSE
from hand_mesh_ros.hand.landmarks import landmarks_and_jacobian, marked_at
from hand_mesh_ros.hand.layout import BONES
from hand_mesh_ros.hand.model import HandModel
from hand_mesh_ros.hand.observations import (
    Landmarks2D,
    Observation,
    Prior,
    Relative3D,
    default_prior,
    pack,
)
from hand_mesh_ros.hand.shape import HandShape
from hand_mesh_ros.hand.shape_error import with_shape_uncertainty
from hand_mesh_ros.hand.solver import Fit, SolverOptions, solve
from hand_mesh_ros.hand.starts import start_from_points, start_from_view
from hand_mesh_ros.perception.estimate import HandViews
from hand_mesh_ros.perception.fitted import to_estimate
from hand_mesh_ros.perception.shape_check import ShapeCheck
from hand_mesh_ros.types import HandEstimate, Side, View

Array = NDArray[np.float64]


@dataclass(frozen=True)
class FitSettings:
    """How the fit weighs what it is given.

    ``max_residual``: a fit whose median reprojection error exceeds this many sigmas is not
    believed. ``shape_memory``: one sigma, in betas, that a track's shape is let change by from one
    frame to the next. ``shape_sigma``: of the shape prior, below 1 because the errors of a view's
    landmarks are not independent; less with one view, which sees size and distance as one.
    ``sure_side``: log-odds of a side below which both sides are tried.
    """

    max_residual: float = 4.0
    shape_memory: float = 0.5
    shape_sigma: float = 0.7
    shape_sigma_one_view: float = 0.5
    sure_side: float = 2.0
    options: SolverOptions = field(default_factory=SolverOptions)


@dataclass(frozen=True, eq=False)
class Told:
    """What one hand's fit is told, if it is of one side.

    ``views`` with ``relative_noise`` of their ``world``: (V, 21), one sigma of each axis in metres,
    or (V, 21, 3, 3) covariances in the cameras' axes in square metres.
    ``pose`` and ``betas``: mean and one sigma, (45,) and (10,) each, of finger angles and shape
    where a network tells them, in parameters of that side's model. ``visible`` (V, 21):
    probabilities that the views show the joints, where a network tells them. ``calibration``: as
    in `HandEstimate`, what the sigmas were measured on.
    """

    views: tuple[View, ...]
    relative_noise: Array
    pose: tuple[Array, Array] | None = None
    betas: tuple[Array, Array] | None = None
    visible: Array | None = None
    calibration: str = ""


class Person:
    """Whose hands are fitted: a calibrated shape or None, and both sides' models for it.

    ``marked``: the points are a landmark network's, which marks other places than joints, on this
    person's hands where the shape says; False: they are the models' own joints, and of a shape
    only bones count.
    """

    def __init__(
        self, models: Mapping[Side, HandModel], shape: HandShape | None, marked: bool = True
    ) -> None:
        if not marked:
            models = {side: marked_at(model, np.zeros((21, 3))) for side, model in models.items()}
            if shape is not None:
                shape = replace(
                    shape, offsets=None, offsets_sigma=None, correlation=None,
                    noise=np.ones(21), residual=float("nan"),
                )  # fmt: skip
        self.shape = shape
        self.models = models if shape is None else {s: shape.worn(m) for s, m in models.items()}
        self.noise = np.ones(21) if shape is None else shape.noise
        self.known = shape is not None and shape.offsets is not None
        self.check = None if shape is None else ShapeCheck(shape.residual, shape.noise)


class HandFitter:
    """Triangulates when two or more views allow it, then fits the hand model to all of them.

    With a calibrated ``shape`` all hands are of that person: bones keep their lengths, and one view
    gives the distance. ``marked``: see `Person`.
    """

    def __init__(
        self,
        models: Mapping[Side, HandModel],
        settings: FitSettings,
        shape: HandShape | None = None,
        marked: bool = True,
    ) -> None:
        self.models = models
        self._fit_settings, self._marked = settings, marked
        self._person = Person(models, shape, marked)

    def use_shape(self, shape: HandShape | None) -> None:
        """From the next hand on; None: each hand's shape is estimated again. Any thread may call.

        ``ValueError`` for a shape of another hand model.
        """
        if shape is not None and shape.model_id != self.models["right"].model_id:
            raise ValueError(
                f"the shape is of the hand model {shape.model_id!r}, not of "
                f"{self.models['right'].model_id!r}"
            )
        self._person = Person(self.models, shape, self._marked)

    def worn(self, side: Side) -> HandModel:
        """The hand model of a side with the landmarks of the person in use."""
        return self._person.models[side]

    @property
    def shape_misfit(self) -> float | None:
        """How many times worse than promised recent hands fit the shape; see `ShapeCheck`."""
        check = self._person.check
        return None if check is None else check.misfit

    def _sides(self, hand: HandViews) -> tuple[Side, ...]:
        """The sides to try, the likelier first."""
        odds = hand.right_log_odds
        sides: tuple[Side, Side] = ("right", "left") if odds >= 0 else ("left", "right")
        return sides if abs(odds) < self._fit_settings.sure_side else sides[:1]

    def _best(
        self, hand: HandViews, told: Mapping[Side, Told], person: Person
    ) -> HandEstimate | None:
        """The hand of the side whose fit explains best what was told of it; None if none does.

        The wrong hand bends its fingers the wrong way.
        """
        made = [
            (side, fit)
            for side, each in told.items()
            if (fit := self._fit(hand, side, each, person)) is not None
        ]
        if not made:
            return None
        side, best = min(made, key=lambda pair: float(pair[1].cost) + _log_sigmas(told[pair[0]]))
        sigma = np.stack([v.sigma for v in told[side].views])
        scaled = best.residual_px / sigma
        if not np.median(scaled) < self._fit_settings.max_residual:
            return None
        if not (best.plausible and np.isfinite(best.covariance).all()):
            return None
        if person.check is not None and len(sigma) > 1:
            person.check.add(best.residual_px, sigma)
        chosen = told[side]
        return to_estimate(
            person.models[side], replace(hand, views=chosen.views), best, scaled,
            person.shape is not None, chosen.visible, chosen.calibration,
        )  # fmt: skip

    def _fit(self, hand: HandViews, side: Side, told: Told, person: Person) -> Fit | None:
        views, model, shape = told.views, person.models[side], person.shape
        prior = self._prior(hand, told, model, shape)
        points = _located(views)
        relative = _relative(views, points, told.relative_noise)
        if shape is not None and points is None:
            relative = [_of_size(model, prior, each) for each in relative]
        try:
            if points is not None:
                start = start_from_points(model, points, prior.mean)
            else:
                view, world = views[0], relative[0].points
                start = start_from_view(model, view.camera, view.uv, world, prior.mean)
        except ValueError:  # too little of the palm was seen
            return None
        seen = tuple(Landmarks2D(v.camera, v.uv, v.sigma, v.depth, v.depth_sigma) for v in views)
        observation = Observation(views=seen, relative=tuple(relative)).with_noise(person.noise)
        options, problem = self._fit_settings.options, pack(model, [observation], [prior])
        best = solve(model, problem, start[None], options)[0]
        if shape is not None:
            best = with_shape_uncertainty(model, best, shape, problem, options.cutoff)
        return best

    def _prior(
        self, hand: HandViews, told: Told, model: HandModel, shape: HandShape | None
    ) -> Prior:
        """The population's or the person's hand, and what a network and the track so far add."""
        if shape is not None:
            prior = shape.held(default_prior(model))
        else:
            settings, views = self._fit_settings, told.views
            metric = len(views) > 1 or has_depth(views[0])
            prior = default_prior(
                model, settings.shape_sigma if metric else settings.shape_sigma_one_view
            )
            if told.betas is not None:
                prior = prior.times(BETAS, *told.betas)
            last = hand.previous.estimate if hand.previous is not None else None
            if last is not None and last.side == model.side and last.scale_source != "model_prior":
                prior = prior.times(BETAS, last.mano.betas, np.full(10, settings.shape_memory))
        return prior if told.pose is None else prior.times(HAND_POSE, *told.pose)


def has_depth(view: View) -> bool:
    """Whether a depth image told the distance of any landmark."""
    return view.depth is not None and bool(np.isfinite(view.depth).any())


def _log_sigmas(told: Told) -> float:
    """What makes costs of observations with different sigmas comparable."""
    pixels = sum(float(np.log(view.sigma).sum()) for view in told.views)
    noise = told.relative_noise
    if noise.ndim == 2:
        return 2 * pixels + 3 * float(np.log(noise).sum())
    return 2 * pixels + 0.5 * float(np.linalg.slogdet(noise)[1].sum())


def _relative(
    views: Sequence[View], points: Array | None, noise: Array
) -> list[Relative3D]:
    """Each view's metric landmarks in world axes, as large as the located ``points``."""
    out = []
    for view, each in zip(views, noise, strict=True):
        R = view.camera.T_camera_world[:3, :3]
        world = view.world @ R
        if each.ndim > 1:
            each = R.T @ each @ R
        if points is not None:
            size, _, _ = procrustes(world, points, with_scale=True)
            world = world * np.clip(size, 0.5, 2.0)
        out.append(Relative3D(world, each))
    return out


def _located(views: Sequence[View]) -> Array | None:
    """Landmarks (21, 3) in the world, triangulated or by one view's depth; None without either."""
    if len(views) < 2:
        return _placed_by_depth(views[0])
    uv, sigma = np.stack([v.uv for v in views]), np.stack([v.sigma for v in views])
    return triangulate([v.camera for v in views], uv, sigma)


def _placed_by_depth(view: View) -> Array | None:
    """A view's metric landmarks (21, 3), moved and scaled to where its depth image has the hand."""
    if view.depth is None or not has_depth(view):
        return None
    xy = undistort(view.camera, view.uv)
    seen = np.isfinite(xy).all(-1) & np.isfinite(view.depth)
    local = np.column_stack([xy, np.ones(21)])[seen] * view.depth[seen, None]
    world, centre = view.world - view.world[seen].mean(0), local.mean(0)
    # Across the view a hand's size is sure; along it, depth says more about noise than about size.
    size = np.linalg.norm((local - centre)[:, :2]) / np.linalg.norm(world[seen, :2])
    return transform_points(
        invert_rigid(view.camera.T_camera_world), np.clip(size, 0.5, 2.0) * world + centre
    )


def _of_size(model: HandModel, prior: Prior, relative: Relative3D) -> Relative3D:
    """Metric landmarks of one view, scaled so that their bones are as long as the prior's hand's.

    The network knows proportions, not this person's size.
    """
    start, end = np.array(BONES).T
    rest = landmarks_and_jacobian(model, prior.mean[None])[0][0]
    size, guess = (
        np.nansum(np.linalg.norm(points[end] - points[start], axis=-1))
        for points in (rest, relative.points)
    )
    return replace(relative, points=relative.points * np.clip(size / max(guess, 1e-6), 0.5, 2.0))
