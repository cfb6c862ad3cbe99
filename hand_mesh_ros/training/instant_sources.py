"""Where instants come from: a number in, the labelled views of one hand out, always the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from hand_mesh_ros.data.samples import HandSample
from hand_mesh_ros.training.sources import Split, render_spec

InstantOf = Callable[[int], list[HandSample]]

SOURCES: dict[str, str] = {
    "renders": "hand_mesh_ros.training.instant_sources:renders",
    "renders-v1": "hand_mesh_ros.training.instant_sources:benchmark",
    "dataset": "hand_mesh_ros.training.instant_sources:dataset",
    "recording": "hand_mesh_ros.training.recording_source:recording",
}


class SourceEnd(IndexError):
    """There are no more instants; the text says how many there are."""


@runtime_checkable
class InOrder(Protocol):
    """Instants of a source that is read from front to back, so that it takes one process.

    ``progress``: how much of the source has been read, and all of it.
    """

    @property
    def progress(self) -> tuple[int, int]: ...

    def __call__(self, number: int) -> list[HandSample]: ...


@dataclass(frozen=True)
class Known:
    """A store by name: a source and its options, how many instants, whether crops are jittered."""

    source: str
    options: Mapping[str, Any]
    count: int
    augmented: bool


STORES: dict[str, Known] = {
    "train": Known("renders", {"split": "train"}, 7000, True),
    "validation": Known("renders", {"split": "validation"}, 300, False),
    "test": Known("renders-v1", {"split": "test", "part": "multi"}, 25, False),
}


def open_instants(name: str, views: int, options: Mapping[str, Any]) -> InstantOf:
    """The function that makes a source's instants, of `views` views.

    Also "module:function" for one of your own. Raises ValueError for an unknown name or option,
    SourceEnd (when called) past a source's end.
    """
    where = SOURCES.get(name, name)
    module, colon, function = where.partition(":")
    if not colon:
        raise ValueError(f"unknown source {name!r}: choose one of {', '.join(SOURCES)}")
    make: Callable[..., InstantOf] = getattr(import_module(module), function)
    try:
        return make(views, **options)
    except TypeError as error:
        raise ValueError(f"source {name!r}: {error}") from error


def renders(views: int, *, split: Split = "train", size: int = 256, **options: Any) -> InstantOf:
    """Hands of the training renderer in `views` cameras; options as `sources.renders`'."""

    def instant(number: int) -> list[HandSample]:
        spec, settings = render_spec(split, number, views=views, size=size, **options)
        return _views(spec, settings)

    return instant


def benchmark(views: int, *, split: str = "test", part: str = "multi") -> InstantOf:
    """The instants of `renders-v1`, in the benchmark's own order."""
    from hand_mesh_ros.evaluation.renders_v1 import entries
    from hand_mesh_ros.render.training_views import DrawSettings

    specs = [e.spec for e in _entries(entries, split, part) if e.view == 0]
    if views != specs[0].views:
        raise ValueError(f"renders-v1's {part} has {specs[0].views} views, not {views}")

    def instant(number: int) -> list[HandSample]:
        return _views(specs[number], DrawSettings())

    return instant


@lru_cache(maxsize=4)
def _entries(entries: Callable[..., list[Any]], split: str, part: str) -> list[Any]:
    return entries(split, (part,))


def _views(spec: Any, settings: Any) -> list[HandSample]:
    from hand_mesh_ros.render.training_views import scene_views

    scene = scene_views(spec, settings)

    def of_view(view: int, sample: HandSample) -> HandSample:
        more = {
            "load_numbered": lambda: scene.labels(view).numbered,
            "albedo": lambda: np.asarray(scene.scene.albedo[: scene.scene.model.num_vertices]),
        }
        return replace(sample, extras={**sample.extras, **more})

    return [of_view(view, sample) for view, sample in enumerate(scene.samples())]


def dataset(
    views: int, *, name: str, root: str, split: str, mano: str | None = None, **options: Any
) -> InstantOf:
    """Instants of a published data set with several cameras (hanco, dexycb, interhand, ho3d).

    In the folder `root`; `mano` is MANO's own file, which most data sets' parameters need, and
    `options` are the reader's. Instants come in a fixed random order, each with up to `views` of
    its cameras, of one hand. Views that cannot be read are left out.
    Raises BadDataset for a folder that is not this data set, ValueError for one of single views.
    """
    from hand_mesh_ros.data.datasets import BadSample, open_dataset

    own = {key: tuple(v) if isinstance(v, list) else v for key, v in options.items()}
    if mano is not None:
        from hand_mesh_ros.data.datasets.mano import load_hand_models

        own["models"] = load_hand_models(Path(mano).expanduser())
    samples = open_dataset(name, Path(root).expanduser(), split=split, **own)
    groups = list(samples.groups.values())
    if not groups:
        raise ValueError(f"source 'dataset': {name} in {root} has no instants of several cameras")
    order = np.random.default_rng(0).permutation(len(groups))

    def instant(number: int) -> list[HandSample]:
        if number >= len(groups):
            raise SourceEnd(f"{name} in {root} has {len(groups)} instants, not {number + 1}")
        rng = np.random.default_rng([1, number])
        found: dict[int | None, HandSample] = {}
        side = None
        for place in rng.permutation(groups[order[number]]):
            try:
                sample = samples[int(place)]
            except BadSample:
                if samples.on_error == "raise":
                    raise
                continue
            side = side or sample.side
            if sample.side == side and sample.view not in found and len(found) < views:
                found[sample.view] = sample
        return list(found.values())

    return instant


def folder_of(name: str) -> Path:
    """Where a store of that name is looked for: `HAND_MESH_HOME/instants/NAME`."""
    from hand_mesh_ros.networks.assets import home

    return home() / "instants" / name
