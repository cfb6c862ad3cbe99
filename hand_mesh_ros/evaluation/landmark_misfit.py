"""How much less sure hands are whose landmarks fit them badly, measured on held-out renders.

A fit to landmarks that err each for themselves knows its covariance. A network's landmarks err
together: all of a finger that is hidden, all of a hand that is taken for a larger one. That is
many times more, and it shows in how badly any hand at all fits them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from scipy.stats import chi2

from hand_mesh_ros.evaluation.metrics.uncertainty import nees
from hand_mesh_ros.evaluation.network_sigma import made_of, together
from hand_mesh_ros.evaluation.predict import PredictSettings, views_of
from hand_mesh_ros.evaluation.records import Sample
from hand_mesh_ros.evaluation.renders_v1 import RenderedSamples, entries
from hand_mesh_ros.hand.landmarks import LandmarkModel, marked_at
from hand_mesh_ros.hand.model import HandModel, load_hand_model
from hand_mesh_ros.perception.build import build_observer
from hand_mesh_ros.perception.landmark_fit import LandmarkFit, reprojection_misfit
from hand_mesh_ros.types import SIDES, Side, View

_SHARE: Final = 0.68
_BATCH: Final = 16

Found = Sequence[tuple[View, Sample]]


def measure_misfit(
    marks: LandmarkModel, images: int, progress: Callable[[int, int], None]
) -> tuple[float, float]:
    """`LandmarkModel.misfit` of `marks`: with it 68 % of joints are in their 68 % ellipsoids.

    On `images` of renders-v1's validation part, a half of them single pictures, the others hands
    in four views, of which all count together and two alone. Hands are looked for as `evaluate`
    does. Errors have longer tails than a Gaussian: of the 95 % ellipsoids fewer will be right.
    """
    half = images // 2
    single, several = (entries("validation", (part,)) for part in ("single", "multi"))
    samples = RenderedSamples(single[: images - half] + several[:half])
    observer = build_observer()
    models: dict[Side, HandModel] = {
        side: marked_at(load_hand_model(side=side), marks.offsets) for side in SIDES
    }
    backend = LandmarkFit(models)
    found: list[tuple[View, Sample]] = []
    for begin in range(0, len(samples), _BATCH):
        progress(begin, len(samples))
        for sample in samples[begin : begin + _BATCH]:
            found += [(view, sample) for view in views_of(observer, [sample], PredictSettings())]
    groups = together(found)
    one = _factor(backend, [[pair] for pair in found])
    more = _factor(backend, [*groups, *(group[:2] for group in groups if len(group) > 2)])
    progress(len(samples), len(samples))
    return one, more


def _factor(backend: LandmarkFit, hands: Sequence[Found]) -> float:
    squared = [
        made.widened * nees(made.joints - true, made.covariance) / reprojection_misfit(made, views)
        for made, views, true in made_of(backend, hands)
    ]
    return float(np.nanquantile(np.stack(squared), _SHARE) / chi2.ppf(_SHARE, 3))
