"""Complaints: said once in a while, and never growing without end."""

from __future__ import annotations

from hand_mesh_ros.ros.complaints import QUIET_S, Complaints


class Log:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def error(self, message: str) -> None:
        self.lines.append(message)


def test_a_complaint_is_repeated_only_after_a_while() -> None:
    log, now = Log(), [0.0]
    complain = Complaints(log, lambda: now[0])
    for now[0] in (0.0, 1.0, QUIET_S - 0.01, QUIET_S, QUIET_S + 1):
        complain("a", f"a at {now[0]:g}")
    complain("b", "b")
    assert log.lines == ["a at 0", f"a at {QUIET_S:g}", "b"]


def test_no_number_of_causes_fills_the_memory() -> None:
    log = Log()
    complain = Complaints(log, lambda: 0.0)
    for i in range(10_000):
        complain(f"cause {i}", "text")
    assert len(complain._said) <= 256
    complain("cause 9999", "text")
    assert len(log.lines) == 10_000  # the newest cause is still remembered
