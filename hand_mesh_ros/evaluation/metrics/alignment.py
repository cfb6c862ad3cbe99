"""Predictions moved onto truths in the ways that papers do before they measure.

All take and return batches of points (N, P, 3), metres; a joint that is not known is NaN in the
truth and takes no part in the fit.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.geometry.alignment import procrustes

Array = NDArray[np.float64]

WRIST, MIDDLE_MCP = 0, 9
"""Joints in OpenPose order; HO3D's joint 4 is the same knuckle of the middle finger."""

# FreiHAND's and HO3D's evaluation code divides by |points| + this instead of |points|.
_BENCHMARK_EPSILON = 1e-8


def root_relative(points: Array, joints: Array, root: int = WRIST) -> Array:
    """Points (N, P, 3) relative to one of the joints (N, 21, 3) of the same hands."""
    return points - joints[:, root : root + 1]


def similarity_aligned(predicted: Array, true: Array, *, proper: bool = False) -> Array:
    """Procrustes: rotation, scale and translation by least squares; what PA metrics measure.

    By default as the evaluation code of FreiHAND, HO3D and DexYCB has it, which lets the fit
    reflect, so that a mirrored hand has no error. ``proper``: rotations only.
    """
    return SimilarityFit(predicted, true, proper=proper)(predicted)


class SimilarityFit:
    """The alignment of one set of points, to be applied to another of the same hands."""

    def __init__(self, predicted: Array, true: Array, *, proper: bool = False) -> None:
        known = np.asarray(np.isfinite(true).all(-1) & np.isfinite(predicted).all(-1))
        source = np.where(known[..., None], predicted, 0.0)
        target = np.where(known[..., None], true, 0.0)
        scale, self._R, self._t = procrustes(
            source, target, known.astype(np.float64), with_scale=True, reflect=not proper
        )
        if not proper:
            count = np.maximum(known.sum(-1), 1)[:, None, None]
            centre = source.sum(-2, keepdims=True) / count
            norm = np.linalg.norm(np.where(known[..., None], source - centre, 0.0), axis=(-2, -1))
            shrink = (norm / (norm + _BENCHMARK_EPSILON)) ** 2
            centre = (self._R @ np.swapaxes(centre, -1, -2))[..., 0]
            self._t = self._t + ((1 - shrink) * scale)[:, None] * centre
            scale = scale * shrink
        self._scale = scale
        self._some = np.asarray(known.any(-1))

    def __call__(self, points: Array) -> Array:
        """Points (N, P, 3) moved; NaN for hands of which no point is known."""
        moved = self._scale[:, None, None] * (points @ np.swapaxes(self._R, -1, -2))
        return np.where(self._some[:, None, None], moved + self._t[:, None], np.nan)


def scale_translation_aligned(predicted: Array, true: Array) -> Array:
    """HO3D's second alignment of joints (N, 21, 3): palm of the true length, wrist at the truth.

    NaN where the predicted palm has no length, as for a prediction of zeros.
    """
    scaled = predicted * palm_ratio(predicted, true)[:, None, None]
    return scaled + (true - scaled)[:, WRIST : WRIST + 1]


def bone_normalised(predicted: Array, true: Array, centre: int = MIDDLE_MCP) -> Array:
    """Joints for N-MPJPE as HaMuCo defines it: one bone's scale, centred at the middle knuckle.

    The scale is the ratio of the palms' lengths (joints 0 to 9), not a least-squares fit.
    """
    ratio = palm_ratio(predicted, true)[:, None, None]
    relative = (predicted - predicted[:, centre : centre + 1]) * ratio
    return relative + true[:, centre : centre + 1]


def palm_ratio(predicted: Array, true: Array) -> Array:
    """True over predicted distance of wrist and middle knuckle, (N,); NaN over zero."""
    length = [np.linalg.norm(j[:, MIDDLE_MCP] - j[:, WRIST], axis=-1) for j in (predicted, true)]
    return np.where(length[0] > 0, length[1] / np.where(length[0] > 0, length[0], 1.0), np.nan)
