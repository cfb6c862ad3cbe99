"""The backend that works out of the box: landmarks of all views, one MANO fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from hand_mesh_ros.hand.landmarks import landmark_noise_id, load_landmark_model
from hand_mesh_ros.hand.model import HandModel
from hand_mesh_ros.hand.shape import HandShape
from hand_mesh_ros.perception.estimate import HandViews, times_covariance
from hand_mesh_ros.perception.fit_hand import FitSettings, HandFitter, Told
from hand_mesh_ros.types import HandEstimate, Side, View


@dataclass(frozen=True)
class LandmarkFitSettings(FitSettings):
    """How the fit weighs what it is given.

    ``world_sigma``: one sigma, metres, of the network's metric landmarks about their centre, for
    one view; they guide the fingers that no second view resolves.
    """

    world_sigma: float = 0.015
    world_sigma_calibrated: float = 0.03


class LandmarkFit(HandFitter):
    """The landmark network's own 2D and relative 3D of all views, and the hand model's fit to them.

    With a calibrated ``shape``, landmarks are where the network marks them on this person's hands,
    and as good as they were while it was calibrated. Covariances grow with how badly the landmarks
    fit the hand (`hand.landmarks.LandmarkModel.misfit`).
    """

    def __init__(
        self,
        models: Mapping[Side, HandModel],
        settings: LandmarkFitSettings | None = None,
        shape: HandShape | None = None,
    ) -> None:
        self.settings = settings or LandmarkFitSettings()
        super().__init__(models, self.settings, shape)

    def estimate(self, hands: Sequence[HandViews]) -> list[HandEstimate | None]:
        """See `Backend`."""
        person, settings = self._person, self.settings
        sigma = settings.world_sigma_calibrated if person.known else settings.world_sigma
        # A person's shape brings the landmarks' noise on this person's hands.
        calibration = landmark_noise_id() + ("+shape" if person.shape is not None else "")
        out = []
        for hand in hands:
            count = len(hand.views)
            told = Told(
                hand.views, np.full((count, 21), sigma * np.sqrt(count)), calibration=calibration
            )
            made = self._best(hand, dict.fromkeys(self._sides(hand), told), person)
            out.append(None if made is None else _widened(made, hand.views))
        return out


def reprojection_misfit(made: HandEstimate, views: Sequence[View]) -> float:
    """Mean squared reprojection error of a hand fitted to ``views``, in their sigmas."""
    scaled = made.residual_px / np.stack([view.sigma for view in views])
    return float(np.nanmean(np.square(scaled)) / 2)


def _widened(made: HandEstimate, views: Sequence[View]) -> HandEstimate:
    """The hand as sure as hands are of which the landmarks agree as badly, never surer.

    One view can be explained by many hands: little that is left over says much there, unless a
    depth image tells the distance.
    """
    metric = made.scale_source in ("multi_view", "depth")
    wider = max(1.0, load_landmark_model().misfit[metric] * reprojection_misfit(made, views))
    return replace(times_covariance(made, wider), widened=wider)
