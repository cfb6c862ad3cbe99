"""Parameters: one table declares, describes, bounds and documents them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.parameter import Parameter

from hand_mesh_ros.ros.camera_cell_node import CELL_SPECS
from hand_mesh_ros.ros.edge_settings import EDGE_SPECS, load_edge_settings
from hand_mesh_ros.ros.node_specs import NODE_SPECS, camera_specs
from hand_mesh_ros.ros.parameter_files import read_parameters
from hand_mesh_ros.ros.parameters import Spec, as_markdown, declare, refuse_bad
from hand_mesh_ros.ros.settings import load_settings

FOLDER = Path(__file__).resolve().parents[2] / "config"
EDGE, FUSION = FOLDER / "edge.yaml", FOLDER / "fusion.yaml"
# Complete files; fusion.yaml says only what it is about.
CONFIG = sorted(set(FOLDER.glob("*.yaml")) - {FUSION})
ALL_SPECS = (*NODE_SPECS, *camera_specs("front"), *EDGE_SPECS, *CELL_SPECS)


def specs_of(path: Path, *cameras: str) -> list[Spec]:
    """The parameters of the node that a file is for."""
    groups = [spec for name in cameras for spec in camera_specs(name, remote=path != EDGE)]
    return [*(EDGE_SPECS if path == EDGE else NODE_SPECS), *groups]


@pytest.mark.parametrize("path", CONFIG, ids=lambda p: p.name)
def test_a_file_holds_every_parameter_at_its_default(path: Path) -> None:
    """All but `cameras`, which says what the file is for."""
    found = read_parameters(path)
    names = found.pop("cameras")
    specs = [spec for spec in specs_of(path, *names) if spec.name != "cameras"]
    assert found == {spec.name: spec.default for spec in specs}
    kinds = {name: type(value) for name, value in found.items()}
    assert kinds == {spec.name: type(spec.default) for spec in specs}  # 1 is not 1.0 to ROS


@pytest.mark.parametrize("path", CONFIG, ids=lambda p: p.name)
def test_a_file_explains_every_parameter(path: Path) -> None:
    """A comment above each, but for the repeated groups of further cameras."""
    lines = path.read_text().splitlines()
    explained = set()
    for above, line in zip(lines, lines[1:], strict=False):
        key = line.split(":")[0].strip()
        if above.strip().startswith("#"):
            explained.add(key)
    leaves = {spec.name.rpartition(".")[2] for spec in specs_of(path, "x")}
    assert leaves <= explained


def test_the_node_takes_a_file(ros_node: Callable[..., Any]) -> None:
    for path in {*CONFIG, FUSION} - {EDGE}:
        overrides = {k.replace(".", "__"): v for k, v in read_parameters(path).items()}
        settings = load_settings(ros_node("hand_mesh_node", **overrides))
        assert len(settings.cameras) in (1, 2, 4)
        assert settings.output_frame == ("world" if len(settings.cameras) > 1 else "")


def test_fusion_hears_what_the_edge_says(ros_node: Callable[..., Any]) -> None:
    """The file for the machine that fuses names topics of the file for the machines that look."""
    found = read_parameters(FUSION)
    known = {s.name: s.default for s in specs_of(FUSION, *found["cameras"])}
    for name, value in found.items():
        assert type(value) is type(known[name]), name
    edge = load_edge_settings(
        ros_node("edge", **{k.replace(".", "__"): v for k, v in read_parameters(EDGE).items()})
    )
    (camera,) = edge.cameras
    settings = load_settings(ros_node(**{k.replace(".", "__"): v for k, v in found.items()}))
    remote = settings.cameras[0]
    assert remote.name == camera.name and not edge.reliable
    assert remote.observations_topic == f"/edge_0/hand_edge_node/observations/{camera.name}"
    assert remote.info_topic == f"/edge_0/{camera.info_topic}"
    assert all(c.observations_topic for c in settings.cameras)


@pytest.mark.parametrize("spec", ALL_SPECS, ids=lambda s: s.name)
def test_every_parameter_is_described_and_bounded(spec: Spec) -> None:
    descriptor = spec.descriptor()
    assert len(descriptor.description) > 15
    assert descriptor.read_only == (not spec.live)
    if isinstance(spec.default, float) and spec.bounds:
        (limits,) = descriptor.floating_point_range
    elif isinstance(spec.default, int) and not isinstance(spec.default, bool) and spec.bounds:
        (limits,) = descriptor.integer_range
    else:
        unbounded = isinstance(spec.default, (int, float)) and not isinstance(spec.default, bool)
        assert not unbounded or spec.name == "unit_m", "a number without a range"
        return
    assert (limits.from_value, limits.to_value) == spec.bounds
    assert limits.from_value <= spec.default <= limits.to_value


def test_choices_are_in_the_description() -> None:
    (backend,) = [spec for spec in NODE_SPECS if spec.name == "runtime"]
    assert backend.descriptor().description.endswith("One of: litert, torch.")


def test_declared_with_value_type_and_description(ros_node: Callable[..., Any]) -> None:
    node = ros_node()
    declare(node, NODE_SPECS)
    declare(node, NODE_SPECS)  # again, as configure does after cleanup
    for spec in NODE_SPECS:
        value = node.get_parameter(spec.name).value
        assert (list(value) if isinstance(spec.default, list) else value) == spec.default
        assert spec.description in node.describe_parameter(spec.name).description


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        ({"cameras": [""]}, "cameras has the name ''"),
        ({"cameras": ["front cam"]}, "cameras has the name 'front cam'"),
        ({"cameras": ["a", "b", "a"]}, "cameras names a camera twice"),
        ({"cameras": [f"c{i}" for i in range(33)]}, "cameras has 33 names: 32 is the most"),
        ({"runtime": "abacus"}, "runtime is 'abacus': it must be one of 'litert', 'torch'"),
        ({"backend": "magic"}, "backend is 'magic'"),
        ({"min_views": 2}, r"min_views is 2, with 1 camera"),
        ({"sync__min_views": 3, "cameras": ["a", "b"]}, r"sync.min_views is 3, with 2 camera"),
        ({"presence": float("nan")}, "presence"),
        ({"camera__camera__reliability": "maybe"}, "camera.camera.reliability is 'maybe'"),
    ],
)
def test_bad_values_are_refused_by_name(
    ros_node: Callable[..., Any], overrides: dict[str, Any], complaint: str
) -> None:
    with pytest.raises((ValueError, InvalidParameterValueException), match=complaint):
        load_settings(ros_node(**overrides))


@pytest.mark.parametrize(
    ("overrides", "error"),
    [
        ({"overlay__alpha": 1.5}, InvalidParameterValueException),
        ({"queue": 0}, InvalidParameterValueException),
        ({"sync__max_wait": 1}, InvalidParameterTypeException),
        ({"cameras": "front"}, InvalidParameterTypeException),
        ({"cameras": []}, InvalidParameterTypeException),
    ],
)
def test_rclpy_refuses_ranges_and_types(
    ros_node: Callable[..., Any], overrides: dict[str, Any], error: type[Exception]
) -> None:
    (name,) = overrides
    with pytest.raises(error, match=name.replace("__", ".")):
        load_settings(ros_node(**overrides))


def test_a_change_is_taken_whole_or_not_at_all() -> None:
    specs = {spec.name: spec for spec in NODE_SPECS}
    good, bad = Parameter("overlay.alpha", value=0.5), Parameter("backend", value="magic")
    assert refuse_bad(specs, [good, Parameter("use_sim_time", value=True)]).successful
    answer = refuse_bad(specs, [good, bad])
    assert not answer.successful
    assert "backend is 'magic'" in answer.reason


def test_settings_of_a_cell(ros_node: Callable[..., Any]) -> None:
    settings = load_settings(
        ros_node(
            cameras=["front", "left"],
            camera__left__image_topic="/left/rgb",
            camera__left__compressed=True,
            camera__left__reliability="reliable",
            camera__left__frame_id="left_lens",
            sync__max_spread=0.01,
            track__max_gap=0.3,
            tf__prefix="cell/",
        )
    )
    front, left = settings.cameras
    assert (front.image_topic, front.info_topic) == ("front/image_raw", "front/camera_info")
    assert (left.image_topic, left.info_topic) == ("/left/rgb", "/left/camera_info")
    assert (front.compressed, front.reliable, front.frame_id) == (False, False, "")
    assert (left.compressed, left.reliable, left.frame_id) == (True, True, "left_lens")
    assert settings.sync.settings.max_spread == 0.01
    assert settings.pipeline.track.max_gap == 0.3
    assert settings.live.tf_prefix == "cell/"
    assert settings.output_frame == "world"


def test_the_readme_has_the_tables() -> None:
    readme = (CONFIG[0].parents[1] / "README.md").read_text()
    assert as_markdown(NODE_SPECS) in readme
    for row in as_markdown(camera_specs("<name>")).splitlines():
        assert row in readme


def test_the_table_for_people_has_every_parameter() -> None:
    table = as_markdown(ALL_SPECS)
    assert all(f"| `{spec.name}` |" in table for spec in ALL_SPECS)
    assert "0 to 1. May change at run time." in table
