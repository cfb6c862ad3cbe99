"""Files of weights: tensors by name, from safetensors or torch, without running what they say."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hand_mesh_ros.hand.checkpoints import read_checkpoint
from hand_mesh_ros.networks.assets import AssetError


class WeightFile(NamedTuple):
    """`tensors` by name on the CPU, floating ones as float32; what else the file says of them.

    notes: plain values: a safetensors file's own (`metadata`, JSON where they are), or what a
    torch file has beside its state.
    """

    tensors: dict[str, Tensor]
    notes: Mapping[str, Any]


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of `read_weight_file`."""
    return read_weight_file(path).tensors


def read_weight_file(path: Path) -> WeightFile:
    """A safetensors file, or a torch one: a state bare or under "state_dict", as Lightning has it.

    Configuration objects beside the tensors (yacs, OmegaConf, Lightning) become empty boxes, and
    nothing is ever executed.
    Raises AssetError for a file that is absent or damaged, or holds anything else.
    """
    if not path.is_file():
        raise AssetError(f"{path}: no such file")
    content, notes = _safetensors(path) if path.suffix == ".safetensors" else _torch(path)
    tensors = {key: value for key, value in content.items() if isinstance(value, Tensor)}
    if not tensors:
        raise AssetError(f"{path} holds no tensors by name, neither bare nor under 'state_dict'")
    return WeightFile(
        {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}, notes
    )


def misfits(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> list[str]:
    """What keeps `theirs` from being loaded as `ours`, all keys in full; empty if nothing does."""
    # Counts of batches are missing in old files, and nothing depends on them.
    missing = [k for k in ours if k not in theirs and not k.endswith("num_batches_tracked")]
    unexpected = [k for k in theirs if k not in ours]
    other = [
        f"{key} {tuple(theirs[key].shape)} instead of {tuple(value.shape)}"
        for key, value in ours.items()
        if key in theirs and theirs[key].shape != value.shape
    ]
    lists = {"missing": missing, "unexpected": unexpected, "of other shape": other}
    return [f"{what} ({len(keys)}): {', '.join(keys)}" for what, keys in lists.items() if keys]


def _safetensors(path: Path) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}
            notes = file.metadata() or {}
    except (SafetensorError, OSError, ValueError) as error:
        raise AssetError(f"{path} cannot be read as weights: {error}") from error
    return tensors, {name: _plain(text) for name, text in notes.items()}


def _plain(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _torch(path: Path) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        return _restricted(path, error), {}
    except Exception as error:  # torch has a dozen for a file that is not its own
        raise AssetError(f"{path} cannot be read as weights: {error}") from error
    if not isinstance(content, dict):
        return {}, {}
    state = content.get("state_dict", content)
    notes = {k: v for k, v in content.items() if isinstance(k, str) and k != "state_dict"}
    return (state, notes if state is not content else {}) if isinstance(state, dict) else ({}, {})


def _restricted(path: Path, why: UnpicklingError) -> dict[str, Tensor]:
    try:
        arrays = read_checkpoint(path)
    except ValueError as error:
        raise AssetError(
            f"{path} is damaged or holds more than tensors, which could run code when read: save "
            f"its state_dict alone, on a machine where you trust it ({error})"
        ) from why
    return {name: torch.from_numpy(array) for name, array in arrays.items()}
