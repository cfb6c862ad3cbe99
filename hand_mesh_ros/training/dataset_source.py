"""The source `dataset`: a published data set of hands, from the folder that its authors publish."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.data.datasets import BadSample, HandDataset, open_dataset
from hand_mesh_ros.data.samples import HandSample
from hand_mesh_ros.training.examples import UnusableSample
from hand_mesh_ros.training.sources import SampleOf, Split

_WITHOUT_SPLITS = ("hamer_tars",)


def dataset(
    use: Split,
    /,
    *,
    name: str,
    root: str,
    mano: str | None = None,
    mano_left: str | None = None,
    **options: Any,
) -> SampleOf:
    """Samples of the data set `name` (`data.datasets.DATASETS`) in the folder `root`, by number.

    The whole data set comes in an order that the numbers alone decide, then all of it in another
    order, and so on; training and validation have different orders. `options` are the reader's:
    its own `split` (which must be named), `on_error` and what else it has. `mano` and `mano_left`
    are MANO's files, which most data sets' parameters need; give the same as `data.hand_model`, or
    the parameters are another model's and not trained with.

    A sample that is broken raises BadSample, which names the file; with `on_error: skip` it raises
    UnusableSample, upon which training tells it and takes another in its place.
    Raises BadDataset for a folder that is not this data set, ValueError for an unknown option.
    """
    if "split" not in options and name not in _WITHOUT_SPLITS:
        raise ValueError(f"source 'dataset': options.split of {name} must be named, for {use}")
    own = {key: tuple(v) if isinstance(v, list) else v for key, v in options.items()}
    if mano is not None:
        from hand_mesh_ros.data.datasets.mano import load_hand_models

        left = None if mano_left is None else Path(mano_left).expanduser()
        own["models"] = load_hand_models(Path(mano).expanduser(), left)
    samples = open_dataset(name, Path(root).expanduser(), **own)
    if not len(samples):
        raise ValueError(f"source 'dataset': {name} in {root} has no sample of what is asked for")

    @lru_cache(maxsize=2)
    def order(turn: int) -> NDArray[np.int_]:
        return np.random.default_rng([use == "validation", turn]).permutation(len(samples))

    def sample(number: int) -> HandSample:
        turn, place = divmod(number, len(samples))
        return read_usable(samples, int(order(turn)[place]))

    return sample


def read_usable(samples: HandDataset, number: int) -> HandSample:
    """A sample with its image in memory; UnusableSample for a broken one that may be skipped."""
    try:
        sample = samples[number]
        # decoded now, where a broken image can still be replaced, and not once more
        image = sample.image
    except BadSample as error:
        if samples.on_error == "raise":
            raise
        raise UnusableSample(str(error)) from error
    return replace(sample, load_image=lambda: image)
