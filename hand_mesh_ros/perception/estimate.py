"""Backends: ways to turn the views of one hand into one estimate, registered by name."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from hand_mesh_ros.hand.shape import HandShape
from hand_mesh_ros.types import HandEstimate, TrackedHand, View


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


# name -> "module:class"; imported when chosen, so that no backend costs another's users anything
BACKENDS: dict[str, str] = {"landmarks": "hand_mesh_ros.perception.landmark_fit:LandmarkFit"}


def create_backend(name: str, **options: object) -> Backend:
    """The backend of that name; ``ValueError`` lists the known ones."""
    if name not in BACKENDS:
        raise ValueError(f"unknown backend {name!r}: choose one of {', '.join(sorted(BACKENDS))}")
    module, _, attribute = BACKENDS[name].partition(":")
    backend: Backend = getattr(importlib.import_module(module), attribute)(**options)
    return backend
