"""What the landmark network knows of a crop, all of it in one pass: the small networks' input.

MediaPipe's landmark network was trained on many real hands. Its feature maps and its own answers
are what this package's small networks (HaMeR's decoder, HaMuCo, SiMA-Hand, AMVUR) stand on: they
see no pixels themselves.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.networks.assets import landmark_network_path
from hand_mesh_ros.networks.runtime import Runtime, open_network
from hand_mesh_ros.networks.tflite_maps import with_maps

Floats = NDArray[np.float32]

CROP = 224
FINE, MIDDLE, COARSE = (28, 40), (14, 112), (7, 192)
_NAME = "hand_landmark_full"


class Evidence(NamedTuple):
    """What the network says of N crops of right hands; left ones are mirrored before.

    fine (N, 28, 28, 40), middle (N, 14, 14, 112), coarse (N, 7, 7, 192): its narrowest feature
    maps at each resolution, channels last. landmarks (N, 21, 3): x, y in -1..1 from edge to edge of
    the crop and the network's own shallow z by the same scale. world (N, 21, 3): metres, the crop's
    axes, about the hand's centre. presence, right (N,): probabilities; of a mirrored left hand
    `right` should be high.
    """

    fine: Floats
    middle: Floats
    coarse: Floats
    landmarks: Floats
    world: Floats
    presence: Floats
    right: Floats

    def __len__(self) -> int:  # of crops, not of fields
        return len(self.presence)


class EvidenceNetwork:
    """Crops to `Evidence`. Arguments as in `runtime.load_network`.

    Raises AssetError if `hand-mesh fetch` has not been run, ValueError for a runtime or device
    that cannot be.
    """

    def __init__(
        self, runtime: Runtime = "litert", device: str = "cpu", num_threads: int = 1
    ) -> None:
        content = with_maps(
            landmark_network_path(_NAME), [size for size, _ in (FINE, MIDDLE, COARSE)]
        )
        self._network = open_network(content, runtime, device, num_threads)

    def __call__(self, crops: NDArray[np.uint8]) -> Evidence:
        """Evidence of crops (N, 224, 224, 3) uint8 RGB, any N."""
        landmarks, presence, right, world, fine, middle, coarse = self._network(crops)
        points = landmarks.reshape(-1, 21, 3) / np.float32(CROP / 2)
        points[..., :2] += np.float32(1 / CROP - 1)  # pixel 0 has its centre half a pixel inside
        return Evidence(
            fine, middle, coarse, points, world.reshape(-1, 21, 3), presence[:, 0], right[:, 0]
        )
