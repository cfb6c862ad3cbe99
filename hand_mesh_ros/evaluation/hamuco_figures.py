"""HaMuCo on stores of instants, beside what the landmark network's answers are worth by themselves.

All errors are PA-MPJPE of the 21 joints of the hand model, mm (rotations only, no reflection).
Landmarks that were only triangulated have no joints: they are judged by where the landmarks are on
the true hand, which is the kinder figure.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray

from hand_mesh_ros.evaluation.metrics.alignment import similarity_aligned
from hand_mesh_ros.geometry.triangulation import triangulate
from hand_mesh_ros.hand.model import load_hand_model
from hand_mesh_ros.networks.hamuco import Hamuco
from hand_mesh_ros.networks.mano_points import ManoPoints
from hand_mesh_ros.networks.view_fusion import fuse, relative_rotations
from hand_mesh_ros.perception.estimate import HandViews
from hand_mesh_ros.training.instants import InstantStore, crop_cameras, crop_poses
from hand_mesh_ros.training.pseudo_labels import (
    EVIDENCE_FIELDS,
    NETWORK_WORLD,
    PLACE_FIELDS,
    instant_views,
    label_fit,
    landmark_marks,
    network_marks,
)

Array = NDArray[np.float64]
Fields = dict[str, NDArray[np.generic]]
Progress = Callable[[int, int, str], None]

FIELDS = (*PLACE_FIELDS, *EVIDENCE_FIELDS, "joints", "rotations", "betas", "visible_share")
_BATCH = 32
_SURE_SIDE = 20.0


@dataclass(frozen=True, eq=False)
class Errors:
    """mm. Of views (I, V), NaN where there is none: `landmarks`, the landmark backend's; `world`,

    the landmark network's own metric landmarks, `single`, `cross`. By the number of views, a
    column each from one on (I, V), mean over the choices of so many views: `multi`, `triangulated`
    (from two). Of all views (I,): `fitted`, the landmark backend's, and `solved`, the same fit told
    the network's answers too, as the backend does it. `shown` (I,): mean share of the hand that
    the views see.
    """

    landmarks: Array
    world: Array
    single: Array
    cross: Array
    multi: Array
    triangulated: Array
    fitted: Array
    solved: Array
    shown: Array


def errors_of(
    network: Hamuco, store: InstantStore, progress: Progress | None = None, all_of_it: bool = True
) -> Errors:
    """All errors of all instants; of views that are not valid nothing is asked.

    all_of_it: False leaves out, NaN, what is not the network's, and any part of the views.
    """
    network.eval()
    parts = []
    for begin in range(0, len(store), _BATCH):
        rows = range(begin, min(begin + _BATCH, len(store)))
        parts.append(_batch(network, store.read(rows, FIELDS), all_of_it))
        if progress is not None:
            progress(rows.stop, len(store), f"hamuco on {store.folder.name}")
    names = parts[0].keys()
    return Errors(**{name: np.concatenate([part[name] for part in parts]) for name in names})


def pa_mm(predicted: Array, true: Array) -> Array:
    """Mean over joints (..., 21, 3) after the best similarity, (...,); NaN without a hand."""
    p, t = (np.asarray(x, np.float64).reshape(-1, 21, 3) for x in (predicted, true))
    distance = np.linalg.norm(similarity_aligned(p, t, proper=True) - t, axis=-1)
    whole = np.where(np.isfinite(p).all((1, 2)), 1e3 * distance.mean(-1), np.nan)
    return np.asarray(whole.reshape(np.shape(predicted)[:-2]))


def _batch(network: Hamuco, fields: Fields, all_of_it: bool) -> dict[str, Array]:
    valid = np.asarray(fields["valid"])
    T, focal = crop_poses(fields)
    true = np.asarray(fields["joints"], np.float64)
    single, cross, together = _answers(network, fields, all_of_it)
    errors = {
        "single": pa_mm(single, true),
        "cross": pa_mm(cross, true),
        "shown": np.where(valid, fields["visible_share"], 0).sum(1) / valid.sum(1),
    }
    errors = {k: np.where(valid, v, np.nan) if v.ndim == 2 else v for k, v in errors.items()}
    unasked = [np.full(len(true), np.nan)]
    multi = [[pa_mm(points[:, choice[0]], true[:, choice[0]]) for choice, points in some]
             or unasked for some in together]  # fmt: skip
    errors["multi"] = np.stack([np.mean(each, axis=0) for each in multi], axis=1)
    blank = np.full(valid.shape, np.nan)
    if not all_of_it:
        errors |= dict.fromkeys(("landmarks", "world", "triangulated"), blank)
        return errors | dict.fromkeys(("fitted", "solved"), blank[:, 0])
    errors["solved"] = _solved(network, fields, T, focal, true)
    return errors | _baselines(fields, T, focal, true)


def _solved(network: Hamuco, fields: Fields, T: Array, focal: Array, true: Array) -> Array:
    seen = instant_views(fields, network_marks(network, fields), T, focal)
    hands = [HandViews(tuple(own), None, _SURE_SIDE) for own in seen]
    out = np.full((len(true), 21, 3), np.nan)
    first = np.argmax(fields["valid"], axis=1)
    for i, estimate in enumerate(label_fit(NETWORK_WORLD).estimate(hands)):
        if estimate is not None:
            out[i] = estimate.joints @ T[i, first[i], :3, :3].T
    return pa_mm(out, true[np.arange(len(true)), first])


def _answers(
    network: Hamuco, fields: Fields, all_of_it: bool
) -> tuple[Array, Array, list[list[tuple[tuple[int, ...], Array]]]]:
    """Single and cross joints (I, V, 21, 3) of all views, and for each number of views the fused

    joints of each choice of so many, in the axes of all views of it.
    """

    def tensor(array: Array) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array, np.float32))

    inputs = {name: tensor(fields[name]) for name in network.inputs}  # type: ignore[arg-type]
    axes, field, centres = map(torch.from_numpy, crop_cameras(fields))
    mask = torch.from_numpy(np.array(fields["valid"], dtype=bool))
    views = mask.shape[1]
    together: list[list[tuple[tuple[int, ...], Array]]] = []
    with torch.inference_mode():
        single, cross = network(inputs, mask, axes, field, None, centres)
        for number in range(1, views + 1):
            some: list[tuple[tuple[int, ...], Array]] = []
            wanted = all_of_it or number in (1, views)
            for choice in combinations(range(views), number) if wanted else ():
                if number == 1:
                    some.append((choice, _double(single.points.joints)))
                    continue
                kept = torch.zeros_like(mask)
                kept[:, list(choice)] = mask[:, list(choice)]
                said = cross
                if number < views:
                    _, said = network(inputs, kept, axes, field, None, centres)
                R = relative_rotations(axes)
                joints = fuse(said.points.joints, kept, R, said.sure.mean(-1))
                some.append((choice, _double(joints)))
            together.append(some)
    return _double(single.points.joints), _double(cross.points.joints), together


def _baselines(fields: Fields, T: Array, focal: Array, true: Array) -> dict[str, Array]:
    """The landmark backend on one view and on all, and triangulation of its landmarks."""
    valid, marks, backend = np.asarray(fields["valid"]), landmark_marks(fields), label_fit()
    seen = instant_views(fields, marks, T, focal)
    layer = ManoPoints(load_hand_model())
    flat = [torch.from_numpy(np.array(fields[n])).float().flatten(0, 1)
            for n in ("rotations", "betas")]  # fmt: skip
    true_marks = _double(layer(*flat).marks).reshape(true.shape)
    count, views = valid.shape
    landmarks, fitted = np.full(true.shape, np.nan), np.full((count, 21, 3), np.nan)
    triangulated = np.full((count, views), np.nan)
    first = np.argmax(valid, axis=1)
    for i, own in enumerate(seen):
        hands = [HandViews((view,), None, _SURE_SIDE) for view in own]
        whole, *each = backend.estimate([HandViews(tuple(own), None, _SURE_SIDE), *hands])
        R = T[i, first[i], :3, :3]
        if whole is not None:
            fitted[i] = whole.joints @ R.T
        for view, one in zip(own, each, strict=True):
            if one is not None:
                landmarks[i, view.index] = one.joints @ T[i, view.index, :3, :3].T
        for number in range(2, len(own) + 1):
            triangulated[i, number - 1] = np.mean(
                [
                    pa_mm(
                        triangulate([v.camera for v in some], np.stack([v.uv for v in some]),
                                    np.stack([v.sigma for v in some])) @ R.T,
                        true_marks[i, first[i]],
                    )
                    for some in combinations(own, number)
                ]
            )  # fmt: skip
    world = pa_mm(np.asarray(fields["world"], np.float64), true)
    one_view = pa_mm(landmarks, true)
    # where no fit is believable the landmark network's own answer is what there is
    one_view = np.where(np.isfinite(one_view), one_view, world)
    at_first = true[np.arange(count), first]
    return {
        "landmarks": np.where(valid, one_view, np.nan),
        "world": np.where(valid, world, np.nan),
        "triangulated": triangulated,
        "fitted": pa_mm(fitted, at_first),
    }


def _double(x: torch.Tensor) -> Array:
    return x.double().numpy()
