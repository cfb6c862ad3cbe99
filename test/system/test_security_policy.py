"""config/sros2/policy.xml against the graph of the running nodes: all is covered, nothing stale.

Enforcement cannot be tested with ROS from wheels, whose Fast DDS is built without security.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

POLICY = Path(__file__).resolve().parents[2] / "config" / "sros2" / "policy.xml"
# Rule -> which of rclpy's questions about a node tells what it does.
QUESTIONS = {
    ("topics", "publish"): "publisher",
    ("topics", "subscribe"): "subscriber",
    ("services", "reply"): "service",
    ("services", "request"): "client",
}
# With every input and output that is optional; simulated time makes them listen to /clock.
NODES: dict[str, tuple[str, dict[str, Any]]] = {
    "hand_mesh_node": (
        "hand_mesh_node",
        {
            "cameras": ["raw", "small", "far"],
            "camera": {
                "raw": {"depth_topic": "raw/depth/image_raw"},
                "small": {"compressed": True},
                "far": {"observations_topic": "/edge/hand_edge_node/observations/far"},
            },
            "num_threads": 1,
        },
    ),
    "hand_edge_node": (
        "edge_node",
        {"cameras": ["raw", "small"], "camera": {"small": {"compressed": True}}, "num_threads": 1},
    ),
    "camera_cell_node": (
        "camera_cell_node",
        {
            "transport": "both",
            "pace": "lockstep",
            "synthetic": {"depth": True, "cameras": 1},
            "start_timeout": 600.0,
        },
    ),
    "cell_calibration_node": ("cell_calibration_node", {}),
    "servo_bridge_node": ("servo_bridge_node", {}),
}


def rules() -> dict[str, dict[tuple[str, str], list[str]]]:
    """Allowed names, resolved as sros2 does, by node and by rule."""
    out: dict[str, dict[tuple[str, str], list[str]]] = {}
    for profile in ElementTree.parse(POLICY).getroot().iter("profile"):
        namespace, node = profile.attrib["ns"].rstrip("/") + "/", profile.attrib["node"]
        allowed = out.setdefault(node, {})
        for group in profile:
            for kind, qualifier in group.attrib.items():
                assert qualifier == "ALLOW"
                for entry in group:
                    name = entry.text or ""
                    if name.startswith("~/"):
                        name = f"{namespace}{node}/{name[2:]}"
                    allowed.setdefault((group.tag, kind), []).append(
                        name if name.startswith("/") else namespace + name
                    )
    return out


def test_the_file_has_the_form_of_version_0_2_0() -> None:
    """policy > contexts > context[path] > profiles > profile[ns, node] > expressions."""
    policy = ElementTree.parse(POLICY).getroot()
    assert (policy.tag, policy.attrib) == ("policy", {"version": "0.2.0"})
    (contexts,) = policy
    assert contexts.tag == "contexts" and {c.tag for c in contexts} == {"context"}
    enclaves = [context.attrib["path"] for context in contexts]
    assert len(set(enclaves)) == len(enclaves)
    for context in contexts:
        (profiles,) = context
        (profile,) = profiles
        assert (profiles.tag, profile.tag) == ("profiles", "profile")
        assert set(profile.attrib) == {"ns", "node"}
        assert context.attrib["path"] == f"/hand_mesh_ros/{profile.attrib['node']}"
        for group in profile:
            assert {(group.tag, kind) for kind in group.attrib} <= set(QUESTIONS)
            names = [entry.text for entry in group]
            assert names and len(set(names)) == len(names)
            assert {entry.tag for entry in group} == {group.tag.removesuffix("s")}


def test_every_node_that_is_installed_has_a_profile() -> None:
    assert set(rules()) == set(NODES)


@pytest.fixture(scope="module")
def graph(
    start: Callable[..., Any], peer: Any, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[tuple[str, str], set[str]]]:
    """What every node really says and hears, by node and rule."""
    file = tmp_path_factory.mktemp("cell") / "cell.yaml"
    k = [9.0, 0.0, 5.0, 0.0, 9.0, 5.0, 0.0, 0.0, 1.0]
    pose = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]
    camera = {"intrinsics": {"width": 10, "height": 10, "k": k}, "extrinsics": pose}
    cell = {"cameras": ["front"], "camera": {"front": camera}, "output_frame": "table"}
    file.write_text(yaml.safe_dump({"/**": {"ros__parameters": cell}}))
    extra: dict[str, dict[str, Any]] = {"cell_calibration_node": {"cell_file": str(file)}}
    processes = {
        node: start(module, {**parameters, **extra.get(node, {}), "use_sim_time": True})
        for node, (module, parameters) in NODES.items()
    }

    def seen(node: str) -> dict[tuple[str, str], set[str]]:
        assert processes[node].running(), processes[node].output
        out = {}
        for rule, what in QUESTIONS.items():
            ask = getattr(peer.node, f"get_{what}_names_and_types_by_node")
            out[rule] = {name for name, _ in ask(node, "/")}
        return out

    found: dict[str, dict[tuple[str, str], set[str]]] = {}

    def complete() -> bool:
        """The last things that the nodes make are there, and nothing new comes any more."""
        before = dict(found)
        known = peer.node.get_node_names()
        found.update({node: seen(node) for node in NODES if node in known})
        active = "/tf_static" in found.get("hand_mesh_node", {}).get(("topics", "subscribe"), ())
        edge = "/raw/image_raw" in found.get("hand_edge_node", {}).get(("topics", "subscribe"), ())
        peer.until(lambda: False, patience=1.0)
        return set(found) == set(NODES) and active and edge and before == found

    peer.until(complete, "the graph of all nodes to be complete")
    return found


@pytest.mark.parametrize("node", NODES)
def test_what_the_node_does_is_allowed_and_nothing_else(
    graph: dict[str, dict[tuple[str, str], set[str]]], node: str
) -> None:
    allowed = rules()[node]
    for rule, names in graph[node].items():
        patterns = allowed.get(rule, [])
        denied = [n for n in names if not any(fnmatchcase(n, p) for p in patterns)]
        assert not denied, f"{node} {rule}: the policy lacks {sorted(denied)}"
        stale = [p for p in patterns if not any(fnmatchcase(n, p) for n in names)]
        assert not stale, f"{node} {rule}: the policy allows {sorted(stale)} for nothing"
