"""hand_mesh_node as a process, talked to over DDS: two cameras, one of them compressed."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import PoseArray, PoseStamped, PoseWithCovarianceStamped
from rcl_interfaces.msg import Log, ParameterType, ParameterValue
from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.srv import DescribeParameters, SetParameters
from sensor_msgs.msg import CompressedImage, Image
from std_srvs.srv import SetBool, Trigger
from tf2_msgs.msg import TFMessage
from visualization_msgs.msg import MarkerArray

from hand_mesh_ros.hand.model import load_hand_model
from hand_mesh_ros.msg import Hand, HandArray, HandMesh, HandObservations, MeshTopology
from hand_mesh_ros.networks.convert import save_reconstructor
from hand_mesh_ros.networks.hamer import Hamer, HamerConfig
from hand_mesh_ros.networks.mano_decoder import DecoderConfig
from hand_mesh_ros.networks.vit import ViTConfig
from hand_mesh_ros.ros.images import decode_compressed, decode_image, nanoseconds
from hand_mesh_ros.ros.readers import hand_set, matrix, matrix_of_transform

NODE = "/hand_mesh_node"
PARAMETERS = {
    "cameras": ["camera_0", "camera_1"],
    "camera": {"camera_1": {"compressed": True, "reliability": "reliable"}},
    "num_threads": 1,
    # Longer than any pause of a busy machine: what is shown together is answered together.
    "sync": {"max_wait": 0.5},
}
TOPICS = {
    f"{NODE}/hands": HandArray,
    f"{NODE}/mesh": HandMesh,
    f"{NODE}/markers": MarkerArray,
    "/tf": TFMessage,
    f"{NODE}/right/wrist_pose": PoseWithCovarianceStamped,
    f"{NODE}/right/wrist_pose_stamped": PoseStamped,
    f"{NODE}/right/joints": PoseArray,
    f"{NODE}/observations/camera_0": HandObservations,
    f"{NODE}/observations/camera_1": HandObservations,
    f"{NODE}/overlay/camera_0": Image,
    f"{NODE}/overlay/camera_1/compressed": CompressedImage,
}


@pytest.fixture(scope="module", params=["landmarks", "hamer"])
def node(
    request: pytest.FixtureRequest,
    start: Callable[..., Any],
    peer: Any,
    cell: Any,
    tmp_path_factory: pytest.TempPathFactory,
) -> Any:
    """The node, active and seeing a hand with both cameras; with HaMeR as its network, untrained.

    What is asked of it is the same. Nothing that an untrained network says is believed, so that
    hands are where they should be all the same.
    """
    parameters = {**PARAMETERS, "backend": request.param}
    if request.param == "hamer":
        weights = tmp_path_factory.mktemp("weights") / "hamer.safetensors"
        save_reconstructor(untrained_hamer(), weights)
        parameters |= {"checkpoint": str(weights), "network": {"jitter": 1}}
    if "/rosout" not in peer.heard:
        peer.listen("/rosout", Log, peer.latched)
    peer.heard["/rosout"].clear()
    process = start("hand_mesh_node", parameters)
    peer.until(lambda: cell.ready() or not process.running(), "the node's subscriptions")
    assert process.running(), process.output
    cell.see()
    return process


def untrained_hamer() -> Hamer:
    """The published network but for its size and its weights, with the free hand model."""
    torch.manual_seed(0)
    small = ViTConfig(width=32, depth=1, heads=2)
    decoder = DecoderConfig(context_dim=32, dim=16, depth=1, heads=2, dim_head=8, mlp_dim=16)
    return Hamer(HamerConfig(small, decoder), load_hand_model()).eval()


def errors(peer: Any) -> list[str]:
    return [m.msg for m in peer.heard["/rosout"] if m.level >= 40]


def stamps(message: Any) -> list[int]:
    """Every stamp in a message."""
    if isinstance(message, TFMessage):
        return [nanoseconds(t.header.stamp) for t in message.transforms]
    if isinstance(message, MarkerArray):
        return [nanoseconds(m.header.stamp) for m in message.markers]
    return [nanoseconds(message.header.stamp)]


# What comes out -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def one_instant(node: Any, peer: Any, cell: Any) -> dict[str, Any]:
    """Every output of one frame set, by topic."""
    subscriptions = [peer.listen(t, kind) for t, kind in TOPICS.items() if t != f"{NODE}/hands"]

    def connected() -> bool:
        return all(s.get_publisher_count() for s in subscriptions)

    peer.until(connected, "the node's publishers")
    for _ in range(10):  # the node may not know of all subscriptions yet
        stamp = nanoseconds(cell.see().header.stamp)

        def at_stamp(stamp: int = stamp) -> dict[str, Any] | None:
            found = {
                topic: next((m for m in peer.heard[topic] if stamp in stamps(m)), None)
                for topic in TOPICS
            }
            return found if all(m is not None for m in found.values()) else None

        if complete := peer.until(at_stamp, patience=3):
            break
    else:
        missing = [t for t in TOPICS if not any(stamp in stamps(m) for m in peer.heard[t])]
        pytest.fail(f"nothing of {stamp} on {missing}")
    for subscription in subscriptions:
        peer.node.destroy_subscription(subscription)
    return complete


def test_every_output_carries_the_capture_time_and_its_frame(
    one_instant: dict[str, Any], cell: Any
) -> None:
    hands = one_instant[f"{NODE}/hands"]
    stamp = nanoseconds(hands.header.stamp)
    assert stamp % 1000 != 0  # a clock or a float in between would have rounded it
    for topic, message in one_instant.items():
        assert set(stamps(message)) == {stamp}, topic
    in_camera = ("observations", "overlay")
    for topic, message in one_instant.items():
        if topic == "/tf":
            continue
        headers = message.markers if isinstance(message, MarkerArray) else [message]
        frames = {m.header.frame_id for m in headers}
        name = topic.removesuffix("/compressed").rpartition("/")[2]
        camera_frame = f"{name}_optical_frame"
        assert frames == {camera_frame if any(k in topic for k in in_camera) else "world"}, topic


def test_the_hand_is_where_the_truth_is(one_instant: dict[str, Any], cell: Any) -> None:
    message = one_instant[f"{NODE}/hands"]
    (hand,) = message.hands
    assert hand.side == Hand.RIGHT
    assert hand.view_mask == 0b11
    assert hand.scale_source == Hand.SCALE_MULTI_VIEW
    assert message.views == list(cell.NAMES)
    assert message.sync_spread == 0
    joints = hand_set(message).hands[0].estimate.joints
    truths = [cell.scene.ground_truth(i)[0].joints for i in range(4)]
    error = min(np.linalg.norm(joints - truth, axis=-1).mean() for truth in truths)
    assert error < 0.03


def test_frames_are_a_tree_of_the_same_set(one_instant: dict[str, Any]) -> None:
    (hand,) = hand_set(one_instant[f"{NODE}/hands"]).hands
    transforms = {t.child_frame_id: t for t in one_instant["/tf"].transforms}
    assert len(transforms) == len(one_instant["/tf"].transforms) == 21
    wrist = transforms.pop("right_hand/wrist")
    assert wrist.header.frame_id == "world"
    assert {t.header.frame_id for t in transforms.values()} == {"right_hand/wrist"}
    T = matrix_of_transform(wrist)
    np.testing.assert_allclose(T, hand.estimate.wrist, atol=1e-9)
    tip = T @ matrix_of_transform(transforms["right_hand/index_tip"])
    np.testing.assert_allclose(tip[:3, 3], hand.estimate.joints[8], atol=1e-9)


def test_wrist_and_joint_poses_agree(one_instant: dict[str, Any]) -> None:
    (hand,) = one_instant[f"{NODE}/hands"].hands
    wrist = matrix(hand.wrist.pose)
    covariant = one_instant[f"{NODE}/right/wrist_pose"].pose
    np.testing.assert_array_equal(covariant.covariance, hand.wrist.covariance)
    poses = one_instant[f"{NODE}/right/joints"].poses
    assert len(poses) == 21
    for pose in (covariant.pose, one_instant[f"{NODE}/right/wrist_pose_stamped"].pose, poses[0]):
        np.testing.assert_allclose(matrix(pose), wrist, atol=1e-12)


def test_mesh_and_its_topology_for_a_late_joiner(
    one_instant: dict[str, Any], node: Any, peer: Any
) -> None:
    """The topology was published minutes ago, before this subscription."""
    mesh, (hand,) = one_instant[f"{NODE}/mesh"], one_instant[f"{NODE}/hands"].hands
    peer.listen(f"{NODE}/topology", MeshTopology, peer.latched)
    peer.until(lambda: len(peer.heard[f"{NODE}/topology"]) >= 2, "the topology of both sides")
    topologies = {t.id: t for t in peer.heard[f"{NODE}/topology"]}
    topology = topologies[mesh.topology_id]
    assert topology.side == mesh.side == hand.side
    assert mesh.track_id == hand.track_id
    assert hand.mano.model_id == mesh.topology_id
    vertices = np.array(mesh.vertices).reshape(-1, 3)
    faces = np.array(topology.faces, dtype=int).reshape(-1, 3)
    assert faces.max() == len(vertices) - 1
    a, b, c = vertices[faces[:, 0]], vertices[faces[:, 1]], vertices[faces[:, 2]]
    volume = (np.cross(a, b) * c).sum() / 6
    assert 1e-4 < volume < 1e-3  # a hand of 0.1 to 1 l, its triangles seen from outside


def test_observations_say_what_each_camera_saw(one_instant: dict[str, Any], cell: Any) -> None:
    (hand,) = one_instant[f"{NODE}/hands"].hands
    for name, camera in zip(cell.NAMES, cell.scene.cameras, strict=True):
        seen = one_instant[f"{NODE}/observations/{name}"]
        assert (seen.camera, seen.width, seen.height) == (name, 320, 240)
        assert list(seen.track_id) == [hand.track_id]
        uv = np.array(seen.landmarks).reshape(21, 2)
        assert ((uv > -20) & (uv < [camera.width + 20, camera.height + 20])).all()
        assert len(seen.landmark_stddev) == 21 and min(seen.landmark_stddev) > 0
        assert len(seen.relative_landmarks) == 63


def test_overlays_are_the_pictures_with_something_drawn(
    one_instant: dict[str, Any], cell: Any
) -> None:
    raw = decode_image(one_instant[f"{NODE}/overlay/camera_0"], "overlay")
    small = decode_compressed(one_instant[f"{NODE}/overlay/camera_1/compressed"], "overlay")
    for camera, drawn in enumerate((raw, small)):
        shown = [cell.scene.frame_set(i).frames[camera].image for i in range(4)]
        changed = [(np.abs(drawn.astype(int) - s).max(-1) > 60).mean() for s in shown]
        assert 0.002 < min(changed) < 0.3


def test_markers_are_complete_triangles(one_instant: dict[str, Any]) -> None:
    markers = {m.ns: m for m in one_instant[f"{NODE}/markers"].markers}
    assert set(markers) == {f"right_hand/{part}" for part in ("mesh", "bones", "joints")}
    assert len(markers["right_hand/mesh"].points) % 3 == 0
    assert len(markers["right_hand/joints"].points) == 21


def test_stamps_grow_and_ids_stay(node: Any, peer: Any, cell: Any) -> None:
    before = len(peer.heard[f"{NODE}/hands"])
    ids = {cell.see().hands[0].track_id for _ in range(5)}
    assert len(ids) == 1
    heard = [nanoseconds(m.header.stamp) for m in peer.heard[f"{NODE}/hands"][before:]]
    assert all(a < b for a, b in pairwise(heard))


# What goes wrong ----------------------------------------------------------------------------


def _truncated(info: Any, image: Any) -> None:
    image.data = image.data[: len(image.data) // 2]


def _unknown_encoding(info: Any, image: Any) -> None:
    image.encoding = "rgb33"


def _zero_stamp(info: Any, image: Any) -> None:
    image.header.stamp.sec = image.header.stamp.nanosec = 0


def _nan_in_k(info: Any, image: Any) -> None:
    info.k[4] = float("nan")


def _uncalibrated(info: Any, image: Any) -> None:
    info.k = np.zeros(9)


def _other_size(info: Any, image: Any) -> None:
    info.width, info.height = 640, 480


def _no_pixels(info: Any, image: Any) -> None:
    image.width = image.height = image.step = 0
    image.data = type(image.data)("B")


def _no_transform(info: Any, image: Any) -> None:
    info.header.frame_id = image.header.frame_id = "nowhere"


def _unknown_distortion(info: Any, image: Any) -> None:
    info.distortion_model = "kaleidoscope"


BAD_RAW = {
    _truncated: "/camera_0/image_raw: the data is truncated",
    _unknown_encoding: "/camera_0/image_raw: .*rgb33",
    _zero_stamp: "/camera_0/image_raw: image without a stamp",
    _nan_in_k: "/camera_0/camera_info: K holds numbers that are not finite",
    _uncalibrated: "/camera_0/camera_info: the camera is not calibrated",
    _other_size: "/camera_0/image_raw: .*/camera_0/camera_info",
    _no_pixels: "/camera_0/image_raw: .*no pixels",
    _no_transform: "/tf_static does not connect 'world' with 'nowhere' .*camera_0",
    _unknown_distortion: "/camera_0/camera_info: unknown distortion model 'kaleidoscope'",
}


def _garbage(info: Any, image: Any) -> None:
    image.data = type(image.data)("B", b"these bytes are no picture")


BAD_COMPRESSED = {
    _truncated: "/camera_1/image_raw/compressed: the compressed image is truncated",
    _garbage: "/camera_1/image_raw/compressed: .* are no image",
}
BAD = [(0, spoil, text) for spoil, text in BAD_RAW.items()]
BAD += [(1, spoil, text) for spoil, text in BAD_COMPRESSED.items()]


@pytest.mark.parametrize(
    ("camera", "spoil", "complaint"), BAD, ids=[f"{s.__name__[1:]}-{c}" for c, s, _ in BAD]
)
def test_bad_input_is_named_and_survived(
    node: Any, peer: Any, cell: Any, camera: int, spoil: Callable[..., None], complaint: str
) -> None:
    """In a row on one camera, while the other goes on: the error names the topic, then all is well.

    Each kind is shown several times, because the image may overtake its CameraInfo.
    """

    def named() -> bool:
        return any(re.search(complaint, text) for text in errors(peer))

    assert not named()
    for _ in range(20):
        stamp = cell.new_stamp()
        info, image = cell.messages(camera, stamp)
        spoil(info, image)
        cell.publish(camera, info, image)
        cell.publish(1 - camera, *cell.messages(1 - camera, stamp))
        if peer.until(named, patience=1.0):
            break
    assert named(), f"no error like {complaint!r} among {errors(peer)}"
    assert re.search(complaint, node.output), "not in the node's own log"
    assert list(cell.see((1 - camera,)).views) == [cell.NAMES[1 - camera]]
    assert len(cell.see().views) == 2
    assert node.running()


def test_the_same_complaint_comes_once_in_five_seconds(node: Any, peer: Any, cell: Any) -> None:
    for _ in range(30):
        stamp = cell.new_stamp()
        info, image = cell.messages(0, stamp)
        _truncated(info, image)
        cell.publish(0, info, image)
        cell.publish(1, *cell.messages(1, stamp))
        cell.answer(stamp, patience=0.3)
    told = [m for m in peer.heard["/rosout"] if "image_raw: the data is truncated" in m.msg]
    times = [nanoseconds(m.stamp) * 1e-9 for m in told]
    assert all(b - a >= 4.9 for a, b in pairwise(times))
    assert len(told) < 30


def test_a_capture_time_in_the_past_is_a_new_beginning(node: Any, peer: Any, cell: Any) -> None:
    """A bag that loops: its first frames are older than its last ones, and must be shown again."""
    before = cell.see().hands[0].track_id
    past = nanoseconds(cell.see().header.stamp) - 30_000_000_000
    for k in range(10):
        stamp = past + k * cell.PERIOD_NS
        for camera in (0, 1):
            cell.publish(camera, *cell.messages(camera, stamp))
        answer = cell.answer(stamp, patience=3)
        if answer is not None and answer.hands and len(answer.views) == 2:
            break
    assert answer is not None and answer.hands[0].track_id > before
    assert cell.see().hands


# What can be asked for ----------------------------------------------------------------------


def test_reset_forgets_the_tracks(node: Any, peer: Any, cell: Any) -> None:
    before = cell.see().hands[0].track_id
    response = peer.call(f"{NODE}/reset", Trigger)
    assert response.success
    assert cell.see().hands[0].track_id > before


def test_it_can_be_switched_off_and_on(node: Any, peer: Any, cell: Any) -> None:
    cell.see()
    assert peer.call(f"{NODE}/set_enabled", SetBool, data=False).success
    ignored = [cell.show() for _ in range(3)]
    # Long enough that none of them still waits for its set when the node is switched on again.
    assert cell.answer(ignored[-1], patience=1.5) is None
    assert peer.call(f"{NODE}/set_enabled", SetBool, data=True).success
    assert cell.see().hands
    answered = {nanoseconds(m.header.stamp) for m in peer.heard[f"{NODE}/hands"]}
    assert not answered & set(ignored)


def _set(peer: Any, name: str, **value: Any) -> Any:
    kind = {"bool_value": "BOOL", "double_value": "DOUBLE", "string_value": "STRING"}
    (field,) = value
    parameter = ParameterMessage(name=name, value=ParameterValue(**value))
    parameter.value.type = getattr(ParameterType, f"PARAMETER_{kind[field]}")
    answer = peer.call(f"{NODE}/set_parameters", SetParameters, parameters=[parameter])
    return answer.results[0]


def test_parameters_describe_themselves(node: Any, peer: Any) -> None:
    names = ["overlay.alpha", "runtime", "camera.camera_1.compressed"]
    answer = peer.call(f"{NODE}/describe_parameters", DescribeParameters, names=names)
    alpha, runtime, compressed = answer.descriptors
    assert "Opacity" in alpha.description and not alpha.read_only
    limits = alpha.floating_point_range[0]
    assert (limits.from_value, limits.to_value) == (0.0, 1.0)
    assert "litert" in runtime.description and runtime.read_only
    assert compressed.description and compressed.read_only


def test_bad_settings_are_refused_with_a_reason(node: Any, peer: Any) -> None:
    for name, value in (
        ("overlay.alpha", {"double_value": 1.5}),
        ("overlay.alpha", {"double_value": float("nan")}),
        ("overlay.alpha", {"string_value": "half"}),
        ("runtime", {"string_value": "torch"}),
    ):
        result = _set(peer, name, **value)
        assert not result.successful
        assert result.reason
        # For a wrong type, rclpy answers itself, without the name.
        assert name in result.reason or re.search("read-only|expected", result.reason)


def test_live_parameters_take_effect(node: Any, peer: Any, cell: Any) -> None:
    peer.listen("/tf", TFMessage)

    def frames() -> set[str]:
        """The frames on /tf of a new instant; empty if none came."""
        stamp = nanoseconds(cell.see().header.stamp)

        def of_stamp() -> TFMessage | None:
            return next((m for m in peer.heard["/tf"] if stamp in stamps(m)), None)

        found = peer.until(of_stamp, patience=1.0)
        return {t.child_frame_id for t in found.transforms} if found else set()

    assert len(peer.until(frames, "frames on /tf")) == 21
    assert _set(peer, "publish_joint_tf", bool_value=False).successful
    assert _set(peer, "tf.prefix", string_value="cell/").successful
    assert frames() == {"cell/right_hand/wrist"}
    assert _set(peer, "publish_tf", bool_value=False).successful
    assert frames() == set()
    assert _set(peer, "publish_tf", bool_value=True).successful
    assert _set(peer, "publish_joint_tf", bool_value=True).successful
    assert _set(peer, "tf.prefix", string_value="").successful
    assert len(frames()) == 21


def test_one_camera_stops_and_diagnostics_name_it(node: Any, peer: Any, cell: Any) -> None:
    peer.listen("/diagnostics", DiagnosticArray)

    def texts(level: bytes) -> list[str]:
        """What the latest diagnostics say at a level."""
        latest = peer.heard["/diagnostics"][-1:]
        return [f"{s.name}: {s.message}" for m in latest for s in m.status if s.level == level]

    def warned() -> list[str]:
        assert len(cell.see((0,)).hands) == 1  # hands go on all the while
        return [text for text in texts(DiagnosticStatus.WARN) if "camera_1" in text]

    told = peer.until(warned, "a warning that names the camera")
    assert any("/camera_1/image_raw/compressed" in text for text in told)
    assert not [text for text in texts(DiagnosticStatus.WARN) if "camera camera_0" in text]

    def well() -> bool:
        cell.see()
        return not texts(DiagnosticStatus.WARN) and len(texts(DiagnosticStatus.OK)) == 3

    peer.until(well, "the camera to be well again")
    assert all(text.startswith("hand_mesh_node: ") for text in texts(DiagnosticStatus.OK))


def test_it_ends_well(node: Any) -> None:
    assert node.end() == 0
    assert "Traceback" not in node.output, node.output[node.output.index("Traceback") :]
