"""Tensors of a PyTorch checkpoint as arrays, without running anything the file says.

`torch.load(weights_only=True)` reads what holds tensors alone. Published checkpoints also hold the
configuration objects they were trained with (yacs, OmegaConf), which that function refuses; they
go through the restricted unpickler instead, where such objects become empty boxes.
"""

from __future__ import annotations

import math
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.hand.stand_ins import Box, Call, RefusedPickleError
from hand_mesh_ros.hand.unpickle import load_pickle

# Libraries whose objects are found beside the weights and are of no use here.
_CONFIGURATION: Final = frozenset(
    {"argparse", "enum", "lightning", "lightning_fabric", "omegaconf", "pathlib",
     "pytorch_lightning", "typing", "yacs"}
)  # fmt: skip
_STORAGES: Final = {
    "DoubleStorage": "f8", "FloatStorage": "f4", "HalfStorage": "f2", "LongStorage": "i8",
    "IntStorage": "i4", "ShortStorage": "i2", "CharStorage": "i1", "ByteStorage": "u1",
    "BoolStorage": "b1",
}  # fmt: skip


class _Storage(NamedTuple):
    key: str
    dtype: str | None  # None: of a type that NumPy has not
    numel: int


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def read_checkpoint(path: Path, prefix: str = "") -> dict[str, NDArray[Any]]:
    """The tensors of a checkpoint's state dict whose names begin with `prefix`, without it.

    The file is a bare state dict or a Lightning dictionary with `state_dict`. Only the wanted
    tensors are read from the disk. Raises ValueError where the file is no checkpoint, or names
    anything but tensors and configuration objects.
    """
    import torch

    try:
        content = torch.load(
            path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
        )
    except pickle.UnpicklingError as error:
        return _read_restricted(path, prefix, error)
    except (EOFError, RuntimeError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise ValueError(f"{path} is no PyTorch checkpoint ({error})") from error
    state = _state_dict(path, content)
    return {
        name[len(prefix) :]: tensor.numpy(force=True)
        for name, tensor in state.items()
        if name.startswith(prefix) and isinstance(tensor, torch.Tensor)
    }


def _state_dict(path: Path, content: Any) -> Mapping[str, Any]:
    state = content.get("state_dict", content) if isinstance(content, Mapping) else None
    if not isinstance(state, Mapping) or not all(isinstance(key, str) for key in state):
        raise ValueError(f"{path} holds no state dict")
    return state


def _read_restricted(path: Path, prefix: str, why: Exception) -> dict[str, NDArray[Any]]:
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is no PyTorch checkpoint, or one older than 1.6 ({why})")
    with zipfile.ZipFile(path) as archive:
        tops = [name for name in archive.namelist() if name.endswith("data.pkl")]
        if len(tops) != 1:
            raise ValueError(f"{path} is a zip archive, but no PyTorch checkpoint")
        root = tops[0].removesuffix("data.pkl")
        if f"{root}byteorder" in archive.namelist():
            if archive.read(f"{root}byteorder") != b"little":
                raise ValueError(f"{path} was written on a big-endian machine; convert it there")
        try:
            with archive.open(tops[0]) as file:
                content = load_pickle(
                    file, names=_NAMES, boxes=_CONFIGURATION, storages=_to_storage
                )
            return {
                name[len(prefix) :]: _read_tensor(archive, root, tensor)
                for name, tensor in _state_dict(path, content).items()
                if name.startswith(prefix) and isinstance(tensor, _Tensor)
            }
        except RefusedPickleError as error:
            raise RefusedPickleError(f"{path} was refused: {error}") from error
        except (KeyError, zipfile.BadZipFile) as error:
            raise ValueError(f"{path} is damaged ({error})") from error


def _to_storage(pid: Any) -> _Storage:
    match pid:
        case ("storage", _Storage(dtype=dtype), str(key), _, int(count)):
            return _Storage(key, dtype, count)
    raise RefusedPickleError(f"it refers to unknown data {pid!r}")


def _rebuild_tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> _Tensor:
    return _Tensor(storage, offset, size, stride)


def _rebuild_parameter(data: Any, *_: Any) -> Any:
    return data


def _read_tensor(archive: zipfile.ZipFile, root: str, tensor: _Tensor) -> NDArray[Any]:
    storage, offset, size, stride = tensor
    numbers = (offset, *size, *stride) if isinstance(size, tuple) else ()
    if not (
        isinstance(storage, _Storage)
        and len(size) == len(stride)
        and all(isinstance(n, int) and n >= 0 for n in numbers)
    ):
        raise RefusedPickleError("a tensor in it is malformed")
    if storage.dtype is None:
        raise ValueError("a tensor in it has a type that NumPy has not (bfloat16)")
    dtype = np.dtype(storage.dtype).newbyteorder("<")
    last = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
    name = f"{root}data/{storage.key}"
    count = math.prod(size)
    if count > storage.numel or (count and last >= storage.numel):
        raise RefusedPickleError(f"a tensor in it reaches beyond its data {name}")
    entry = archive.getinfo(name)
    stored = entry.compress_type == zipfile.ZIP_STORED
    if not stored or entry.file_size != storage.numel * dtype.itemsize:
        raise RefusedPickleError(f"{name} has not the size it should have")
    flat = np.frombuffer(archive.read(name), dtype)
    steps = [s * dtype.itemsize for s in stride]
    view = np.lib.stride_tricks.as_strided(flat[offset:], size, steps)
    return view.astype(dtype.newbyteorder("="))


_NAMES: Final[Mapping[tuple[str, str], Any]] = {
    ("torch._utils", "_rebuild_tensor_v2"): Call(_rebuild_tensor),
    ("torch._utils", "_rebuild_parameter"): Call(_rebuild_parameter),
    ("torch", "Size"): tuple,
    ("collections", "defaultdict"): Box,
    **{("torch", name): _Storage("", code, 0) for name, code in _STORAGES.items()},
    **{
        ("torch", name): _Storage("", None, 0)
        for name in ("BFloat16Storage", "ComplexFloatStorage")
    },
    **{
        (module, cls.__name__): cls
        for module in ("__builtin__", "builtins")
        for cls in (bool, dict, float, int, list, str, tuple)
    },
}
