"""DexYCB's four set-ups: what is new to the test set is all, the person, the camera, the object."""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

Setup = Literal["s0", "s1", "s2", "s3"]
Split = Literal["train", "val", "test"]

SUBJECTS = (
    "20200709-subject-01", "20200813-subject-02", "20200820-subject-03", "20200903-subject-04",
    "20200908-subject-05", "20200918-subject-06", "20200928-subject-07", "20201002-subject-08",
    "20201015-subject-09", "20201022-subject-10",
)  # fmt: skip
SERIALS = (
    "836212060125", "839512060362", "840412060917", "841412060263", "932122060857",
    "932122060861", "932122061900", "932122062010",
)  # fmt: skip


class Part(NamedTuple):
    """Numbers of subjects, cameras and of each subject's sequences."""

    subjects: tuple[int, ...]
    cameras: tuple[int, ...]
    sequences: tuple[int, ...]


_ALL = Part(tuple(range(10)), tuple(range(8)), tuple(range(100)))


def chosen(setup: Setup, split: Split) -> Part:
    """What belongs to a split of a set-up; ValueError for unknown names."""
    if setup not in get_args(Setup) or split not in get_args(Split):
        raise ValueError(f"DexYCB has no split {split!r} of set-up {setup!r}")
    if setup == "s0":
        subjects = {"train": _ALL.subjects, "val": (0, 1), "test": tuple(range(2, 10))}[split]
        fifth = tuple(i for i in _ALL.sequences if (i % 5 == 4) == (split != "train"))
        return Part(subjects, _ALL.cameras, fifth)
    if setup == "s1":
        return _ALL._replace(
            subjects={"train": (0, 1, 2, 3, 4, 5, 9), "val": (6,), "test": (7, 8)}[split]
        )
    if setup == "s2":
        return _ALL._replace(cameras={"train": tuple(range(6)), "val": (6,), "test": (7,)}[split])
    held_out = {"val": (3, 19), "test": (7, 11, 15)}
    objects = held_out.get(split) or tuple(
        o for o in range(20) if o not in held_out["val"] + held_out["test"]
    )
    return _ALL._replace(sequences=tuple(i for i in _ALL.sequences if i // 5 in objects))
