"""What makes ROS from wheels work without anything sourced."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from hand_mesh_ros.ros import environment


def run(code: str, **variables: str) -> str:
    """Return what a fresh Python prints."""
    result = subprocess.run(
        [sys.executable, "-c", code],
        env=environment.child_environment() | variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_share_directory_has_what_launch_files_need() -> None:
    share = environment.share_directory()
    assert (share / "package.xml").is_file()
    assert (share / "msg" / "Hand.msg").is_file()


def test_profile_gives_every_process_a_large_segment_and_keeps_udp() -> None:
    variables = environment.transport_variables({})
    assert set(variables) == set(environment.PROFILE_VARIABLES)
    (profile,) = set(variables.values())
    root = ElementTree.parse(profile).getroot()
    space = {"d": "http://www.eprosima.com/XMLSchemas/fastRTPS_Profiles"}
    assert [node.text for node in root.iterfind(".//d:type", space)] == ["SHM", "UDPv4"]
    size = root.find(".//d:segment_size", space)
    assert size is not None and int(size.text or 0) == 64 * 2**20
    used = [node.text for node in root.iterfind(".//d:userTransports/d:transport_id", space)]
    named = [node.text for node in root.iterfind(".//d:transport_descriptor/d:transport_id", space)]
    assert used == named


def test_a_profile_of_the_users_own_is_left_alone() -> None:
    for name in environment.PROFILE_VARIABLES:
        assert environment.transport_variables({name: "mine.xml"}) == {}


def test_private_domain_stays_on_this_machine() -> None:
    child = environment.child_environment(domain_id=77)
    assert child["ROS_DOMAIN_ID"] == "77"
    assert child["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "LOCALHOST"
    assert environment.child_environment().get("ROS_DOMAIN_ID") == os.environ.get("ROS_DOMAIN_ID")


def test_guard_of_the_wheels_never_travels_without_library_path(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(environment.WHEELS_GUARD, "1")
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)
    assert environment.WHEELS_GUARD not in environment.child_environment()
    monkeypatch.setenv("LD_LIBRARY_PATH", sys.prefix + "/lib")
    assert environment.child_environment()[environment.WHEELS_GUARD] == "1"


def test_child_finds_ros_without_the_parents_library_path(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ros_wheels_bootstrapper", reason="ROS is not from wheels here")
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)
    assert run("import rclpy; rclpy.init(); print(rclpy.ok())") == "True"


def test_ament_index_works_with_nothing_sourced(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ros_wheels_bootstrapper", reason="ROS is not from wheels here")
    monkeypatch.delenv("AMENT_PREFIX_PATH", raising=False)
    code = (
        "import hand_mesh_ros.ros; from ament_index_python import get_package_share_directory as f;"
        "print(f('std_msgs'))"
    )
    assert Path(run(code)) == Path(sys.prefix) / "share" / "std_msgs"


def test_preparing_twice_changes_nothing() -> None:
    environment.prepare()
    before = dict(os.environ), list(sys.path)
    environment.prepare()
    assert (dict(os.environ), list(sys.path)) == before


def test_our_tf2_msgs_is_used_where_there_is_no_other() -> None:
    pytest.importorskip("ros_wheels_bootstrapper", reason="this machine has tf2_msgs of its own")
    code = (
        "import hand_mesh_ros.ros; from tf2_msgs.msg import TFMessage; import tf2_msgs;"
        "from rclpy.serialization import deserialize_message as d, serialize_message as s;"
        "from geometry_msgs.msg import TransformStamped as T;"
        "m = TFMessage(transforms=[T(child_frame_id='wrist')]);"
        "assert d(s(m), TFMessage) == m; print(tf2_msgs.__file__)"
    )
    assert "_fallback" in Path(run(code)).parts


def test_the_distributions_tf2_msgs_wins(tmp_path: Path) -> None:
    (tmp_path / "tf2_msgs").mkdir()
    (tmp_path / "tf2_msgs" / "__init__.py").touch()
    code = "import hand_mesh_ros.ros, tf2_msgs; print(tf2_msgs.__file__)"
    path = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH", ""))))
    assert Path(run(code, PYTHONPATH=path)).parent == tmp_path / "tf2_msgs"
