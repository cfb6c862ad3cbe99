"""Names in .npz files, which NumPy pickles where they are an array of objects."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from hand_mesh_ros.data.datasets.base import BadSample
from hand_mesh_ros.hand.stand_ins import Array, RefusedPickleError
from hand_mesh_ros.hand.unpickle import load_pickle


def read_names(path: Path, key: str) -> list[str]:
    """A one-dimensional array of text or bytes in an .npz, without running its pickle if it is one.

    Raises KeyError where there is none, ValueError for another kind of array, `BadSample` for a
    pickle of something else.
    """
    with zipfile.ZipFile(path) as archive:
        content = io.BytesIO(archive.read(f"{key}.npy"))
    version = np.lib.format.read_magic(content)
    read = (
        np.lib.format.read_array_header_1_0
        if version == (1, 0)
        else np.lib.format.read_array_header_2_0
    )
    shape, _, dtype = read(content)
    if dtype.hasobject:
        names = _unpickled(content, path, key)
    else:
        content.seek(0)
        names = np.load(content, allow_pickle=False).tolist()
    if len(shape) != 1 or len(names) != shape[0]:
        raise ValueError(f"'{key}' has the shape {shape}")
    return [name.decode() if isinstance(name, bytes) else str(name) for name in names]


def _unpickled(content: io.BytesIO, path: Path, key: str) -> list[Any]:
    try:
        value = load_pickle(content)
    except RefusedPickleError as error:
        raise BadSample(path, f"'{key}': refused, {error}") from error
    names = value.state[-1] if isinstance(value, Array) and value.state else None
    if not isinstance(names, list) or not all(isinstance(name, str | bytes) for name in names):
        raise BadSample(path, f"'{key}' holds something other than names")
    return names
