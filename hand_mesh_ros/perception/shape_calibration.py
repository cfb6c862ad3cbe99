"""Hands of a running pipeline, gathered until they are enough to know a person's shape."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from hand_mesh_ros.hand.mirror import mirror_params
from hand_mesh_ros.hand.model import HandModel
from hand_mesh_ros.hand.observations import Landmarks2D, Observation
from hand_mesh_ros.hand.shape import HandShape
from hand_mesh_ros.hand.shape_fusion import FusionSettings, Sighting, calibrate_shape
from hand_mesh_ros.types import SIDES, HandEstimate, HandSet, Side, View


@dataclass(frozen=True)
class CalibrationSettings:
    """``hands``: how many sightings to gather. ``gap``: seconds between two of one side, because

    neighbouring frames say the same. ``sides``: whose; both are one person's. ``fusion``: how they
    are put together; None: as usual.
    """

    hands: int = 60
    gap: float = 0.1
    sides: tuple[Side, ...] = SIDES
    fusion: FusionSettings | None = None


class ShapeCollector:
    """Takes the pipeline's answers in and keeps the hands that fix their own size.

    Those are hands that two cameras or more saw, or one with depth, and whose fit converged.
    Everything that is gathered must be of one person.
    """

    def __init__(self, settings: CalibrationSettings | None = None) -> None:
        self.settings = settings or CalibrationSettings()
        self.sightings: list[Sighting] = []
        self._last: dict[Side, int] = {}

    @property
    def full(self) -> bool:
        """Whether there are enough."""
        return len(self.sightings) >= self.settings.hands

    def add(self, hands: HandSet) -> None:
        """Keep what is of use of the hands of one instant; time that went back is no matter."""
        for hand, views in zip(hands.hands, hands.observed, strict=False):
            side = hand.estimate.side
            gap = abs(hands.stamp_ns - self._last.get(side, -(10**18))) * 1e-9
            if self.full or side not in self.settings.sides or gap < self.settings.gap - 1e-6:
                continue
            metric = hand.estimate.scale_source in ("multi_view", "depth")
            if metric and hand.estimate.converged and not hand.extrapolated:
                self.sightings.append(sighting(hand.estimate, hands.stamp_ns, views))
                self._last[side] = hands.stamp_ns

    def calibrate(self, models: Mapping[Side, HandModel]) -> HandShape:
        """The shape of what was gathered; see `calibrate_shape`, also for errors."""
        return calibrate_shape(models, self.sightings, self.settings.fusion)


def sighting(estimate: HandEstimate, stamp_ns: int, views: Iterable[View]) -> Sighting:
    """A hand as evidence of its shape: pixels and depth, and the estimate to begin at.

    The network's metric landmarks stay out: their proportions are its idea of a hand.
    """
    mano = estimate.mano
    start = np.concatenate([mano.global_orient, mano.hand_pose, mano.betas, mano.transl])
    if mano.mirrored:
        start = mirror_params(start)
    seen = tuple(Landmarks2D(v.camera, v.uv, v.sigma, v.depth, v.depth_sigma) for v in views)
    return Sighting(estimate.side, stamp_ns, Observation(views=seen), start)
