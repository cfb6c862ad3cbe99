"""A stand-in for the few names of `launch` that the launch files use; it is not among the wheels.

`described` reads a launch file as `launch` does and `Started.command` says what launch_ros would
start for a Node. Where the real `launch` is installed, test/ros/test_launch.py reads with it too.
"""

from __future__ import annotations

import runpy
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import yaml

from hand_mesh_ros.ros.environment import share_directory

NAMES = {
    "launch": ["LaunchDescription", "LaunchContext"],
    "launch.actions": [
        "DeclareLaunchArgument",
        "IncludeLaunchDescription",
        "LogInfo",
        "OpaqueFunction",
        "SetEnvironmentVariable",
        "Shutdown",
    ],
    "launch.conditions": ["IfCondition"],
    "launch.launch_description_sources": ["PythonLaunchDescriptionSource"],
    "launch.substitutions": ["LaunchConfiguration", "PathJoinSubstitution"],
    "launch_ros": [],
    "launch_ros.actions": ["Node"],
    "launch_ros.parameter_descriptions": ["ParameterValue"],
    "launch_ros.substitutions": ["FindPackageShare"],
}


class Recorded:
    """What a launch file called, with its arguments; substitutions know their text."""

    def __init__(self, kind: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.kind, self.args, self.kwargs = kind, args, kwargs

    def perform(self, context: Any) -> str:
        if self.kind == "LaunchConfiguration":
            return str(context.launch_configurations[self.args[0]])
        if self.kind == "FindPackageShare":
            assert self.args == ("hand_mesh_ros",)
            return str(share_directory())
        if self.kind == "PathJoinSubstitution":
            return "/".join(text(part, context) for part in self.args[0])
        raise TypeError(f"{self.kind} is no substitution")


def text(value: Any, context: Any) -> str:
    """The text of a substitution, or of a list of them, as launch makes it."""
    if isinstance(value, (list, tuple)):
        return "".join(text(part, context) for part in value)
    return value if isinstance(value, str) else str(value.perform(context))


@dataclass(frozen=True)
class Started:
    """A process that a launch file starts: a Node's arguments, and the environment set so far."""

    node: dict[str, Any]
    environment: dict[str, str]
    context: Any

    def text(self, value: Any) -> str:
        return text(value, self.context)

    @property
    def executable(self) -> str:
        return str(self.node["executable"])

    def command(self, folder: Path) -> list[str]:
        """The words after the executable; parameters that the file gives go to ``folder``."""
        node = self.node
        words = [self.text(word) for word in node.get("arguments", ())]
        words += ["--ros-args", *(self.text(word) for word in node.get("ros_arguments", ()))]
        words += ["-r", f"__node:={node['name']}"]
        if namespace := self.text(node.get("namespace", "")):
            words += ["-r", f"__ns:=/{namespace.strip('/')}"]
        for index, given in enumerate(node.get("parameters", ())):
            file = self.text(given) if not isinstance(given, dict) else ""
            if isinstance(given, dict):
                file = str(folder / f"{node['name']}_{index}.yaml")
                values = {key: self._value(value) for key, value in given.items()}
                Path(file).write_text(yaml.safe_dump({"/**": {"ros__parameters": values}}))
            words += ["--params-file", file]
        for name, other in node.get("remappings", ()):
            words += ["-r", f"{self.text(name)}:={self.text(other)}"]
        return words

    def _value(self, given: Any) -> Any:
        if isinstance(given, Recorded) and given.kind == "ParameterValue":
            kind, said = given.kwargs["value_type"], self.text(given.args[0])
            return said == "true" if kind is bool else kind(said)
        return yaml.safe_load(self.text(given))


@dataclass
class Description:
    """Arguments, processes, environment and inclusions of a launch file."""

    arguments: dict[str, dict[str, Any]] = field(default_factory=dict)
    started: list[Started] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    includes: dict[str, dict[str, str]] = field(default_factory=dict)
    context: Any = None

    @property
    def nodes(self) -> list[dict[str, Any]]:
        return [started.node for started in self.started]

    def everything(self) -> list[Started]:
        """The processes of this file and of those that it includes."""
        others = [described(Path(file), **given) for file, given in self.includes.items()]
        return [*self.started, *(p for other in others for p in other.everything())]


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the stand-in in the place of `launch` and `launch_ros`."""
    for module_name, classes in NAMES.items():
        module = ModuleType(module_name)
        for kind in classes:
            setattr(module, kind, lambda *a, _kind=kind, **k: Recorded(_kind, a, k))
        monkeypatch.setitem(sys.modules, module_name, module)


def described(path: Path, **arguments: str) -> Description:
    """Read a launch file with these arguments; inclusions whose condition fails are left out."""
    description = runpy.run_path(str(path))["generate_launch_description"]()
    context = SimpleNamespace(launch_configurations={})
    out = Description(context=context)
    waiting = list(description.args[0])
    while waiting:
        action = waiting.pop(0)
        if action.kind == "DeclareLaunchArgument":
            (name,) = action.args
            out.arguments[name] = action.kwargs
            value = arguments.get(name, text(action.kwargs["default_value"], context))
            assert value in action.kwargs.get("choices", [value])
            context.launch_configurations[name] = value
        elif action.kind == "OpaqueFunction":
            waiting = list(action.kwargs["function"](context)) + waiting
        elif action.kind == "Node":
            out.started.append(Started(action.kwargs, dict(out.environment), context))
        elif action.kind == "SetEnvironmentVariable":
            out.environment[action.args[0]] = text(action.args[1], context)
        elif action.kind == "IncludeLaunchDescription":
            condition = action.kwargs.get("condition")
            if condition is None or text(condition.args[0], context) == "true":
                given = dict(action.kwargs.get("launch_arguments", ()))
                values = {name: text(value, context) for name, value in given.items()}
                out.includes[text(action.args[0].args[0], context)] = values
        else:
            assert action.kind == "LogInfo", action.kind
    assert set(arguments) <= set(out.arguments)
    return out
