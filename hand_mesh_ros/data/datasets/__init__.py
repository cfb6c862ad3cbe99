"""Readers of the field's data sets: each from its publisher's folders, all into `HandSample`."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import Any

from hand_mesh_ros.data.datasets.base import (
    BadDataset,
    BadSample,
    DatasetInfo,
    HandDataset,
    OnError,
    Problem,
)

__all__ = [
    "DATASETS", "BadDataset", "BadSample", "DatasetInfo", "HandDataset", "OnError", "Problem",
    "open_dataset",
]  # fmt: skip

_HERE = "hand_mesh_ros.data.datasets"
DATASETS = MappingProxyType(
    {
        "freihand": f"{_HERE}.freihand:open_freihand",
        "ho3d_v2": f"{_HERE}.ho3d:open_ho3d_v2",
        "ho3d_v3": f"{_HERE}.ho3d:open_ho3d_v3",
        "dexycb": f"{_HERE}.dexycb:open_dexycb",
        "hanco": f"{_HERE}.hanco:open_hanco",
        "interhand": f"{_HERE}.interhand:open_interhand",
        "hint": f"{_HERE}.hint:open_hint",
        "hamer_evaluation": f"{_HERE}.hamer_evaluation:open_hamer_evaluation",
        "hamer_tars": f"{_HERE}.hamer_tars:open_hamer_tars",
    }
)
"""By name: the function that opens it, (root, split, **options) -> HandDataset."""


def open_dataset(name: str, root: Path | str, *split: str, **options: Any) -> HandDataset:
    """A data set by name; ``split`` (at most one) and options as its module's function has them.

    Common options: ``models`` (`mano.load_hand_models`, from MANO's own files), ``on_error``.
    Raises `BadDataset` for an unknown name or a folder that does not exist.
    """
    if name not in DATASETS:
        raise BadDataset(f"unknown data set {name!r}: choose one of {', '.join(DATASETS)}")
    root = Path(root)
    if not root.is_dir():
        raise BadDataset(f"{root}: no such folder; it must hold the files of {name}")
    module, _, function = DATASETS[name].partition(":")
    make: Callable[..., HandDataset] = getattr(importlib.import_module(module), function)
    return make(root, *split, **options)
