"""Makes stores of instants: labelled groups of views into crops, evidence and truth.

A part is a function of its number alone, so that a store comes out the same in any number of
processes, and one that was broken off can be gone on with.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.data.samples import HandSample
from hand_mesh_ros.geometry.crops import transform_points
from hand_mesh_ros.hand.mirror import mirror_model, mirror_points
from hand_mesh_ros.hand.model import load_hand_model
from hand_mesh_ros.networks.evidence import CROP, EvidenceNetwork
from hand_mesh_ros.training.examples import (
    FOUND,
    CropPlace,
    UnusableSample,
    placed_example,
    unlabelled_example,
)
from hand_mesh_ros.training.instant_sources import InOrder, SourceEnd, open_instants
from hand_mesh_ros.training.instants import (
    INSTANT_FIELDS,
    OCCLUDERS,
    PART,
    VERTICES,
    VIEW_FIELDS,
    Array,
)
from hand_mesh_ros.training.recipes import Augmentation

if TYPE_CHECKING:
    from hand_mesh_ros.training.instants import InstantStore

Progress = Callable[[int, int, str], None]
ALL = sys.maxsize


@dataclass(frozen=True)
class StoreRequest:
    """A store to be made: `count` instants of a source, of `views` views each.

    count: at most, for a source may end before; `ALL` of one that is read in order (`InOrder`).
    augmentation: how crops differ from the region that landmarks give (None: not at all).
    """

    source: str
    options: Mapping[str, Any]
    count: int
    views: int
    augmentation: Augmentation | None
    seed: int = 0


def write_store(
    request: StoreRequest, out: Path, processes: int, progress: Progress
) -> InstantStore:
    """Make the parts that are not there yet. Raises what the source raises.

    A source that is read in order takes one process, whatever `processes` says.
    """
    from concurrent.futures import ProcessPoolExecutor, as_completed
    from multiprocessing import get_context

    from hand_mesh_ros.training.instants import InstantStore

    out.mkdir(parents=True, exist_ok=True)
    instants = open_instants(request.source, request.views, request.options)
    if isinstance(instants, InOrder):
        _write_in_order(request, out, instants, progress)
        return InstantStore(out)
    if request.count == ALL:
        raise ValueError(f"source {request.source!r} has no end of its own: say how many instants")
    firsts = range(0, request.count, PART)
    todo = [first for first in firsts if not (_folder(out, first) / "done.json").is_file()]
    make = partial(write_part, request, out)
    done = len(firsts) - len(todo)
    # forking a process that has run torch's or a rasteriser's threads can hang
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        for finished in as_completed([pool.submit(make, first) for first in todo]):
            finished.result()
            done += 1
            progress(min(done * PART, request.count), request.count, "instants")
    return InstantStore(out)


def _write_in_order(
    request: StoreRequest, out: Path, instants: InOrder, progress: Progress
) -> None:
    for first in range(0, request.count, PART):
        done = _folder(out, first) / "done.json"
        made = json.loads(done.read_text())["instants"] if done.is_file() else None
        if made is None:
            made = write_part(request, out, first)
        progress(*instants.progress, "frame sets")
        if made < PART:
            return


def write_part(request: StoreRequest, out: Path, first: int) -> int:
    """The part that begins with instant `first`; returns how many it has.

    Fewer than asked for where the source ends, and then no part at all if that is none.
    """
    instants = open_instants(request.source, request.views, request.options)
    writer = _writer(request.options.get("mano"))
    size = min(PART, request.count - first)
    arrays = _blank(size, request.views, writer.vertices)
    crops = np.zeros((size, request.views, CROP, CROP, 3), np.uint8)
    for row in range(size):
        try:
            group = instants(first + row)
        except SourceEnd:
            if row == 0:
                return 0
            size, crops = row, crops[:row]
            arrays = {name: array[:row] for name, array in arrays.items()}
            break
        for view, sample in enumerate(group):
            rng = np.random.default_rng([request.seed, first + row, view])
            writer.fill(arrays, crops, row, view, sample, request.augmentation, rng)
    writer.look(arrays, crops)
    target = _folder(out, first)
    fresh = target.with_name(f".{target.name}")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    for name, array in arrays.items():
        np.save(fresh / f"{name}.npy", array)
    (fresh / "done.json").write_text(json.dumps({"instants": size, "first": first}))
    shutil.rmtree(target, ignore_errors=True)
    fresh.rename(target)
    return size


class _Writer:
    """The networks and models that all parts of a process share."""

    def __init__(self, mano: str | None) -> None:
        self._evidence = EvidenceNetwork()
        right = load_hand_model(None if mano is None else Path(mano).expanduser())
        self.vertices = right.num_vertices
        self._models = frozenset({right.model_id, mirror_model(right).model_id})

    def fill(
        self, arrays: dict[str, Array], crops: NDArray[np.uint8], row: int, view: int,
        sample: HandSample, augmentation: Augmentation | None, rng: np.random.Generator,
    ) -> None:  # fmt: skip
        """Truth, if there is one, and crop of one view; a view that cannot be used stays blank."""
        try:
            if FOUND in sample.extras:
                example, place = unlabelled_example(sample, CROP, augmentation, rng)
            else:
                example, place = placed_example(sample, CROP, self._models, augmentation, rng)
        except UnusableSample:
            return
        left = sample.side == "left"
        crop = example["image"].transpose(1, 2, 0)
        crops[row, view] = crop
        wrist = np.full(3, np.nan)
        if sample.joints is not None:
            wrist = place.R_crop_camera @ sample.joints[0]
        camera = sample.camera
        D = np.zeros(8)
        D[: len(camera.D)] = camera.D[:8]
        values: dict[str, Any] = {
            "valid": True,
            **{name: example[name] for name in ("joints", "uv", "rotations", "betas")},
            "wrist": mirror_points(wrist) if left else wrist,
            "visibility": np.nan if sample.visibility is None else sample.visibility,
            "visible_share": np.nan if sample.visible_share is None else sample.visible_share,
            "vertices_seen": sample.extras.get("vertex_visibility", False),
            "image": crop.reshape(112, 2, 112, 2, 3).mean((1, 3)).round(),
            "K": camera.K, "D": D, "T_camera_world": camera.T_camera_world,
            "crop_matrix": place.matrix[0], "R_crop_camera": place.R_crop_camera,
        }  # fmt: skip
        owner = _owners(sample, place, left)
        if owner is not None:
            values["owner"] = owner
        for name, value in values.items():
            arrays[name][row, view] = value
        arrays["left"][row] = left
        arrays["occluder"][row] = OCCLUDERS.index(sample.extras.get("occluder", "none"))
        albedo = sample.extras.get("albedo")
        if albedo is not None:
            arrays["albedo"][row] = albedo()

    def look(self, arrays: dict[str, Array], crops: NDArray[np.uint8]) -> None:
        """The evidence of all crops."""
        valid = arrays["valid"]
        for name, values in self._evidence(crops[valid])._asdict().items():
            arrays[name][valid] = values


@lru_cache(maxsize=2)
def _writer(mano: str | None) -> _Writer:
    """For the free hand, or for the MANO file that a data set's parameters belong to."""
    return _Writer(mano)


def _blank(count: int, views: int, vertices: int) -> dict[str, Array]:
    def zeros(shape: tuple[int, ...], dtype: str, *leading: int) -> Array:
        return np.zeros((*leading, *(vertices if n == VERTICES else n for n in shape)), dtype)

    arrays = {name: zeros(*field, count, views) for name, field in VIEW_FIELDS.items()}
    return arrays | {name: zeros(*field, count) for name, field in INSTANT_FIELDS.items()}


def _owners(sample: HandSample, place: CropPlace, left: bool) -> NDArray[np.uint8] | None:
    """Who owns the crop's pixels, at a quarter of its size, as the sample's labels number them."""
    load = sample.extras.get("load_numbered")
    if load is None:
        return None
    numbered: NDArray[np.uint8] = load()
    size, step = VIEW_FIELDS["owner"][0][0], CROP // VIEW_FIELDS["owner"][0][0]
    u, v = np.meshgrid(np.arange(size), np.arange(size))
    at = np.stack([u, v], -1).reshape(-1, 2) * step + (step - 1) / 2
    pixels = np.rint(transform_points(place.matrix, at[None])[0]).astype(int)
    height, width = numbered.shape
    inside = ((pixels >= 0) & (pixels < [width, height])).all(1)
    column, row = np.where(inside[:, None], pixels, 0).T
    owner = np.where(inside, numbered[row, column], 0).reshape(size, size).astype(np.uint8)
    return owner[:, ::-1] if left else owner


def _folder(out: Path, first: int) -> Path:
    return out / f"part-{first // PART:05d}"
