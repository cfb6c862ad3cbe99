"""Messages as bytes: serialised once, then only their numbers are overwritten.

rclpy turns a message into bytes number by number, through a Python object each: 30,000 of them for
the corners of one hand's mesh. A `Template` is a message that rclpy has serialised once; where its
numbers lie follows from the rules of CDR (OMG DDS-RTPS 10.2: little-endian, a 4-byte header, every
number aligned to its own size counted from behind the header). `Packer` keeps a template for each
shape of a topic's messages, and goes back to the ordinary message where a template does not hold.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rclpy.serialization import serialize_message

_HEADER = b"\x00\x01"  # plain CDR, little-endian; two bytes of options follow
_ORIGIN = 4
_CODES = {
    "boolean": "u1", "octet": "u1", "uint8": "u1", "int8": "i1",
    "int16": "<i2", "uint16": "<u2", "int64": "<i8", "uint64": "<u8",
    "float": "<f4", "double": "<f8",
    # Alike, so that a Time (int32, uint32) is an array of two words; see `time_words`.
    "int32": "<u4", "uint32": "<u4",
}  # fmt: skip
_SEQUENCE = re.compile(r"sequence<([^,>]+)(?:, *\d+)?>|(.+)\[(\d+)\]")
_KEPT = 16


class WireError(ValueError):
    """The bytes of a message are not where the rules say."""


class Leaf(NamedTuple):
    """``size`` numbers of one kind, side by side from byte ``offset`` of the message."""

    path: str
    code: str
    offset: int
    size: int


def time_words(nanoseconds: int) -> tuple[int, int]:
    """A Time or Duration as its two words on the wire: seconds, nanoseconds."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return seconds & 0xFFFFFFFF, rest


class Template:
    """A serialised message whose numbers can be overwritten in place.

    Numbers are named by their path, with ``*`` for any part between dots: ``header.stamp``,
    ``markers.0.points``, ``markers.*.lifetime``. A message made of numbers of one kind (Point,
    Pose, Time) is one array of numbers, and so is an array of such messages. Raises `WireError` if
    strings and lengths are not found where the rules of CDR put them.
    """

    def __init__(self, message: Any) -> None:
        data = serialize_message(message)
        if data[:2] != _HEADER:
            raise WireError(f"{type(message).__name__} is not little-endian CDR: {data[:4]!r}")
        self.name = type(message).__name__
        # The first number lies at a multiple of eight in memory too, else NumPy would be slow.
        padded = np.zeros(len(data) + 2 * 8, dtype=np.uint8)
        start = (-padded.ctypes.data - _ORIGIN) % 8
        self._data = padded[start : start + len(data)]
        self._data[:] = np.frombuffer(data, dtype=np.uint8)
        walk = _Walk(data)
        self._leaves = list(walk.message(message, ""))
        walk.end()
        self._data[walk.padding] = 0  # rclpy leaves there what was in its memory before
        self._slots: dict[str, tuple[NDArray[Any], Any]] = {}

    def __setitem__(self, pattern: str, values: Any) -> None:
        """Overwrite numbers: ``values`` broadcasts to (size,), or (leaves, size) with a ``*``."""
        array, index = self._slots.get(pattern) or self._find(pattern)
        array[index] = values

    def __getitem__(self, path: str) -> NDArray[Any]:
        """The numbers of one path (size,), to be written to."""
        array, index = self._slots.get(path) or self._find(path)
        return np.asarray(array[index])

    def tobytes(self) -> bytes:
        """The message as it is now, to be given to a publisher."""
        return self._data.tobytes()

    def verify(self, fill: Callable[[Template], None]) -> None:
        """Prove that ``fill`` writes what it should and nothing else; `WireError` if not.

        Every bit that ``fill`` is to write is turned over; then ``fill``, given the values of the
        message that the template was made of, must restore each byte that rclpy had written.
        """
        before = self._data.copy()
        fill(self)
        for array, index in self._slots.values():
            bits = array.view(f"u{array.itemsize}")
            bits[index] = ~bits[index]
        fill(self)
        wrong = np.flatnonzero(self._data != before)
        if wrong.size:
            raise WireError(f"{self.name}: {wrong.size} bytes differ, the first at {wrong[0]}")

    def _find(self, pattern: str) -> tuple[NDArray[Any], Any]:
        wanted = re.compile(re.escape(pattern).replace(r"\*", r"[^.]+"))
        found = [leaf for leaf in self._leaves if wanted.fullmatch(leaf.path)]
        kinds = {(leaf.code, leaf.size) for leaf in found}
        if len(kinds) != 1:
            raise WireError(f"{self.name} has no numbers of one kind at {pattern!r}")
        ((code, count),) = kinds
        dtype = np.dtype(code)
        body = self._data[_ORIGIN:]
        array = body[: body.size // dtype.itemsize * dtype.itemsize].view(dtype)
        first = np.array([(leaf.offset - _ORIGIN) // dtype.itemsize for leaf in found])
        index: Any = first[:, None] + np.arange(count)
        if "*" not in pattern:
            index = slice(int(first[0]), int(first[0]) + count)
        self._slots[pattern] = array, index
        return array, index


class Packer:
    """The messages of one topic as bytes, from templates kept by the messages' shape.

    Not for several threads at a time.
    """

    def __init__(self, complain: Callable[[str], None]) -> None:
        self._complain = complain
        self._templates: OrderedDict[Hashable, Template] = OrderedDict()
        self._usable = True

    def pack(
        self, shape: Hashable, build: Callable[[], Any], fill: Callable[[Template], None]
    ) -> Any:
        """Bytes equal to the serialised message of ``build``, written by ``fill``.

        ``shape`` is everything that ``fill`` does not write: names, lengths of arrays, constants.
        The first message of a shape is built and serialised by rclpy, and its template is verified
        against it. If that fails, ``complain`` hears of it once and messages are returned as
        ``build`` makes them.
        """
        template = self._templates.get(shape)
        if template is not None:
            self._templates.move_to_end(shape)
            fill(template)
            return template.tobytes()
        message = build()
        if not self._usable:
            return message
        try:
            template = Template(message)
            template.verify(fill)
        except WireError as error:
            self._usable = False
            self._complain(f"messages are built the slow way from now on: {error}")
            return message
        self._templates[shape] = template
        if len(self._templates) > _KEPT:
            self._templates.popitem(last=False)
        return template.tobytes()


class _Walk:
    """A way through serialised data, by the types of its message."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = _ORIGIN
        self.padding: list[int] = []

    def end(self) -> None:
        """Some serialisers pad the end to a multiple of four."""
        if not 0 <= len(self._data) - self._at < 4:
            raise WireError(f"the message ends at byte {self._at} of {len(self._data)}")
        self.padding.extend(range(self._at, len(self._data)))

    def message(self, value: Any, path: str) -> Iterator[Leaf]:
        for name, kind in value.get_fields_and_field_types().items():
            yield from self._value(kind, getattr(value, name), f"{path}.{name}" if path else name)

    def _value(self, kind: str, value: Any, path: str) -> Iterator[Leaf]:
        array = _SEQUENCE.fullmatch(kind)
        if array is not None:
            inner = array[1] or array[2]
            if array[1]:
                self._expect_word(len(value), path)
            yield from self._elements(inner, value, path)
        elif kind == "string":
            self._string(value, path)
        elif _flat(kind, value) is not None:
            yield from self._elements(kind, [value], path)
        elif hasattr(value, "get_fields_and_field_types"):
            yield from self.message(value, path)
        else:
            raise WireError(f"{path} is of the unknown type {kind}")

    def _elements(self, kind: str, values: Any, path: str) -> Iterator[Leaf]:
        if not len(values):
            return
        flat = _flat(kind, values[0])
        if flat is None:
            for index, value in enumerate(values):
                yield from self._value(kind, value, f"{path}.{index}")
            return
        code, count = flat
        size = np.dtype(code).itemsize
        self._align(size)
        yield Leaf(path, code, self._at, count * len(values))
        self._at += size * count * len(values)

    def _string(self, value: str, path: str) -> None:
        text = value.encode() + b"\0"
        self._expect_word(len(text), path)
        if self._data[self._at : self._at + len(text)] != text:
            raise WireError(f"{path} is not at byte {self._at}")
        self._at += len(text)

    def _expect_word(self, expected: int, path: str) -> None:
        self._align(4)
        found = int.from_bytes(self._data[self._at : self._at + 4], "little")
        if found != expected:
            raise WireError(f"the length of {path} at byte {self._at} is {found}, not {expected}")
        self._at += 4

    def _align(self, size: int) -> None:
        end = self._at + (_ORIGIN - self._at) % size
        self.padding.extend(range(self._at, end))
        self._at = end


def _flat(kind: str, value: Any) -> tuple[str, int] | None:
    """Code and count of a number, or of a message that is numbers of one kind; else None."""
    if kind in _CODES:
        return _CODES[kind], 1
    if not hasattr(value, "get_fields_and_field_types"):
        return None
    count, codes = 0, set()
    for name, inner in value.get_fields_and_field_types().items():
        array = _SEQUENCE.fullmatch(inner)
        if array is not None and array[1]:
            return None
        values = getattr(value, name) if array is not None else [getattr(value, name)]
        flat = _flat(array[2] if array is not None else inner, values[0])
        if flat is None:
            return None
        codes.add(flat[0])
        count += flat[1] * len(values)
    return (codes.pop(), count) if len(codes) == 1 else None
