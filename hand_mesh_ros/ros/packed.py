"""Transforms and meshes of a stream of hands, ready to be published; markers are in `markers`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tf2_msgs.msg import TFMessage

from hand_mesh_ros.ros import builders
from hand_mesh_ros.ros.wire import Packer
from hand_mesh_ros.types import HandSet, TrackedHand


class HandTransforms:
    """TFMessages as bytes, or as messages; see `Packer`."""

    def __init__(self, complain: Callable[[str], None]) -> None:
        self._packer = Packer(complain)

    def build(self, hands: HandSet, frame_id: str, prefix: str, with_joints: bool) -> Any:
        """All transforms of a set of one hand or more; see `builders.transforms`."""
        return self._packer.pack(
            (frame_id, prefix, with_joints, tuple(builders.hand_frames(hands))),
            lambda: TFMessage(
                transforms=builders.transforms(hands, frame_id, prefix, with_joints)
            ),
            lambda template: builders.fill_transforms(template, hands, with_joints),
        )


class HandMeshes:
    """HandMeshes as bytes, or as messages; see `Packer`."""

    def __init__(self, complain: Callable[[str], None]) -> None:
        self._packer = Packer(complain)

    def build(
        self,
        hand: TrackedHand,
        topology_id: str,
        frame_id: str,
        stamp_ns: int,
        colours: NDArray[np.uint8] | None = None,
    ) -> Any:
        """The surface of one hand, in sRGB ``colours`` (V, 3); ValueError if it has none."""
        vertices = hand.estimate.vertices
        return self._packer.pack(
            (frame_id, topology_id, None if vertices is None else len(vertices), colours is None),
            lambda: builders.hand_mesh(hand, topology_id, frame_id, stamp_ns, colours),
            lambda template: builders.fill_hand_mesh(template, hand, stamp_ns, colours),
        )
