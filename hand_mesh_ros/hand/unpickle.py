"""Reading other people's pickles without running them.

A pickle is a program: whatever classes and functions it names are called with what it says. Here
the names are looked up in a table of inert stand-ins (`stand_ins`), and nothing else can be
reached.

Accepted: the containers of the language, NumPy arrays and numbers of plain types (pickled by any
version of either Python), SciPy's compressed sparse matrices, chumpy's arrays, and, where the
caller asks for it, torch tensors and configuration objects, which become empty boxes.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from collections.abc import Callable, Mapping
from typing import IO, Any, Final

from hand_mesh_ros.hand.stand_ins import (
    MAX_BYTES,
    Array,
    Box,
    Call,
    Chumpy,
    Columns,
    Dict,
    DType,
    Flat,
    RefusedPickleError,
    Reshaped,
    Rows,
    Scalar,
    Selected,
    StandIn,
)


def _encode(text: str, encoding: str) -> bytes:
    """How Python 3 writes bytes into a pickle of protocol 2."""
    if encoding not in ("latin1", "latin-1"):
        raise RefusedPickleError(f"it holds bytes in the unexpected encoding {encoding!r}")
    return text.encode("latin1")


def _reconstruct(cls: type, base: type, state: Any) -> Any:
    """How protocols 0 and 1 make an instance of a class without a constructor."""
    if not (isinstance(cls, type) and issubclass(cls, StandIn | Box)):
        raise RefusedPickleError(f"it builds an object of {cls!r}")
    return cls()


def _table() -> dict[tuple[str, str], Any]:
    table: dict[tuple[str, str], Any] = {
        ("numpy", "ndarray"): Array,
        ("numpy", "dtype"): DType,
        ("_codecs", "encode"): Call(_encode),
        ("collections", "OrderedDict"): Dict,
        ("chumpy.ch", "Ch"): Chumpy,
        ("chumpy", "Ch"): Chumpy,
        ("chumpy.reordering", "Select"): Selected,
        ("chumpy.reordering", "Reshape"): Reshaped,
    }
    for core in ("numpy.core", "numpy._core"):
        table[f"{core}.multiarray", "_reconstruct"] = Array
        table[f"{core}.multiarray", "scalar"] = Scalar
        table[f"{core}.numeric", "_frombuffer"] = Flat
    for kind, cls in (("csr", Rows), ("csc", Columns)):
        for module in (f"scipy.sparse.{kind}", f"scipy.sparse._{kind}"):
            table[module, f"{kind}_matrix"] = table[module, f"{kind}_array"] = cls
    for builtins in ("__builtin__", "builtins"):
        table[builtins, "set"] = set
        table[builtins, "frozenset"] = frozenset
        table[builtins, "object"] = StandIn
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
