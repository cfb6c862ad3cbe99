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
from hand_mesh_ros.hand.model import HandModel
from hand_mesh_ros.perception.estimate import Backend, HandViews
from hand_mesh_ros.perception.observe import LandmarkObserver
from hand_mesh_ros.perception.surface import mesh_vertices
from hand_mesh_ros.types import Frame, HandEstimate, Side, View

Array = NDArray[np.float64]
Progress = Callable[[int, int, str], None]

_SURE = 20.0  # log-odds of a side that is given
_BATCH = 16


@dataclass(frozen=True)
class PredictSettings:
    """What a backend is told and what it must find itself.

    ``side``: given by the sample, as papers do, or estimated. ``boxes``: the sample's box, or
    found by the detector; a box that leads nowhere falls back to the detector. ``views``: one, or
    all cameras of a group together. ``box_scale``: region of interest over the longest side of
    the tight box.
    """

    side: Literal["given", "estimated"] = "given"
    boxes: Literal["given", "detected"] = "given"
    views: Literal["one", "all"] = "one"
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
    found: list[HandEstimate | None] = [None] * len(samples)
    done = 0
    for batch in _batches(_groups(samples, settings.views)):
        seen = [_views(observer, [samples[i] for i in group], settings) for group in batch]
        hands = [
            HandViews(tuple(views), None, _votes(samples[group[0]], settings))
            for group, views in zip(batch, seen, strict=True)
        ]
        shown = [i for i, hand in enumerate(hands) if hand.views]
        answers = backend.estimate([hands[i] for i in shown]) if shown else []
        for i, answer in zip(shown, answers, strict=True):
            for index in batch[i]:
                found[index] = answer
        done += sum(map(len, batch))
        progress(done, len(samples), "predicting")
    return _stacked(samples, found, models)


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


def _views(
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
