"""How true the covariances of whole hands are that the backend `amvur` makes, as a robot gets them.

`bench_amvur` judges what the network says of its own joints; here are metric hands in the world,
of pictures of `renders-v1`, found as `evaluate` finds them, from one view and from several.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from hand_mesh_ros.evaluation.network_sigma import squared_errors, together
from hand_mesh_ros.evaluation.predict import PredictSettings, views_of
from hand_mesh_ros.evaluation.records import Sample
from hand_mesh_ros.evaluation.renders_v1 import RenderedSamples, Split, entries
from hand_mesh_ros.perception.build import build_backend, build_observer
from hand_mesh_ros.perception.estimate import NetworkOptions
from hand_mesh_ros.types import View

Progress = Callable[[int, int, str], None]
Found = list[tuple[View, Sample]]

SINGLES: Final = 100
"""Pictures of the part `single` that are looked at, beside all of `multi`."""


def hands(
    progress: Progress, weights: Path | None = None, backends: Sequence[str] = ("amvur",)
) -> dict[str, float]:
    """`hand_*` of one view and `hand_*_several`: coverages, percent, and NEES/3, mean and median.

    Of other backends than `amvur` the names begin with theirs. Raises AssetError.
    """
    found = looked_at("test", SINGLES, progress)
    figures: dict[str, float] = {}
    for name in backends:
        own = weights if name == "amvur" else None
        backend, _ = build_backend(name, None, NetworkOptions(own))
        prefix = "" if name == "amvur" else f"{name}_"
        for suffix, groups in (("", [[pair] for pair in found]), ("_several", together(found))):
            told = judged(squared_errors(backend, groups))
            figures |= {f"{prefix}hand_{key}{suffix}": value for key, value in told.items()}
    return figures


def looked_at(split: Split, singles: int, progress: Progress) -> Found:
    """Views of hands that are found in `singles` single pictures and in all of several views."""
    single, several = (entries(split, (part,)) for part in ("single", "multi"))
    samples = RenderedSamples(single[:singles] + several)
    observer = build_observer()
    found: Found = []
    for number, sample in enumerate(samples):
        progress(number, len(samples), "hands of the backend")
        found += [(view, sample) for view in views_of(observer, [sample], PredictSettings())]
    return found


def judged(squared: NDArray[np.float64]) -> dict[str, float]:
    """Of squared Mahalanobis distances (N, 21)."""
    inside = {share: 100 * float((squared < chi2.ppf(share, 3)).mean()) for share in (0.68, 0.95)}
    return {
        "coverage_68": round(inside[0.68], 2),
        "coverage_95": round(inside[0.95], 2),
        "nees": round(float(squared.mean()) / 3, 3),
        "nees_median": round(float(np.median(squared) / chi2.ppf(0.5, 3)), 3),
    }
