"""Nested frozen dataclasses from plain mappings, with errors that name the file and the key."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")


class RecipeError(ValueError):
    """A recipe that cannot be used; the text names the file, the key and what is allowed."""


def settings_from(cls: type[T], values: Any, file: str, key: str = "") -> T:
    """An instance of the dataclass `cls`, whose fields may be dataclasses themselves.

    `file` and `key` say in errors where `values` come from. An int, or a number's text, is taken
    where a float is wanted; nothing else is converted. A dataclass checks its own ranges in
    `__post_init__` by raising ValueError that begins with the field's name.
    Raises RecipeError for unknown or missing keys, wrong types and values out of range.
    """
    if not isinstance(values, Mapping):
        raise RecipeError(f"{file}: {key or 'the whole file'} must be a mapping, not {values!r}")
    hints = get_type_hints(cls)
    known = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for name in values:
        if name not in known:
            raise RecipeError(
                f"{file}: unknown key {_join(key, str(name))}; known are {', '.join(known)}"
            )
    for name, field in known.items():
        if name not in values and _required(field):
            raise RecipeError(f"{file}: {_join(key, name)} is missing")
    made = {
        name: _value(hints[name], value, file, _join(key, name)) for name, value in values.items()
    }
    try:
        return cls(**made)
    except RecipeError:
        raise
    except ValueError as error:
        raise RecipeError(f"{file}: {_join(key, str(error))}") from error


def _value(kind: Any, value: Any, file: str, key: str) -> Any:
    origin, args = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if dataclasses.is_dataclass(kind):
        return settings_from(kind, value, file, key)  # type: ignore[arg-type]
    if origin in (Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        (inner,) = (a for a in args if a is not type(None))
        return _value(inner, value, file, key)
    if origin is Literal:
        if value not in args:
            raise RecipeError(f"{file}: {key} is {value!r}; choose {' or '.join(map(str, args))}")
        return value
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise RecipeError(f"{file}: {key} must be a list, not {value!r}")
        inner = args[0]
        if args[-1] is not Ellipsis and len(value) != len(args):
            raise RecipeError(f"{file}: {key} must have {len(args)} entries, it has {len(value)}")
        return tuple(_value(inner, v, file, f"{key}[{i}]") for i, v in enumerate(value))
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            raise RecipeError(f"{file}: {key} must be a mapping, not {value!r}")
        return dict(value)  # a copy, and one that can be pickled
    if kind is float and isinstance(value, (int, str)) and not isinstance(value, bool):
        try:
            return float(value)  # a string, too: YAML 1.1 takes 1e-3 for one
        except ValueError:
            pass
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise RecipeError(f"{file}: {key} must be {kind.__name__}, not {value!r}")
    return value


def _required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _join(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name
