"""Data sets as sequences of samples, whatever their files look like.

A *reader* knows one layout: it lists entries without opening more files than it must, and reads
one entry into a `HandSample`. `HandDataset` makes a sequence of it: the list is made when it is
first needed, and what is broken is refused or skipped, by choice, but always named.
"""

from __future__ import annotations

import logging
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, get_args, overload

from hand_mesh_ros.data.samples import HandSample

OnError = Literal["raise", "skip"]
_log = logging.getLogger(__name__)


class BadDataset(ValueError):
    """A folder that is not the data set, or of which so much is broken that nothing can be told."""


class BadSample(ValueError):
    """An annotation or image that is missing or broken: ``path`` names the file."""

    def __init__(self, path: Path | str, reason: str) -> None:
        super().__init__(path, reason)
        self.path, self.reason = Path(path), reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Problem:
    """Something broken that was skipped: the file and what is wrong with it."""

    path: Path
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


@dataclass(frozen=True, slots=True)
class DatasetInfo:
    """What one must know of a data set to compare joints.

    ``tips``: the fingertip vertices of its joints, a name of `hand.layout.TIP_SETS`, or None where
    the joints are not those of a mesh. ``regressed``: its joints are regressed from the *posed*
    mesh, which is up to a millimetre from the joints of the skeleton. ``vertices``: of its mesh.
    """

    name: str
    title: str
    tips: str | None = None
    regressed: bool = False
    vertices: int = 778


@dataclass(frozen=True, slots=True)
class Index:
    """Entries of a data set in the publisher's order, and what could not be listed."""

    entries: Sequence[Any]
    problems: tuple[Problem, ...] = ()


class Reader(Protocol):
    """One layout on disk."""

    @property
    def info(self) -> DatasetInfo: ...

    def index(self) -> Index:
        """Everything there is; raises `BadDataset` where the folder is something else."""
        ...

    def read(self, entry: Any) -> HandSample:
        """One of the index's entries; raises `BadSample`."""
        ...

    def group_of(self, entry: Any) -> Hashable | None:
        """What the samples of one instant have in common; None for single views."""
        ...


class HandDataset(Sequence[HandSample]):
    """Samples by number. `dataset[i]` raises `BadSample` where sample i is broken.

    Iterating, `check` and listing do as ``on_error`` says: ``raise`` stops at the first thing that
    is broken, ``skip`` leaves it out and adds it to `problems`. For code that asks for samples by
    number, such as a shuffling loader, `checked` gives the data set without what is broken.
    """

    def __init__(
        self, reader: Reader, on_error: OnError = "raise", chosen: Sequence[int] | None = None
    ) -> None:
        if on_error not in get_args(OnError):
            raise ValueError(f"on_error is {on_error!r}; choose 'raise' or 'skip'")
        self.reader, self.on_error = reader, on_error
        self._chosen = chosen
        self._listed: Index | None = None
        self._problems: dict[Problem, None] = {}
        self._groups: dict[Hashable, tuple[int, ...]] | None = None

    @property
    def info(self) -> DatasetInfo:
        return self.reader.info

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What was skipped so far, each once."""
        return tuple(self._problems)

    def __len__(self) -> int:
        return len(self._index().entries) if self._chosen is None else len(self._chosen)

    @overload
    def __getitem__(self, number: int) -> HandSample: ...
    @overload
    def __getitem__(self, number: slice) -> HandDataset: ...
    def __getitem__(self, number: int | slice) -> HandSample | HandDataset:
        if isinstance(number, slice):
            return self.subset(range(len(self))[number])
        return self.reader.read(self._entry(range(len(self))[number]))

    def __iter__(self) -> Iterator[HandSample]:
        return (sample for _, sample in self._read_all())

    def subset(self, numbers: Sequence[int]) -> HandDataset:
        """Some of the samples, by their numbers here."""
        chosen = numbers if self._chosen is None else [self._chosen[i] for i in numbers]
        some = HandDataset(self.reader, self.on_error, chosen)
        some._listed = self._listed
        return some

    def checked(self) -> HandDataset:
        """Those whose annotations can be read and whose images exist; reads all annotations."""
        return self.subset([number for number, _ in self._read_all()])

    def check(self) -> tuple[Problem, ...]:
        """All that is broken in annotations, and images that are missing, without stopping."""
        found = HandDataset(self.reader, "skip", self._chosen)
        for _ in found:
            pass
        return found.problems

    @property
    def groups(self) -> dict[Hashable, tuple[int, ...]]:
        """Numbers of the samples of each instant, for data sets with several cameras."""
        if self._groups is None:
            groups: dict[Hashable, list[int]] = {}
            for number in range(len(self)):
                key = self.reader.group_of(self._entry(number))
                if key is not None:
                    groups.setdefault(key, []).append(number)
            self._groups = {key: tuple(numbers) for key, numbers in groups.items()}
        return self._groups

    def _entry(self, number: int) -> Any:
        entries = self._index().entries
        return entries[number if self._chosen is None else self._chosen[number]]

    def _index(self) -> Index:
        if self._listed is None:
            listed = self.reader.index()
            for problem in listed.problems:
                self._broken(problem)
            self._listed = listed
        return self._listed

    def _read_all(self) -> Iterator[tuple[int, HandSample]]:
        for number in range(len(self)):
            try:
                sample = self[number]
            except BadSample as error:
                self._broken(Problem(error.path, error.reason))
            else:
                yield number, sample

    def _broken(self, problem: Problem) -> None:
        if self.on_error == "raise":
            raise BadSample(problem.path, problem.reason)
        if problem not in self._problems:
            _log.warning("%s: skipped %s", self.info.name, problem)
            self._problems[problem] = None
