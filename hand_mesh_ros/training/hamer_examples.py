"""From a labelled hand to what HaMeR is trained on: its crop, its augmentation, its truth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.data.samples import HandSample
from hand_mesh_ros.geometry.crop_axes import crop_axes
from hand_mesh_ros.geometry.crop_camera import CROP
from hand_mesh_ros.geometry.crops import invert_affine, transform_points, warp
from hand_mesh_ros.geometry.published_crops import BoxRule, box_squares
from hand_mesh_ros.geometry.rotations import exp_so3
from hand_mesh_ros.hand.layout import NUM_BETAS, NUM_JOINTS
from hand_mesh_ros.hand.mirror import mirror_axis_angle, mirror_matrices, mirror_points
from hand_mesh_ros.perception.cut_crops import matrices_of
from hand_mesh_ros.perception.hamer_network import PUBLISHED
from hand_mesh_ros.training.examples import UnusableSample
from hand_mesh_ros.training.recipes import Augmentation

Floats = NDArray[np.float32]
_TURNED = 0.6  # share of crops that are turned


class HamerExample(TypedDict):
    """One right hand as HaMeR sees it, left ones mirrored; NaN is unknown.

    image (3, 256, 256) uint8; uv (21, 2) -1..1 in the published convention, and confidence (21,)
    of them; joints (21, 3) m relative to the wrist; rotations (16, 3, 3) total; betas (10,).
    """

    image: NDArray[np.uint8]
    uv: Floats
    confidence: Floats
    joints: Floats
    rotations: Floats
    betas: Floats


@dataclass(frozen=True)
class MakeHamerExample:
    """From a sample and its number to an example; can be sent to worker processes.

    box_scale: side of the square over the longest side of a sample's box.
    """

    model_ids: frozenset[str]
    augmentation: Augmentation | None
    seed: int
    box_scale: float = 2.0

    def __call__(self, sample: HandSample, number: int) -> HamerExample:
        rng = np.random.default_rng([self.seed, number])
        return hamer_example_of(sample, self.model_ids, self.augmentation, rng, self.box_scale)


def hamer_example_of(
    sample: HandSample,
    model_ids: frozenset[str],
    augmentation: Augmentation | None,
    rng: np.random.Generator,
    box_scale: float = 2.0,
) -> HamerExample:
    """Crop and truth of a sample, about its box or that of its joints.

    In the axes of the crop where the camera is calibrated, or else in the camera's own, turned
    with the crop. MANO's parameters are taken if they belong to one of `model_ids`. Without
    `augmentation` the result does not depend on `rng`. Raises UnusableSample.
    """
    if sample.uv is None or sample.side is None:
        raise UnusableSample(f"{sample.name}: no joints in the image, or no side")
    box = sample.joint_box if sample.box is None else sample.box
    if box is None or not np.isfinite(box).all():
        raise UnusableSample(f"{sample.name}: neither box nor joints say where the hand is")
    centre, side = box_squares(box, BoxRule(box_scale, expanded=False))
    if not side[0] > 0:
        raise UnusableSample(f"{sample.name}: its box is empty")
    left = sample.side == "left"
    roi = np.concatenate([centre, side[:, None], [[0.0]]], axis=1)
    if augmentation is not None:
        roi = jittered(roi, augmentation, rng)
    R = _axes(sample, roi)
    matrix = matrices_of(roi, np.array([left]), PUBLISHED)
    crop = warp(np.ascontiguousarray(sample.image), matrix, CROP, "zero")[0]
    if augmentation is not None:
        crop = coloured(crop, augmentation, rng)
    counted = np.asarray(np.isfinite(sample.uv).all(-1))
    if sample.counted is not None:
        counted &= sample.counted
    uv = 2 * transform_points(invert_affine(matrix), sample.uv[None])[0] / CROP - 1
    confidence = sample.extras.get("confidence", np.ones(len(uv)))
    rotations, betas = _parameters(sample, model_ids, R)
    return {
        "image": np.ascontiguousarray(crop.transpose(2, 0, 1)),
        "uv": np.where(counted[:, None], uv, np.nan).astype(np.float32),
        "confidence": np.where(counted, confidence, 0.0).astype(np.float32),
        "joints": _joints(sample, R, left).astype(np.float32),
        "rotations": (mirror_matrices(rotations) if left else rotations).astype(np.float32),
        "betas": betas.astype(np.float32),
    }


def jittered(
    roi: NDArray[np.float64], how: Augmentation, rng: np.random.Generator
) -> NDArray[np.float64]:
    """A square (1, 4) as HaMeR's training changes it.

    Normal numbers, clipped at one deviation (at two for rotations, of which two fifths are left
    out): the side is 1 + `scale` times one, the centre moves by `shift` sides.
    """
    ds, du, dv = np.clip(rng.standard_normal(3), -1, 1)
    turn = how.rotation * np.clip(rng.standard_normal(), -2, 2) * (rng.random() <= _TURNED)
    side = roi[0, 2]
    change = [how.shift * side * du, how.shift * side * dv, how.scale * side * ds, turn]
    return np.asarray(roi + change)


def coloured(
    crop: NDArray[np.uint8], how: Augmentation, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Each channel brighter or darker by up to `gain`; then noise."""
    gain = rng.uniform(1 - how.gain, 1 + how.gain, 3).astype(np.float32)
    noise = how.noise * rng.standard_normal(crop.shape, dtype=np.float32) if how.noise else 0.0
    return np.clip(crop * gain + noise, 0, 255).astype(np.uint8)


def _axes(sample: HandSample, roi: NDArray[np.float64]) -> NDArray[np.float64]:
    if not sample.calibrated:
        return np.asarray(exp_so3(np.array([0.0, 0.0, -roi[0, 3]])))
    R = crop_axes(sample.camera, roi)[0]
    if not np.isfinite(R).all():
        raise UnusableSample(f"{sample.name}: the hand is outside of what the lens shows")
    return R


def _joints(sample: HandSample, R: NDArray[np.float64], left: bool) -> NDArray[np.float64]:
    if sample.joints is None:
        return np.full((21, 3), np.nan)
    known = np.asarray(np.isfinite(sample.joints).all(-1))
    if sample.counted is not None and sample.calibrated:
        known &= sample.counted
    joints = np.where(known[:, None], sample.joints, np.nan)
    turned = (joints - joints[0]) @ R.T
    return mirror_points(turned) if left else turned


def _parameters(
    sample: HandSample, model_ids: frozenset[str], R: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Total rotations (16, 3, 3) in the crop's axes, of the hand's own side, and betas."""
    mano = sample.mano
    if mano is None or mano.model_id not in model_ids:
        return np.full((NUM_JOINTS, 3, 3), np.nan), np.full(NUM_BETAS, np.nan)
    total = np.concatenate([mano.global_orient, mano.hand_pose])
    # `mirrored` parameters are the right model's already, about the camera's own mirror plane
    total = mirror_axis_angle(total) if mano.mirrored else total
    rotations = exp_so3(total.reshape(NUM_JOINTS, 3))
    rotations[0] = R @ rotations[0]
    return rotations, np.asarray(mano.betas)
