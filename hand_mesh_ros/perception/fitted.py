"""A solved hand as an estimate: confidence, visibility, and what made it metric."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.geometry.rotations import transform_points
from hand_mesh_ros.hand.kinematics import BETAS, GLOBAL_ORIENT, HAND_POSE, TRANSL
from hand_mesh_ros.hand.model import HandModel
from hand_mesh_ros.hand.robot_frames import wrist_frame
from hand_mesh_ros.hand.solver import Fit, inflated
from hand_mesh_ros.perception.estimate import HandViews
from hand_mesh_ros.types import HandEstimate, ManoParameters, ScaleSource, Side, View

Array = NDArray[np.float64]


def to_estimate(
    model: HandModel,
    hand: HandViews,
    best: Fit,
    scaled: Array,
    calibrated: bool,
    visible: Array | None = None,
    calibration: str = "",
) -> HandEstimate:
    """The fit ``best`` of a hand's views; ``scaled`` (V, 21) residuals in their sigmas.

    ``calibrated``: the model has a person's shape. ``visible`` (V, 21): probabilities that the
    views show the joints, if a network told them. ``calibration``: as in `HandEstimate`.
    """
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
        visibility=((scaled < 3) if visible is None else visible).mean(axis=0),
        residual_px=best.residual_px,
        view_indices=tuple(v.index for v in views),
        scale_source=_scale_source(views, best.joints, calibrated),
        converged=bool(best.converged),
        calibration=calibration,
    )


def _scale_source(views: Sequence[View], joints: Array, calibrated: bool) -> ScaleSource:
    """What made the hand metric; depth only if the fit did not have to set it aside."""
    if len(views) > 1:
        return "multi_view"
    (view,) = views
    if view.depth is not None and view.depth_sigma is not None and np.isfinite(view.depth).any():
        z = transform_points(view.camera.T_camera_world, joints)[:, 2]
        if np.nanmedian(np.abs(z - view.depth) / view.depth_sigma) < 3:
            return "depth"
    return "calibrated_shape" if calibrated else "model_prior"


def _side_confidence(hand: HandViews, side: Side) -> float:
    """Probability of the chosen side, at least one half: the fit may overrule the networks."""
    odds = hand.right_log_odds if side == "right" else -hand.right_log_odds
    return float(max(1 / (1 + np.exp(-odds)), 0.5))
