"""A picture of refined silhouettes: outlines before and after over their crops, and the masks."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from hand_mesh_ros.evaluation.amvur_movable import Placed
from hand_mesh_ros.evaluation.amvur_silhouette import Mask, covered
from hand_mesh_ros.evaluation.amvur_silhouette_claim import (
    ANSWER,
    BEST,
    HEADLINE,
    OURS,
    TRUTH,
    Found,
    Silhouettes,
)
from hand_mesh_ros.render.sheet import contact_sheet
from hand_mesh_ros.types import ImageArray

_CELL = 224
_LINE = (255, 230, 0)
_HAND, _OUTSIDE, _UNKNOWN = (235, 235, 235), (30, 30, 30), (200, 90, 40)


def silhouette_sheet(
    measured: Silhouettes, faces: NDArray[np.integer], rows: int = 6
) -> ImageArray:
    """From the picture that lost most to the one that gained most, at even steps between.

    Masks: white the hand, black what it is not, orange what does not count.
    """
    change = measured.found[HEADLINE].iou - measured.found[ANSWER].iou
    order = np.argsort(change)
    chosen = order[np.unique(np.linspace(0, len(order) - 1, rows).round().astype(int))]
    columns = ("the answer", OURS, "refined by it", TRUTH, "refined by it")
    pictures, captions = [], []
    for k in chosen:
        image = measured.images[k]
        pictures.append([
            _outlined(image, measured.found[ANSWER], k, faces),
            _painted(measured.masks[OURS], k),
            _outlined(image, measured.found[HEADLINE], k, faces),
            _painted(measured.masks[TRUTH], k),
            _outlined(image, measured.found[BEST], k, faces),
        ])  # fmt: skip
        told = [
            f"{name}: IoU {100 * f.iou[k]:.0f}, PA {1e3 * f.pa[k]:.1f} mm"
            for name, f in (
                ("answer", measured.found[ANSWER]),
                ("network's mask", measured.found[HEADLINE]),
                ("true mask", measured.found[BEST]),
            )
        ]
        captions.append("   ".join(told))
    return contact_sheet(pictures, columns, captions, cell_height=_CELL)


def _outlined(
    image: ImageArray, found: Found, number: int, faces: NDArray[np.integer]
) -> ImageArray:
    """A crop, enlarged, with the outline of a mesh."""
    import cv2

    picture = cv2.resize(image, (_CELL, _CELL), interpolation=cv2.INTER_CUBIC)
    uv, depth = (torch.from_numpy(x[number][None]) for x in (found.uv, found.depth))
    mesh = covered(Placed(uv, uv, uv, depth), faces, _CELL)[0].astype(np.uint8)
    lines, _ = cv2.findContours(mesh, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, lines, -1, _LINE, 1, cv2.LINE_AA)
    return np.asarray(picture)


def _painted(mask: Mask, number: int) -> ImageArray:
    """White, black and, as far as it does not count, orange."""
    import cv2

    hand, known = mask.hand[number][..., None], mask.known[number][..., None]
    colour = hand * _HAND + (1 - hand) * _OUTSIDE
    colour = known * colour + (1 - known) * np.array(_UNKNOWN)
    size = (_CELL, _CELL)
    return np.asarray(cv2.resize(colour.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST))
