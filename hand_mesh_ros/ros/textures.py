"""~/texture, and the colours of meshes and markers: gathered only while somebody wants them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.hand.model import HandModel
from hand_mesh_ros.perception.hand_texture import HandTextures
from hand_mesh_ros.ros import builders
from hand_mesh_ros.types import HandSet, Side


@dataclass(frozen=True)
class TextureSettings:
    """``period``: seconds of capture time between two looks at the hands, each in one view;

    ``pictures``: of each track that are kept.
    """

    period: float = 1.0
    pictures: int = 6


class TextureOutput:
    """What `HandOutputs` knows of skin. ``publisher`` is ~/texture's; of one thread."""

    def __init__(
        self, publisher: Any, models: Mapping[Side, HandModel], settings: TextureSettings
    ) -> None:
        self._publisher, self._models, self._settings = publisher, models, settings
        self._textures = HandTextures(models, settings.pictures)
        self._looked_ns: int | None = None
        self._colours: dict[int, NDArray[np.uint8]] = {}

    def colours(self) -> Mapping[int, NDArray[np.uint8]]:
        """sRGB of vertices (V, 3) by track, of those that something is known of."""
        return self._colours

    def look(self, hands: HandSet, frame_id: str) -> None:
        """Look at the hands if it is time, and publish what was learned of them."""
        since = None if self._looked_ns is None else hands.stamp_ns - self._looked_ns
        if since is not None and 0 <= since < self._settings.period * 1e9:
            return
        changed = self._textures.add(hands, views=1)
        if changed:
            self._looked_ns = hands.stamp_ns
        for track_id in changed:
            hand = self._textures.textured(track_id)
            self._colours[track_id] = hand.texture.srgb
            self._publisher.publish(
                builders.hand_texture(hand, self._models[hand.side].model_id, frame_id)
            )
        known = set(self._textures.track_ids)
        self._colours = {track: c for track, c in self._colours.items() if track in known}
