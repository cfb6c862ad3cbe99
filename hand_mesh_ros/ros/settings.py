"""The parameters of hand_mesh_node and their snapshot."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rclpy.node import Node

from hand_mesh_ros.perception.estimate import BACKENDS
from hand_mesh_ros.perception.frame_sets import SyncSettings
from hand_mesh_ros.perception.observe import ObserveSettings
from hand_mesh_ros.perception.pipeline import PipelineSettings
from hand_mesh_ros.perception.track import TrackSettings
from hand_mesh_ros.ros.managed_node import COMMON_SPECS
from hand_mesh_ros.ros.parameter_files import camera_topics
from hand_mesh_ros.ros.parameters import Spec, declare, read
from hand_mesh_ros.ros.sync_sources import POLICIES

NODE_SPECS = (
    Spec("cameras", ["camera"], "Names of the cameras; each has a group camera.<name>.*."),
    Spec(
        "output_frame",
        "",
        "Frame of everything published. Empty: the optical frame with one camera, 'world' with "
        "several. /tf_static must connect it to every camera's optical frame.",
    ),
    Spec("backend", "landmarks", "How views become hands.", choices=tuple(sorted(BACKENDS))),
    Spec("hand_model", "", "Path of a hand model (.npz in MANO's layout). Empty: the free hand."),
    Spec(
        "shape_file",
        "",
        "File of a person's calibrated hand shape, which all hands then have; ~/calibrate_shape "
        "writes it. Empty: shapes are estimated hand by hand.",
    ),
    Spec(
        "calibrate_shape.frames",
        60,
        "Sightings of a hand, by two cameras or more, that ~/calibrate_shape gathers.",
        bounds=(10, 2000),
        live=True,
    ),
    Spec(
        "calibrate_shape.timeout",
        60.0,
        "Seconds after which ~/calibrate_shape makes do with what it has gathered.",
        bounds=(1.0, 3600.0),
        live=True,
    ),
    Spec(
        "calibrate_cell.sets",
        600,
        "Frame sets with hands before two cameras or more that ~/calibrate_cell gathers.",
        bounds=(40, 20_000),
        live=True,
    ),
    Spec(
        "calibrate_cell.timeout",
        90.0,
        "Seconds after which ~/calibrate_cell makes do with what it has gathered.",
        bounds=(1.0, 3600.0),
        live=True,
    ),
    Spec("runtime", "litert", "What runs the landmark networks.", choices=("litert", "torch")),
    Spec("device", "cpu", "Torch device, with runtime torch: cpu, cuda, cuda:0, ..."),
    Spec("num_threads", 2, "Threads of the landmark networks on a CPU.", bounds=(1, 64)),
    Spec("sync.min_views", 1, "Fewest frames that make a frame set.", bounds=(1, 32)),
    Spec(
        "sync.max_spread",
        0.02,
        "Capture times of a set lie within this many seconds; below half a frame period.",
        bounds=(0.0, 1.0),
    ),
    Spec("sync.max_wait", 0.1, "Longest wait, s, for a set's missing frames.", bounds=(0.0, 10.0)),
    Spec(
        "sync.policy",
        "frame_sets",
        "What makes sets of frames: ours, or message_filters' ApproximateTimeSynchronizer, which "
        "gives no set while a camera is missing.",
        choices=POLICIES,
    ),
    Spec("max_hands", 2, "Most hands to look for and publish.", bounds=(1, 16)),
    Spec("min_views", 1, "Fewest cameras that must see a hand to publish it.", bounds=(1, 32)),
    Spec(
        "presence",
        0.5,
        "Least probability of a hand in a region, of the landmark network.",
        bounds=(0.0, 1.0),
    ),
    Spec(
        "search_every",
        4,
        "While hands are tracked, each camera's whole image is searched once in so many sets.",
        bounds=(1, 1000),
    ),
    Spec(
        "search_full",
        30,
        "The same, where every hand that there may be is seen by every camera.",
        bounds=(1, 10_000),
    ),
    Spec(
        "track.filter",
        True,
        "Publish filtered hands (wrist pose, finger angles and their rates); false: each as it was "
        "measured.",
    ),
    Spec(
        "track.coast",
        0.15,
        "Seconds for which a hand that is not seen is still published, as predicted and flagged "
        "extrapolated, with growing covariance.",
        bounds=(0.0, 2.0),
    ),
    Spec(
        "track.predict",
        0.0,
        "Seconds after the capture time that hands are predicted to, flagged extrapolated; the "
        "stamp stays the capture time, and Hand.ahead tells this.",
        bounds=(0.0, 0.5),
    ),
    Spec(
        "track.predict_to_now",
        False,
        "Predict hands to the time of publishing, by the latency so far, and track.predict on top.",
    ),
    Spec(
        "track.compensate",
        True,
        "Move the landmarks of frames that are older than their set to its time, by the velocity "
        "of the tracked hand.",
    ),
    Spec("track.max_gap", 0.5, "A track unseen for longer, s, has ended.", bounds=(0.0, 10.0)),
    Spec("tf.prefix", "", "Put before every TF frame this node publishes.", live=True),
    Spec("publish_tf", True, "Publish left_hand/wrist and right_hand/wrist on /tf.", live=True),
    Spec("publish_joint_tf", True, "Publish a TF frame for every joint as well.", live=True),
    Spec("overlay.alpha", 0.6, "Opacity of the mesh in overlays.", bounds=(0.0, 1.0), live=True),
    Spec("marker.lifetime", 0.4, "Lifetime of markers, s.", bounds=(0.0, 60.0), live=True),
    *COMMON_SPECS,
)
_CAMERA_SPECS = (
    Spec("image_topic", "", "Image topic. Empty: <name>/image_raw."),
    Spec("info_topic", "", "CameraInfo topic. Empty: camera_info beside the image topic."),
    Spec(
        "depth_topic",
        "",
        "Topic of depth images (16UC1 mm, 32FC1 m) aligned to the colour images. Empty: none.",
    ),
    Spec("compressed", False, "Subscribe to CompressedImage on <image_topic>/compressed."),
    Spec("rectified", False, "The images are rectified: use P and no distortion."),
    Spec("frame_id", "", "Optical frame, where the CameraInfo's header names a wrong one."),
    Spec(
        "reliability",
        "best_effort",
        "QoS of the image subscription.",
        choices=("best_effort", "reliable"),
    ),
    Spec(
        "time_offset",
        0.0,
        "Seconds to add to the camera's stamps to get its capture times; hand-mesh calibrate-time "
        "measures them. For a camera of a hand_edge_node: there or here, not twice.",
        bounds=(-10.0, 10.0),
    ),
)
_REMOTE_SPECS = (
    Spec(
        "observations_topic",
        "",
        "Topic of a hand_edge_node's HandObservations, in place of images. Empty: images.",
    ),
)


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


@dataclass(frozen=True)
class NodeSettings:
    """The validated snapshot of all parameters."""

    cameras: tuple[CameraSettings, ...]
    output_frame: str
    backend: str
    hand_model: str
    shape_file: str
    runtime: str
    device: str
    num_threads: int
    sync: Sync
    observe: ObserveSettings
    pipeline: PipelineSettings
    predict_to_now: bool
    live: LiveSettings


def camera_specs(name: str, remote: bool = True) -> tuple[Spec, ...]:
    """The group of parameters of one camera; ``remote``: of a node that takes observations."""
    return tuple(
        Spec(f"camera.{name}.{s.name}", s.default, s.description, s.bounds, s.choices)
        for s in (*_CAMERA_SPECS, *(_REMOTE_SPECS if remote else ()))
    )


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
