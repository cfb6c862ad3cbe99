"""Backends: ways to turn the views of one hand into one estimate, registered by name."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from hand_mesh_ros.hand.model import HandModel
from hand_mesh_ros.hand.shape import HandShape
from hand_mesh_ros.types import HandEstimate, Side, TrackedHand, View


@dataclass(frozen=True, eq=False)
class HandViews:
    """What is known of one hand at one instant: its views and, if tracked, its recent past.

    ``right_votes`` is the track's log-odds of a right hand, from all that was seen before.
    """

    views: tuple[View, ...]
    previous: TrackedHand | None = None
    right_votes: float = 0.0

    @property
    def right(self) -> float:
        """Probability of a right hand: the views' mean, weighted by presence."""
        total = sum(v.presence for v in self.views)
        return sum(v.presence * v.right for v in self.views) / max(total, 1e-9)

    @property
    def right_log_odds(self) -> float:
        """Log-odds of a right hand from these views and the past; views alone reach 3 at most."""
        odds = np.clip(np.log(max(self.right, 1e-3) / max(1 - self.right, 1e-3)), -3, 3)
        return float(0.9 * self.right_votes + odds)


class Backend(Protocol):
    """One method, from the hands of an instant to one estimate each.

    All hands come in one call so that a network can run them as one batch. ``None`` says that
    nothing believable came of a hand.
    """

    def estimate(self, hands: Sequence[HandViews]) -> list[HandEstimate | None]: ...


@runtime_checkable
class TakesShape(Protocol):
    """A backend whose hands can be given a calibrated shape."""

    def use_shape(self, shape: HandShape | None) -> None: ...


@runtime_checkable
class NeedsImages(Protocol):
    """A backend that is of no use where all views come without their images, when it is true."""

    needs_images: bool


@dataclass(frozen=True)
class NetworkOptions:
    """For backends with a network of their own.

    ``checkpoint``: its weights; None: those that come along, if any do. ``device``: of torch.
    ``jitter``: more crops a view, cut a little differently, by whose answers' spread the network's
    error is judged. ``batch``: most crops at once. ``precision``: of its large products, one of
    `PRECISIONS`; auto: the fastest that the device does well. ``num_threads``: of the landmark
    network, on a CPU, where a network stands on a pass of it.
    """

    checkpoint: Path | None = None
    device: str = "cpu"
    jitter: int = 0
    batch: int = 32
    precision: str = "auto"
    num_threads: int = 1


PRECISIONS = ("auto", "float32", "bfloat16", "float16", "int8")

# name -> "module:class or function"; imported when chosen, so that no backend costs another's
# users anything. It is called with `models`, both sides' hand models, or None where a network's
# own are wanted, and, if it has that parameter, with `network`, `NetworkOptions`.
BACKENDS: dict[str, str] = {
    "landmarks": "hand_mesh_ros.perception.landmark_fit:LandmarkFit",
    "hamer": "hand_mesh_ros.perception.hamer_network:hamer",
    "hamer-small": "hand_mesh_ros.perception.hamer_small_network:hamer_small",
    "wilor": "hand_mesh_ros.perception.hamer_network:wilor",
    "sima-mvr": "hand_mesh_ros.perception.sima_network:sima_mvr",
    "sima-svr": "hand_mesh_ros.perception.sima_network:sima_svr",
    "hamuco": "hand_mesh_ros.perception.hamuco_network:hamuco",
    "amvur": "hand_mesh_ros.perception.amvur_network:amvur",
}


def create_backend(
    name: str,
    models: Mapping[Side, HandModel] | None = None,
    network: NetworkOptions | None = None,
) -> Backend:
    """The backend of that name.

    ``ValueError`` lists the known ones, or says that this one takes no checkpoint; and what making
    it raises: AssetError for weights or hand models that are not there or do not fit.
    """
    if name not in BACKENDS:
        raise ValueError(f"unknown backend {name!r}: choose one of {', '.join(sorted(BACKENDS))}")
    module, _, attribute = BACKENDS[name].partition(":")
    make: Callable[..., Backend] = getattr(importlib.import_module(module), attribute)
    options: dict[str, Any] = {"models": models}
    if "network" in inspect.signature(make).parameters:
        options["network"] = network or NetworkOptions()
    elif network is not None and network.checkpoint is not None:
        raise ValueError(
            f"backend {name!r} has no network of its own and takes no checkpoint: leave "
            f"{network.checkpoint} out, or choose another backend"
        )
    return make(**options)


def times_covariance(made: HandEstimate, factor: float) -> HandEstimate:
    """The hand with all its covariances so many times as large."""
    return replace(
        made,
        covariance=factor * made.covariance,
        wrist_covariance=factor * made.wrist_covariance,
    )
