"""The benchmark of this package's own renders: nothing to download, everything is known.

`data/renders_v1.yaml` holds its numbers. An image is a function of its split, part and number, and
is drawn when asked for. The parts: ``single`` images, ``multi`` instants in several cameras, and
``motion`` in time. The benchmark is `test`'s single and multi; people, environments and things of
one split are in no other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.data.datasets.files import ImageFile
from hand_mesh_ros.data.samples import HandSample
from hand_mesh_ros.evaluation.benchmarks import Benchmark, BenchmarkError
from hand_mesh_ros.evaluation.records import truths_of
from hand_mesh_ros.render.scenes import SceneSpec
from hand_mesh_ros.render.training_views import DrawSettings, scene_views
from hand_mesh_ros.types import SIDES

NAME = "renders-v1"
Split = Literal["train", "validation", "test"]
Part = Literal["single", "multi", "motion"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
PARTS: tuple[Part, ...] = ("single", "multi", "motion")
_FILE = Path(__file__).parent / "data" / "renders_v1.yaml"


@dataclass(frozen=True, slots=True)
class Entry:
    """One image: its scene, which of the scene's cameras, and what it is called."""

    name: str
    spec: SceneSpec
    view: int
    part: Part
    sequence: str | None = None
    frame: int | None = None


@lru_cache(maxsize=1)
def recipe() -> dict[str, Any]:
    """The numbers of `renders_v1.yaml`."""
    import yaml

    loaded: dict[str, Any] = yaml.safe_load(_FILE.read_text())
    return loaded


def entries(split: Split, parts: Sequence[Part] = ("single", "multi")) -> list[Entry]:
    """All images of a split in order; `BenchmarkError` for one that there is not."""
    if split not in SPLITS or not set(parts) <= set(PARTS):
        raise BenchmarkError(
            f"{NAME} has the splits {', '.join(SPLITS)} and the parts {', '.join(PARTS)}, "
            f"not {split!r} with {parts!r}"
        )
    made = recipe()
    return [
        entry
        for part in parts
        for number in range(int(made["splits"][split][part]))
        for entry in _entries(split, part, number)
    ]


def _entries(split: Split, part: Part, number: int) -> Iterator[Entry]:
    made = recipe()
    own = made["splits"][split]
    rng = np.random.default_rng([made["seed"], SPLITS.index(split), PARTS.index(part), number])
    spec = SceneSpec(
        seed=int(rng.integers(2**31)),
        person=int(rng.integers(*own["people"])),
        environment=int(rng.integers(*own["environments"])),
        thing=int(rng.integers(*own["things"])),
        occluder=rng.choice(list(made["occluders"]), p=list(made["occluders"].values())).item(),
        side=SIDES[number % 2],
        views=made["views"] if part == "multi" else 1,
        width=made["size"],
        height=made["size"],
    )
    name = f"{split}/{part}/{number:05d}"
    if part == "motion":
        for frame in range(made["frames"]):
            at = replace(spec, clock=frame / made["frames_per_second"])
            yield Entry(f"{name}/{frame:03d}", at, 0, part, name, frame)
    else:
        for view in range(spec.views):
            yield Entry(name, spec, view, part)


class RenderedSamples(Sequence[HandSample]):
    """Samples of entries, made when asked for; ``folder``: of pictures that were written before."""

    def __init__(
        self, listed: Sequence[Entry], settings: DrawSettings | None = None,
        folder: Path | None = None,
    ) -> None:  # fmt: skip
        self.entries, self.folder = listed, folder
        self.settings = settings or DrawSettings()

    def __len__(self) -> int:
        return len(self.entries)

    @overload
    def __getitem__(self, number: int) -> HandSample: ...
    @overload
    def __getitem__(self, number: slice) -> RenderedSamples: ...
    def __getitem__(self, number: int | slice) -> HandSample | RenderedSamples:
        if isinstance(number, slice):
            return RenderedSamples(self.entries[number], self.settings, self.folder)
        entry = self.entries[number]
        sample = scene_views(entry.spec, self.settings).sample(
            entry.view, dataset=NAME, split=entry.name.split("/")[0], name=entry.name,
            index=range(len(self))[number], sequence=entry.sequence, frame=entry.frame,
            extras={"part": entry.part},
        )  # fmt: skip
        if self.folder is None:
            return sample
        path = picture_path(self.folder, sample.name)
        return replace(sample, source=path, load_image=ImageFile(path))


def renders_v1(root: Path | None = None, split: Split = "test") -> Benchmark:
    """The benchmark: drawn now, or with the pictures that `write` left in ``root``."""
    samples = RenderedSamples(entries(split), folder=root)
    listed = list(samples)
    return Benchmark(NAME, truths_of(listed), listed, "full")


def write(
    out: Path, split: Split, parts: Sequence[Part], progress: Callable[[int, int, str], None]
) -> Path:
    """Pictures, masks and labels of a split as files; returns the file of the labels.

    ``NAME.png``; ``NAME.mask.png``: 0 background, 1 the hand, 2 its arm, 3 another hand, 4 a
    thing, and 128 more where the whole hand would be seen; ``NAME.depth.png``: 16 bit, tenths of
    a millimetre, 0 unknown. ``SPLIT.npz``: arrays named as the fields of `HandSample`.
    """
    from hand_mesh_ros.render.sheet import write_image

    samples = RenderedSamples(entries(split, parts))
    rows: list[HandSample] = []
    for number, sample in enumerate(samples):
        path = picture_path(out, sample.name)
        entry = samples.entries[number]
        labels = scene_views(entry.spec, samples.settings).labels(entry.view)
        write_image(path, sample.image)
        _write_grey(path.with_suffix(".mask.png"), labels.numbered)
        tenths = np.rint(np.minimum(labels.depth, 6.5) * 1e4).astype(np.uint16)
        _write_grey(path.with_suffix(".depth.png"), tenths)
        rows.append(sample)
        progress(number + 1, len(samples), split)
    target = out / f"{split}.npz"
    np.savez_compressed(target, **_columns(rows))
    return target


def picture_path(folder: Path, name: str) -> Path:
    """Where the picture of a sample is in a folder that was written."""
    return folder / f"{name}.png"


def _write_grey(path: Path, image: NDArray[Any]) -> None:
    import cv2

    if not cv2.imwrite(str(path), image):
        raise OSError(f"cannot write {path}")


def _columns(samples: Sequence[HandSample]) -> dict[str, Any]:
    """Fields of all samples, stacked."""
    plain = ("name", "side", "joints", "vertices", "uv", "visibility", "box", "visible_share")
    columns = {name: np.stack([np.asarray(getattr(s, name)) for s in samples]) for name in plain}
    for name in ("K", "D", "T_camera_world"):
        columns[name] = np.stack([getattr(s.camera, name) for s in samples])
    for name in ("global_orient", "hand_pose", "betas", "transl"):
        columns[name] = np.stack([getattr(s.mano, name) for s in samples])
    for name in ("occluder", "person", "environment", "thing", "vertex_visibility"):
        columns[name] = np.stack([np.asarray(s.extras[name]) for s in samples])
    return columns
