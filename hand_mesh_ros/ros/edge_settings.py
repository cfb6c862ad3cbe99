"""The parameters of hand_edge_node and their snapshot."""

from __future__ import annotations

from dataclasses import dataclass, replace

from rclpy.node import Node

from hand_mesh_ros.perception.edge import EdgeSettings
from hand_mesh_ros.perception.frame_sets import SyncSettings
from hand_mesh_ros.perception.observe import ObserveSettings
from hand_mesh_ros.ros.managed_node import COMMON_SPECS
from hand_mesh_ros.ros.node_specs import NODE_SPECS
from hand_mesh_ros.ros.parameters import Spec, declare, read
from hand_mesh_ros.ros.settings import CameraSettings, Sync, load_cameras

_LIKE = {spec.name: spec for spec in NODE_SPECS}
EDGE_SPECS = (
    *(_LIKE[name] for name in ("cameras", "runtime", "device", "num_threads")),
    _LIKE["sync.max_spread"],
    replace(_LIKE["sync.max_wait"], default=0.05),
    replace(
        _LIKE["max_hands"], description="Most hands to look for in each camera's images."
    ),
    _LIKE["presence"],
    Spec(
        "search_every",
        4,
        "While some hands are followed, the whole image is searched once in so many frames: half "
        "as often with all of them, twice as often with none.",
        bounds=(1, 1000),
    ),
    Spec(
        "max_gap",
        0.3,
        "A hand unseen for longer, s, has another track id when it comes back.",
        bounds=(0.0, 10.0),
    ),
    Spec(
        "observations.reliability",
        "best_effort",
        "QoS of what is sent.",
        choices=("best_effort", "reliable"),
    ),
    *COMMON_SPECS,
)


@dataclass(frozen=True)
class EdgeNodeSettings:
    """The validated snapshot of all parameters."""

    cameras: tuple[CameraSettings, ...]
    runtime: str
    device: str
    num_threads: int
    sync: Sync
    observe: ObserveSettings
    edge: EdgeSettings
    reliable: bool


def load_edge_settings(node: Node) -> EdgeNodeSettings:
    """Declare what is not declared yet and read everything; ``ValueError`` names what is wrong."""
    declare(node, EDGE_SPECS)
    values = read(node, EDGE_SPECS)
    return EdgeNodeSettings(
        cameras=load_cameras(node, values["cameras"], remote=False),
        runtime=values["runtime"],
        device=values["device"],
        num_threads=values["num_threads"],
        sync=Sync(
            SyncSettings(max_spread=values["sync.max_spread"], max_wait=values["sync.max_wait"])
        ),
        observe=ObserveSettings(presence=values["presence"]),
        edge=EdgeSettings(
            max_hands=values["max_hands"],
            search_every=values["search_every"],
            max_gap=values["max_gap"],
        ),
        reliable=values["observations.reliability"] == "reliable",
    )
