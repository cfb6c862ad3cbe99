"""The validated snapshot of hand_mesh_node's parameters."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rclpy.node import Node

from hand_mesh_ros.perception.estimate import NetworkOptions
from hand_mesh_ros.perception.frame_sets import SyncSettings
from hand_mesh_ros.perception.observe import ObserveSettings
from hand_mesh_ros.perception.pipeline import PipelineSettings
from hand_mesh_ros.perception.track import TrackSettings
from hand_mesh_ros.ros.node_specs import NODE_SPECS, camera_specs
from hand_mesh_ros.ros.parameter_files import camera_topics
from hand_mesh_ros.ros.parameters import declare, read
from hand_mesh_ros.ros.textures import TextureSettings


@dataclass(frozen=True)
class CameraSettings:
    """Where one camera's frames come from; topics are complete, an empty one means none.

    With an ``observations_topic`` the topics of images are not subscribed to.
    """

    name: str
    image_topic: str
    info_topic: str
    depth_topic: str
    compressed: bool
    rectified: bool
    frame_id: str
    reliable: bool
    time_offset: float = 0.0
    observations_topic: str = ""


@dataclass(frozen=True)
class Sync:
    """How frames become sets."""

    settings: SyncSettings
    policy: str = "frame_sets"


@dataclass(frozen=True)
class LiveSettings:
    """What may change while the node runs; replaced as a whole."""

    tf_prefix: str
    publish_tf: bool
    publish_joint_tf: bool
    overlay_alpha: float
    marker_lifetime: float
    calibration_frames: int
    calibration_timeout: float
    cell_sets: int
    cell_timeout: float
    mesh_texture: bool = False
    marker_texture: bool = False


@dataclass(frozen=True)
class NodeSettings:
    """The validated snapshot of all parameters."""

    cameras: tuple[CameraSettings, ...]
    output_frame: str
    backend: str
    network: NetworkOptions
    hand_model: str
    shape_file: str
    runtime: str
    device: str
    num_threads: int
    sync: Sync
    observe: ObserveSettings
    pipeline: PipelineSettings
    predict_to_now: bool
    texture: TextureSettings
    live: LiveSettings


def load_settings(node: Node) -> NodeSettings:
    """Declare what is not declared yet and read everything; ``ValueError`` names what is wrong."""
    declare(node, NODE_SPECS)
    values = read(node, NODE_SPECS)
    cameras = load_cameras(node, values["cameras"])
    for key in ("sync.min_views", "min_views"):
        if values[key] > len(cameras):
            raise ValueError(f"parameter {key} is {values[key]}, with {len(cameras)} camera(s)")
    return NodeSettings(
        cameras=cameras,
        output_frame=values["output_frame"] or ("world" if len(cameras) > 1 else ""),
        backend=values["backend"],
        network=NetworkOptions(
            checkpoint=Path(values["checkpoint"]).expanduser() if values["checkpoint"] else None,
            device=values["network.device"],
            jitter=values["network.jitter"],
            batch=values["network.batch"],
            precision=values["network.precision"],
        ),
        hand_model=values["hand_model"],
        shape_file=values["shape_file"],
        runtime=values["runtime"],
        device=values["device"],
        num_threads=values["num_threads"],
        sync=read_sync(values),
        observe=ObserveSettings(presence=values["presence"]),
        pipeline=PipelineSettings(
            max_hands=values["max_hands"],
            min_views=values["min_views"],
            search_every=values["search_every"],
            search_full=values["search_full"],
            compensate=values["track.compensate"],
            track=TrackSettings(
                filter=values["track.filter"],
                coast=values["track.coast"],
                predict=values["track.predict"],
                max_gap=values["track.max_gap"],
            ),
        ),
        predict_to_now=values["track.predict_to_now"],
        texture=TextureSettings(values["texture.period"], values["texture.pictures"]),
        live=live_settings(values),
    )


def read_sync(values: dict[str, Any]) -> Sync:
    """What the parameters ``sync.*`` say."""
    settings = SyncSettings(
        min_views=values["sync.min_views"],
        max_spread=values["sync.max_spread"],
        max_wait=values["sync.max_wait"],
    )
    return Sync(settings, values["sync.policy"])


def live_settings(values: dict[str, Any]) -> LiveSettings:
    """The part of the snapshot that may change while the node runs."""
    return LiveSettings(
        tf_prefix=values["tf.prefix"],
        publish_tf=values["publish_tf"],
        publish_joint_tf=values["publish_joint_tf"],
        overlay_alpha=values["overlay.alpha"],
        marker_lifetime=values["marker.lifetime"],
        calibration_frames=values["calibrate_shape.frames"],
        calibration_timeout=values["calibrate_shape.timeout"],
        cell_sets=values["calibrate_cell.sets"],
        cell_timeout=values["calibrate_cell.timeout"],
        mesh_texture=values["mesh.texture"],
        marker_texture=values["marker.texture"],
    )


def load_cameras(
    node: Node, names: Sequence[str], remote: bool = True
) -> tuple[CameraSettings, ...]:
    """Declare and read the groups of these cameras; ``ValueError`` names what is wrong."""
    if not names:
        raise ValueError("parameter cameras is empty: name at least one camera")
    if bad := [name for name in names if not re.fullmatch(r"[A-Za-z]\w*", name, re.ASCII)]:
        raise ValueError(
            f"parameter cameras has the name {bad[0]!r}: names are part of topics, so they must be "
            "letters, digits and underscores, and begin with a letter"
        )
    if len(set(names)) != len(names):
        raise ValueError(f"parameter cameras names a camera twice: {', '.join(names)}")
    if len(names) > 32:
        raise ValueError(f"parameter cameras has {len(names)} names: 32 is the most")
    return tuple(_camera(node, name, remote) for name in names)


def _camera(node: Node, name: str, remote: bool) -> CameraSettings:
    specs = camera_specs(name, remote)
    declare(node, specs)
    values = {key.rsplit(".", 1)[1]: value for key, value in read(node, specs).items()}
    image, info = camera_topics(name, values["image_topic"], values["info_topic"])
    return CameraSettings(
        name=name,
        image_topic=image,
        info_topic=info,
        depth_topic=values["depth_topic"],
        compressed=values["compressed"],
        rectified=values["rectified"],
        frame_id=values["frame_id"],
        reliable=values["reliability"] == "reliable",
        time_offset=values["time_offset"],
        observations_topic=values.get("observations_topic", ""),
    )
