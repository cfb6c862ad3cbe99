"""The backend that works out of the box: landmarks of all views, one MANO fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.geometry.alignment import procrustes
from hand_mesh_ros.geometry.triangulation import triangulate
from hand_mesh_ros.hand.kinematics import BETAS, GLOBAL_ORIENT, HAND_POSE, TRANSL, forward
from hand_mesh_ros.hand.model import HandModel
from hand_mesh_ros.hand.observations import Landmarks2D, Observation, Relative3D, default_prior
from hand_mesh_ros.hand.solver import Fit, SolverOptions, fit, inflated
from hand_mesh_ros.hand.starts import start_from_points, start_from_view, wrist_frame
from hand_mesh_ros.perception.estimate import HandViews
from hand_mesh_ros.types import HandEstimate, ManoParameters, Side, View

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
    max_residual: float = 4.0
    shape_memory: float = 0.5
    shape_sigma: float = 0.7
    shape_sigma_one_view: float = 0.5
    sure_side: float = 2.0
    options: SolverOptions = field(default_factory=SolverOptions)


class LandmarkFit:
    """Triangulates when two or more views allow it, then fits the hand model to all pixels."""

    def __init__(
        self, models: Mapping[Side, HandModel], settings: LandmarkFitSettings | None = None
    ) -> None:
        self.models = models
        self.settings = settings or LandmarkFitSettings()

    def estimate(self, hands: Sequence[HandViews]) -> list[HandEstimate | None]:
        """See `Backend`."""
        return [self._one(hand) for hand in hands]

    def _one(self, hand: HandViews) -> HandEstimate | None:
        odds = hand.right_log_odds
        sides: list[Side] = ["right", "left"] if odds >= 0 else ["left", "right"]
        fits = [self._fit(hand, sides[0])]
        if abs(odds) < self.settings.sure_side:
            # The wrong hand bends its fingers the wrong way: what fits better decides.
            fits.append(self._fit(hand, sides[1]))
        made = [fit for fit in fits if fit is not None]
        if not made:
            return None
        model, best = min(made, key=lambda pair: float(pair[1].cost))
        scaled = best.residual_px / np.stack([v.sigma for v in hand.views])
        if not np.median(scaled) < self.settings.max_residual:
            return None
        if not (best.plausible and np.isfinite(best.covariance).all()):
            return None
        return _to_estimate(model, hand, best, scaled)

    def _fit(self, hand: HandViews, side: Side) -> tuple[HandModel, Fit] | None:
        views, model = hand.views, self.models[side]
        settings = self.settings
        shape_sigma = settings.shape_sigma if len(views) > 1 else settings.shape_sigma_one_view
        prior = default_prior(model, shape_sigma)
        last = hand.previous.estimate if hand.previous is not None else None
        if last is not None and last.side == side and len(last.view_indices) > 1:
            sigma = np.full(10, self.settings.shape_memory)
            prior = prior.times(BETAS, last.mano.betas, sigma)
        points = _triangulated(views)
        relative = self._relative(views, points)
        try:
            if points is not None:
                start = start_from_points(model, points, prior.mean)
            else:
                view, world = views[0], relative[0].points
                start = start_from_view(model, view.camera, view.uv, world, prior.mean)
        except ValueError:  # too little of the palm was seen
            return None
        seen = tuple(Landmarks2D(v.camera, v.uv, v.sigma) for v in views)
        observation = Observation(views=seen, relative=tuple(relative))
        return model, fit(model, observation, prior, start, self.settings.options)

    def _relative(self, views: Sequence[View], points: Array | None) -> list[Relative3D]:
        """Each view's metric landmarks in world axes, at the size that triangulation found."""
        sigma = np.full(21, self.settings.world_sigma * np.sqrt(len(views)))
        out = []
        for view in views:
            world = view.world @ view.camera.T_camera_world[:3, :3]
            if points is not None:
                size, _, _ = procrustes(world, points, with_scale=True)
                world = world * np.clip(size, 0.5, 2.0)
            out.append(Relative3D(world, sigma))
        return out


def _triangulated(views: Sequence[View]) -> Array | None:
    if len(views) < 2:
        return None
    uv, sigma = np.stack([v.uv for v in views]), np.stack([v.sigma for v in views])
    return triangulate([v.camera for v in views], uv, sigma)


def _to_estimate(
    model: HandModel, hand: HandViews, best: Fit, scaled: Array
) -> HandEstimate:
    views, p = hand.views, best.params
    widen = inflated(best)
    posed = forward(
        model,
        p[None, GLOBAL_ORIENT],
        p[None, HAND_POSE],
        p[None, BETAS],
        p[None, TRANSL],
    )
    assert posed.vertices is not None
    presence = np.array([v.presence for v in views])
    agreement = np.exp(-0.5 * np.minimum(np.nan_to_num(scaled, nan=9.0), 9.0) ** 2)
    joint_confidence = 1 - np.prod(1 - presence[:, None] * agreement, axis=0)
    return HandEstimate(
        side=model.side,
        joints=best.joints,
        covariance=widen * best.joint_covariance,
        wrist=wrist_frame(model, p),
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
        scale_source="multi_view" if len(views) > 1 else "model_prior",
        vertices=posed.vertices[0],
        converged=bool(best.converged),
    )


def _side_confidence(hand: HandViews, side: Side) -> float:
    """Probability of the chosen side, at least one half: the fit may overrule the networks."""
    odds = hand.right_log_odds if side == "right" else -hand.right_log_odds
    return float(max(1 / (1 + np.exp(-odds)), 0.5))
