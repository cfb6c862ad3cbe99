"""The launch files start what is there, with files that are there.

They are read with the stand-in of test/launch_stand_in.py (fixture ``described``). Where `launch`
is installed, it reads every file as well.
"""

from __future__ import annotations

import importlib.util
import runpy
from pathlib import Path
from typing import Any

import pytest
import yaml

from hand_mesh_ros.ros.environment import PROFILE_VARIABLES
from hand_mesh_ros.ros.parameter_files import camera_topics, cameras, read_parameters

ROOT = Path(__file__).resolve().parents[2]
LAUNCH = sorted((ROOT / "launch").glob("*.launch.py"))
REAL = importlib.util.find_spec("launch_ros") is not None


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
    path: Path, described: Any
) -> None:
    found = described(path)
    assert found.arguments
    for name, options in found.arguments.items():
        assert len(options["description"]) > 10, name
        assert options["default_value"] is not None
    assert all(Path(file).is_file() for file in found.includes)


@pytest.mark.parametrize("name", ["hand_mesh", "cell"])
def test_one_node_with_a_parameter_file_that_is_there(name: str, described: Any) -> None:
    found = described(ROOT / "launch" / f"{name}.launch.py", namespace="robot")
    (node,) = found.nodes
    assert (node["package"], node["executable"]) == ("hand_mesh_ros", "hand_mesh_node")
    assert node["name"] == "hand_mesh_node"
    assert found.started[0].text(node["namespace"]) == "robot"
    files = [found.started[0].text(file) for file in node["parameters"]]
    assert [cameras(read_parameters(file)) for file in files]
    flags = [found.started[0].text(argument) for argument in node["ros_arguments"]]
    assert flags == ["--log-level", "info"]


@pytest.mark.parametrize("path", LAUNCH, ids=lambda p: p.name)
def test_both_versions_of_fast_dds_are_told_of_the_profile(
    path: Path, described: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = described(path).environment
    assert set(environment) == set(PROFILE_VARIABLES)
    assert all(Path(file).is_file() for file in environment.values())
    monkeypatch.setenv(PROFILE_VARIABLES[0], "/mine.xml")
    monkeypatch.delenv(PROFILE_VARIABLES[1])
    assert described(path).environment == {PROFILE_VARIABLES[0]: "/mine.xml"}


def test_one_camera_is_remapped_to_the_topics_given(described: Any) -> None:
    path = ROOT / "launch" / "hand_mesh.launch.py"
    found = described(path, image="/webcam/image", camera_info="/webcam/info")
    (node,) = found.nodes
    remapped = {a: found.started[0].text(b) for a, b in node["remappings"]}
    (topics,) = cameras(read_parameters(ROOT / "config" / "single.yaml")).values()
    assert remapped == dict(zip(topics, ("/webcam/image", "/webcam/info"), strict=True))


def test_a_cell_is_remapped_to_its_cameras_namespace(described: Any, tmp_path: Path) -> None:
    file = tmp_path / "cell.yaml"
    section = {
        "cameras": ["front", "left"],
        "camera": {
            "left": {
                "image_topic": "/left/rgb",
                "info_topic": "left_info",
                "depth_topic": "left/depth",
            }
        },
    }
    file.write_text(yaml.safe_dump({"/**": {"ros__parameters": section}}))
    path = ROOT / "launch" / "cell.launch.py"
    found = described(path, cell_file=str(file), camera_namespace="/cell/")
    (node,) = found.nodes
    assert dict(node["remappings"]) == {
        "front/image_raw": "/cell/front/image_raw",
        "front/camera_info": "/cell/front/camera_info",
        "left_info": "/cell/left_info",
        "left/depth": "/cell/left/depth",
    }
    (node,) = described(path, cell_file=str(file)).nodes
    assert node["remappings"] == []
    (node,) = described(path, cell_file=str(file), tf="tf").nodes
    assert node["remappings"] == [("/tf", "tf"), ("/tf_static", "tf_static")]


def test_an_edge_node_reads_the_cameras_beside_it(described: Any) -> None:
    path = ROOT / "launch" / "edge.launch.py"
    found = described(path, namespace="edge_0", camera_namespace="/usb")
    (node,) = found.nodes
    assert (node["executable"], node["name"]) == ("hand_edge_node", "hand_edge_node")
    assert dict(node["remappings"]) == {
        "camera_0/image_raw": "/usb/camera_0/image_raw",
        "camera_0/camera_info": "/usb/camera_0/camera_info",
    }
    assert node["parameters"] == [str(ROOT / "config" / "edge.yaml")]


@pytest.mark.parametrize("name", ["hand_mesh", "cell"])
def test_a_backend_can_be_named_at_launch(described: Any, name: str) -> None:
    """And is the parameter file's otherwise."""
    path = ROOT / "launch" / f"{name}.launch.py"
    (node,) = described(path, backend="hamuco").nodes
    assert node["parameters"][-1] == {"backend": "hamuco"} and len(node["parameters"]) == 2
    (node,) = described(path).nodes
    assert len(node["parameters"]) == 1


def test_the_demo_hands_the_backend_on(described: Any) -> None:
    found = described(ROOT / "launch" / "demo.launch.py", backend="amvur")
    (given,) = (g for file, g in found.includes.items() if file.endswith("cell.launch.py"))
    assert given["backend"] == "amvur"


def test_a_fusion_node_is_a_cell_like_others(described: Any) -> None:
    file = str(ROOT / "config" / "fusion.yaml")
    (node,) = described(ROOT / "launch" / "cell.launch.py", cell_file=file).nodes
    assert node["parameters"] == [file] and node["remappings"] == []


def test_the_demo_plays_into_the_cell(described: Any) -> None:
    found = described(ROOT / "launch" / "demo.launch.py", loop="false", rviz="true")
    (node,) = found.nodes
    assert (node["package"], node["executable"]) == ("hand_mesh_ros", "camera_cell_node")
    assert [Path(file).name for file in found.includes] == ["cell.launch.py", "view.launch.py"]
    for file, given in found.includes.items():
        assert set(given) <= set(described(Path(file)).arguments)
    assert [action.kind for action in node["on_exit"]] == ["Shutdown"]
    from hand_mesh_ros.ros.camera_cell_node import CELL_SPECS

    assert set(node["parameters"][0]) <= {spec.name for spec in CELL_SPECS}


def test_rviz_shows_the_node_that_is_named(described: Any) -> None:
    found = described(
        ROOT / "launch" / "view.launch.py", node="/cell/hands", cameras="front", fixed_frame="table"
    )
    (node,) = found.nodes
    arguments = [found.started[0].text(a) for a in node["arguments"]]
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
