"""AMVUR's answers to a store's views, beside the truth, as arrays to be judged."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hand_mesh_ros.evaluation.metrics.alignment import similarity_aligned
from hand_mesh_ros.evaluation.metrics.uncertainty import nees
from hand_mesh_ros.networks.amvur import AmvurNetwork
from hand_mesh_ros.networks.amvur_calibration import temperatures
from hand_mesh_ros.networks.amvur_prior import evidence_cues
from hand_mesh_ros.perception.fuse_robust import fuse_robust
from hand_mesh_ros.training.instants import InstantStore, crop_poses

Array = NDArray[np.float64]
_BATCH = 16  # instants
_MOST_COMMON = 0.03


@dataclass(frozen=True, eq=False)
class Answers:
    """N views, in the axes of their crops, metres relative to the wrist.

    joints, prior and true (N, 21, 3); covariance (N, 21, 3, 3) as calibrated; uv and true_uv
    (N, 21, 2) with uv_sigma (N, 21); visible (N, 21) as told, visibility as it is (NaN: not said);
    shown (N,): visible share of the hand; presence (N,). axes (N, 3, 3): world to crop, of the
    mirrored world for left hands. instant (N,).
    """

    joints: Array
    prior: Array
    true: Array
    covariance: Array
    uv: Array
    true_uv: Array
    uv_sigma: Array
    visible: Array
    visibility: Array
    shown: Array
    presence: Array
    axes: Array
    instant: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.joints)

    def of(self, which: NDArray[np.bool_]) -> Answers:
        """Some of them."""
        return Answers(**{f.name: getattr(self, f.name)[which] for f in fields(self)})

    def and_(self, other: Answers) -> Answers:
        """These and then the others, whose instants are others."""
        after = int(self.instant.max()) + 1
        return Answers(**{
            f.name: np.concatenate([
                getattr(self, f.name),
                getattr(other, f.name) + (after if f.name == "instant" else 0),
            ])
            for f in fields(self)
        })  # fmt: skip

    @property
    def errors(self) -> Array:
        """(N, 20, 3) of the joints beyond the wrist."""
        return (self.joints - self.true)[:, 1:]

    @property
    def pa(self) -> Array:
        """Mean error (N,) m after a similarity without reflection."""
        moved = similarity_aligned(self.joints, self.true, proper=True)
        return np.asarray(np.linalg.norm(moved - self.true, axis=-1).mean(-1))


def answers_of(
    network: AmvurNetwork, store: InstantStore, limit: int | None = None
) -> Answers:
    """Of all valid views of a store, or of its first `limit` instants."""
    maps = network.settings.maps
    evidence = tuple(dict.fromkeys((*maps, "coarse", "landmarks", "world")))
    truth = ("joints", "uv", "visibility", "visible_share", "presence")
    places = ("K", "T_camera_world", "R_crop_camera", "crop_matrix", "left")
    parts: list[Answers] = []
    count = len(store) if limit is None else min(limit, len(store))
    for first in range(0, count, _BATCH):
        rows = np.arange(first, min(first + _BATCH, count))
        read = store.read(rows, [*evidence, *truth, *places, "valid"])
        valid = read["valid"]
        T, focal = crop_poses(read)
        seen = {name: torch.from_numpy(read[name][valid]).float() for name in evidence}
        told = torch.from_numpy(focal[valid]).float()
        with torch.inference_mode():
            hands = network(evidence_cues(seen, told, maps))
            known = network.calibrated(hands)
        made = (hands.joints, hands.base.points[:, :21], hands.uv, *known)
        joints, prior, uv, covariance, uv_sigma, visible = (
            x.numpy().astype(np.float64) for x in made
        )
        true = {name: read[name][valid].astype(np.float64) for name in truth}
        parts.append(Answers(
            joints=joints, prior=prior, true=true["joints"], covariance=covariance, uv=uv,
            true_uv=true["uv"], uv_sigma=uv_sigma, visible=visible,
            visibility=true["visibility"], shown=true["visible_share"],
            presence=true["presence"], axes=T[valid][:, :3, :3],
            instant=np.repeat(rows[:, None], valid.shape[1], 1)[valid],
        ))  # fmt: skip
    return Answers(**{
        f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Answers)
    })  # fmt: skip


@dataclass(frozen=True, eq=False)
class Fusion:
    """M instants in several views: errors (M, 20) m of the plain mean of views, of each view in

    the mean, and of the fused joints, which have `nees` (M, 20); hidden (M, 20): some view does
    not see the joint; shown (M,): share of the hand that is seen in the mean view.
    """

    mean: Array
    single: Array
    fused: Array
    nees: Array
    hidden: Array
    shown: Array


def fusion(answers: Answers, common: float) -> Fusion:
    """Views of one instant fused by their covariances, as `perception.fuse_robust` does it.

    In the world's axes; `common`: one sigma, m, of what all views get wrong alike.
    """
    columns: dict[str, list[Any]] = {f.name: [] for f in fields(Fusion)}
    for instant in np.unique(answers.instant):
        some = answers.of(answers.instant == instant)
        R = some.axes
        points = (some.joints @ R)[:, 1:]
        true = (some.true @ R)[:, 1:].mean(0)
        spread = np.einsum("nji,npjk,nkl->npil", R, some.covariance[:, 1:], R)
        found, covariance = fuse_robust(points, spread, common)
        columns["mean"].append(np.linalg.norm(points.mean(0) - true, axis=-1))
        columns["single"].append(np.linalg.norm(points - true, axis=-1).mean(0))
        columns["fused"].append(np.linalg.norm(found - true, axis=-1))
        columns["nees"].append(nees(found - true, covariance))
        columns["hidden"].append(np.asarray(some.visibility[:, 1:] < 0.5).any(0))
        columns["shown"].append(np.asarray(some.shown.mean()))
    return Fusion(**{name: np.stack(values) for name, values in columns.items()})


def calibrate(network: AmvurNetwork, store: InstantStore, limit: int | None = None) -> None:
    """Measure the network's temperatures on hands that it was not trained on, and set them."""
    calibration = network.calibration
    calibration.joints.fill_(1)
    calibration.places.fill_(1)
    found = answers_of(network, store, limit)
    squared = np.full(found.visible.shape, np.nan)
    squared[:, 1:] = nees(found.errors, found.covariance[:, 1:])
    seen = found.visible > 0.5
    calibration.joints.copy_(torch.from_numpy(temperatures(squared, seen, 3)))
    of_places = np.square((found.uv - found.true_uv) / found.uv_sigma[..., None]).sum(-1)
    calibration.places.copy_(torch.from_numpy(temperatures(of_places, seen, 2)))
    again = answers_of(network, store, limit)
    calibration.common.fill_(common_mode(again))


def common_mode(answers: Answers) -> float:
    """One sigma, m, of what views get wrong alike: fused joints' mean NEES is 3 with it."""
    if len(np.unique(answers.instant)) == len(answers):
        return 0.0
    low, high = 0.0, _MOST_COMMON
    for _ in range(12):
        middle = 0.5 * (low + high)
        too_sure = np.nanmean(fusion(answers, middle).nees) > 3
        low, high = (middle, high) if too_sure else (low, middle)
    return high
