"""hand_mesh_node as a managed node, driven through the services of any lifecycle manager."""

from __future__ import annotations

from collections.abc import Callable
from signal import SIGTERM
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState

NODE = "/hand_mesh_node"
CAMERAS = {
    "cameras": ["camera_0", "camera_1"],
    "camera": {"camera_1": {"compressed": True}},
    "num_threads": 1,
    "sync": {"max_wait": 0.5},
}


def state(peer: Any) -> int:
    return int(peer.call(f"{NODE}/get_state", GetState, again=True).current_state.id)


def change(peer: Any, transition: int) -> bool:
    request = Transition(id=transition)
    return bool(peer.call(f"{NODE}/change_state", ChangeState, transition=request).success)


def test_round_trips_through_the_states(start: Callable[..., Any], peer: Any, cell: Any) -> None:
    node = start("hand_mesh_node", {**CAMERAS, "autostart": False})
    hands = f"{NODE}/hands"
    for _ in range(2):
        assert state(peer) == State.PRIMARY_STATE_UNCONFIGURED
        assert change(peer, Transition.TRANSITION_CONFIGURE)
        assert state(peer) == State.PRIMARY_STATE_INACTIVE
        peer.until(lambda: peer.node.count_publishers(hands), "the publisher of hands")
        assert peer.node.count_subscribers(cell.IMAGES[0]) == 0

        for _ in range(2):
            assert change(peer, Transition.TRANSITION_ACTIVATE)
            assert state(peer) == State.PRIMARY_STATE_ACTIVE
            peer.until(cell.ready, "the subscriptions")
            assert cell.see().hands

            assert change(peer, Transition.TRANSITION_DEACTIVATE)
            peer.until(
                lambda: peer.node.count_subscribers(cell.IMAGES[0]) == 0, "the end of subscriptions"
            )
            assert cell.answer(cell.show(), patience=0.3) is None

        assert change(peer, Transition.TRANSITION_CLEANUP)
        peer.until(lambda: not peer.node.count_publishers(hands), "the end of the publishers")
    assert node.end(SIGTERM) == 0
    assert "Traceback" not in node.output


@pytest.mark.parametrize(
    ("parameters", "complaint"),
    [
        ({"hand_model": "no/such/model.npz"}, "no/such/model.npz"),
        ({"cameras": ["a", "a"]}, "parameter cameras names a camera twice"),
        ({"sync": {"max_spread": 2.0}}, "sync.max_spread"),
    ],
    ids=["model", "cameras", "range"],
)
def test_what_is_wrong_at_the_start_is_said_and_ends_it(
    start: Callable[..., Any], parameters: dict[str, Any], complaint: str
) -> None:
    node = start("hand_mesh_node", parameters)
    assert node.wait() == 1
    assert complaint in node.output
    assert "Traceback" not in node.output
