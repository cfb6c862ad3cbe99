"""Writes down what it hears of hands, for a process of its own: `link_listener.py FILE`.

Each HandArray is a line of JSON: stamp_ns, views, hands (the number of them) and latency; each
status about a camera that is not well as well: name and message.
"""

from __future__ import annotations

import json
import sys
from typing import Any, TextIO

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.node import Node

from hand_mesh_ros.msg import HandArray
from hand_mesh_ros.ros.images import nanoseconds
from hand_mesh_ros.ros.running import run_node


class Listener(Node):
    """See the module."""

    def __init__(self, lines: TextIO) -> None:
        super().__init__("listener")
        self._lines = lines
        self.create_subscription(HandArray, "/hand_mesh_node/hands", self._on_hands, 50)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 50)

    def _write(self, **line: Any) -> None:
        print(json.dumps(line), file=self._lines, flush=True)

    def _on_hands(self, message: HandArray) -> None:
        self._write(
            stamp_ns=nanoseconds(message.header.stamp),
            views=list(message.views),
            hands=sum(not hand.extrapolated for hand in message.hands),
            latency=message.latency,
        )

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.level != DiagnosticStatus.OK:
                self._write(name=status.name, message=status.message)


if __name__ == "__main__":
    with open(sys.argv[1], "w") as file:
        run_node(lambda: Listener(file))  # type: ignore[arg-type]
