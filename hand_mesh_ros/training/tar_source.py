"""The source `hamer_tars`: HaMeR's training tars, some of them open at a time.

The set is too large to be listed first (2.7 million hands in 2165 tars): a tar is listed when its
turn comes.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.data.datasets import HandDataset
from hand_mesh_ros.data.datasets.hamer_tars import open_hamer_tars
from hand_mesh_ros.data.samples import HandSample
from hand_mesh_ros.training.dataset_source import read_usable
from hand_mesh_ros.training.examples import UnusableSample
from hand_mesh_ros.training.sources import SampleOf, Split


def hamer_tars(
    use: Split,
    /,
    *,
    root: str,
    pattern: str = "**/*.tar",
    window: int = 8,
    visit: int = 1000,
    **options: Any,
) -> SampleOf:
    """Hands of the tars `pattern` under the folder `root`, by number; `options` are the reader's.

    Tars come in an order that the numbers alone decide, `window` of them mixed; each is asked for
    `visit` hands, over and over where it has fewer, then all tars come in another order. Training
    and validation have different orders, not different tars: give each its own `pattern`.
    Raises ValueError where there is no tar or a number is not positive, BadSample for a broken tar.
    """
    tars = sorted(Path(root).expanduser().glob(pattern))
    if not tars:
        raise ValueError(f"source 'hamer_tars': {root} holds no {pattern}")
    if window < 1 or visit < 1:
        raise ValueError("source 'hamer_tars': window and visit must be at least 1")
    window = min(window, len(tars))

    @lru_cache(maxsize=2 * window)
    def opened(tar: int) -> HandDataset:
        return open_hamer_tars(tars[tar].parent, pattern=tars[tar].name, **options)

    @lru_cache(maxsize=2 * window)
    def order(turn: int, tar: int, count: int) -> NDArray[np.int_]:
        return np.random.default_rng([use == "validation", turn, tar]).permutation(count)

    @lru_cache(maxsize=4)
    def tars_of(turn: int) -> NDArray[np.int_]:
        return np.random.default_rng([use == "validation", turn]).permutation(len(tars))

    @lru_cache(maxsize=2)
    def mixed(block: int) -> NDArray[np.int_]:
        seed = [use == "validation", block, 1]
        return np.random.default_rng(seed).permutation(window * visit)

    def sample(number: int) -> HandSample:
        block, place = divmod(number, window * visit)
        which, each = divmod(int(mixed(block)[place]), visit)
        turn, at = divmod(block * window + which, len(tars))
        tar = int(tars_of(turn)[at])
        hands = opened(tar)
        if not len(hands):
            raise UnusableSample(f"{tars[tar]}: no hand that counts")
        return read_usable(hands, int(order(turn, tar, len(hands))[each % len(hands)]))

    return sample
