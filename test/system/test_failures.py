"""A backend that fails: a set is lost, not the node; and when every set fails, it starts again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.msg import State
from lifecycle_msgs.srv import GetState

NODE = "/hand_mesh_node"
PARAMETERS = {
    "cameras": ["camera_0", "camera_1"],
    "camera": {"camera_1": {"compressed": True}},
    "num_threads": 1,
    "sync": {"max_wait": 0.5},
    "backend": "flaky",
    "failures": {"limit": 5, "retry_after": 1.0},
}


def state(peer: Any) -> int:
    return int(peer.call(f"{NODE}/get_state", GetState, again=True).current_state.id)


def test_failed_sets_then_the_error_state_then_a_new_start(
    start: Callable[..., Any],
    peer: Any,
    cell: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broken = tmp_path / "broken"
    monkeypatch.setenv("FLAKY_FILE", str(broken))
    node = start("bench_flaky_node", PARAMETERS)
    peer.listen("/diagnostics", DiagnosticArray)
    peer.until(cell.ready, "the subscriptions")
    assert cell.see().hands

    # Some failures: those sets are lost, the next good one is not.
    broken.write_text("memory")
    for _ in range(3):
        assert cell.answer(cell.show(), patience=0.5) is None
    broken.unlink()
    assert cell.see().hands
    assert state(peer) == State.PRIMARY_STATE_ACTIVE
    assert "a frame set failed (camera_0 at " in node.output
    assert "no memory left on the device" in node.output

    def errors() -> list[str]:
        cell.answer(cell.show(), patience=0.05)
        statuses = [s for m in peer.heard["/diagnostics"] for s in m.status]
        return [s.message for s in statuses if s.level == DiagnosticStatus.ERROR]

    # Nothing works any more: out of active, and what is wrong is said.
    broken.write_text("memory")
    (told, *_) = peer.until(errors, "an error in the diagnostics")
    assert "5 frame sets in a row failed" in told and "no memory left" in told

    # It begins anew by itself, and is well once the cause has gone.
    broken.unlink()
    peer.until(lambda: state(peer) == State.PRIMARY_STATE_ACTIVE, "the node to be active again")
    peer.until(cell.ready, "the subscriptions")
    assert cell.see().hands
    assert "starting again in 1 s" in node.output
    assert node.end() == 0
