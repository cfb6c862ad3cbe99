"""What HaMeR and WiLoR answer, and how it follows from what they regress."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from hand_mesh_ros.geometry.crop_camera import crop_translation, project_to_crop
from hand_mesh_ros.networks.mano_decoder import RawMano
from hand_mesh_ros.networks.mano_head import rotations_from_6d
from hand_mesh_ros.networks.mano_layer import PosedHands


class Reconstruction(NamedTuple):
    """B right hands (of left ones, the mirrored picture's), single precision.

    Axes are the crop camera's: x right, y down, z forward; see `geometry.crop_camera`.
    """

    rotations: Tensor  # (B, 16, 3, 3) total, in MANO's order, the first one global
    betas: Tensor  # (B, 10)
    cam: Tensor  # (B, 3) weak perspective s, tx, ty
    cam_t: Tensor  # (B, 3) m, where the hand model's origin is before the crop's own camera
    joints: Tensor  # (B, 21, 3) m, OpenPose order, about the model's origin, not the wrist
    vertices: Tensor  # (B, V, 3) m, the same
    joints_2d: Tensor  # (B, 21, 2) in the crop, -0.5..0.5 from edge to edge


def reconstruct(raw: RawMano, layer: Callable[[Tensor, Tensor], PosedHands]) -> Reconstruction:
    """The hands that a network's `raw` numbers are, of `layer`'s hand model."""
    # In full precision: half has three digits, and a tenth of a millimetre is the fourth.
    with torch.autocast(raw.cam.device.type, enabled=False):
        raw = raw.in_single_precision()
        rotations = rotations_from_6d(raw.pose6d)
        joints, vertices = layer(rotations, raw.betas)
        cam_t = crop_translation(raw.cam)
        places = project_to_crop(joints, cam_t)
        return Reconstruction(rotations, raw.betas, raw.cam, cam_t, joints, vertices, places)
