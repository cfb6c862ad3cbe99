"""The launch files start what is there, with files that are there.

`launch` is not among the ROS wheels: a recording stand-in of the few names that the launch files
use takes its place. Where `launch` is installed, it reads every file as well.
"""

from __future__ import annotations

import importlib.util
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import yaml

from hand_mesh_ros.ros.environment import PROFILE_VARIABLES, share_directory
from hand_mesh_ros.ros.parameter_files import camera_topics, cameras, read_parameters

ROOT = Path(__file__).resolve().parents[2]
LAUNCH = sorted((ROOT / "launch").glob("*.launch.py"))
REAL = importlib.util.find_spec("launch_ros") is not None


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


def _stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {
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
    for module_name, classes in names.items():
        module = ModuleType(module_name)
        for kind in classes:
            setattr(module, kind, lambda *a, _kind=kind, **k: Recorded(_kind, a, k))
        monkeypatch.setitem(sys.modules, module_name, module)


def described(path: Path, **arguments: str) -> SimpleNamespace:
    """Arguments, processes, environment and inclusions of a launch file, with these arguments."""
    description = runpy.run_path(str(path))["generate_launch_description"]()
    context = SimpleNamespace(launch_configurations={})
    out = SimpleNamespace(arguments={}, nodes=[], environment={}, includes=[], context=context)
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
            out.nodes.append(action.kwargs)
        elif action.kind == "SetEnvironmentVariable":
            out.environment[action.args[0]] = text(action.args[1], context)
        elif action.kind == "IncludeLaunchDescription":
            out.includes.append(text(action.args[0].args[0], context))
    assert set(arguments) <= set(out.arguments)
    return out


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    _stand_in(monkeypatch)
    yield


@pytest.mark.parametrize("path", LAUNCH, ids=lambda p: p.name)
def test_it_is_plain_python_without_evaluation_or_network(path: Path) -> None:
    code = path.read_text()
    compile(code, str(path), "exec")
    assert not [word for word in ("eval(", "exec(", "urllib", "requests", "socket") if word in code]


if REAL:

    @pytest.mark.parametrize("path", LAUNCH, ids=lambda p: p.name)
    def test_the_real_launch_takes_it(path: Path) -> None:
        from launch import LaunchContext
        from launch.actions import DeclareLaunchArgument, OpaqueFunction

        description = runpy.run_path(str(path))["generate_launch_description"]()
        context = LaunchContext()
        for action in description.entities:
            if isinstance(action, (DeclareLaunchArgument, OpaqueFunction)):
                action.visit(context)
        declared = {argument.name for argument in description.get_launch_arguments()}
        assert declared <= set(context.launch_configurations)


@pytest.mark.parametrize("path", LAUNCH, ids=lambda p: p.name)
def test_every_argument_is_described_and_every_included_file_is_there(
    path: Path, stand_in: None
) -> None:
    found = described(path)
    assert found.arguments
    for name, options in found.arguments.items():
        assert len(options["description"]) > 10, name
        assert options["default_value"] is not None
    assert all(Path(file).is_file() for file in found.includes)


@pytest.mark.parametrize("name", ["hand_mesh", "cell"])
def test_one_node_with_a_parameter_file_that_is_there(name: str, stand_in: None) -> None:
    found = described(ROOT / "launch" / f"{name}.launch.py", namespace="robot")
    (node,) = found.nodes
    assert (node["package"], node["executable"]) == ("hand_mesh_ros", "hand_mesh_node")
    assert node["name"] == "hand_mesh_node"
    assert text(node["namespace"], found.context) == "robot"
    files = [text(file, found.context) for file in node["parameters"]]
    assert [cameras(read_parameters(file)) for file in files]
    flags = [text(argument, found.context) for argument in node["ros_arguments"]]
    assert flags == ["--log-level", "info"]


@pytest.mark.parametrize("name", ["hand_mesh", "cell"])
def test_both_versions_of_fast_dds_are_told_of_the_profile(
    name: str, stand_in: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = ROOT / "launch" / f"{name}.launch.py"
    environment = described(path).environment
    assert set(environment) == set(PROFILE_VARIABLES)
    assert all(Path(file).is_file() for file in environment.values())
    monkeypatch.setenv(PROFILE_VARIABLES[0], "/mine.xml")
    monkeypatch.delenv(PROFILE_VARIABLES[1])
    assert described(path).environment == {PROFILE_VARIABLES[0]: "/mine.xml"}


def test_one_camera_is_remapped_to_the_topics_given(stand_in: None) -> None:
    path = ROOT / "launch" / "hand_mesh.launch.py"
    found = described(path, image="/webcam/image", camera_info="/webcam/info")
    (node,) = found.nodes
    remapped = {a: text(b, found.context) for a, b in node["remappings"]}
    (topics,) = cameras(read_parameters(ROOT / "config" / "single.yaml")).values()
    assert remapped == dict(zip(topics, ("/webcam/image", "/webcam/info"), strict=True))


def test_a_cell_is_remapped_to_its_cameras_namespace(stand_in: None, tmp_path: Path) -> None:
    file = tmp_path / "cell.yaml"
    section = {
        "cameras": ["front", "left"],
        "camera": {"left": {"image_topic": "/left/rgb", "info_topic": "left_info"}},
    }
    file.write_text(yaml.safe_dump({"/**": {"ros__parameters": section}}))
    path = ROOT / "launch" / "cell.launch.py"
    found = described(path, params_file=str(file), camera_namespace="/cell/")
    (node,) = found.nodes
    assert dict(node["remappings"]) == {
        "front/image_raw": "/cell/front/image_raw",
        "front/camera_info": "/cell/front/camera_info",
        "left_info": "/cell/left_info",
    }
    (node,) = described(path, params_file=str(file)).nodes
    assert node["remappings"] == []


def test_the_demo_plays_into_the_cell(stand_in: None) -> None:
    found = described(ROOT / "launch" / "demo.launch.py", loop="false")
    (node,) = found.nodes
    assert (node["package"], node["executable"]) == ("hand_mesh_ros", "camera_cell_node")
    assert [Path(file).name for file in found.includes] == ["cell.launch.py", "view.launch.py"]
    assert [action.kind for action in node["on_exit"]] == ["Shutdown"]
    from hand_mesh_ros.ros.camera_cell_node import CELL_SPECS

    assert set(node["parameters"][0]) <= {spec.name for spec in CELL_SPECS}


def test_rviz_shows_the_node_that_is_named(stand_in: None) -> None:
    found = described(
        ROOT / "launch" / "view.launch.py", node="/cell/hands", cameras="front", fixed_frame="table"
    )
    (node,) = found.nodes
    arguments = [text(a, found.context) for a in node["arguments"]]
    assert Path(arguments[1]).is_file()
    assert arguments[2:] == ["--fixed-frame", "table"]
    assert dict(node["remappings"]) == {
        "/hand_mesh_node/markers": "/cell/hands/markers",
        "/hand_mesh_node/overlay/camera_0": "/cell/hands/overlay/front",
    }


def test_rviz_is_set_up_for_the_topics_of_the_node() -> None:
    config = yaml.safe_load((ROOT / "config" / "rviz" / "hands.rviz").read_text())
    manager = config["Visualization Manager"]
    assert manager["Global Options"]["Fixed Frame"] == "world"
    topics = {d["Name"]: d["Topic"]["Value"] for d in manager["Displays"] if "Topic" in d}
    assert topics["Hands"] == "/hand_mesh_node/markers"
    names = cameras(read_parameters(ROOT / "config" / "cell.yaml"))
    overlays = {f"/hand_mesh_node/overlay/{name}" for name in names}
    assert overlays == set(topics.values()) - {topics["Hands"]}


@pytest.mark.parametrize(
    ("settings", "topics"),
    [
        ({}, ("front/image_raw", "front/camera_info")),
        ({"image_topic": "/a/b/rgb"}, ("/a/b/rgb", "/a/b/camera_info")),
        ({"image_topic": "rgb"}, ("rgb", "camera_info")),
        ({"image_topic": "/rgb"}, ("/rgb", "/camera_info")),
        ({"info_topic": "/other"}, ("front/image_raw", "/other")),
    ],
)
def test_topics_of_a_camera(settings: dict[str, str], topics: tuple[str, str]) -> None:
    assert camera_topics("front", **settings) == topics


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("{", "no YAML file"),
        ("other_node: {ros__parameters: {a: 1}}", "no parameters for hand_mesh_node"),
        ("hand_mesh_node: {cameras: [a]}", "no ros__parameters"),
        ("", "no parameters"),
    ],
)
def test_a_bad_parameter_file_is_named(tmp_path: Path, content: str, complaint: str) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(content)
    with pytest.raises(ValueError, match=complaint) as refusal:
        read_parameters(file)
    assert str(file) in str(refusal.value)


@pytest.mark.parametrize("section", ["/**", "hand_mesh_node", "/cell/hand_mesh_node", "/*"])
def test_sections_of_a_parameter_file(tmp_path: Path, section: str) -> None:
    file = tmp_path / "parameters.yaml"
    tree = {"cameras": ["a"], "sync": {"max_wait": 0.2}}
    file.write_text(yaml.safe_dump({section: {"ros__parameters": tree}, "x": {}}))
    assert read_parameters(file) == {"cameras": ["a"], "sync.max_wait": 0.2}


def test_a_file_without_cameras_is_refused() -> None:
    with pytest.raises(ValueError, match="cameras"):
        cameras({"queue": 1})
