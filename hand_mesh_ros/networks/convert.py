"""A checkpoint made into a safetensors file that holds what the runtime needs, and no more."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Final, Literal, NamedTuple

import torch
from torch import Tensor

from hand_mesh_ros.hand.model import HandModel
from hand_mesh_ros.networks.assets import AssetError
from hand_mesh_ros.networks.checkpoint_mano import UNUSED, CheckpointMano
from hand_mesh_ros.networks.checkpoints import Checkpoint, read_checkpoint_of
from hand_mesh_ros.networks.hamer import Hamer
from hand_mesh_ros.networks.wilor import Wilor

Precision = Literal["fp32", "fp16", "bf16"]

_DTYPES: Final[Mapping[Precision, torch.dtype]] = {
    "fp32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
}


class Converted(NamedTuple):
    """What was written: the kind of network, tensors, bytes, and whether a hand model is inside."""

    kind: str
    tensors: int
    size: int
    with_hand_model: bool


def convert(
    source: Path, out: Path, precision: Precision = "fp32", with_hand_model: bool = False
) -> Converted:
    """Write `out` from the checkpoint `source`: without the discriminator and unused buffers.

    The hand model is left out too, unless `with_hand_model`: MANO's licence goes with every file
    that holds it. `precision` is that of matrices; vectors, means and the hand model stay single.
    The file's metadata say kind, sizes, hand model and the SHA-256 of `source`.
    Raises AssetError as `read_checkpoint_of`, and for an `out` that cannot be.
    """
    _check(source, out)
    found = read_checkpoint_of(source)
    if with_hand_model and found.hand_model is None:
        raise AssetError(f"{source} holds no hand model that could be kept")
    model = found.hand_model if with_hand_model else None
    notes = {"source": source.name, "source_sha256": _sha256(source)}
    return _write(out, found, model, precision, notes)


def save_reconstructor(
    network: Hamer | Wilor, out: Path, precision: Precision = "fp32", with_hand_model: bool = False
) -> Converted:
    """Write a network so that `open_reconstructor` reads it, as `convert` writes a checkpoint.

    Raises ValueError for a network without a hand model, whose numbers mean no hand.
    """
    if network.hand_model is None:
        raise ValueError("the network has no hand model; make it with the one it was trained with")
    left_out = ("mano.", "discriminator.", "initialized")
    state = {k: v for k, v in network.state_dict().items() if not k.startswith(left_out)}
    found = Checkpoint(
        "hamer" if isinstance(network, Hamer) else "wilor",
        network.config,
        state,
        network.hand_model,
        network.hand_model.model_id,
    )
    return _write(out, found, network.hand_model if with_hand_model else None, precision, {})


def _write(
    out: Path,
    found: Checkpoint,
    model: HandModel | None,
    precision: Precision,
    notes: Mapping[str, str],
) -> Converted:
    from safetensors.torch import save_file

    tensors = {key: _in(precision, key, value) for key, value in found.state.items()}
    if model is not None:
        mano = {f"mano.{key}": value for key, value in CheckpointMano(model).state_dict().items()}
        tensors |= {key: value for key, value in mano.items() if not key.startswith(UNUSED)}
    metadata = {
        **notes,
        "kind": found.kind,
        "config": json.dumps(asdict(found.config)),
        "hand_model": found.trained_with,
        "precision": precision,
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.partial")
    try:
        save_file(tensors, partial, metadata={"format": "pt", **metadata})
        partial.chmod(0o644)  # safetensors writes for its own user only
        os.replace(partial, out)
    finally:
        partial.unlink(missing_ok=True)
    return Converted(found.kind, len(tensors), out.stat().st_size, model is not None)


def _in(precision: Precision, key: str, tensor: Tensor) -> Tensor:
    """Vectors cost nothing, and norms, biases and means are what precision is needed for."""
    whole = tensor.ndim < 2 or ".init_" in key or not tensor.is_floating_point()
    converted = tensor if whole else tensor.to(_DTYPES[precision])
    return converted.detach().cpu().contiguous()


def _check(source: Path, out: Path) -> None:
    if out.suffix != ".safetensors":
        raise AssetError(f"{out}: the file to write is a .safetensors")
    if out.exists() and source.exists() and out.samefile(source):
        raise AssetError(f"{out} is what is to be converted: name another file to write")


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()
