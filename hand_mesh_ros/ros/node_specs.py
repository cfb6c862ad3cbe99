"""The parameters of hand_mesh_node, as a table."""

from __future__ import annotations

from hand_mesh_ros.perception.estimate import BACKENDS, PRECISIONS
from hand_mesh_ros.ros.managed_node import COMMON_SPECS
from hand_mesh_ros.ros.parameters import Spec
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
    Spec(
        "checkpoint",
        "",
        "File of the weights of the backend's network (hamer, wilor). Empty: those that come "
        "along, if any do.",
    ),
    Spec("network.device", "cpu", "Torch device of the backend's network: cpu, cuda, cuda:0, ..."),
    Spec(
        "network.precision",
        "auto",
        "What the backend's network computes in; auto: the fastest that its device does well.",
        choices=PRECISIONS,
    ),
    Spec(
        "network.jitter",
        0,
        "More crops of each view, cut a little differently, that the backend's network is asked "
        "about: how its answers differ tells how sure it is.",
        bounds=(0, 16),
    ),
    Spec(
        "network.batch",
        32,
        "Most crops that the backend's network is given at once; fewer where memory is short.",
        bounds=(1, 1024),
    ),
    Spec(
        "hand_model",
        "",
        "Path of a hand model (.npz in MANO's layout). Empty: the checkpoint's own, or the free "
        "hand.",
    ),
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
    Spec(
        "marker.texture",
        False,
        "Mesh markers in the colours of the hand's own skin, once it is known.",
        live=True,
    ),
    Spec("mesh.texture", False, "Colours of the skin in ~/mesh, once they are known.", live=True),
    Spec(
        "texture.period",
        1.0,
        "Seconds between two looks at hands' skin, while ~/texture or its colours are wanted.",
        bounds=(0.0, 3600.0),
    ),
    Spec(
        "texture.pictures",
        6,
        "Pictures of a hand that are kept for its texture: those that together tell most.",
        bounds=(1, 64),
    ),
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


def camera_specs(name: str, remote: bool = True) -> tuple[Spec, ...]:
    """The group of parameters of one camera; ``remote``: of a node that takes observations."""
    return tuple(
        Spec(f"camera.{name}.{s.name}", s.default, s.description, s.bounds, s.choices)
        for s in (*_CAMERA_SPECS, *(_REMOTE_SPECS if remote else ()))
    )
