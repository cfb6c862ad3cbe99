"""What a pickle is read into: inert stand-ins, and the arrays they stand for.

Stand-ins only keep what they are given. `plain` builds arrays from them and checks every number on
the way; not even NumPy's own pickling code runs, because a hostile dtype could corrupt memory.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any, Final, NoReturn

import numpy as np
from numpy.typing import NDArray

MAX_BYTES: Final = 1 << 30
_PLAIN_DTYPE: Final = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248])")


class RefusedPickleError(ValueError):
    """A pickle that names something outside the table, or that is not well formed."""


class StandIn:
    """What every stand-in begins as: no attributes of its own, so that no pickle can set one."""

    __slots__ = ("args", "state")
    args: tuple[Any, ...]
    state: Any

    def __new__(cls, *args: Any, **_: Any) -> StandIn:
        self = super().__new__(cls)
        self.args, self.state = args, None
        return self

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __setstate__(self, state: Any) -> None:
        self.state = state


class Array(StandIn): ...


class DType(StandIn): ...


class Scalar(StandIn): ...


class Flat(StandIn): ...


class Compressed(StandIn): ...


class Rows(Compressed): ...


class Columns(Compressed): ...


class Chumpy(StandIn): ...


class Selected(Chumpy): ...


class Reshaped(Chumpy): ...


class Dict(dict[Any, Any]):
    """An OrderedDict without its attributes."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None: ...


class Box(Dict):
    """A configuration object of unknown class: takes anything, does nothing."""

    __slots__ = ()
    __hash__ = object.__hash__  # type: ignore[assignment]

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__()

    def append(self, item: Any) -> None: ...

    def extend(self, items: Any) -> None: ...


class Call:
    """A function of ours that a pickle may call and can neither change nor look into."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *args: Any) -> Any:
        return self._function(*args)

    def __setstate__(self, state: Any) -> NoReturn:
        raise RefusedPickleError("it tries to change a function")


def plain(value: Any) -> NDArray[Any]:
    """The array that a stand-in (or a number) stands for.

    Raises RefusedPickleError where its parts do not fit together.
    """
    try:
        return _plain(value)
    except RefusedPickleError:
        raise
    except (ArithmeticError, AttributeError, LookupError, MemoryError, RecursionError,
            TypeError, ValueError) as error:  # fmt: skip
        raise RefusedPickleError(f"an array in it is damaged ({error})") from error


def _plain(value: Any) -> NDArray[Any]:
    if isinstance(value, Array):
        _, shape, dtype, fortran, raw = value.state
        return _from_raw(raw, _dtype(dtype), shape, "F" if fortran else "C")
    if isinstance(value, Flat):
        raw, dtype, shape, order = value.args
        return _from_raw(raw, _dtype(dtype), shape, order)
    if isinstance(value, Scalar):
        dtype, raw = value.args
        return _from_raw(raw, _dtype(dtype), (), "C")
    if isinstance(value, Compressed):
        return _dense(value)
    if isinstance(value, Selected):
        chosen = _plain(value.state["a"]).ravel()[_plain(value.state["idxs"])]
        shape = value.state.get("preferred_shape")
        return chosen if shape is None else chosen.reshape(_shape(shape))
    if isinstance(value, Reshaped):
        return _plain(value.state["a"]).reshape(_shape(value.state["newshape"]))
    if isinstance(value, Chumpy):
        return _plain(value.state["x"])
    # Lists are not taken: a few bytes of nested ones can stand for more numbers than memory holds.
    if isinstance(value, int | float):
        return np.asarray(value)
    raise RefusedPickleError(f"{type(value).__name__.strip('_')} where an array should be")


def _shape(shape: Any) -> list[int]:
    return [int(n) for n in shape] if isinstance(shape, tuple | list) else [int(_plain(shape))]


def _dtype(stand_in: Any) -> np.dtype[Any]:
    """A dtype of plain numbers: dtype('f8') of version 3, with the byte order '<'."""
    if not isinstance(stand_in, DType) or not stand_in.args:
        raise RefusedPickleError("an array in it has no type")
    code = stand_in.args[0]
    order = stand_in.state[1] if stand_in.state else "="
    text = code if code[:1] in "<>|=" else f"{order}{code}"
    if not isinstance(text, str) or not _PLAIN_DTYPE.fullmatch(text):
        raise RefusedPickleError(f"an array in it holds {text!r}, not plain numbers")
    return np.dtype(text)


def _from_raw(raw: Any, dtype: np.dtype[Any], shape: Any, order: str) -> NDArray[Any]:
    content = raw.encode("latin1") if isinstance(raw, str) else raw
    if not isinstance(content, bytes | bytearray):
        raise RefusedPickleError("an array in it holds objects, not plain numbers")
    size = _shape(shape)
    if min(size, default=0) < 0 or math.prod(size) * dtype.itemsize != len(content):
        raise RefusedPickleError(f"an array in it does not fill its shape {tuple(size)}")
    flat = np.frombuffer(content, dtype=dtype).astype(dtype.newbyteorder("="))
    return flat.reshape(size, order="F" if order == "F" else "C")


def _dense(matrix: Compressed) -> NDArray[Any]:
    """A dense array from a compressed matrix: data, index of each entry, start of each line."""
    state = matrix.state
    data, minor, start = (_plain(state[key]) for key in ("data", "indices", "indptr"))
    shape = _shape(state.get("_shape", state.get("shape")))
    lines = shape[0] if isinstance(matrix, Rows) else shape[1]
    entries = np.diff(start)
    whole = len(data) == len(minor) == start[-1] and start[0] == 0 and len(entries) == lines
    if not whole or entries.min(initial=0) < 0 or minor.min(initial=0) < 0:
        raise RefusedPickleError("a sparse matrix in it is damaged")
    if math.prod(shape) * data.itemsize > MAX_BYTES:
        raise RefusedPickleError(f"a sparse matrix in it has the size {tuple(shape)}")
    major = np.repeat(np.arange(lines), entries)
    out = np.zeros(shape, dtype=data.dtype)
    rows, columns = (major, minor) if isinstance(matrix, Rows) else (minor, major)
    np.add.at(out, (rows, columns), data)
    return out
