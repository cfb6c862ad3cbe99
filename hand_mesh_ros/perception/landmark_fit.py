"""The backend that works out of the box: landmarks of all views, one MANO fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.geometry.alignment import procrustes
from hand_mesh_ros.geometry.triangulation import triangulate
from hand_mesh_ros.hand import solver
from hand_mesh_ros.hand.kinematics import BETAS, GLOBAL_ORIENT, HAND_POSE, TRANSL, forward
from hand_mesh_ros.hand.model import HandModel
from hand_mesh_ros.perception.estimate import HandViews
from hand_mesh_ros.types import HandEstimate, ManoParameters, Side, View

Array = NDArray[np.float64]


@dataclass(frozen=True)
class LandmarkFitSettings:
    """``world_sigma``: one sigma, metres, of the network's metric landmarks about their centre,

    for one view; they guide the fingers that no second view resolves. ``max_residual``: a fit
    whose median reprojection error exceeds this many sigmas is not believed. ``shape_memory``:
    one sigma, in betas, that a track's shape is let change by from one frame to the next. ``sure_side``: log-odds of a side
    below which both sides are tried.
    """

    world_sigma: float = 0.015
    max_residual: float = 4.0
    shape_memory: float = 0.5
    sure_side: float = 2.0
    options: solver.SolverOptions = field(default_factory=solver.SolverOptions)


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
        model, fit = min(made, key=lambda pair: pair[1].cost)
        scaled = fit.residual_px / np.stack([v.sigma for v in hand.views])
        if not np.median(scaled) < self.settings.max_residual:
            return None
        return _to_estimate(model, hand, fit, scaled)

    def _fit(self, hand: HandViews, side: Side) -> tuple[HandModel, solver.Fit] | None:
        views, model = hand.views, self.models[side]
        prior = solver.default_prior(model, self.settings.options)
        last = hand.previous.estimate if hand.previous is not None else None
        if last is not None and last.side == side and len(last.view_indices) > 1:
            prior = _remembered_shape(prior, last, self.settings.shape_memory)
        points = _triangulated(views)
        relative = self._relative(views, points)
        try:
            if points is not None:
                start = solver.start_from_points(model, points, prior)
            else:
                view, world = views[0], relative[0].points
                start = solver.start_from_view(model, view.camera, view.uv, world, prior)
        except ValueError:  # too little of the palm was seen
            return None
        observed = [solver.Landmarks2D(v.camera, v.uv, v.sigma) for v in views]
        return model, solver.fit(model, observed, start, prior, relative, self.settings.options)

    def _relative(self, views: Sequence[View], points: Array | None) -> list[solver.Relative3D]:
        """Each view's metric landmarks in world axes, at the size that triangulation found."""
        sigma = np.full(21, self.settings.world_sigma * np.sqrt(len(views)))
        out = []
        for view in views:
            world = view.world @ view.camera.T_camera_world[:3, :3]
            if points is not None:
                size, _, _ = procrustes(world, points, with_scale=True)
                world = world * np.clip(size, 0.5, 2.0)
            out.append(solver.Relative3D(world, sigma))
        return out


def _triangulated(views: Sequence[View]) -> Array | None:
    if len(views) < 2:
        return None
    uv, sigma = np.stack([v.uv for v in views]), np.stack([v.sigma for v in views])
    return triangulate([v.camera for v in views], uv, sigma)


def _remembered_shape(prior: solver.Prior, last: HandEstimate, sigma: float) -> solver.Prior:
    """The population's shape prior times what the track's last frame says.

    The product, not the last shape alone: a frame that misjudged the hand is forgotten again.
    """
    mean, spread = prior.mean.copy(), prior.sigma.copy()
    precision = 1 / prior.sigma[BETAS] ** 2 + 1 / sigma**2
    mean[BETAS] = (prior.mean[BETAS] / prior.sigma[BETAS] ** 2 + last.mano.betas / sigma**2) / (
        precision
    )
    spread[BETAS] = 1 / np.sqrt(precision)
    return solver.Prior(mean, spread)


def _to_estimate(
    model: HandModel, hand: HandViews, fit: solver.Fit, scaled: Array
) -> HandEstimate:
    views, p = hand.views, fit.params
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
        joints=fit.joints,
        covariance=fit.joint_covariance,
        wrist=solver.wrist_frame(model, p),
        wrist_covariance=fit.wrist_covariance,
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
        residual_px=fit.residual_px,
        view_indices=tuple(v.index for v in views),
        scale_source="multi_view" if len(views) > 1 else "model_prior",
        vertices=posed.vertices[0],
        converged=fit.converged,
    )


def _side_confidence(hand: HandViews, side: Side) -> float:
    """Probability of the chosen side, at least one half: the fit may overrule the networks."""
    odds = hand.right_log_odds if side == "right" else -hand.right_log_odds
    return float(max(1 / (1 + np.exp(-odds)), 0.5))
