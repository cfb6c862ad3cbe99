"""Regions of the views of several hands as one batch of crops, and answers back in the images.

Everything that a crop's mirroring, rotation and place in its image change is undone here, and
nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.geometry.crop_axes import crop_axes_of_views
from hand_mesh_ros.geometry.crops import crop_matrix
from hand_mesh_ros.geometry.published_crops import blur_sigma
from hand_mesh_ros.hand.mirror import mirror_matrices, mirror_points
from hand_mesh_ros.perception.learned import CropBatch, CropRule, NetworkHands
from hand_mesh_ros.types import ImageArray, View

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Regions:
    """N regions to ask about. ``views`` and ``rois`` (N, 4) say where; ``mirrored`` (N,): they are

    asked about as left hands; ``group`` (N,): as in `CropBatch`.
    """

    views: tuple[View, ...]
    rois: Array
    mirrored: NDArray[np.bool_]
    group: NDArray[np.int_]

    def __len__(self) -> int:
        return len(self.views)

    def of(self, which: NDArray[np.int_]) -> Regions:
        """Some of them."""
        views = tuple(self.views[i] for i in which)
        return replace(
            self, views=views, rois=self.rois[which], mirrored=self.mirrored[which],
            group=self.group[which],
        )  # fmt: skip


def cut(regions: Regions, rule: CropRule, device: str) -> CropBatch:
    """All crops at once; every image goes to the device once. The views have images."""
    from hand_mesh_ros.networks.crop_sampler import crops_of

    images: list[ImageArray] = []
    places: dict[int, int] = {}
    index = np.empty(len(regions), dtype=np.int64)
    for i, view in enumerate(regions.views):
        assert view.frame is not None
        image = view.frame.image
        if id(image) not in places:
            places[id(image)] = len(images)
            images.append(image)
        index[i] = places[id(image)]
    matrices = matrices_of(regions.rois, regions.mirrored, rule)
    blur = blur_sigma(regions.rois[:, 2], rule.size) if rule.antialias else None
    crops = crops_of(images, index, matrices, rule.size, device, rule.border, blur)
    axes = axes_of(regions)
    turned = np.stack([v.camera.T_camera_world[:3, :3] for v in regions.views])
    world = axes @ turned
    world[regions.mirrored] = mirror_matrices(world[regions.mirrored])
    focal = np.array([view.camera.focal for view in regions.views])
    centres = np.stack([view.camera.centre for view in regions.views])
    centres[regions.mirrored] = mirror_points(centres[regions.mirrored])
    return CropBatch(crops, regions.group, world, regions.rois[:, 2] / 2 / focal, centres)


def matrices_of(rois: Array, mirrored: NDArray[np.bool_], rule: CropRule) -> Array:
    """Crop matrices (N, 2, 3) of regions (N, 4) by a rule; mirrored ones read rows backwards."""
    matrices = crop_matrix(rois, rule.size)
    if rule.corner:
        matrices[:, :, 2] -= 0.5 * matrices[:, :, :2].sum(-1)
    last = rule.size if rule.corner else rule.size - 1
    back = matrices.copy()
    back[:, :, 0] *= -1
    back[:, :, 2] += last * matrices[:, :, 0]
    return np.where(mirrored[:, None, None], back, matrices)


def axes_of(regions: Regions) -> Array:
    """Rotations (N, 3, 3) of points in each camera's axes into its crop's, before mirroring."""
    return crop_axes_of_views([view.camera for view in regions.views], regions.rois)


@dataclass(frozen=True, eq=False)
class Answers:
    """What was said of N regions, in the images: ``uv`` (N, 21, 2) pixels, ``joints`` (N, 21, 3) m

    relative to the wrist in the cameras' axes; ``pose`` (N, 15, 3, 3), ``betas`` (N, 10) in the
    parameters of the model of the hand's own side. What the network knows of its errors:
    ``uv_sigma`` (N, 21) in half the region's side, ``covariance`` (N, 21, 3, 21, 3) m^2 of all
    joints together in the cameras' axes, ``visible`` (N, 21).
    """

    uv: Array
    joints: Array
    pose: Array | None
    betas: Array | None
    uv_sigma: Array | None
    covariance: Array | None
    visible: Array | None


def in_images(hands: NetworkHands, regions: Regions) -> Answers:
    """The answers to all regions, in their order."""
    flip = regions.mirrored
    uv = np.array(hands.uv, dtype=np.float64)
    uv[flip, :, 0] *= -1
    joints = np.array(hands.joints, dtype=np.float64)
    joints[flip] = mirror_points(joints[flip])
    pose = None
    if hands.rotations is not None:
        pose = np.array(hands.rotations[:, 1:], dtype=np.float64)
        pose[flip] = mirror_matrices(pose[flip])
    angle = regions.rois[:, 3]
    turn = np.stack([np.cos(angle), np.sin(angle), -np.sin(angle), np.cos(angle)], -1)
    half = regions.rois[:, 2, None, None] / 2
    axes = axes_of(regions)
    covariance = None
    if hands.covariance is not None:
        mirrored = np.where(flip[:, None, None], np.diag([-1.0, 1, 1]), np.eye(3)) @ axes
        covariance = np.einsum(
            "nai,npaqb,nbj->npiqj", mirrored, hands.covariance, mirrored, optimize=True
        )
    return Answers(
        uv=regions.rois[:, None, :2] + half * (uv @ turn.reshape(-1, 2, 2)),
        joints=joints @ axes,
        pose=pose,
        betas=None if hands.betas is None else np.asarray(hands.betas, dtype=np.float64),
        uv_sigma=hands.uv_sigma,
        covariance=covariance,
        visible=hands.visible,
    )
