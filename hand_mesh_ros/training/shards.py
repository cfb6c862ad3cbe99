"""Samples in tar files that stream: written from any samples, read back by webdataset.

A shard holds, for each sample, `.jpg` or `.png` (the image), `.json` (names and words) and `.npz`
(arrays). Depth, masks and `extras` are not kept. Reading is deterministic: shards are put in a new
order every epoch by the seed, divided among nodes and workers, and mixed by a bounded buffer.
"""

from __future__ import annotations

import io
import json
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hand_mesh_ros.data.samples import HandSample
from hand_mesh_ros.types import Camera, ImageArray, ManoParameters

_ARRAYS = ("joints", "uv", "vertices", "visibility", "counted", "box")
_WORDS = (
    "dataset", "split", "name", "index", "side", "placed", "visible_share", "group", "view",
    "sequence", "frame", "stamp",
)  # fmt: skip
_MANO = ("global_orient", "hand_pose", "betas", "transl")


def write_shards(
    samples: Iterable[HandSample],
    folder: Path,
    *,
    per_shard: int = 1000,
    quality: int | None = 92,
    progress: Callable[[int], None] | None = None,
) -> list[Path]:
    """Write `shard-000000.tar` ... into a new folder; returns the files.

    `quality` is JPEG's; None writes PNG, which loses nothing. Existing files are not touched:
    FileExistsError if the folder has shards already.
    """
    import webdataset

    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.glob("shard-*.tar")):
        raise FileExistsError(f"{folder} has shards already: choose another folder")
    # a pattern with a percent sign is the writer's: one in the folder's own name must be doubled
    pattern = str(folder).replace("%", "%%") + "/shard-%06d.tar"
    with webdataset.ShardWriter(pattern, maxcount=per_shard, verbose=0) as writer:
        for number, sample in enumerate(samples):
            writer.write({"__key__": f"{number:09d}", **_packed(sample, quality)})
            if progress is not None:
                progress(number + 1)
    return sorted(folder.glob("shard-*.tar"))


def shard_files(pattern: str) -> list[str]:
    """Tar files of a folder, or of a pattern that webdataset expands; FileNotFoundError if none."""
    import braceexpand

    folder = Path(pattern)
    if folder.is_dir():
        found = sorted(str(path) for path in folder.glob("*.tar"))
    else:
        found = sorted(braceexpand.braceexpand(pattern))
    missing = [name for name in found if "://" not in name and not Path(name).is_file()]
    if not found or missing:
        raise FileNotFoundError(f"shards {pattern}: no file {missing[0] if missing else '*.tar'}")
    return found


@dataclass(frozen=True)
class Share:
    """Which part of the shards a process reads: number `part` of `parts`."""

    part: int = 0
    parts: int = 1


def stream(
    files: Sequence[str], *, seed: int = 0, shuffle: int = 0, share: Share | None = None
) -> Iterator[tuple[int, HandSample]]:
    """One pass over shards: each sample with its number in its shards.

    Without `shuffle` in the files' order; with it, shards are put in an order of the seed and
    samples mixed by a buffer of so many. Raises ValueError where a share has no shard at all.
    """
    import webdataset

    share = share or Share()
    order = list(files)
    if shuffle:
        random.Random(seed).shuffle(order)
    own = order[share.part :: share.parts]
    if not own:
        raise ValueError(
            f"{len(files)} shards are too few for {share.parts} readers (devices times workers): "
            "write smaller shards, or use fewer workers"
        )
    stages: list[Any] = [webdataset.SimpleShardList(own), webdataset.tarfile_to_samples()]
    if shuffle:
        stages.append(webdataset.shuffle(shuffle, initial=shuffle, rng=random.Random(seed)))
    for packed in webdataset.DataPipeline(*stages):
        yield int(packed["__key__"]), _unpacked(packed)


def read_shard(path: Path) -> Iterator[HandSample]:
    """The samples of one shard in their order."""
    return (sample for _, sample in stream([str(path)]))


def _packed(sample: HandSample, quality: int | None) -> dict[str, Any]:
    camera, mano = sample.camera, sample.mano
    words: dict[str, Any] = {name: getattr(sample, name) for name in _WORDS}
    words["source"] = str(sample.source)
    words["camera"] = {
        "name": camera.name, "width": camera.width, "height": camera.height,
        "distortion": camera.distortion, "frame_id": camera.frame_id,
    }  # fmt: skip
    arrays = {"K": camera.K, "D": camera.D, "T_camera_world": camera.T_camera_world}
    for name in _ARRAYS:
        value = getattr(sample, name)
        if value is not None:
            arrays[name] = value
    if mano is not None:
        words["mano"] = {
            "model_id": mano.model_id, "side": mano.side, "scale": mano.scale,
            "mirrored": mano.mirrored,
        }  # fmt: skip
        arrays |= {f"mano_{name}": getattr(mano, name) for name in _MANO}
    packed = io.BytesIO()
    np.savez(packed, **arrays)  # type: ignore[arg-type]  # the stubs confuse arrays and options
    suffix, image = _encoded(sample.image, quality)
    return {suffix: image, "json": json.dumps(words).encode(), "npz": packed.getvalue()}


def _unpacked(packed: dict[str, Any]) -> HandSample:
    words = json.loads(packed["json"])
    with np.load(io.BytesIO(packed["npz"])) as archive:
        arrays = dict(archive)
    camera = Camera(
        **words["camera"], K=arrays["K"], D=arrays["D"], T_camera_world=arrays["T_camera_world"]
    )
    mano = None
    if "mano" in words:
        mano = ManoParameters(**words["mano"], **{k: arrays[f"mano_{k}"] for k in _MANO})
    encoded = packed["png"] if "png" in packed else packed["jpg"]
    plain: dict[str, Any] = {name: words[name] for name in _WORDS}
    plain |= {name: arrays.get(name) for name in _ARRAYS}
    return HandSample(
        **plain,
        source=Path(words["source"]),
        camera=camera,
        load_image=lambda: _decoded(encoded),
        mano=mano,
    )


def _encoded(image: ImageArray, quality: int | None) -> tuple[str, bytes]:
    import cv2

    suffix = "png" if quality is None else "jpg"
    options = [] if quality is None else [cv2.IMWRITE_JPEG_QUALITY, quality]
    _, data = cv2.imencode(f".{suffix}", np.ascontiguousarray(image[..., ::-1]), options)
    return suffix, bytes(data)


def _decoded(data: bytes) -> ImageArray:
    import cv2

    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError("a shard holds an image that cannot be decoded")
    return np.ascontiguousarray(image[..., ::-1]).astype(np.uint8, copy=False)
