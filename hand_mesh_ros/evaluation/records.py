"""What an evaluation consumes: truths and predictions of N hands as arrays.

Points are in the optical axes of each sample's camera, metres; joints in OpenPose order; NaN says
unknown. `truths_of` makes the truths of any samples that look like `Sample`.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.types import Camera, ImageArray, Side

Array = NDArray[np.float64]


class Sample(Protocol):
    """One annotated hand in one image, as readers of data sets give it; what is unknown is None.

    ``joints`` (21, 3) and ``vertices`` (V, 3) m in the camera's optical axes, only up to a
    translation where not ``placed``; ``uv`` (21, 2) pixels; ``counted`` (21,): the joints to score
    (None: all that are finite); ``visibility`` (21,) from 0 (occluded) to 1, NaN out of the image;
    ``box`` (4,) tight box x0, y0, x1, y1 pixels; ``visible_share`` of the hand's mask; samples of
    one ``group`` show one hand at one instant in several cameras; ``sequence`` and ``stamp`` (s)
    place it in time.
    """

    @property
    def name(self) -> str: ...
    @property
    def image(self) -> ImageArray: ...
    @property
    def camera(self) -> Camera: ...
    @property
    def side(self) -> Side | None: ...
    @property
    def joints(self) -> Array | None: ...
    @property
    def vertices(self) -> Array | None: ...
    @property
    def uv(self) -> Array | None: ...
    @property
    def counted(self) -> NDArray[np.bool_] | None: ...
    @property
    def placed(self) -> bool: ...
    @property
    def visibility(self) -> Array | None: ...
    @property
    def box(self) -> Array | None: ...
    @property
    def visible_share(self) -> float | None: ...
    @property
    def group(self) -> Hashable | None: ...
    @property
    def sequence(self) -> Hashable | None: ...
    @property
    def stamp(self) -> float | None: ...


@dataclass(frozen=True, eq=False)
class Truths:
    """What is known of N hands.

    ``joints`` (N, 21, 3), ``vertices`` (N, V, 3), ``uv`` (N, 21, 2), ``visibility`` (N, 21),
    ``box_px`` (N,) the longest side of the tight box, ``visible_share`` (N,), ``sequence`` (N,)
    numbers of sequences and ``stamps`` (N,) seconds, ascending within each. ``placed`` (N,): where
    the hand's place in its camera is known (None: everywhere); elsewhere only what is relative is.
    Raises ValueError where the shapes do not agree.
    """

    names: tuple[str, ...]
    joints: Array
    vertices: Array | None = None
    uv: Array | None = None
    visibility: Array | None = None
    box_px: Array | None = None
    visible_share: Array | None = None
    sequence: NDArray[np.int_] | None = None
    stamps: Array | None = None
    placed: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        _check(self, len(self.names))

    def __len__(self) -> int:
        return len(self.names)

    def in_camera(self) -> Truths:
        """The same with points of hands whose place is not known as NaN."""
        if self.placed is None:
            return self
        here = self.placed[:, None, None]
        vertices = None if self.vertices is None else np.where(here, self.vertices, np.nan)
        return replace(self, joints=np.where(here, self.joints, np.nan), vertices=vertices)


@dataclass(frozen=True, eq=False)
class Predictions:
    """What was predicted of the same N hands, in the same order; NaN for a hand not found.

    ``joints`` (N, 21, 3), ``vertices`` (N, V, 3), ``uv`` (N, 21, 2), ``covariance``
    (N, 21, 3, 3) m^2 in the same axes. Raises ValueError where the shapes do not agree.
    """

    joints: Array
    vertices: Array | None = None
    uv: Array | None = None
    covariance: Array | None = None

    def __post_init__(self) -> None:
        _check(self, len(self.joints))

    def __len__(self) -> int:
        return len(self.joints)

    @property
    def found(self) -> NDArray[np.bool_]:
        """Which hands were found, (N,)."""
        points = self.joints if self.uv is None else self.uv
        found = np.isfinite(points).all((-1, -2)) | np.isfinite(self.joints).all((-1, -2))
        return np.asarray(found)

    def completed(self) -> Predictions:
        """Hands not found as zeros, which is what a benchmark's file holds for them.

        Pixels and covariances stay NaN: HInt counts those hands as wrong.
        """
        lost = ~self.found[:, None, None]
        vertices = None if self.vertices is None else np.where(lost, 0.0, self.vertices)
        return replace(self, joints=np.where(lost, 0.0, self.joints), vertices=vertices)


def zero_predictions(truths: Truths) -> Predictions:
    """All points at the camera: the prediction whose scores the benchmarks' authors publish."""
    vertices = None if truths.vertices is None else np.zeros_like(truths.vertices)
    return Predictions(np.zeros_like(truths.joints), vertices)


def chosen(record: Any, which: NDArray[Any]) -> Any:
    """Some of the samples of `Truths` or `Predictions`, by mask (N,) or indices (M,)."""
    index = np.arange(len(record))[which]
    values = {f.name: getattr(record, f.name) for f in fields(record)}
    picked = {
        name: tuple(value[i] for i in index) if isinstance(value, tuple) else value[index]
        for name, value in values.items()
        if value is not None
    }
    return type(record)(**picked)


def truths_of(samples: Sequence[Sample]) -> Truths:
    """The truths of samples; a field that no sample has is None.

    Joints that are not counted are NaN, in space and in the image: they are not scored.
    Raises ValueError where meshes have different numbers of vertices.
    """
    sides = [None if s.box is None else np.ptp(s.box.reshape(2, 2), axis=0).max() for s in samples]
    numbers: dict[Hashable, int] = {}
    sequence = [numbers.setdefault(s.sequence, len(numbers)) for s in samples]
    timed = all(s.sequence is not None and s.stamp is not None for s in samples)
    joints = _stacked([_counted(s.joints, s) for s in samples])
    return Truths(
        names=tuple(s.name for s in samples),
        joints=np.full((len(samples), 21, 3), np.nan) if joints is None else joints,
        vertices=_stacked([s.vertices for s in samples]),
        uv=_stacked([_counted(s.uv, s) for s in samples]),
        visibility=_stacked([s.visibility for s in samples]),
        box_px=_stacked(sides),
        visible_share=_stacked([s.visible_share for s in samples]),
        sequence=np.array(sequence) if timed else None,
        stamps=np.array([s.stamp for s in samples], dtype=np.float64) if timed else None,
        placed=None if all(s.placed for s in samples) else np.array([s.placed for s in samples]),
    )


def _counted(points: Array | None, sample: Sample) -> Array | None:
    if points is None or sample.counted is None:
        return points
    return np.where(sample.counted[:, None], points, np.nan)


def _stacked(values: Sequence[Any]) -> Array | None:
    known = [np.asarray(v, dtype=np.float64) for v in values if v is not None]
    if not known:
        return None
    if len({v.shape for v in known}) > 1:
        shapes = sorted({v.shape for v in known})
        raise ValueError(f"samples of one evaluation have points of different shapes: {shapes}")
    out = np.full((len(values), *known[0].shape), np.nan)
    out[[v is not None for v in values]] = np.stack(known)
    return out


_SHAPES = {
    "joints": (21, 3),
    "vertices": (None, 3),
    "uv": (21, 2),
    "visibility": (21,),
    "covariance": (21, 3, 3),
}


def _check(record: Truths | Predictions, count: int) -> None:
    for each in fields(record):
        value = getattr(record, each.name)
        if value is None or each.name == "names":
            continue
        wanted = (count, *_SHAPES.get(each.name, ()))
        if len(value.shape) != len(wanted) or any(
            w is not None and w != s for w, s in zip(wanted, value.shape, strict=True)
        ):
            text = ", ".join("V" if w is None else str(w) for w in wanted)
            raise ValueError(
                f"{type(record).__name__}.{each.name} is {value.shape}, it must be ({text})"
            )
