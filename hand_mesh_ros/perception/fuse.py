"""Fusion of single-view estimates: each view by its full covariance, and what they err in common.

A view knows a hand's distance far worse than its direction; views from other directions do not.
So every joint is the mean of the views weighted by their full 3x3 information. Errors that all
views make alike, as the same network's idea of a pose, do not average out: they are added after
fusion. A view that contradicts two or more others is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.geometry.cameras import project
from hand_mesh_ros.geometry.rotations import log_so3
from hand_mesh_ros.hand.model import HandModel
from hand_mesh_ros.hand.robot_frames import wrist_frame
from hand_mesh_ros.hand.shape import HandShape
from hand_mesh_ros.perception.estimate import Backend, HandViews, TakesShape
from hand_mesh_ros.perception.pose import TURN, HandPose, described, knowledge, posed_to
from hand_mesh_ros.types import HandEstimate, Side, View

Array = NDArray[np.float64]


@dataclass(frozen=True)
class FuseSettings:
    """``common``: one sigma, m, and ``common_turn``, radians, of the error that all views share.

    ``gate``: mean chi-squared a number past which two views contradict each other.
    """

    common: float = 0.004
    common_turn: float = 0.04
    gate: float = 4.0


@runtime_checkable
class SingleView(Protocol):
    """A backend that estimates a hand from one view; ``single_view`` is true for such.

    ``models`` are the hand models that its MANO parameters belong to.
    """

    single_view: bool
    models: Mapping[Side, HandModel]

    def estimate(self, hands: Sequence[HandViews]) -> list[HandEstimate | None]: ...


def fused(backend: Backend) -> Backend:
    """The backend itself, or, if it sees one view at a time, one that fuses its answers."""
    if isinstance(backend, SingleView) and backend.single_view:
        return PerView(backend)
    return backend


class PerView:
    """A single-view backend, asked once for all views of all hands; its answers are fused."""

    def __init__(self, backend: SingleView, settings: FuseSettings | None = None) -> None:
        self.models = backend.models
        self.settings = settings or FuseSettings()
        self._backend = backend

    def use_shape(self, shape: HandShape | None) -> None:
        """See `TakesShape`; ``ValueError`` if the backend takes none."""
        if not isinstance(self._backend, TakesShape):
            raise ValueError(
                f"the backend {type(self._backend).__name__} takes no calibrated shape: leave it "
                "out, or choose the backend 'landmarks'"
            )
        self._backend.use_shape(shape)

    def estimate(self, hands: Sequence[HandViews]) -> list[HandEstimate | None]:
        """See `Backend`."""
        answers = self._backend.estimate(
            [replace(hand, views=(view,)) for hand in hands for view in hand.views]
        )
        out, begin = [], 0
        for hand in hands:
            end = begin + len(hand.views)
            made = [
                (view, answer)
                for view, answer in zip(hand.views, answers[begin:end], strict=True)
                if answer is not None
            ]
            out.append(fuse_estimates(made, self.models, self.settings) if made else None)
            begin = end
        return out


def fuse_points(points: Array, covariance: Array, common: float) -> tuple[Array, Array]:
    """Fused points (N, 3) and covariance (N, 3, 3) of V views' points (V, N, 3).

    Weighted by the inverses of their ``covariance`` (V, N, 3, 3); ``common`` is one sigma, in
    metres, of an error that is the same in all views and is not in their covariances.
    """
    information = np.linalg.inv(covariance)
    total = np.linalg.inv(information.sum(0))
    mean = total @ (information @ points[..., None]).sum(0)
    return mean[..., 0], total + common**2 * np.eye(points.shape[-1])


def consistent(points: Array, covariance: Array, gate: float) -> NDArray[np.bool_]:
    """Which of V views (V,) to believe: ``points`` (V, N, 3) with ``covariance`` (V, N, 3, 3).

    Two views contradict each other where their mean squared Mahalanobis distance, a number,
    exceeds ``gate``. Of the views that contradict at least two others, and more than half of
    them, the one that contradicts most goes first, until there is none.
    """
    kept = np.ones(len(points), dtype=bool)
    gap = points[:, None] - points[None]
    both = covariance[:, None] + covariance[None]
    chi2 = (gap * np.linalg.solve(both, gap[..., None])[..., 0]).sum(-1).mean(-1) / 3
    against = chi2 > gate
    while True:
        among = against & kept & kept[:, None]
        count = among.sum(1)
        guilty = (count >= 2) & (2 * count > kept.sum() - 1)
        if not guilty.any():
            return kept
        kept[np.argmax(np.where(guilty, (chi2 * among).sum(1), -1.0))] = False


def fuse_estimates(
    made: Sequence[tuple[View, HandEstimate]],
    models: Mapping[Side, HandModel],
    settings: FuseSettings,
) -> HandEstimate:
    """One estimate from those of each view, at least one; those of the unlikelier side are left

    out. A single one is returned as it is. ``ValueError`` where covariances are not known.
    """
    votes = sum((1 if e.side == "right" else -1) * e.confidence for _, e in made)
    side: Side = "right" if votes >= 0 else "left"
    made = [(view, e) for view, e in made if e.side == side]
    if not all(np.isfinite(e.covariance).all() for _, e in made):
        raise ValueError("views can only be fused by a backend that knows its covariance")
    points = np.stack([e.joints for _, e in made])
    covariance = np.stack([e.covariance for _, e in made])
    kept = consistent(points, covariance, settings.gate)
    made = [pair for pair, keep in zip(made, kept, strict=True) if keep]
    if len(made) == 1:
        return made[0][1]
    views, estimates = [view for view, _ in made], [e for _, e in made]
    joints, spread = fuse_points(points[kept], covariance[kept], settings.common)
    surest = min(estimates, key=lambda e: float(np.trace(e.wrist_covariance[:3, :3])))
    start = HandPose.of(surest, models)
    pose = posed_to(replace(start, betas=_mean_betas(estimates, models)), joints, spread)
    wrist = wrist_frame(pose.joints(), side)
    wrist_covariance = _fused_wrist(estimates, wrist, settings)
    whole = replace(
        surest,
        side=side,
        covariance=spread,
        wrist_covariance=wrist_covariance,
        confidence=float(np.mean([e.confidence for e in estimates])),
        side_confidence=float(np.mean([e.side_confidence for e in estimates])),
        joint_confidence=1 - np.prod([1 - e.joint_confidence for e in estimates], axis=0),
        visibility=np.mean([e.visibility for e in estimates], axis=0),
        view_indices=tuple(view.index for view in views),
        scale_source="multi_view",
        converged=all(e.converged for e in estimates),
        calibration=_calibrations(estimates),
        widened=float(np.mean([e.widened for e in estimates])),
    )
    found = described(whole, pose, knowledge(whole, pose)[0])
    residual = [np.linalg.norm(project(v.camera, found.joints) - v.uv, axis=-1) for v in views]
    return replace(
        found,
        covariance=spread,
        wrist_covariance=wrist_covariance,
        residual_px=np.stack(residual),
    )


def _calibrations(estimates: Sequence[HandEstimate]) -> str:
    """What the views' covariances were measured on; empty if one's was not measured."""
    names = dict.fromkeys(e.calibration for e in estimates)
    return "" if "" in names else " & ".join(names)


def _mean_betas(estimates: Sequence[HandEstimate], models: Mapping[Side, HandModel]) -> Array:
    weight = np.array([1 / max(np.trace(e.wrist_covariance), 1e-12) for e in estimates])
    betas = np.stack([HandPose.of(e, models).betas for e in estimates])
    return np.asarray(weight @ betas / weight.sum())


def _fused_wrist(
    estimates: Sequence[HandEstimate], wrist: Array, settings: FuseSettings
) -> Array:
    """Covariance (6, 6) of the fused wrist pose, no smaller than the views' disagreement on it."""
    own = np.stack([e.wrist_covariance for e in estimates])
    total = np.linalg.inv(np.linalg.inv(own).sum(0))
    gaps = np.zeros((len(estimates), 6))
    for gap, e in zip(gaps, estimates, strict=True):
        gap[:3] = e.wrist[:3, 3] - wrist[:3, 3]
        gap[TURN] = log_so3(e.wrist[:3, :3] @ wrist[:3, :3].T)
    chi2 = (gaps * np.linalg.solve(own, gaps[..., None])[..., 0]).sum(-1).mean() / 6
    common = np.repeat(np.square([settings.common, settings.common_turn]), 3)
    return np.asarray(max(1.0, float(chi2)) * total + np.diag(common))
