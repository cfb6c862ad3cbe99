"""Runs a backend on the samples of a benchmark: images in, predictions as arrays out."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.evaluation.benchmarks import BenchmarkError
from hand_mesh_ros.evaluation.records import Predictions, Sample
from hand_mesh_ros.geometry.cameras import project
from hand_mesh_ros.geometry.rotations import transform_points
from hand_mesh_ros.hand.conventions import to_openpose
from hand_mesh_ros.hand.layout import TIP_SETS
from hand_mesh_ros.hand.model import HandModel
from hand_mesh_ros.perception.estimate import Backend, HandViews
from hand_mesh_ros.perception.observe import LandmarkObserver
from hand_mesh_ros.perception.surface import mesh_vertices
from hand_mesh_ros.types import Frame, HandEstimate, Side, View

Array = NDArray[np.float64]
Progress = Callable[[int, int, str], None]

_SURE = 20.0  # log-odds of a side that is given
_BATCH = 16
MANO_VERTICES = 778


@dataclass(frozen=True)
class PredictSettings:
    """What a backend is told and what it must find itself.

    ``side``: given by the sample, as papers do, or estimated. ``boxes``: the sample's box, or
    found by the detector; a box that leads nowhere falls back to the detector. ``views``: one, or
    all cameras of a group together. ``box_scale``: region of interest over the longest side of
    the tight box. ``others``: each camera's hand from all cameras but that one, so that its pixel
    error is that of leave-one-view-out. ``joints``: those of the hand model, or regressed from
    the predicted mesh with the tips of one of `hand.layout.TIP_SETS`; FreiHAND's truths are the
    latter (``freihand``), worth about half a millimetre of PA-MPJPE with MANO's mesh.
    """

    side: Literal["given", "estimated"] = "given"
    boxes: Literal["given", "detected"] = "given"
    views: Literal["one", "all", "others"] = "one"
    joints: str = "model"
    box_scale: float = 1.8


def predict(
    samples: Sequence[Sample],
    backend: Backend,
    observer: LandmarkObserver,
    models: Mapping[Side, HandModel],
    settings: PredictSettings,
    progress: Progress,
) -> Predictions:
    """Predictions of all samples in their order; hands that are not found are NaN.

    Raises BenchmarkError with the sample's name where an image cannot be read.
    """
    if settings.joints != "model":
        tips_of(settings.joints, models["right"])
    found: list[HandEstimate | None] = [None] * len(samples)
    done = 0
    for batch in _batches(_groups(samples, settings.views)):
        hands: list[HandViews] = []
        told: list[list[int]] = []  # the samples that each hand answers
        for group in batch:
            views = views_of(observer, [samples[i] for i in group], settings)
            votes = _votes(samples[group[0]], settings)
            for left_out in range(len(group)) if settings.views == "others" else (None,):
                kept = tuple(v for v in views if v.index != left_out)
                if kept:
                    hands.append(HandViews(kept, None, votes))
                    told.append(group if left_out is None else [group[left_out]])
        answers = backend.estimate(hands) if hands else []
        for indices, answer in zip(told, answers, strict=True):
            for index in indices:
                found[index] = answer
        done += sum(map(len, batch))
        progress(done, len(samples), "predicting")
    predictions = _stacked(samples, found, models)
    if settings.joints == "model":
        return predictions
    return with_mesh_joints(predictions, models["right"], settings.joints)


def tips_of(tip_set: str, model: HandModel) -> tuple[int, ...]:
    """Vertices of the tips; ValueError for an unknown set, or a mesh that is not MANO's."""
    if tip_set not in TIP_SETS:
        raise ValueError(f"unknown joints {tip_set!r}: model, or one of {', '.join(TIP_SETS)}")
    if model.num_vertices != MANO_VERTICES:
        raise ValueError(
            f"joints {tip_set!r} are of MANO's {MANO_VERTICES} vertices; {model.model_id!r} has "
            f"{model.num_vertices}"
        )
    return TIP_SETS[tip_set]


def with_mesh_joints(predictions: Predictions, model: HandModel, tip_set: str) -> Predictions:
    """The same with joints regressed from the posed vertices, and a set's vertices as tips.

    Pixels and covariances stay: they are the fitted joints'. Raises ValueError as `tips_of` does,
    and where the predictions have no mesh of the model's.
    """
    tips, vertices = tips_of(tip_set, model), predictions.vertices
    if vertices is None or vertices.shape[1] != model.num_vertices:
        raise ValueError(f"joints {tip_set!r} need a mesh of {model.num_vertices} vertices")
    inner = np.einsum("jv,nvd->njd", model.J_regressor, vertices)
    joints = np.concatenate([inner, vertices[:, list(tips)]], axis=1)
    return replace(predictions, joints=to_openpose(joints, "mano"))


def _groups(samples: Sequence[Sample], views: str) -> list[list[int]]:
    if views == "one":
        return [[i] for i in range(len(samples))]
    groups: dict[Hashable, list[int]] = {}
    for i, sample in enumerate(samples):
        groups.setdefault(("alone", i) if sample.group is None else sample.group, []).append(i)
    return list(groups.values())


def _batches(groups: list[list[int]]) -> Iterator[list[list[int]]]:
    for start in range(0, len(groups), _BATCH):
        yield groups[start : start + _BATCH]


def _votes(sample: Sample, settings: PredictSettings) -> float:
    if settings.side == "estimated" or sample.side is None:
        return 0.0
    return _SURE if sample.side == "right" else -_SURE


def views_of(
    observer: LandmarkObserver, samples: Sequence[Sample], settings: PredictSettings
) -> list[View]:
    """The view of the annotated hand in each sample's image where it is found."""
    frames = [Frame(s.camera, 0, _image(s)) for s in samples]
    hints = [
        (i, _roi(s.box, settings.box_scale))
        for i, s in enumerate(samples)
        if settings.boxes == "given" and s.box is not None
    ]
    views = observer(frames, hints, ()) if hints else []
    if views:  # once more, upright in the frame, as a tracked hand is
        views = observer(frames, [(v.index, v.roi) for v in views], ())
    lost = sorted(set(range(len(samples))) - {v.index for v in views})
    if lost:
        views = [*views, *observer(frames, (), lost)]
    chosen = []
    for i, sample in enumerate(samples):
        own = [v for v in views if v.index == i]
        if own:
            best = own[int(np.argmax([_likeness(v, sample, settings) for v in own]))]
            right = best.right
            if settings.side == "given" and sample.side is not None:
                right = float(sample.side == "right")
            chosen.append(replace(best, right=right))
    return chosen


def _likeness(view: View, sample: Sample, settings: PredictSettings) -> float:
    """How likely a view is of the annotated hand: presence, side, nearness to its box."""
    value = view.presence
    if settings.side == "given" and sample.side is not None:
        value *= 0.05 + (view.right if sample.side == "right" else 1 - view.right)
    if sample.box is not None:
        corners = np.asarray(sample.box, dtype=np.float64).reshape(2, 2)
        apart = np.linalg.norm(view.uv.mean(0) - corners.mean(0))
        value *= np.exp(-np.square(2 * apart / max(float(np.ptp(corners, axis=0).max()), 1.0)))
    return float(value)


def _image(sample: Sample) -> NDArray[np.uint8]:
    try:
        return sample.image
    except (OSError, ValueError) as error:
        raise BenchmarkError(f"sample {sample.name}: {error}") from error


def _roi(box: Array, scale: float) -> Array:
    corners = np.asarray(box, dtype=np.float64).reshape(2, 2)
    side = scale * float(np.ptp(corners, axis=0).max())
    return np.array([*corners.mean(0), side, 0.0])


def _stacked(
    samples: Sequence[Sample],
    found: Sequence[HandEstimate | None],
    models: Mapping[Side, HandModel],
) -> Predictions:
    count, vertices = len(samples), models["right"].num_vertices
    sizes = {len(e.vertices) for e in found if e is not None and e.vertices is not None}
    if sizes:  # a mesh network's own
        vertices = sizes.pop()
    out = Predictions(
        joints=np.full((count, 21, 3), np.nan),
        vertices=np.full((count, vertices, 3), np.nan),
        uv=np.full((count, 21, 2), np.nan),
        covariance=np.full((count, 21, 3, 3), np.nan),
    )
    assert out.vertices is not None and out.uv is not None and out.covariance is not None
    for i, (sample, hand) in enumerate(zip(samples, found, strict=True)):
        if hand is not None:
            T, mesh = sample.camera.T_camera_world, hand.vertices
            mesh = mesh_vertices(hand.mano, models) if mesh is None else mesh
            out.joints[i] = transform_points(T, hand.joints)
            out.vertices[i] = transform_points(T, mesh)
            out.uv[i] = project(sample.camera, hand.joints)
            out.covariance[i] = T[:3, :3] @ hand.covariance @ T[:3, :3].T
    return out
