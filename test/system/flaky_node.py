"""hand_mesh_node with a backend of a user's own, that fails while a file exists."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from hand_mesh_ros.perception.estimate import BACKENDS, HandViews
from hand_mesh_ros.perception.landmark_fit import LandmarkFit
from hand_mesh_ros.types import HandEstimate


class Flaky(LandmarkFit):
    """The landmark backend, until ``FLAKY_FILE`` names a file that is there."""

    def estimate(self, hands: Sequence[HandViews]) -> list[HandEstimate | None]:
        """Raises MemoryError, as a device without memory does."""
        if Path(os.environ["FLAKY_FILE"]).exists():
            raise MemoryError("no memory left on the device")
        return super().estimate(hands)


def main() -> None:
    """Register the backend, then run the node as it is."""
    sys.modules["flaky"] = sys.modules[__name__]
    BACKENDS["flaky"] = "flaky:Flaky"
    from hand_mesh_ros.ros.hand_mesh_node import main

    main()


if __name__ == "__main__":
    main()
