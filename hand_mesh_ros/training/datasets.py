"""Torch datasets of examples: made on demand by number, or streamed from shards."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
from torch.utils.data import Dataset, IterableDataset, get_worker_info

from hand_mesh_ros.data.samples import HandSample
from hand_mesh_ros.training.examples import Example, UnusableSample, example_of
from hand_mesh_ros.training.recipes import Augmentation
from hand_mesh_ros.training.shards import Share, stream
from hand_mesh_ros.training.sources import Split, open_source

_TRIES = 20
_FAR = 100_000_007
_TOLD = 10
_log = logging.getLogger(__name__)


class MakesExample(Protocol):
    """From a sample and its number to arrays by name; one that can be sent to worker processes.

    seed: of what is random in it.
    """

    @property
    def seed(self) -> int: ...

    def __call__(self, sample: HandSample, number: int) -> Any: ...


@dataclass(frozen=True)
class MakeExample:
    """From a sample and its number to an example; can be sent to worker processes."""

    size: int
    model_ids: frozenset[str]
    augmentation: Augmentation | None
    seed: int

    def __call__(self, sample: HandSample, number: int) -> Example:
        rng = np.random.default_rng([self.seed, number])
        return example_of(sample, self.size, self.model_ids, self.augmentation, rng)


class OnDemand(Dataset[Example]):
    """Examples of a source by their `numbers`; the source is opened in each worker.

    A sample that cannot be used is replaced by one of a number far away, which is the same in
    every run, and the first of them are told; after several in a row UnusableSample is raised.
    """

    def __init__(
        self, name: str, split: Split, options: Mapping[str, Any], numbers: range,
        make: MakesExample,
    ) -> None:  # fmt: skip
        self._numbers, self._make = numbers, make
        self._open = partial(open_source, name, split, dict(options))
        self._sample: Callable[[int], HandSample] | None = None
        self._tell = _Teller(f"source {name}: replaced")

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: int) -> Example:
        if self._sample is None:
            self._sample = self._open()
        problem: UnusableSample | None = None
        for attempt in range(_TRIES):
            number = self._numbers[index] + attempt * _FAR
            try:
                return self._make(self._sample(number), number)
            except UnusableSample as error:
                problem = error
                self._tell(error)
        raise UnusableSample(f"{_TRIES} samples in a row cannot be used; the last: {problem}")


class _Teller:
    """Warns of the first samples that cannot be used, and says when it stops."""

    def __init__(self, what: str) -> None:
        self._what, self._count = what, 0

    def __call__(self, problem: UnusableSample) -> None:
        self._count += 1
        if self._count <= _TOLD:
            last = "; others will not be told" if self._count == _TOLD else ""
            _log.warning("%s %s%s", self._what, problem, last)


class Streamed(IterableDataset[Example]):
    """At most `count` examples of shards for each device, divided among its workers.

    With `shuffle` (training) the shards begin again, in another order, until there are as many;
    without (validation) they are read once. Samples that cannot be used are left out, and the
    first of them told; a pass that has no other raises UnusableSample.
    """

    def __init__(
        self, files: Sequence[str], make: MakesExample, count: int, shuffle: int, device: Share
    ) -> None:
        self._files, self._make, self._count = tuple(files), make, count
        self._shuffle, self._device = shuffle, device

    def __iter__(self) -> Iterator[Example]:
        info = get_worker_info()
        worker, workers = (0, 1) if info is None else (info.id, info.num_workers)
        device = self._device
        share = Share(device.part * workers + worker, device.parts * workers)
        wanted = self._count // workers + (worker < self._count % workers)
        made, turn, tell = 0, 0, _Teller("shards: left out")
        while made < wanted and (self._shuffle or turn == 0):
            before, seed = made, self._make.seed + turn
            for number, sample in stream(
                self._files, seed=seed, shuffle=self._shuffle, share=share
            ):
                try:
                    example = self._make(sample, number + turn * _FAR)
                except UnusableSample as error:
                    tell(error)
                    continue
                yield example
                made += 1
                if made == wanted:
                    return
            if made == before:
                raise UnusableSample(f"no sample of {', '.join(self._files)} can be used")
            turn += 1
