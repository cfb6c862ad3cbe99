"""`hand_mesh_node` with a backend that fails when it is told to, for tests and `bench soak`.

While the file that the variable FLAKY_FILE names exists, every hand raises: what the file says, or
MemoryError as a device without memory does when it says "memory".
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from hand_mesh_ros.perception.estimate import BACKENDS, HandViews
from hand_mesh_ros.perception.landmark_fit import LandmarkFit
from hand_mesh_ros.types import HandEstimate


class Flaky(LandmarkFit):
    """The landmark backend, but for the file."""

    def estimate(self, hands: Sequence[HandViews]) -> list[HandEstimate | None]:
        """Raises what the file tells, ``MemoryError`` or ``RuntimeError``."""
        try:
            told = Path(os.environ["FLAKY_FILE"]).read_text()
        except FileNotFoundError:
            return super().estimate(hands)
        if told == "memory":
            raise MemoryError("no memory left on the device")
        raise RuntimeError(told)


def main() -> None:
    """Register the backend as a user's own would be, then run the node as it is."""
    BACKENDS["flaky"] = "hand_mesh_ros.ros.bench_flaky_node:Flaky"
    from hand_mesh_ros.ros.hand_mesh_node import main

    main()


if __name__ == "__main__":
    main()
