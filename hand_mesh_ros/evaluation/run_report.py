"""The figures of one run over a recording, in the README's names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.evaluation.metrics.alignment import MIDDLE_MCP, WRIST
from hand_mesh_ros.evaluation.metrics.position import distances
from hand_mesh_ros.geometry.triangulation import reprojection_errors
from hand_mesh_ros.types import Camera, HandSet

Array = NDArray[np.float64]
# A true and an estimated hand are the same hand if the middles of their joints are this near, m.
_SAME = 0.10


@dataclass(frozen=True, eq=False)
class Observed:
    """Landmarks (21, 2) that one camera saw of the hand with this track id."""

    camera: str
    track_id: int
    uv: Array


@dataclass(frozen=True, eq=False)
class RunStep:
    """One frame set of a run: the hands, what was seen of them, and, if known, the true joints.

    ``truth`` maps a side to joints (21, 3) in the frame of the hands.
    """

    hands: HandSet
    observed: tuple[Observed, ...] = ()
    truth: Mapping[str, Array] = field(default_factory=dict)


def run_report(steps: Sequence[RunStep], cameras: Mapping[str, Camera]) -> dict[str, Any]:
    """Counts, reprojection error (px), hand size (mm) and, with truth, joint error (mm).

    ``hands_found`` counts hands seen by two or more cameras (by one, with one camera), summed
    over frame sets; ``reprojection_px`` is the distance of the fitted joints from the landmarks
    that each contributing camera saw.
    """
    least = min(2, max(len(cameras), 1))
    found = [
        [h for h in step.hands.hands if len(h.estimate.view_indices) >= least] for step in steps
    ]
    sides = [sorted(h.estimate.side for h in step.hands.hands) for step in steps]
    sizes = [
        1e3 * float(np.linalg.norm(h.estimate.joints[MIDDLE_MCP] - h.estimate.joints[WRIST]))
        for step in steps
        for h in step.hands.hands
    ]
    report: dict[str, Any] = {
        "frame_sets": len(steps),
        "frame_sets_with_hand": sum(bool(step.hands.hands) for step in steps),
        "hands_found": sum(map(len, found)),
        "hands_from_one_view": sum(len(s.hands.hands) for s in steps) - sum(map(len, found)),
        "hands_both": sides.count(["left", "right"]),
        "tracks": len({h.track_id for step in steps for h in step.hands.hands}),
        "reprojection_px": spread_of(np.concatenate([np.zeros(0), *_reprojection(steps, cameras)])),
        "wrist_to_middle_mcp_mm": spread_of(np.array(sizes)),
    }
    if any(step.truth for step in steps):
        errors, wrong_side, true_hands = _joint_errors(steps)
        report["true_hands"] = true_hands
        report["true_hands_found"] = len(errors)
        report["wrong_side"] = wrong_side
        report["joint_error_mm"] = spread_of(1e3 * np.array(errors).reshape(-1))
    return report


def spread_of(values: Array) -> dict[str, float] | None:
    """Least, median, mean, 95th percentile and greatest of a sample; None if it is empty."""
    values = values[np.isfinite(values)]
    if not values.size:
        return None
    return {
        "min": round(float(values.min()), 3),
        "median": round(float(np.median(values)), 3),
        "mean": round(float(values.mean()), 3),
        "p95": round(float(np.percentile(values, 95)), 3),
        "max": round(float(values.max()), 3),
    }


def _reprojection(steps: Sequence[RunStep], cameras: Mapping[str, Camera]) -> list[Array]:
    out = []
    for step in steps:
        joints = {hand.track_id: hand.estimate.joints for hand in step.hands.hands}
        for seen in step.observed:
            if seen.track_id in joints and seen.camera in cameras:
                camera = cameras[seen.camera]
                out.append(reprojection_errors([camera], joints[seen.track_id], seen.uv[None])[0])
    return out


def _joint_errors(steps: Sequence[RunStep]) -> tuple[list[Array], int, int]:
    """Joint distances (21,), m, of each true hand that was found; wrong sides; true hands."""
    errors, wrong, total = [], 0, 0
    for step in steps:
        for side, truth in step.truth.items():
            total += 1
            near = [
                (float(np.linalg.norm(h.estimate.joints.mean(0) - truth.mean(0))), h)
                for h in step.hands.hands
            ]
            distance, hand = min(near, key=lambda pair: pair[0], default=(np.inf, None))
            if hand is not None and distance < _SAME:
                errors.append(distances(hand.estimate.joints, truth))
                wrong += hand.estimate.side != side
    return errors, wrong, total
