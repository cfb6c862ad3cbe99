"""The backend that works out of the box: landmarks of all views, one MANO fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.geometry.alignment import procrustes
from hand_mesh_ros.geometry.cameras import undistort
from hand_mesh_ros.geometry.rotations import invert_rigid, transform_points
from hand_mesh_ros.geometry.triangulation import triangulate
from hand_mesh_ros.hand.kinematics import BETAS, GLOBAL_ORIENT, HAND_POSE, TRANSL
from hand_mesh_ros.hand.landmarks import landmarks_and_jacobian
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
from hand_mesh_ros.hand.robot_frames import wrist_frame
from hand_mesh_ros.hand.shape import HandShape
from hand_mesh_ros.hand.shape_error import with_shape_uncertainty
from hand_mesh_ros.hand.solver import Fit, SolverOptions, inflated, solve
from hand_mesh_ros.hand.starts import start_from_points, start_from_view
from hand_mesh_ros.perception.estimate import HandViews
from hand_mesh_ros.perception.shape_check import ShapeCheck
from hand_mesh_ros.types import HandEstimate, ManoParameters, ScaleSource, Side, View

Array = NDArray[np.float64]


@dataclass(frozen=True)
class LandmarkFitSettings:
    """How the fit weighs what it is given.

    ``world_sigma``: one sigma, metres, of the network's metric landmarks about their centre, for
    one view; they guide the fingers that no second view resolves. ``max_residual``: a fit whose
    median reprojection error exceeds this many sigmas is not believed. ``shape_memory``: one
    sigma, in betas, that a track's shape is let change by from one frame to the next.
    ``shape_sigma``: of the shape prior, below 1 because the errors of a view's landmarks are not
    independent; less with one view, which sees size and distance as one.
    ``sure_side``: log-odds of a side below which both sides are tried.
    """

    world_sigma: float = 0.015
    world_sigma_calibrated: float = 0.03
    max_residual: float = 4.0
    shape_memory: float = 0.5
    shape_sigma: float = 0.7
    shape_sigma_one_view: float = 0.5
    sure_side: float = 2.0
    options: SolverOptions = field(default_factory=SolverOptions)


class _Person:
    """Whose hands are fitted: a calibrated shape or None, and both sides' models for it."""

    def __init__(self, models: Mapping[Side, HandModel], shape: HandShape | None) -> None:
        self.shape = shape
        self.models = models if shape is None else {s: shape.worn(m) for s, m in models.items()}
        self.noise = np.ones(21) if shape is None else shape.noise
        self.known = shape is not None and shape.offsets is not None
        self.check = None if shape is None else ShapeCheck(shape.residual, shape.noise)


class LandmarkFit:
    """Triangulates when two or more views allow it, then fits the hand model to all pixels.

    With a calibrated ``shape`` all hands are of that person: bones keep their lengths, and one view
    gives the distance; landmarks are where the network marks them on this person's hands, and as
    good as they were while it was calibrated.
    """

    def __init__(
        self,
        models: Mapping[Side, HandModel],
        settings: LandmarkFitSettings | None = None,
        shape: HandShape | None = None,
    ) -> None:
        self.models = models
        self.settings = settings or LandmarkFitSettings()
        self._person = _Person(models, shape)

    def use_shape(self, shape: HandShape | None) -> None:
        """From the next hand on; None: each hand's shape is estimated again. Any thread may call.

        ``ValueError`` for a shape of another hand model.
        """
        if shape is not None and shape.model_id != self.models["right"].model_id:
            raise ValueError(
                f"the shape is of the hand model {shape.model_id!r}, not of "
                f"{self.models['right'].model_id!r}"
            )
        self._person = _Person(self.models, shape)

    def worn(self, side: Side) -> HandModel:
        """The hand model of a side with the landmarks of the person in use."""
        return self._person.models[side]

    @property
    def shape_misfit(self) -> float | None:
        """How many times worse than promised recent hands fit the shape; see `ShapeCheck`."""
        check = self._person.check
        return None if check is None else check.misfit

    def estimate(self, hands: Sequence[HandViews]) -> list[HandEstimate | None]:
        """See `Backend`."""
        person = self._person
        return [self._one(hand, person) for hand in hands]

    def _one(self, hand: HandViews, person: _Person) -> HandEstimate | None:
        odds = hand.right_log_odds
        sides: list[Side] = ["right", "left"] if odds >= 0 else ["left", "right"]
        fits = [self._fit(hand, sides[0], person)]
        if abs(odds) < self.settings.sure_side:
            # The wrong hand bends its fingers the wrong way: what fits better decides.
            fits.append(self._fit(hand, sides[1], person))
        made = [fit for fit in fits if fit is not None]
        if not made:
            return None
        model, best = min(made, key=lambda pair: float(pair[1].cost))
        sigma = np.stack([v.sigma for v in hand.views])
        scaled = best.residual_px / sigma
        if not np.median(scaled) < self.settings.max_residual:
            return None
        if not (best.plausible and np.isfinite(best.covariance).all()):
            return None
        if person.check is not None and len(hand.views) > 1:
            person.check.add(best.residual_px, sigma)
        return _to_estimate(model, hand, best, scaled, person.shape is not None)

    def _fit(
        self, hand: HandViews, side: Side, person: _Person
    ) -> tuple[HandModel, Fit] | None:
        views, model, shape = hand.views, person.models[side], person.shape
        prior = self._prior(hand, model) if shape is None else shape.held(default_prior(model))
        points = _located(views)
        relative = self._relative(views, points, person)
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
        options, problem = self.settings.options, pack(model, [observation], [prior])
        best = solve(model, problem, start[None], options)[0]
        if shape is not None:
            best = with_shape_uncertainty(model, best, shape, problem, options.cutoff)
        return model, best

    def _prior(self, hand: HandViews, model: HandModel) -> Prior:
        """Of a hand whose shape nobody has calibrated: the population's, and the track's so far."""
        settings, metric = self.settings, len(hand.views) > 1 or _has_depth(hand.views[0])
        prior = default_prior(
            model, settings.shape_sigma if metric else settings.shape_sigma_one_view
        )
        last = hand.previous.estimate if hand.previous is not None else None
        if last is None or last.side != model.side or last.scale_source == "model_prior":
            return prior
        return prior.times(BETAS, last.mano.betas, np.full(10, settings.shape_memory))

    def _relative(
        self, views: Sequence[View], points: Array | None, person: _Person
    ) -> list[Relative3D]:
        """Each view's metric landmarks in world axes, as large as the located ``points``."""
        settings = self.settings
        each = settings.world_sigma_calibrated if person.known else settings.world_sigma
        sigma = np.full(21, each * np.sqrt(len(views)))
        out = []
        for view in views:
            world = view.world @ view.camera.T_camera_world[:3, :3]
            if points is not None:
                size, _, _ = procrustes(world, points, with_scale=True)
                world = world * np.clip(size, 0.5, 2.0)
            out.append(Relative3D(world, sigma))
        return out


def _located(views: Sequence[View]) -> Array | None:
    """Landmarks (21, 3) in the world, triangulated or by one view's depth; None without either."""
    if len(views) < 2:
        return _placed_by_depth(views[0])
    uv, sigma = np.stack([v.uv for v in views]), np.stack([v.sigma for v in views])
    return triangulate([v.camera for v in views], uv, sigma)


def _has_depth(view: View) -> bool:
    return view.depth is not None and bool(np.isfinite(view.depth).any())


def _placed_by_depth(view: View) -> Array | None:
    """A view's metric landmarks (21, 3), moved and scaled to where its depth image has the hand."""
    if view.depth is None or not _has_depth(view):
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


def _to_estimate(
    model: HandModel, hand: HandViews, best: Fit, scaled: Array, calibrated: bool
) -> HandEstimate:
    views, p = hand.views, best.params
    widen = inflated(best)
    presence = np.array([v.presence for v in views])
    agreement = np.exp(-0.5 * np.minimum(np.nan_to_num(scaled, nan=9.0), 9.0) ** 2)
    joint_confidence = 1 - np.prod(1 - presence[:, None] * agreement, axis=0)
    return HandEstimate(
        side=model.side,
        joints=best.joints,
        covariance=widen * best.joint_covariance,
        wrist=wrist_frame(best.joints, model.side),
        wrist_covariance=widen * best.wrist_covariance,
        mano=ManoParameters(
            model_id=model.model_id,
            side=model.side,
            global_orient=p[GLOBAL_ORIENT],
            hand_pose=p[HAND_POSE],
            betas=p[BETAS],
            transl=p[TRANSL],
        ),
        confidence=float(presence.mean()),
        side_confidence=_side_confidence(hand, model.side),
        joint_confidence=joint_confidence,
        # Landmarks carry no occlusion flag: a joint counts as seen where the fit explains it.
        visibility=(scaled < 3).mean(axis=0),
        residual_px=best.residual_px,
        view_indices=tuple(v.index for v in views),
        scale_source=_scale_source(views, best.joints, calibrated),
        converged=bool(best.converged),
    )


def _scale_source(views: Sequence[View], joints: Array, calibrated: bool) -> ScaleSource:
    """What made the hand metric; depth only if the fit did not have to set it aside."""
    if len(views) > 1:
        return "multi_view"
    (view,) = views
    if view.depth is not None and view.depth_sigma is not None and _has_depth(view):
        z = transform_points(view.camera.T_camera_world, joints)[:, 2]
        if np.nanmedian(np.abs(z - view.depth) / view.depth_sigma) < 3:
            return "depth"
    return "calibrated_shape" if calibrated else "model_prior"


def _side_confidence(hand: HandViews, side: Side) -> float:
    """Probability of the chosen side, at least one half: the fit may overrule the networks."""
    odds = hand.right_log_odds if side == "right" else -hand.right_log_odds
    return float(max(1 / (1 + np.exp(-odds)), 0.5))
