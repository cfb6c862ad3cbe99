"""MediaPipe's palm detector: images to palms, with a second look at hands near the edge.

The decoding follows the network's published configuration (192 x 192 input, SSD anchors of strides
8, 16, 16, 16 with two unit boxes each, weighted non-maximum suppression at 0.3 overlap).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.networks.runtime import Runtime, load_network

Image = NDArray[np.uint8]
Floats = NDArray[np.float64]

# of the seven keypoints: the wrist and the root of the middle finger give the palm's direction
WRIST, MIDDLE_MCP = 0, 2
_OVERLAP = 0.3


@dataclass(frozen=True)
class PalmDetections:
    """Palms of one image, best first, in image pixels (centre of the top-left pixel is (0, 0)).

    boxes: (n, 4) u, v of the top-left corner, then of the bottom-right one.
    keypoints: (n, 7, 2) wrist, index, middle, ring, little MCP, thumb CMC and MCP.
    scores: (n,) in 0..1.
    """

    boxes: Floats
    keypoints: Floats
    scores: Floats

    def __len__(self) -> int:
        return len(self.scores)


class PalmDetector:
    """Finds palms in whole images.

    score: least score of a palm.
    hands: how many hands are looked for. Where fewer are found, the image is searched once more
        smaller and with its border replicated outwards, which finds hands that fill the image or
        leave it.
    border: width of that border on each side, as a fraction of the image's longer side; 0 for no
        second look. (Hands that fill their image: 83 of 102 found without, 100 with.)
    runtime, device, num_threads: as in `runtime.load_network`.
    """

    def __init__(
        self,
        runtime: Runtime = "litert",
        device: str = "cpu",
        variant: Literal["full", "lite"] = "full",
        num_threads: int = 1,
        score: float = 0.5,
        hands: int = 2,
        border: float = 0.25,
    ) -> None:
        self._network = load_network(f"palm_detection_{variant}", runtime, device, num_threads)
        self._anchors = anchors(self._network.size)
        self._score, self._hands, self._border = score, hands, border

    def detect(self, images: Sequence[Image]) -> list[PalmDetections]:
        """Palms of each image (H, W, 3) uint8 RGB; the images may differ in size."""
        found = self._look(images, border=0.0)
        again = [i for i, palms in enumerate(found) if len(palms) < self._hands]
        if self._border > 0 and again:
            second = self._look([images[i] for i in again], self._border)
            for i, palms in zip(again, second, strict=True):
                found[i] = _merged(found[i], palms)
        return found

    def _look(self, images: Sequence[Image], border: float) -> list[PalmDetections]:
        if not len(images):
            return []
        size = self._network.size
        views = [letterbox(image, size, border) for image in images]
        regressions, logits = self._network(np.stack([canvas for canvas, _, _ in views]))
        return [
            weighted_nms(
                decode(regression, logit[:, 0], self._anchors, size, self._score, scale, offset)
            )
            for regression, logit, (_, scale, offset) in zip(
                regressions, logits, views, strict=True
            )
        ]


def letterbox(image: Image, size: int, border: float = 0.0) -> tuple[Image, Floats, Floats]:
    """A `size` x `size` canvas with the whole image on it, and the way back.

    Returns the canvas and (scale (2,), offset (2,)): image = canvas * scale + offset, where canvas
    coordinates are continuous (top-left corner of the canvas is 0) and image ones are pixels.
    Without a `border` the rest of the canvas is black, else the image's edge carried on.
    """
    import cv2

    height, width = image.shape[:2]
    longest = max(height, width) * (1 + 2 * border)
    inner = [max(1, round(side * size / longest)) for side in (width, height)]
    small = cv2.resize(image, inner, interpolation=cv2.INTER_LINEAR)
    left, top = ((size - side) // 2 for side in inner)
    right, bottom = size - inner[0] - left, size - inner[1] - top
    mode = cv2.BORDER_REPLICATE if border > 0 else cv2.BORDER_CONSTANT
    canvas = cv2.copyMakeBorder(small, top, bottom, left, right, mode)
    scale = np.array([width, height]) / inner
    return canvas, scale, -scale * (left, top) - 0.5


def anchors(size: int) -> Floats:
    """Anchor centres (A, 2) on the canvas, for two anchors a cell at stride 8 and six at 16."""

    def grid(stride: int, repeats: int) -> Floats:
        centres = (np.arange(size // stride) + 0.5) * stride
        v, u = np.meshgrid(centres, centres, indexing="ij")
        return np.repeat(np.stack([u, v], axis=-1).reshape(-1, 2), repeats, axis=0)

    return np.concatenate([grid(8, 2), grid(16, 6)])


def decode(
    regression: NDArray[np.float32],
    logits: NDArray[np.float32],
    anchor_centres: Floats,
    size: int,
    score: float,
    scale: Floats,
    offset: Floats,
) -> PalmDetections:
    """Every anchor (A) whose score is high enough, as a palm in image pixels; unsorted.

    regression (A, 18): centre, size and seven keypoints, in canvas pixels from the anchor's centre.
    """
    scores = 1 / (1 + np.exp(-np.clip(logits.astype(np.float64), -100, 100)))
    keep = scores >= score
    raw = regression[keep].astype(np.float64).reshape(-1, 9, 2)
    raw[:, [0, 2, 3, 4, 5, 6, 7, 8]] += anchor_centres[keep][:, None]
    half = raw[:, 1:2] / 2
    boxes = np.concatenate([raw[:, :1] - half, raw[:, :1] + half], axis=1)
    return PalmDetections(
        boxes=(boxes * scale + offset).reshape(-1, 4),
        keypoints=raw[:, 2:] * scale + offset,
        scores=scores[keep],
    )


def weighted_nms(palms: PalmDetections, overlap: float = _OVERLAP) -> PalmDetections:
    """Merge what overlaps: each group becomes its score-weighted mean, with its best score."""
    order = np.argsort(-palms.scores, kind="stable")
    values = np.concatenate([palms.boxes, palms.keypoints.reshape(-1, 14)], axis=1)[order]
    scores = palms.scores[order]
    similar = box_overlaps(values[:, :4]) > overlap
    merged, best = [], []
    left = np.ones(len(scores), bool)
    for first in range(len(scores)):
        if left[first]:
            group = left & similar[first]
            group[first] = True
            merged.append(np.average(values[group], axis=0, weights=scores[group]))
            best.append(scores[first])
            left &= ~group
    rows = np.array(merged).reshape(-1, 18)
    return PalmDetections(rows[:, :4], rows[:, 4:].reshape(-1, 7, 2), np.array(best))


def box_overlaps(boxes: Floats) -> Floats:
    """Intersection over union of every pair of boxes (n, 4): (n, n)."""
    low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=-1)
    areas = np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(axis=-1)
    union = areas[:, None] + areas[None] - shared
    return shared / np.maximum(union, 1e-9)


def _merged(first: PalmDetections, second: PalmDetections) -> PalmDetections:
    """The palms of both looks; one seen twice is averaged, since a cut-off box misplaces it."""
    return weighted_nms(
        PalmDetections(
            np.concatenate([first.boxes, second.boxes]),
            np.concatenate([first.keypoints, second.keypoints]),
            np.concatenate([first.scores, second.scores]),
        )
    )
