"""`hand_mesh_node` the naive way, as a baseline: full detection in every image, then triangulation.

No regions from tracks, no hand model: what one gets by calling a hand detector on every frame and
triangulating its landmarks.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hand_mesh_ros.geometry.triangulation import triangulate
from hand_mesh_ros.perception.estimate import BACKENDS, HandViews
from hand_mesh_ros.perception.landmark_fit import LandmarkFit
from hand_mesh_ros.perception.observe import LandmarkObserver
from hand_mesh_ros.types import HandEstimate, ManoParameters, Side


class Triangulation:
    """A backend of joints only: linear triangulation of two views or more."""

    def __init__(self, **options: Any) -> None:
        self._models = LandmarkFit(**options).models

    def estimate(self, hands: Any) -> list[HandEstimate | None]:
        """See `Backend`."""
        return [self._one(hand) for hand in hands]

    def _one(self, hand: HandViews) -> HandEstimate | None:
        if len(hand.views) < 2:
            return None
        uv, sigma = np.stack([v.uv for v in hand.views]), np.stack([v.sigma for v in hand.views])
        joints = triangulate([v.camera for v in hand.views], uv, sigma)
        if not np.isfinite(joints).all():
            return None
        side: Side = "right" if hand.right >= 0.5 else "left"
        wrist = np.eye(4)
        wrist[:3, 3] = joints[0]
        unknown = np.full(21, np.nan)
        return HandEstimate(
            side=side,
            joints=joints,
            covariance=np.full((21, 3, 3), np.nan),
            wrist=wrist,
            wrist_covariance=np.full((6, 6), np.nan),
            mano=ManoParameters(
                self._models[side].model_id, side,
                np.zeros(3), np.zeros(45), np.zeros(10), joints[0],
            ),
            confidence=1.0,
            side_confidence=hand.right,
            joint_confidence=unknown,
            visibility=unknown,
            residual_px=np.full((len(hand.views), 21), np.nan),
            view_indices=tuple(v.index for v in hand.views),
            scale_source="multi_view",
        )  # fmt: skip


class _SearchesAll(LandmarkObserver):
    """Knows nothing of tracks: every image is searched whole."""

    def __call__(self, frames: Any, hints: Any, search: Any) -> Any:
        return super().__call__(frames, [], range(len(frames)))


def main() -> None:
    """Run the node with the naive stages in place of ours."""
    import hand_mesh_ros.perception.build as build

    BACKENDS["landmarks"] = f"{__name__}:Triangulation"
    build.LandmarkObserver = _SearchesAll  # type: ignore[misc]
    from hand_mesh_ros.ros.hand_mesh_node import main

    main()


if __name__ == "__main__":
    main()
