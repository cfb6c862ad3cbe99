"""Parameters as data: one table declares, describes, bounds and documents them.

A node declares the table, then reads it into an immutable, validated snapshot; nothing else in the
package looks at a parameter.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rclpy.node import Node
from rclpy.parameter import Parameter

Value = bool | int | float | str | list[str]
_TYPES = {
    bool: Parameter.Type.BOOL,
    int: Parameter.Type.INTEGER,
    float: Parameter.Type.DOUBLE,
    str: Parameter.Type.STRING,
    list: Parameter.Type.STRING_ARRAY,
}


@dataclass(frozen=True)
class Spec:
    """One parameter. ``bounds`` (least, greatest) for numbers, ``choices`` for texts.

    ``live`` ones may change while the node runs; the rest are read-only after the start.
    """

    name: str
    default: Value
    description: str
    bounds: tuple[float, float] | None = None
    choices: tuple[str, ...] = ()
    live: bool = False

    def descriptor(self) -> ParameterDescriptor:
        """The ROS descriptor that `ros2 param describe` shows."""
        text = self.description
        if self.choices:
            text += " One of: " + ", ".join(c or "''" for c in self.choices) + "."
        out = ParameterDescriptor(description=text, read_only=not self.live)
        if self.bounds and isinstance(self.default, float):
            low, high = self.bounds
            out.floating_point_range = [FloatingPointRange(from_value=low, to_value=high)]
        elif self.bounds:
            low, high = self.bounds
            out.integer_range = [IntegerRange(from_value=int(low), to_value=int(high), step=1)]
        return out

    def check(self, value: Value) -> None:
        """Raise ``ValueError`` naming the parameter and the rule it breaks."""
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"parameter {self.name} is {value}: it must be finite")
        if self.choices and value not in self.choices:
            known = ", ".join(repr(c) for c in self.choices)
            raise ValueError(f"parameter {self.name} is {value!r}: it must be one of {known}")


def declare(node: Node, specs: Iterable[Spec]) -> None:
    """Declare parameters with description and range, by type: an empty list has none."""
    for spec in specs:
        if not node.has_parameter(spec.name):
            value = Parameter(spec.name, _TYPES[type(spec.default)], spec.default).value
            node.declare_parameter(spec.name, value or spec.default, spec.descriptor())


def read(node: Node, specs: Iterable[Spec]) -> dict[str, Any]:
    """Current values by name; ``ValueError`` names the first bad one."""
    values: dict[str, Any] = {}
    for spec in specs:
        value = node.get_parameter(spec.name).value
        if isinstance(spec.default, list):
            value = list(value or [])
        spec.check(value)
        values[spec.name] = value
    return values


def refuse_bad(specs: Mapping[str, Spec], changed: Iterable[Parameter]) -> SetParametersResult:
    """The answer to an attempt to set parameters: all, or none with the reason."""
    for parameter in changed:
        spec = specs.get(parameter.name)
        if spec is None:
            continue
        try:
            spec.check(parameter.value)
        except ValueError as error:
            return SetParametersResult(successful=False, reason=str(error))
    return SetParametersResult(successful=True)


def as_markdown(specs: Iterable[Spec]) -> str:
    """The table of the README."""
    rows = ["| parameter | default | meaning |", "|---|---|---|"]
    for spec in specs:
        text = spec.description
        if spec.choices:
            text += " One of " + ", ".join(f"`{c}`" for c in spec.choices if c) + "."
        if spec.bounds:
            text += f" {spec.bounds[0]:g} to {spec.bounds[1]:g}."
        if spec.live:
            text += " May change at run time."
        rows.append(f"| `{spec.name}` | `{spec.default!r}` | {text} |")
    return "\n".join(rows)
