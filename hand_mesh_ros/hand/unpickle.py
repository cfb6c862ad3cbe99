"""Reading other people's pickles without running them.

A pickle is a program: whatever classes and functions it names are called with what it says. Here
the names are looked up in a table of inert stand-ins, and nothing else can be reached: not even
NumPy's own pickling code runs, because a hostile dtype state could corrupt memory. Stand-ins only
keep what they are given; `plain` then builds arrays from it and checks every number on the way.

Accepted: the containers of the language, NumPy arrays and numbers of plain types (pickled by any
version of either Python), SciPy's compressed sparse matrices, chumpy's arrays, and, where the
caller asks for it, torch tensors and configuration objects, which become empty boxes.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import re
from collections.abc import Callable, Mapping
from typing import IO, Any, Final, NoReturn

import numpy as np
from numpy.typing import NDArray

MAX_BYTES: Final = 1 << 30
_PLAIN_DTYPE: Final = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248])")


class RefusedPickleError(ValueError):
    """A pickle that names something outside the table, or that is not well formed."""


class _Unset:
    """What every stand-in begins as: no attributes of its own, so that no pickle can set one."""

    __slots__ = ("args", "state")
    args: tuple[Any, ...]
    state: Any

    def __new__(cls, *args: Any, **_: Any) -> _Unset:
        self = super().__new__(cls)
        self.args, self.state = args, None
        return self

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Array(_Unset): ...


class _DType(_Unset): ...


class _Scalar(_Unset): ...


class _Flat(_Unset): ...


class _Compressed(_Unset): ...


class _Rows(_Compressed): ...


class _Columns(_Compressed): ...


class _Chumpy(_Unset): ...


class _Selected(_Chumpy): ...


class _Reshaped(_Chumpy): ...


class _Dict(dict[Any, Any]):
    """An OrderedDict without its attributes."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None: ...


class Box(_Dict):
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


def _encode(text: str, encoding: str) -> bytes:
    """How Python 3 writes bytes into a pickle of protocol 2."""
    if encoding not in ("latin1", "latin-1"):
        raise RefusedPickleError(f"it holds bytes in the unexpected encoding {encoding!r}")
    return text.encode("latin1")


def _reconstruct(cls: type, base: type, state: Any) -> Any:
    """How protocols 0 and 1 make an instance of a class without a constructor."""
    if not (isinstance(cls, type) and issubclass(cls, _Unset | Box)):
        raise RefusedPickleError(f"it builds an object of {cls!r}")
    return cls()


def _table() -> dict[tuple[str, str], Any]:
    table: dict[tuple[str, str], Any] = {
        ("numpy", "ndarray"): _Array,
        ("numpy", "dtype"): _DType,
        ("_codecs", "encode"): Call(_encode),
        ("collections", "OrderedDict"): _Dict,
        ("chumpy.ch", "Ch"): _Chumpy,
        ("chumpy", "Ch"): _Chumpy,
        ("chumpy.reordering", "Select"): _Selected,
        ("chumpy.reordering", "Reshape"): _Reshaped,
    }
    for core in ("numpy.core", "numpy._core"):
        table[f"{core}.multiarray", "_reconstruct"] = _Array
        table[f"{core}.multiarray", "scalar"] = _Scalar
        table[f"{core}.numeric", "_frombuffer"] = _Flat
    for kind, cls in (("csr", _Rows), ("csc", _Columns)):
        for module in (f"scipy.sparse.{kind}", f"scipy.sparse._{kind}"):
            table[module, f"{kind}_matrix"] = table[module, f"{kind}_array"] = cls
    for builtins in ("__builtin__", "builtins"):
        table[builtins, "set"] = set
        table[builtins, "frozenset"] = frozenset
        table[builtins, "object"] = _Unset
    for registry in ("copy_reg", "copyreg"):
        table[registry, "_reconstructor"] = Call(_reconstruct)
    return table


_TABLE: Final = _table()


class RestrictedUnpickler(pickle.Unpickler):
    """An unpickler that knows `names` besides its own, and makes a box of what is in `boxes`.

    `names` maps (module, name) to a stand-in; `boxes` are the first parts of module names whose
    classes are taken as empty boxes; `storages` answers persistent ids.
    """

    def __init__(
        self,
        file: IO[bytes],
        *,
        names: Mapping[tuple[str, str], Any] | None = None,
        boxes: frozenset[str] = frozenset(),
        storages: Callable[[Any], Any] | None = None,
    ) -> None:
        super().__init__(file, encoding="latin1")
        self._names = {**_TABLE, **(names or {})}
        self._boxes = boxes
        self._storages = storages

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in self._names:
            return self._names[module, name]
        if module.partition(".")[0] in self._boxes:
            return Box
        raise RefusedPickleError(
            f"it asks for '{module}.{name}', which is no part of such a file; nothing was executed"
        )

    def persistent_load(self, pid: Any) -> Any:
        if self._storages is None:
            raise RefusedPickleError("it refers to data outside of the file")
        return self._storages(pid)


def load_pickle(file: IO[bytes], **options: Any) -> Any:
    """The top object of a pickle, of containers, numbers and stand-ins; see `plain`.

    `options` go to `RestrictedUnpickler`. Raises RefusedPickleError for anything else, and for
    a file that is no pickle. Files beyond 1 GiB are refused.
    """
    content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise RefusedPickleError("it is larger than 1 GiB")
    try:
        _check_memo(content)
        return RestrictedUnpickler(io.BytesIO(content), **options).load()
    except RefusedPickleError:
        raise
    # A broken or hostile program of pickle instructions can fail in every one of these ways.
    except (
        pickle.UnpicklingError, ArithmeticError, AssertionError, AttributeError, EOFError,
        ImportError, LookupError, MemoryError, RecursionError, TypeError, ValueError,
    ) as error:  # fmt: skip
        raise RefusedPickleError(f"it is no readable pickle ({error})") from error


def _check_memo(content: bytes) -> None:
    """Refuse memo numbers beyond what the file can fill: the table of them is made at once."""
    for opcode, number, _ in pickletools.genops(content):
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and int(number or 0) > len(content):
            raise RefusedPickleError("it asks for more memory than it can fill")


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
    if isinstance(value, _Array):
        _, shape, dtype, fortran, raw = value.state
        return _from_raw(raw, _dtype(dtype), shape, "F" if fortran else "C")
    if isinstance(value, _Flat):
        raw, dtype, shape, order = value.args
        return _from_raw(raw, _dtype(dtype), shape, order)
    if isinstance(value, _Scalar):
        dtype, raw = value.args
        return _from_raw(raw, _dtype(dtype), (), "C")
    if isinstance(value, _Compressed):
        return _dense(value)
    if isinstance(value, _Selected):
        chosen = _plain(value.state["a"]).ravel()[_plain(value.state["idxs"])]
        shape = value.state.get("preferred_shape")
        return chosen if shape is None else chosen.reshape(_shape(shape))
    if isinstance(value, _Reshaped):
        return _plain(value.state["a"]).reshape(_shape(value.state["newshape"]))
    if isinstance(value, _Chumpy):
        return _plain(value.state["x"])
    # Lists are not taken: a few bytes of nested ones can stand for more numbers than memory holds.
    if isinstance(value, int | float):
        return np.asarray(value)
    raise RefusedPickleError(f"{type(value).__name__.strip('_')} where an array should be")


def _shape(shape: Any) -> list[int]:
    return [int(n) for n in shape] if isinstance(shape, tuple | list) else [int(_plain(shape))]


def _dtype(stand_in: Any) -> np.dtype[Any]:
    """A dtype of plain numbers: dtype('f8') of version 3, with the byte order '<'."""
    if not isinstance(stand_in, _DType) or not stand_in.args:
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


def _dense(matrix: _Compressed) -> NDArray[Any]:
    """A dense array from a compressed matrix: data, index of each entry, start of each line."""
    state = matrix.state
    data, minor, start = (_plain(state[key]) for key in ("data", "indices", "indptr"))
    shape = _shape(state.get("_shape", state.get("shape")))
    lines = shape[0] if isinstance(matrix, _Rows) else shape[1]
    major = np.repeat(np.arange(lines), np.diff(start))
    if not len(data) == len(minor) == len(major) or (len(minor) and minor.min() < 0):
        raise RefusedPickleError("a sparse matrix in it is damaged")
    if math.prod(shape) * data.itemsize > MAX_BYTES:
        raise RefusedPickleError(f"a sparse matrix in it has the size {tuple(shape)}")
    out = np.zeros(shape, dtype=data.dtype)
    rows, columns = (major, minor) if isinstance(matrix, _Rows) else (minor, major)
    np.add.at(out, (rows, columns), data)
    return out
