"""SiMA-Hand's networks on a store of instants: the paper's four errors of every view."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from hand_mesh_ros.evaluation.metrics.alignment import similarity_aligned
from hand_mesh_ros.evaluation.metrics.position import by_sample, distances
from hand_mesh_ros.hand.model import HandModel
from hand_mesh_ros.networks.mano_layer import ManoLayer
from hand_mesh_ros.networks.sima import Sima, SimaHands
from hand_mesh_ros.training.instants import InstantStore
from hand_mesh_ros.training.sima_module import crop_axes_of, errors_of, truth_of

Array = NDArray[np.float64]
Progress = Callable[[int, int, str], None]

ERRORS: Final = ("mpjpe", "mpvpe", "pa_mpjpe", "pa_mpvpe")
BINS: Final = (0.0, 0.5, 0.75, 0.9, 1.0001)
"""Visible shares between which views are put together; the paper's lower half has few of ours."""
_TRUTH: Final = ("joints", "uv", "rotations", "betas", "valid", "visible_share")
_PLACE: Final = ("T_camera_world", "R_crop_camera", "left")
_BATCH: Final = 25


@dataclass(frozen=True, eq=False)
class ViewErrors:
    """Of N views: `errors` (N,) mm by name, as `ERRORS`; `shown` (N,): their visible shares."""

    errors: Mapping[str, Array]
    shown: Array

    def mean(self, name: str) -> float:
        return float(self.errors[name].mean())

    def by_shown(self, name: str) -> Array:
        """Means of the views between two of `BINS`, (B,); NaN of none."""
        place = np.digitize(self.shown, BINS) - 1
        return np.array(
            [
                self.errors[name][place == k].mean() if (place == k).any() else np.nan
                for k in range(len(BINS) - 1)
            ]
        )

    def counts(self) -> NDArray[np.int_]:
        """Views between two of `BINS`, (B,)."""
        return np.histogram(self.shown, BINS)[0]


def store_errors(
    network: Sima, model: HandModel, store: InstantStore, views: int | None = None, seed: int = 0
) -> ViewErrors:
    """Errors of all valid views of a store, which must have the evidence or pictures it reads.

    views: so many of each instant together, taken at random, each of which counts; None: all.
    """
    layer = ManoLayer(model)
    fields = tuple(dict.fromkeys((*network.reads, *_TRUTH, *_PLACE)))
    rng = np.random.default_rng(seed)
    parts: list[Mapping[str, Array]] = []
    shown = []
    for first in range(0, len(store), _BATCH):
        rows = range(first, min(first + _BATCH, len(store)))
        batch = {k: torch.from_numpy(v) for k, v in store.read(rows, fields).items()}
        batch = {k: v.float() if v.is_floating_point() else v for k, v in batch.items()}
        mask = batch["valid"]
        if views is not None:
            mask = torch.from_numpy(_some(mask.numpy(), views, rng))
        if not mask.any():
            continue
        with torch.inference_mode():
            hands: SimaHands = network.together(batch, mask, crop_axes_of(batch))
            parts.append(errors_of(hands, *truth_of(batch, mask, layer)))
        shown.append(batch["visible_share"][mask].double().numpy())
    return ViewErrors(
        {name: np.concatenate([part[name] for part in parts]) for name in ERRORS},
        np.concatenate(shown),
    )


def landmark_errors(store: InstantStore) -> ViewErrors:
    """The landmark network's own metric landmarks against the joints; it has no mesh (NaN)."""
    valid = store.whole("valid")
    world, joints = (store.whole(name)[valid].astype(np.float64) for name in ("world", "joints"))
    aligned = similarity_aligned(world, joints, proper=True)
    unknown = np.full(len(world), np.nan)
    errors = {
        "mpjpe": 1e3 * by_sample(distances(world - world[:, :1], joints)),
        "pa_mpjpe": 1e3 * by_sample(distances(aligned, joints)),
        "mpvpe": unknown,
        "pa_mpvpe": unknown,
    }
    return ViewErrors(errors, store.whole("visible_share")[valid].astype(np.float64))


def _some(valid: NDArray[np.bool_], views: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Up to `views` of the valid ones of each row, at random."""
    order = np.where(valid, rng.random(valid.shape), 2.0).argsort(1).argsort(1)
    return np.asarray(valid & (order < views))
