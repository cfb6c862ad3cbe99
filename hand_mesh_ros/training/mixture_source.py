"""The source `mixture`: samples of several sources by weight, exactly so in every thousand."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.data.samples import HandSample
from hand_mesh_ros.training.sources import SampleOf, Split, open_source

BLOCK = 1000


def mixture(
    use: Split, /, *, parts: Mapping[str, Mapping[str, Any]], **common: Any
) -> SampleOf:
    """Samples of `parts` by number. A part is a mapping of `weight`, `source` and `options`, to

    which the `common` options are added. Of every `BLOCK` numbers in a row each part has its share,
    in an order that the numbers alone decide, and each part's own numbers follow one another.
    Raises ValueError for weights that are none, and what the sources raise.
    """
    weights = np.array([_number(name, part) for name, part in parts.items()])
    if not len(weights) or not weights.sum() > 0:
        raise ValueError("source 'mixture': options.parts need weights, and one greater than 0")
    opened: list[SampleOf] = []
    for name, part in parts.items():
        unknown = set(part) - {"weight", "source", "options"}
        if unknown or "source" not in part:
            raise ValueError(
                f"source 'mixture': options.parts.{name} is a mapping of weight, source and "
                f"options, not of {', '.join(part)}"
            )
        opened.append(open_source(part["source"], use, {**common, **part.get("options", {})}))
    counts = shares(weights)

    @lru_cache(maxsize=4)
    def order(block: int) -> tuple[NDArray[np.int_], NDArray[np.int_]]:
        """For each place of a block its part, and how many of that part come before."""
        which = np.repeat(np.arange(len(counts)), counts)
        np.random.default_rng([use == "validation", block]).shuffle(which)
        before = np.zeros(BLOCK, dtype=np.int_)
        for part in range(len(counts)):
            before[which == part] = np.arange(counts[part])
        return which, before

    def sample(number: int) -> HandSample:
        block, place = divmod(number, BLOCK)
        which, before = order(block)
        part = int(which[place])
        return opened[part](block * int(counts[part]) + int(before[place]))

    return sample


def shares(weights: NDArray[np.float64]) -> NDArray[np.int_]:
    """How many of a block each weight has: whole numbers, by largest remainders."""
    exact = BLOCK * weights / weights.sum()
    counts = np.floor(exact).astype(np.int_)
    counts[np.argsort(counts - exact, kind="stable")[: BLOCK - counts.sum()]] += 1
    return counts


def _number(name: str, part: Mapping[str, Any]) -> float:
    weight = part.get("weight") if isinstance(part, Mapping) else None
    if not isinstance(weight, (int, float)) or isinstance(weight, bool) or not weight >= 0:
        raise ValueError(f"source 'mixture': options.parts.{name}.weight is {weight!r}")
    return float(weight)
