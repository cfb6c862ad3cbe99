"""MediaPipe's hand-landmark network: a region of an image to 21 landmarks.

Also the two rules that say where to look: regions from palms, and from a hand's last landmarks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hand_mesh_ros.geometry.crops import crop_matrix, transform_points, warp
from hand_mesh_ros.networks.palm import MIDDLE_MCP, WRIST, PalmDetections
from hand_mesh_ros.networks.runtime import Runtime, TorchNetwork, load_network

if TYPE_CHECKING:
    import torch

Image = NDArray[np.uint8]
Floats = NDArray[np.float64]

# the landmarks of the palm, which move least when fingers do
_PALM = (0, 1, 2, 3, 5, 6, 9, 10, 13, 14, 17, 18)


@dataclass(frozen=True)
class LandmarkBatch:
    """Landmarks of N regions; joints in OpenPose-21 order.

    uv: (N, 21, 2) in image pixels (centre of the top-left pixel is (0, 0)).
    z: (N, 21) the network's own depth relative to the wrist, by the scale of uv (image pixels);
        ordered right but far too shallow (about 0.15 of the relief of `world`): prefer `world`.
    world: (N, 21, 3) metres, camera axes (x right, y down, z forward), about the hand's centre.
    presence: (N,) probability that there is a hand at all.
    right: (N,) probability that it is a right hand, in an ordinary image (not mirrored).
    """

    uv: Floats
    z: Floats
    world: Floats
    presence: Floats
    right: Floats

    def __len__(self) -> int:
        return len(self.presence)


class HandLandmarker:
    """Landmarks of the hands in given regions. Arguments as in `runtime.load_network`."""

    def __init__(
        self,
        runtime: Runtime = "litert",
        device: str = "cpu",
        variant: Literal["full", "lite"] = "full",
        num_threads: int = 1,
    ) -> None:
        self._network = load_network(f"hand_landmark_{variant}", runtime, device, num_threads)

    def __call__(
        self, images: Image | Sequence[Image], rois: ArrayLike, index: Sequence[int] | None = None
    ) -> LandmarkBatch:
        """Landmarks in ROIs (N, 4) of one image (H, W, 3) uint8 RGB, or of several.

        With several images, `index` (N,) says which one each region lies in.
        """
        several = [images] if isinstance(images, np.ndarray) else list(images)
        rois = np.asarray(rois, dtype=np.float64).reshape(-1, 4)
        if index is None and len(several) != 1:
            raise ValueError(f"{len(several)} images: say by `index` which one each region is in")
        where = np.zeros(len(rois), int) if index is None else np.asarray(index, int)
        size = self._network.size
        matrices = crop_matrix(rois, size)
        crops = np.empty((len(rois), size, size, 3), np.uint8)
        for row, (image, matrix) in enumerate(zip(where, matrices, strict=True)):
            warp(several[image], matrix[None], size, into=crops[row : row + 1])
        landmarks, presence, right, world = self._network(crops)
        return _in_image(landmarks, presence, right, world, rois, matrices, size)

    def features(self, crops: torch.Tensor) -> torch.Tensor:
        """The trunk's features (N, 1152, 7, 7) of crops (N, 3, 224, 224) in 0..1, with gradients.

        (672 channels for the lite variant.) Runtime torch only, else TypeError.
        """
        if not isinstance(self._network, TorchNetwork):
            raise TypeError("features need HandLandmarker(runtime='torch')")
        return self._network.module.features(crops)


def _in_image(
    landmarks: NDArray[np.float32],
    presence: NDArray[np.float32],
    right: NDArray[np.float32],
    world: NDArray[np.float32],
    rois: Floats,
    matrices: Floats,
    size: int,
) -> LandmarkBatch:
    points = landmarks.astype(np.float64).reshape(-1, 21, 3)
    metres = world.astype(np.float64).reshape(-1, 21, 3)
    metres[..., :2] = metres[..., :2] @ np.swapaxes(_rotations(rois[:, 3]), -1, -2)
    return LandmarkBatch(
        uv=transform_points(matrices, points[..., :2]),
        z=points[..., 2] * (rois[:, 2:3] / size),
        world=metres,
        presence=presence[:, 0].astype(np.float64),
        right=right[:, 0].astype(np.float64),
    )


def rois_from_palms(palms: PalmDetections) -> Floats:
    """ROIs (n, 4) of the hands of detected palms.

    MediaPipe's rule: turned so that the middle finger's root is above the wrist, moved by half a
    palm towards the fingers, 2.6 palms wide.
    """
    axis = palms.keypoints[:, MIDDLE_MCP] - palms.keypoints[:, WRIST]
    extent = palms.boxes[:, 2:] - palms.boxes[:, :2]
    centre = (palms.boxes[:, :2] + palms.boxes[:, 2:]) / 2
    return _rois(centre, extent, _upright(axis), shift=-0.5, scale=2.6)


def rois_from_landmarks(uv: ArrayLike) -> Floats:
    """ROIs (N, 4) in which to find hands again, from their landmarks (N, 21, 2) in pixels.

    MediaPipe's rule: the box of the palm's landmarks, turned so that the finger roots are above
    the wrist, moved by a tenth towards the fingers, doubled.
    """
    uv = np.asarray(uv, dtype=np.float64).reshape(-1, 21, 2)
    roots = 0.25 * uv[:, 5] + 0.5 * uv[:, 9] + 0.25 * uv[:, 13]
    angle = _upright(roots - uv[:, 0])
    turn = _rotations(angle)
    upright = uv[:, _PALM] @ turn  # rows times R: turned back by the angle
    low, high = upright.min(axis=1), upright.max(axis=1)
    centre = np.einsum("nij,nj->ni", turn, (low + high) / 2)
    return _rois(centre, high - low, angle, shift=-0.1, scale=2.0)


def _upright(axis: Floats) -> Floats:
    """The rotation (N,) of the region in which image directions (N, 2) point up."""
    return np.arctan2(axis[:, 0], -axis[:, 1])


def _rotations(angle: Floats) -> Floats:
    cos, sin = np.cos(angle), np.sin(angle)
    return np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], -2)


def _rois(centre: Floats, extent: Floats, angle: Floats, shift: float, scale: float) -> Floats:
    """A square about a turned box (N, 2), first moved by `shift` of its height along its own v."""
    down = np.stack([-np.sin(angle), np.cos(angle)], axis=-1)
    centre = centre + shift * extent[:, 1:] * down
    return np.column_stack([centre, scale * extent.max(axis=1), angle])
