"""Does a hand's silhouette improve AMVUR's answer to a single picture, and by which gradients.

Measured with the mask that a robot has, which is the network's, and with the true one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from hand_mesh_ros.evaluation.amvur_movable import NUMBERS, MovableHands, Placed
from hand_mesh_ros.evaluation.amvur_outcomes import Outcome, Row, standard_error
from hand_mesh_ros.evaluation.amvur_silhouette import (
    AMODAL,
    STEPS,
    Gradients,
    Mask,
    covered,
    inside_picture,
    network_mask,
    refined,
    true_mask,
)
from hand_mesh_ros.evaluation.metrics.alignment import similarity_aligned
from hand_mesh_ros.hand.model import HandModel, load_hand_model
from hand_mesh_ros.networks.amvur import AmvurNetwork
from hand_mesh_ros.networks.amvur_prior import evidence_cues
from hand_mesh_ros.networks.evidence import Evidence
from hand_mesh_ros.networks.hand_mask import HandMask, load_hand_mask
from hand_mesh_ros.networks.mano_layer import ManoLayer
from hand_mesh_ros.training.instants import InstantStore, crop_poses

Array = NDArray[np.float64]
Progress = Callable[[int, int, str], None]

ANSWER: Final = "the answer"
OURS, TRUTH = "the network's mask", "the true mask"
HEADLINE, BEST = f"{OURS}, outlines", f"{TRUTH}, outlines"
VARIANTS: Final[Mapping[str, tuple[str, Gradients]]] = {
    f"{OURS}, insides": (OURS, "inside"),
    HEADLINE: (OURS, "outline"),
    f"{TRUTH}, insides": (TRUTH, "inside"),
    BEST: (TRUTH, "outline"),
}
_BATCH = 8  # instants
_PICTURE = (256, 256)  # pixels of the renders that stores are made of
_EVIDENCE = ("fine", "middle", "coarse", "landmarks", "world")
_FIELDS = (
    *_EVIDENCE, "joints", "owner", "image", "K", "T_camera_world", "R_crop_camera", "crop_matrix",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Found:
    """P hands and how good they are: ``iou`` (P,) of their silhouettes with the whole hand's, 0..1,

    within the picture, what covers the hand or not; ``pa`` (P,) and ``mpjpe`` (P,) of the joints,
    m, after a similarity and relative to the wrist. ``uv`` (P, V, 2) and ``depth`` (P, V), see
    `Placed`.
    """

    iou: Array
    pa: Array
    mpjpe: Array
    uv: Array
    depth: Array


@dataclass(frozen=True, eq=False)
class Silhouettes:
    """P pictures (P, 112, 112, 3) with the truth (P, S, S) of the whole hand within the picture,

    the ``masks`` by name, and what was ``found`` by `ANSWER` and `VARIANTS`. ``instant`` (P,):
    pictures of the same one show the same hand.
    """

    images: NDArray[np.uint8]
    truth: NDArray[np.bool_]
    masks: Mapping[str, Mask]
    found: Mapping[str, Found]
    instant: NDArray[np.int64]

    def row(self, name: str) -> Row:
        """Means; changes from the answer, with standard errors over hands: views are akin."""
        ours, before = self.found[name], self.found[ANSWER]
        row = {
            "iou": 100 * ours.iou.mean(),
            "pa_mm": 1e3 * ours.pa.mean(),
            "mpjpe_mm": 1e3 * ours.mpjpe.mean(),
        }
        changes = {"iou": 100 * (ours.iou - before.iou), "pa": 1e3 * (ours.pa - before.pa)}
        for key, change in changes.items():
            known = name != ANSWER
            row[f"{key}_change"] = change.mean() if known else np.nan
            row[f"{key}_change_se"] = standard_error(self._by_hand(change)) if known else np.nan
        return {key: float(value) for key, value in row.items()}

    def _by_hand(self, values: Array) -> Array:
        _, which, count = np.unique(self.instant, return_inverse=True, return_counts=True)
        return np.asarray(np.bincount(which, values) / count)


def silhouette_claim(measured: Silhouettes) -> Outcome:
    """The rule of the reference's section 15, of the mask that a robot has."""
    rows = {name: measured.row(name) for name in (ANSWER, *VARIANTS)}
    before, after = rows[ANSWER], rows[HEADLINE]
    return Outcome(
        "A silhouette's gradients help",
        "by outlines, to the network's mask: 2D IoU up, PA-MPJPE unchanged or better",
        after["iou"] > before["iou"] and after["pa_mm"] <= before["pa_mm"],
        rows,
    )


def measure_silhouettes(
    network: AmvurNetwork, store: InstantStore, progress: Progress, limit: int | None = None,
    steps: int = STEPS,
) -> Silhouettes:  # fmt: skip
    """Of all valid views of a store, each by itself, or of its first ``limit`` instants.

    Raises ModuleNotFoundError without DEODR.
    """
    model, masks = load_hand_model(), load_hand_mask()
    layer = ManoLayer(model)
    count = len(store) if limit is None else min(limit, len(store))
    firsts = range(0, count, _BATCH)
    total = len(firsts) * len(VARIANTS) * steps
    done = 0

    def tick() -> None:
        nonlocal done
        done += 1
        progress(done, total, "silhouettes")

    parts = [
        _measured(
            network, layer, masks, model, store, np.arange(first, min(first + _BATCH, count)),
            tick, steps,
        )
        for first in firsts
    ]  # fmt: skip
    return _together(parts)


def _measured(
    network: AmvurNetwork, layer: ManoLayer, masks: HandMask, model: HandModel,
    store: InstantStore, instants: NDArray[np.int64], tick: Callable[[], None], steps: int,
) -> Silhouettes:  # fmt: skip
    read = store.read(instants, [*_FIELDS, "valid", "left"])
    valid = read["valid"]
    _, focal = crop_poses(read)
    view = {name: read[name][valid] for name in _FIELDS}
    left = np.broadcast_to(read["left"][:, None], valid.shape)[valid]
    seen = {name: torch.from_numpy(view[name]).float() for name in _EVIDENCE}
    told = torch.from_numpy(focal[valid]).float()
    hands = MovableHands(network, layer, evidence_cues(seen, told, network.settings.maps))
    inside = inside_picture(view["crop_matrix"], left, *_PICTURE)
    evidence = Evidence(*(view[name] for name in _EVIDENCE), *[np.zeros(0)] * 2)
    known = {
        OURS: network_mask(masks.probability(evidence), inside, hands),
        TRUTH: true_mask(view["owner"], inside),
    }
    truth = inside & (view["owner"] >= AMODAL)
    joints = view["joints"].astype(np.float64)

    def judged(numbers: torch.Tensor) -> Found:
        with torch.no_grad():
            placed = hands(numbers)
        return _judged(placed, joints, truth, inside, model)

    found = {ANSWER: judged(torch.zeros(len(hands), NUMBERS))}
    for name, (mask, gradients) in VARIANTS.items():
        found[name] = judged(refined(hands, known[mask], model.faces, gradients, tick, steps))
    instant = np.broadcast_to(instants[:, None], valid.shape)[valid]
    return Silhouettes(view["image"], truth, known, found, instant)


def _judged(
    placed: Placed, joints: Array, truth: NDArray[np.bool_], inside: NDArray[np.bool_],
    model: HandModel,
) -> Found:  # fmt: skip
    shown = covered(placed, model.faces) & inside
    both, either = ((op(shown, truth)).sum((1, 2)) for op in (np.logical_and, np.logical_or))
    told = placed.joints.double().numpy()
    moved = similarity_aligned(told, joints, proper=True)
    return Found(
        iou=both / np.maximum(either, 1),
        pa=np.linalg.norm(moved - joints, axis=-1).mean(1),
        mpjpe=np.linalg.norm(told - joints, axis=-1).mean(1),
        uv=placed.uv.double().numpy(),
        depth=placed.depth.double().numpy(),
    )


def _together(parts: Sequence[Silhouettes]) -> Silhouettes:
    def joined(some: Sequence[Found]) -> Found:
        columns = {f.name: [getattr(x, f.name) for x in some] for f in fields(Found)}
        return Found(**{name: np.concatenate(values) for name, values in columns.items()})

    return Silhouettes(
        images=np.concatenate([part.images for part in parts]),
        truth=np.concatenate([part.truth for part in parts]),
        masks={
            name: Mask(*(np.concatenate([p.masks[name][k] for p in parts]) for k in (0, 1)))
            for name in (OURS, TRUTH)
        },
        found={name: joined([p.found[name] for p in parts]) for name in parts[0].found},
        instant=np.concatenate([part.instant for part in parts]),
    )
