"""How large a cell is: by a hand of known shape, or by a known distance of two cameras.

Pixels know no metres: bundle adjustment leaves the size open. A hand's palm is rigid, and the model
says how far apart a network's landmarks lie on it (`by_palm`). A person's calibrated shape was
measured by an estimator with its own habits, so the last per cent come from asking the same
estimator again, on what the cell's cameras see (`by_shape`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.geometry.alignment import procrustes
from hand_mesh_ros.hand.kinematics import BETAS, NUM_PARAMS
from hand_mesh_ros.hand.landmarks import PALM, landmarks_and_jacobian
from hand_mesh_ros.hand.layout import BONES
from hand_mesh_ros.hand.model import HandModel
from hand_mesh_ros.hand.observations import Landmarks2D, Observation, default_prior
from hand_mesh_ros.hand.shape import HandShape
from hand_mesh_ros.hand.shape_fusion import Sighting, calibrate_shape
from hand_mesh_ros.hand.starts import start_from_points
from hand_mesh_ros.perception.cell_start import CannotCalibrate
from hand_mesh_ros.perception.cell_views import MatchedHands
from hand_mesh_ros.types import Camera, Side

Array = NDArray[np.float64]

_LANDMARK_BIAS = 0.003  # m, one sigma of a landmark's mean place on a person's hand
_FEWEST = 10
_MOST = 150
_SHAPE_ROUNDS = 3
_SAME_SIZE = 0.004


@dataclass(frozen=True)
class Baseline:
    """``metres`` between the optical centres of cameras ``a`` and ``b``, and one sigma of it."""

    a: str
    b: str
    metres: float
    sigma: float = 0.001


@dataclass(frozen=True)
class Scale:
    """``factor`` makes a cell metric; ``sigma`` is relative (of its logarithm).

    ``source`` says in words what it rests on.
    """

    factor: float
    sigma: float
    source: str


def by_palm(
    points: Array,
    right: Array,
    block: NDArray[np.int64],
    models: Mapping[Side, HandModel],
    shape: HandShape | None,
) -> Scale:
    """Scale of landmarks (G, 21, 3) of hands with log-odds ``right`` (G,) of being right ones.

    The model's palm is laid on each hand's by a similarity, whose scale is linear in the measured
    points, so that their noise does not make hands larger; the median over hands counts. ``block``
    (G,) numbers stretches of time whose errors are independent. Without a ``shape`` the mean hand
    is taken, with the population's spread.
    """
    good = np.isfinite(points[:, PALM]).all((1, 2))
    if good.sum() < _FEWEST:
        raise CannotCalibrate(
            f"the palm was located in {good.sum()} hands, at least {_FEWEST} are needed to know "
            "the scale: show the open hand to two cameras or more"
        )
    sizes = np.full(len(points), np.nan)
    for side, own in (("right", good & (right > 0)), ("left", good & (right <= 0))):
        palm = _palm(models["right" if side == "right" else "left"], shape)[0]
        sizes[own] = procrustes(
            np.broadcast_to(palm, (int(own.sum()), *palm.shape)),
            points[own][:, PALM],
            with_scale=True,
        )[0]
    logs = np.log(np.clip(sizes[good], 1e-6, None))
    middle = float(np.median(logs))
    scatter = 1.4826 * float(np.median(np.abs(logs - middle)))
    sigma = 1.2533 * scatter / np.sqrt(len(np.unique(block[good])))
    slope, radius = _palm(models["right"], shape)[1:]
    covariance = np.eye(len(slope)) if shape is None else shape.covariance
    known = float(slope @ covariance @ slope)
    if shape is None:  # a calibrated shape's covariance has this in it
        known += (_LANDMARK_BIAS / radius) ** 2 / (3 * len(PALM))
    what = "the mean hand (no shape was given)" if shape is None else "the calibrated hand"
    return Scale(float(np.exp(-middle)), float(np.hypot(sigma, np.sqrt(known))), what)


def by_shape(
    cameras: Sequence[Camera],
    hands: MatchedHands,
    points: Array,
    stamps_ns: NDArray[np.int64],
    models: Mapping[Side, HandModel],
    shape: HandShape,
) -> Scale:
    """Scale that makes the hands, measured with these cameras, as large as the calibrated shape.

    The shape is estimated anew from the hands' pixels (`hand.shape_fusion`), and sizes are
    compared; so often that the population's prior, which draws the estimate to the mean hand, no
    longer matters. ``points`` (G, 21, 3) and the cameras' translations are metric to a few per
    cent; ``stamps_ns`` (G,) are the hands'.
    """
    located = np.isfinite(points[:, PALM]).all((1, 2))
    some = np.flatnonzero(located)
    some = some[np.unique(np.linspace(0, len(some) - 1, min(len(some), _MOST)).astype(int))]
    known = _size(models["right"], shape)
    factor, sigma = 1.0, np.inf
    for _ in range(_SHAPE_ROUNDS):
        larger = scaled(cameras, factor)
        sightings = [
            _sighting(larger, hands, g, factor * points[g], int(stamps_ns[g]), models, shape)
            for g in some
        ]
        found = calibrate_shape(models, sightings)
        size = _size(models["right"], found)
        factor *= float(np.exp(known[0] - size[0]))
        sigma = float(
            np.sqrt(known[1] @ shape.covariance @ known[1] + size[1] @ found.covariance @ size[1])
        )
        if abs(known[0] - size[0]) < _SAME_SIZE:
            break
    return Scale(factor, sigma, "the calibrated hand")


def _sighting(
    cameras: Sequence[Camera],
    hands: MatchedHands,
    g: int,
    points: Array,
    stamp_ns: int,
    models: Mapping[Side, HandModel],
    shape: HandShape,
) -> Sighting:
    side: Side = "right" if hands.right[g] > 0 else "left"
    views = tuple(
        Landmarks2D(cameras[c], hands.uv[g, c], hands.sigma[g, c])
        for c in np.flatnonzero(hands.seen[g]).tolist()
    )
    mean = default_prior(models[side]).with_shape(shape.betas, shape.covariance).mean
    start = start_from_points(models[side], points, mean)
    return Sighting(side, stamp_ns, Observation(views=views), start)


def _size(model: HandModel, shape: HandShape) -> tuple[float, Array]:
    """Log of the hand's size, all bones from landmark to landmark together; its slope by betas.

    Landmarks, not joints: a longer bone and a landmark marked further out look alike.
    """
    params = np.zeros((1, NUM_PARAMS))
    params[0, BETAS] = shape.betas
    points, jacobian = landmarks_and_jacobian(shape.worn(model), params)
    starts, ends = np.array(BONES).T
    bones = points[0, ends] - points[0, starts]
    lengths = np.linalg.norm(bones, axis=-1, keepdims=True)
    by_betas = jacobian[0, ends][..., BETAS] - jacobian[0, starts][..., BETAS]
    total = float(lengths.sum())
    return float(np.log(total)), np.einsum("jd,jdb->b", bones / lengths, by_betas) / total


def _palm(model: HandModel, shape: HandShape | None) -> tuple[Array, Array, float]:
    """The model's palm landmarks (6, 3), the slope (10,) of their log size, their rms radius."""
    params = np.zeros((1, NUM_PARAMS))
    if shape is not None:
        params[0, BETAS], model = shape.betas, shape.worn(model)
    points, jacobian = landmarks_and_jacobian(model, params)
    palm = points[0, PALM] - points[0, PALM].mean(0)
    by_betas = jacobian[0, PALM][..., BETAS]
    by_betas = by_betas - by_betas.mean(0)
    square = float((palm**2).sum())
    slope = np.einsum("jd,jdb->b", palm, by_betas) / square
    return palm, slope, float(np.sqrt(square / len(PALM)))


def by_baseline(cameras: Sequence[Camera], baseline: Baseline) -> Scale:
    """Scale by which the two cameras come to stand as far apart as they are known to."""
    centre = {c.name: c.centre for c in cameras}
    for name in (baseline.a, baseline.b):
        if name not in centre:
            raise CannotCalibrate(
                f"the baseline names the camera {name!r}; there are {', '.join(centre)}"
            )
    length = float(np.linalg.norm(centre[baseline.a] - centre[baseline.b]))
    if baseline.a == baseline.b or not length > 0 or not baseline.metres > 0:
        raise CannotCalibrate(
            f"the baseline {baseline.a} - {baseline.b} of {baseline.metres:g} m fixes no scale: it "
            "must be the positive distance of two cameras"
        )
    text = f"the baseline {baseline.a} - {baseline.b} of {baseline.metres:g} m"
    return Scale(baseline.metres / length, baseline.sigma / baseline.metres, text)


def scaled(cameras: Sequence[Camera], factor: float) -> tuple[Camera, ...]:
    """The cameras of a cell ``factor`` times as large, about the world's origin."""
    out = []
    for camera in cameras:
        T = camera.T_camera_world.copy()
        T[:3, 3] *= factor
        out.append(replace(camera, T_camera_world=T))
    return tuple(out)
