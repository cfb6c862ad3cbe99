"""hand_mesh_node with each learned backend that ships its weights, before four cameras.

One cell plays to all of them at once; each is a process of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from hand_mesh_ros.hand.landmarks import landmark_noise_id
from hand_mesh_ros.msg import Hand, HandArray
from hand_mesh_ros.perception.hamuco_network import SHIPPED
from hand_mesh_ros.perception.network_sigma import sigma_rule_of
from hand_mesh_ros.ros.images import nanoseconds
from hand_mesh_ros.ros.readers import hand_set

BACKENDS = ("hamuco", "sima-mvr", "sima-svr", "amvur")
ALL, LEFT = (0, 1, 2, 3), (1, 2, 3)
START = 180.0  # s, that four nodes with torch may take to start where others want the cores too
INSTANTS = 3  # that every node answers, of which a test looks at all

Heard = dict[str, list[HandArray]]


def name_of(backend: str) -> str:
    """A node's name and a file's, in which a hyphen may not be."""
    return backend.replace("-", "_")


@pytest.fixture(scope="module")
def cell(peer: Any, cell_of: Callable[..., Any]) -> Any:
    return cell_of(peer, f"/{name_of(BACKENDS[0])}", cameras=4)


@pytest.fixture(scope="module")
def nodes(start: Callable[..., Any], peer: Any, cell: Any) -> dict[str, Any]:
    """A node of each backend, listening to the cell."""
    compressed = ("compressed", True), ("reliability", "reliable")
    parameters = {
        "cameras": list(cell.NAMES),
        "camera": {name: dict(compressed) for name in cell.NAMES[1::2]},
        "num_threads": 1,
        "max_hands": 1,
        "publish_tf": False,
        "sync": {"max_wait": 0.5},
    }
    started = {}
    for backend in BACKENDS:
        name = ("-r", f"__node:={name_of(backend)}")
        started[backend] = start("hand_mesh_node", parameters | {"backend": backend}, *name)
    heard = [peer.listen(f"/{name_of(backend)}/hands", HandArray) for backend in BACKENDS[1:]]

    def ready() -> bool:
        connected = cell.ready(len(BACKENDS)) and all(h.get_publisher_count() for h in heard)
        return connected or not all(process.running() for process in started.values())

    peer.until(ready, "the nodes' subscriptions", START)
    for process in started.values():
        assert process.running(), process.output
    return started


def played(peer: Any, cell: Any, cameras: tuple[int, ...]) -> Heard:
    """What each node tells of instants that these cameras show, and all of them see a hand in.

    Frames may be lost on the way, so it may take more instants than are wanted.
    """
    names, everywhere = [cell.NAMES[i] for i in cameras], 2 ** len(cameras) - 1
    found: Heard = {backend: [] for backend in BACKENDS}
    for _ in range(30):
        stamp = cell.show(cameras)

        def answers(stamp: int = stamp) -> Heard:
            return {
                backend: [
                    m
                    for m in peer.heard[f"/{name_of(backend)}/hands"]
                    if nanoseconds(m.header.stamp) == stamp
                ]
                for backend in BACKENDS
            }

        peer.until(lambda: all(answers().values()), patience=3)
        for backend, told in answers().items():
            found[backend] += [
                m
                for m in told
                if list(m.views) == names and [h.view_mask for h in m.hands] == [everywhere]
            ]
        if all(len(told) >= INSTANTS for told in found.values()):
            break
    return found


@pytest.fixture(scope="module")
def of_all(nodes: dict[str, Any], peer: Any, cell: Any) -> Heard:
    return played(peer, cell, ALL)


@pytest.fixture(scope="module")
def of_those_left(of_all: Heard, peer: Any, cell: Any) -> Heard:
    """The first camera has stopped."""
    return played(peer, cell, LEFT)


def check(told: list[HandArray], backend: str, cell: Any) -> None:
    """Hands that the network made, where the truth is, with all that they promise."""
    assert len(told) >= INSTANTS
    calibration = sigma_rule_of(SHIPPED.with_stem(name_of(backend))).measured_on
    assert calibration not in ("", landmark_noise_id())
    errors = []
    for message in told:
        (hand,) = message.hands
        assert hand.side == Hand.RIGHT and not hand.extrapolated
        assert hand.calibration == calibration  # else it was made of its landmarks
        assert hand.scale_source == Hand.SCALE_MULTI_VIEW
        assert np.isfinite(hand.joint_covariance).all() and min(hand.r95) > 0
        assert np.isfinite(hand.wrist.covariance).all()
        assert message.header.frame_id == "world" and message.sync_spread == 0
        joints = hand_set(message).hands[0].estimate.joints
        truth = cell.truth(nanoseconds(message.header.stamp))
        errors.append(np.linalg.norm(joints - truth, axis=-1))
    assert np.median(errors) < 0.025
    assert len({message.hands[0].track_id for message in told}) == 1


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_networks_hand_is_where_the_truth_is(of_all: Heard, cell: Any, backend: str) -> None:
    check(of_all[backend], backend, cell)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_hand_goes_on_without_a_camera_that_stops(
    of_all: Heard, of_those_left: Heard, cell: Any, backend: str
) -> None:
    check(of_those_left[backend], backend, cell)
    before, after = of_all[backend][-1].hands[0], of_those_left[backend][0].hands[0]
    assert after.track_id == before.track_id


@pytest.mark.parametrize("backend", BACKENDS)
def test_it_ends_well(of_those_left: Heard, nodes: dict[str, Any], backend: str) -> None:
    node = nodes[backend]
    assert node.end() == 0
    for word in ("Traceback", "is not what their landmarks say"):
        assert word not in node.output, node.output[node.output.index(word) :]
