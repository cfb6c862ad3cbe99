"""From a labelled hand to what a network is trained on: a crop of a right hand and its truth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.data.samples import HandSample
from hand_mesh_ros.geometry.crop_axes import crop_axes
from hand_mesh_ros.geometry.crops import crop_matrix, invert_affine, transform_points, warp
from hand_mesh_ros.geometry.rotations import exp_so3, log_so3
from hand_mesh_ros.hand.layout import NUM_BETAS, NUM_JOINTS
from hand_mesh_ros.hand.mirror import mirror_axis_angle, mirror_points
from hand_mesh_ros.networks.landmarks import rois_from_landmarks
from hand_mesh_ros.training.recipes import Augmentation

Floats = NDArray[np.float32]
# Side of the region over the longest side of a hand's tight box, as in `evaluation.predict`.
_BOX_SCALE = 1.8
# In a sample's extras: landmarks (21, 2), pixels, that a network marked on a hand without labels.
FOUND = "found_uv"


class UnusableSample(ValueError):
    """A sample that lacks what training needs; the text names it and what is missing."""


class Example(TypedDict):
    """One right hand, in the axes of its crop (`geometry.crop_axes`); NaN is unknown.

    image (3, S, S) uint8; joints (21, 3) m relative to the wrist; uv (21, 2) -1..1 from edge to
    edge of the crop; rotations (16, 3, 3) total; betas (10,). Left hands are mirrored.
    """

    image: NDArray[np.uint8]
    joints: Floats
    uv: Floats
    rotations: Floats
    betas: Floats


@dataclass(frozen=True, eq=False)
class CropPlace:
    """Where a crop was taken: its ROI (1, 4), the matrix (1, 2, 3) from its pixels to the image's,

    and the rotation (3, 3) of the camera's axes into the crop's. Before a left hand's crop is
    mirrored.
    """

    roi: NDArray[np.float64]
    matrix: NDArray[np.float64]
    R_crop_camera: NDArray[np.float64]


def example_of(
    sample: HandSample,
    size: int,
    model_ids: frozenset[str],
    augmentation: Augmentation | None,
    rng: np.random.Generator,
) -> Example:
    """Crop and truth of a sample, about the region that its landmarks give.

    Only joints that are `counted` and finite have a truth, and where the hand is in space has no
    part in it. The region is that of the sample's box
    where landmarks of the palm are not known. MANO's parameters are taken if they belong to one of
    `model_ids`. Without `augmentation` the result does not depend on `rng`. Raises UnusableSample.
    """
    return placed_example(sample, size, model_ids, augmentation, rng)[0]


def placed_example(
    sample: HandSample,
    size: int,
    model_ids: frozenset[str],
    augmentation: Augmentation | None,
    rng: np.random.Generator,
) -> tuple[Example, CropPlace]:
    """The same, and where the crop was taken."""
    if sample.uv is None or sample.joints is None or sample.side is None:
        raise UnusableSample(f"{sample.name}: no joints, pixels or side")
    true_uv, true_joints = _counted(sample.uv, sample), _counted(sample.joints, sample)
    if not np.isfinite(true_uv).any():
        raise UnusableSample(f"{sample.name}: no joint's place in the image is known")
    crop, place = _cut(sample, size, augmentation, rng)
    matrix, R = place.matrix, place.R_crop_camera
    pixels = transform_points(invert_affine(matrix), true_uv[None])[0]
    uv = (2 * pixels + 1) / size - 1
    joints = (true_joints - true_joints[0]) @ R.T
    rotations, betas = _parameters(sample, model_ids, R)
    return _example(crop, sample.side == "left", joints, uv, rotations, betas), place


def unlabelled_example(
    sample: HandSample, size: int, augmentation: Augmentation | None, rng: np.random.Generator
) -> tuple[Example, CropPlace]:
    """A crop about the landmarks that found the hand (`FOUND`), which are no truth: that is NaN.

    Raises UnusableSample.
    """
    if sample.side is None:
        raise UnusableSample(f"{sample.name}: no side")
    crop, place = _cut(sample, size, augmentation, rng)
    joints, uv = np.full((21, 3), np.nan), np.full((21, 2), np.nan)
    rotations, betas = np.full((NUM_JOINTS, 3, 3), np.nan), np.full(NUM_BETAS, np.nan)
    return _example(crop, sample.side == "left", joints, uv, rotations, betas), place


def _example(
    crop: NDArray[np.uint8], left: bool, joints: NDArray[np.float64], uv: NDArray[np.float64],
    rotations: NDArray[np.float64], betas: NDArray[np.float64],
) -> Example:  # fmt: skip
    if left:
        crop, joints = crop[:, ::-1], mirror_points(joints)
        uv = uv * [-1.0, 1.0]
    return {
        "image": np.ascontiguousarray(crop.transpose(2, 0, 1)),
        "joints": joints.astype(np.float32),
        "uv": uv.astype(np.float32),
        "rotations": rotations.astype(np.float32),
        "betas": betas.astype(np.float32),
    }


def _cut(
    sample: HandSample, size: int, augmentation: Augmentation | None, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], CropPlace]:
    """The crop (size, size, 3), not mirrored yet, and its place."""
    if not sample.calibrated:
        raise UnusableSample(f"{sample.name}: intrinsics are not known")
    roi = _region(sample)
    if augmentation is not None:
        roi = _jittered(roi, augmentation, rng)
    R = crop_axes(sample.camera, roi)[0]
    if not np.isfinite(R).all():
        raise UnusableSample(f"{sample.name}: the hand is outside of what the lens shows")
    matrix = crop_matrix(roi, size)
    crop = warp(np.ascontiguousarray(sample.image), matrix, size)[0]
    if augmentation is not None:
        crop = _coloured(crop, augmentation, rng)
    return crop, CropPlace(roi, matrix, R)


def _counted(points: NDArray[np.float64], sample: HandSample) -> NDArray[np.float64]:
    """Points (21, D) of the joints to train with, NaN of the others."""
    known = np.isfinite(points).all(-1, keepdims=True)
    if sample.counted is not None:
        known = known & sample.counted[:, None]
    return np.where(known, points, np.nan)


def _region(sample: HandSample) -> NDArray[np.float64]:
    """Of the landmarks, counted or not; upright about the box where they do not say it."""
    marks = sample.extras.get(FOUND) if sample.uv is None else sample.uv
    if marks is not None:
        roi = rois_from_landmarks(marks)
        if np.isfinite(roi).all():
            return roi
    box = sample.joint_box if sample.box is None else sample.box
    corners = np.zeros((2, 2)) if box is None else np.asarray(box).reshape(2, 2)
    side = float(np.ptp(corners, axis=0).max())
    if not side > 0:
        raise UnusableSample(f"{sample.name}: neither box nor joints say where the hand is")
    return np.array([[*corners.mean(0), _BOX_SCALE * side, 0.0]])


def _parameters(
    sample: HandSample, model_ids: frozenset[str], R: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    mano = sample.mano
    if mano is None or mano.model_id not in model_ids:
        return np.full((NUM_JOINTS, 3, 3), np.nan), np.full(NUM_BETAS, np.nan)
    # `mirrored` parameters are the right model's already, about the camera's own mirror plane
    orient = mirror_axis_angle(mano.global_orient) if mano.mirrored else mano.global_orient
    pose = mirror_axis_angle(mano.hand_pose) if mano.mirrored else mano.hand_pose
    orient = log_so3(R @ exp_so3(np.asarray(orient, dtype=np.float64)))
    total = np.concatenate([orient, pose])
    if mano.side == "left":
        total = mirror_axis_angle(total)
    return exp_so3(total.reshape(NUM_JOINTS, 3)), np.asarray(mano.betas)


def _jittered(
    roi: NDArray[np.float64], how: Augmentation, rng: np.random.Generator
) -> NDArray[np.float64]:
    du, dv, ds, da = rng.standard_normal(4)
    side = roi[0, 2]
    move = [how.shift * side * du, how.shift * side * dv, 0.0, how.rotation * da]
    scaled = roi * [1, 1, np.exp(np.clip(how.scale * ds, -0.5, 0.5)), 1]
    return np.asarray(scaled + move)


def _coloured(
    crop: NDArray[np.uint8], how: Augmentation, rng: np.random.Generator
) -> NDArray[np.uint8]:
    gain = np.exp(how.gain * rng.standard_normal(3)).astype(np.float32)
    noise = how.noise * rng.standard_normal(crop.shape, dtype=np.float32)
    return np.clip(crop * gain + noise + 0.5, 0, 255).astype(np.uint8)
