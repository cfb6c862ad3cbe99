"""HaMuCo: one view's hand, and several views' hands made better by each other.

X. Zheng et al., ICCV 2023, in two configurations: as published, a ResNet on pictures and a wide
cross-view network; and a small one on `networks.evidence`, for a CPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from hand_mesh_ros.hand.layout import NUM_JOINTS
from hand_mesh_ros.hand.model import HandModel
from hand_mesh_ros.networks.hamuco_cross import SMALL, CrossSettings, CrossView
from hand_mesh_ros.networks.hamuco_single import (
    EvidenceSingleView,
    RawHands,
    ResNetSingleView,
    SingleViews,
    place_hands,
    sample_at,
)
from hand_mesh_ros.networks.mano_head import rotations_from_6d
from hand_mesh_ros.networks.mano_points import HandPoints, ManoPoints
from hand_mesh_ros.networks.view_fusion import relative_rotations
from hand_mesh_ros.networks.view_rays import meeting_points

EVIDENCE = ("middle", "coarse", "landmarks", "world", "presence", "right")
PICTURES = ("image",)
UNIT = 0.2  # m, which depths are told in, as published


class ViewHands(NamedTuple):
    """A hand for each view (B, V, ...), in the axes of its crop; metres relative to the wrist.

    `rotations` (B, V, 16, 3, 3) total, `betas` (B, V, 10), `points` of the hand model, `uv` of
    the joints and `marks_uv` of the landmarks (B, V, 21, 2) in the crop, -1..1, `sure` (B, V, 21).
    """

    rotations: Tensor
    betas: Tensor
    points: HandPoints
    uv: Tensor
    marks_uv: Tensor
    sure: Tensor


class Hamuco(nn.Module):
    """`features` is "evidence" (small) or a ResNet's name (as published); `weights` its file.

    `cross` changes the cross-view network's settings; `hidden` and `layers` the small single
    view's. `surface`: how many vertices are posed with the joints.
    """

    def __init__(
        self,
        model: HandModel,
        features: str = "evidence",
        weights: str | None = None,
        cross: Mapping[str, object] | None = None,
        hidden: int = 512,
        layers: int = 2,
        surface: int = 0,
    ) -> None:
        super().__init__()
        small = features == "evidence"
        # what the file of its weights says of it, for whoever opens that
        self.notes = {"hamuco": {"features": features, "cross": dict(cross or {}),
                                 "hidden": hidden, "layers": layers}}  # fmt: skip
        self.inputs = EVIDENCE if small else PICTURES
        self.single: EvidenceSingleView | ResNetSingleView = (
            EvidenceSingleView(hidden, layers) if small else ResNetSingleView(features, weights)
        )
        settings = replace(SMALL if small else CrossSettings(), **(cross or {}))  # type: ignore[arg-type]
        self.cross = CrossView(self.single, settings)
        self.layer = ManoPoints(model, surface)

    def forward(
        self,
        inputs: Mapping[str, Tensor],
        mask: Tensor,
        axes: Tensor | None = None,
        field: Tensor | None = None,
        see: Tensor | None = None,
        centres: Tensor | None = None,
    ) -> tuple[ViewHands, ViewHands]:
        """What each view says alone, and what it says knowing the others.

        inputs: the fields `self.inputs` (B, V, ...), pictures as (B, V, 3, 256, 256) in 0..1.
        mask (B, V): the views that are there; what is said of others has no meaning. axes
        (B, V, 3, 3): rotations of world points into each crop's axes, None without calibration.
        field (B, V): see `place_hands`. see (B, V, V): see `CrossView`. centres (B, V, 3): the
        cameras' in the world, m; with axes and field the small network is told where landmarks'
        rays meet.
        """
        said, single = self.alone(inputs, mask, field)
        count = mask.shape

        def of_views(x: Tensor) -> Tensor:
            return x.unflatten(0, count)

        joints = single.points.joints
        depth = (joints[..., 2:] - joints[..., 9:10, 2:]) / UNIT
        at = of_views(sample_at(said.fine, single.uv.detach().flatten(0, 1)))
        raw = self.cross(
            RawHands(*map(of_views, said.raw)), torch.cat([single.uv, depth], -1), joints,
            single.sure, of_views(said.deep), at, mask,
            None if axes is None else relative_rotations(axes), see,
            self._hints(inputs, single, mask, axes, centres, field),
        )  # fmt: skip
        return single, self._hands(raw, single.sure, field)

    def _hints(
        self, inputs: Mapping[str, Tensor], single: ViewHands, mask: Tensor, axes: Tensor | None,
        centres: Tensor | None, field: Tensor | None,
    ) -> Tensor | None:  # fmt: skip
        """How far the landmark network's landmarks are from the single views' (B, V, `HINTS`): in

        the crops, and in space and again in the crops where their rays meet; and whether they do.
        """
        if not self.cross.settings.hints:
            return None
        seen = inputs["landmarks"][..., :2]
        flat = (seen - single.marks_uv.detach()).clamp(-1, 1).flatten(2)
        if axes is None or centres is None or field is None:
            return torch.cat([flat, flat.new_zeros(*mask.shape, 5 * 21 + 1)], -1)
        trust = inputs["presence"][..., None].expand(-1, -1, 21) + 0.02
        met = meeting_points(seen, trust, mask, axes, centres, field)
        marks = single.points.marks.detach()
        space = _about_palm(met.points) - _about_palm(marks)
        known = (met.known[:, None] & mask)[..., None]
        away = torch.cat([(10 * space).clamp(-1, 1).flatten(2),
                          (seen - met.uv).clamp(-1, 1).flatten(2)], -1)  # fmt: skip
        return torch.cat([flat, torch.where(known, away, 0.0), known.to(flat.dtype)], -1)

    def alone(
        self, inputs: Mapping[str, Tensor], mask: Tensor, field: Tensor | None = None
    ) -> tuple[SingleViews, ViewHands]:
        """The single views only, which costs nothing of the others."""
        said = self.single(*(inputs[name].flatten(0, 1) for name in self.inputs))
        raw = RawHands(*(x.unflatten(0, mask.shape) for x in said.raw))
        return said, self._hands(raw, said.sure.unflatten(0, mask.shape), field)

    def _hands(self, raw: RawHands, sure: Tensor, field: Tensor | None) -> ViewHands:
        count = sure.shape[:2]
        # in full precision: half has three digits, and a tenth of a millimetre is the fourth
        with torch.autocast(sure.device.type, enabled=False):
            pose, betas, camera = (x.float().flatten(0, 1) for x in raw)
            rotations = rotations_from_6d(pose.unflatten(-1, (NUM_JOINTS, 6)))
            points = self.layer(rotations, betas)
            seen = None if field is None else field.float().flatten()
            uv, marks = (
                place_hands(p, camera, seen).unflatten(0, count)
                for p in (points.joints, points.marks)
            )
        return ViewHands(
            rotations.unflatten(0, count), betas.unflatten(0, count),
            HandPoints(*(p.unflatten(0, count) for p in points)), uv, marks, sure,
        )  # fmt: skip

    def weights(self) -> dict[str, Tensor]:
        """What was trained: the state, which holds no hand model."""
        return self.state_dict()

    def load_weights(self, weights: dict[str, Tensor]) -> None:
        """The reverse of `weights`; RuntimeError names what is missing or does not fit."""
        self.load_state_dict(weights)


def _about_palm(points: Tensor) -> Tensor:
    return points - points[..., [0, 5, 9, 13, 17], :].mean(-2, keepdim=True)
