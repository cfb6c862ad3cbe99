"""Constant time offsets between cameras, from the motion of the hands that they see.

A moving point lies on the rays of all cameras only if their clocks agree. Every landmark gets a
trajectory that is smooth in time (`hand_mesh_ros.perception.trajectories`); the offsets and the
trajectories together minimise the distance of each ray to its trajectory at the ray's own time, by
Gauss-Newton with the trajectories eliminated (variable projection; Golub and Pereyra, 1973). No
two pictures need be of one instant, and an offset comes out far finer than a frame period.

Landmarks err, and not at random: what one half of the time or of the hand says is compared with
what the other half says, and where they differ the sigma is that much larger.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.geometry.cameras import undistort
from hand_mesh_ros.hand.layout import JOINT_NAMES
from hand_mesh_ros.perception.landmark_tracks import LandmarkTrack
from hand_mesh_ros.perception.offset_fit import OffsetFit, OffsetSettings
from hand_mesh_ros.perception.trajectories import Strand

Array = NDArray[np.float64]

# Wrist, knuckles and the joints next to them; the others are the fingers' outer halves.
_JOINT = np.arange(len(JOINT_NAMES))
_INNER = (_JOINT == 0) | (_JOINT % 4 == 1) | (_JOINT % 4 == 2)

@dataclass(frozen=True)
class CameraOffset:
    """``seconds`` to add to the camera's stamps, and its sigma; NaN where there is none.

    ``verdict`` is ``reference``, ``ok``, or in words why there is none. ``noise``: the part of the
    apparent motion that noise explains, 0 to 1.
    """

    camera: str
    seconds: float
    sigma: float
    verdict: str
    noise: float
    pictures: int


@dataclass(frozen=True, eq=False)
class TimeOffsets:
    """Offsets of all cameras; stamps plus offset are times of the reference camera's clock.

    ``residual``: root mean square of the residuals in units of the landmarks' sigma, and
    ``residual_before`` that without offsets. ``speed``: median speed of the landmarks, m/s.
    ``grid`` (G,) s and ``cost`` (C, G): rise of the cost (-2 log likelihood) if one camera's offset
    is another; rows without an offset are NaN.
    """

    reference: str
    cameras: tuple[CameraOffset, ...]
    residual: float
    residual_before: float
    speed: float
    grid: Array
    cost: Array

    @property
    def ok(self) -> bool:
        """Whether every camera has an offset."""
        return all(c.verdict in ("ok", "reference") for c in self.cameras)


def estimate_offsets(
    tracks: Sequence[LandmarkTrack],
    reference: str | None = None,
    settings: OffsetSettings | None = None,
    grid: int = 41,
) -> TimeOffsets:
    """Time offsets of the cameras of ``tracks`` relative to ``reference`` (default: the first).

    ``grid`` points of the cost are evaluated around each result (0: none, for speed). Raises
    ``ValueError`` for fewer than two cameras, an unknown reference, or no hand that two see.
    """
    settings = settings or OffsetSettings()
    cameras = {t.camera.name: t.camera for t in tracks}
    names = sorted(cameras)
    reference = reference or (names[0] if names else "")
    if len(names) < 2:
        raise ValueError(f"time offsets need two cameras that see a hand, got {len(names)}")
    if reference not in cameras:
        raise ValueError(f"reference camera {reference!r} sees no hand; choose {', '.join(names)}")
    strands = _strands(tracks, names, settings)
    if not strands:
        raise ValueError("no hand is seen by two cameras at a time: no offsets can be found")

    def fitted(parts: Sequence[Strand]) -> OffsetFit:
        fit = OffsetFit(parts, [cameras[n] for n in names], names.index(reference), settings)
        fit.run()
        return fit

    fit = fitted(strands)
    sigma, noise = fit.uncertainty()
    excess = np.zeros(len(names))
    if any(_verdict(i, fit, sigma[i], noise[i]) == "ok" for i in fit.free):
        for halves in (_halves_of_time(strands, settings.gap), _halves_of_hands(strands)):
            if all(halves):
                # From zero, as the whole was: another minimum is a disagreement as well.
                one, other = (fitted(half) for half in halves)
                excess = np.hypot(excess, _disagreement(one, other))
    offsets = [
        _camera_offset(i, name, fit, np.array([sigma[i], excess[i]]), noise[i])
        for i, name in enumerate(names)
    ]
    half = min(settings.largest, 0.1)
    around = np.linspace(-half, half, grid) if grid else np.zeros(0)
    cost = np.full((len(names), len(around)), np.nan)
    for i in fit.free:
        if grid and offsets[i].verdict == "ok":
            cost[i] = fit.profile(i, around)
    return TimeOffsets(
        reference, tuple(offsets), fit.scale, fit.scale_before, fit.speed, around, cost
    )


def _strands(
    tracks: Sequence[LandmarkTrack], names: Sequence[str], settings: OffsetSettings
) -> list[Strand]:
    """Stretches of one hand without a gap, seen by two cameras or more; times from the first."""
    epoch = min(int(t.stamps_ns[0]) for t in tracks)
    strands = []
    for hand in sorted({t.hand for t in tracks}):
        own = [t for t in tracks if t.hand == hand]
        camera = np.repeat([names.index(t.camera.name) for t in own], [len(t.uv) for t in own])
        times = np.concatenate([(t.stamps_ns - epoch) * 1e-9 for t in own])
        xy = np.concatenate([undistort(t.camera, t.uv) for t in own])
        weight = np.concatenate([t.camera.focal / t.sigma for t in own])
        seen = np.isfinite(xy).all(-1) & np.isfinite(weight)
        xy, weight = np.where(seen[..., None], xy, 0.0), np.where(seen, weight, 0.0)
        order = np.argsort(times, kind="stable")
        ends = np.flatnonzero(np.diff(times[order]) > settings.gap) + 1
        for part in np.split(order, ends):
            if len(np.unique(camera[part])) > 1 and np.ptp(times[part]) > settings.gap:
                strands.append(Strand(camera[part], times[part], xy[part], weight[part]))
    return strands


def _halves_of_time(
    strands: Sequence[Strand], shortest: float
) -> tuple[list[Strand], list[Strand]]:
    """What was seen before the middle picture, and after."""
    middle = float(np.median(np.concatenate([s.times for s in strands])))
    halves: tuple[list[Strand], list[Strand]] = ([], [])
    for half, early in zip(halves, (True, False), strict=True):
        for s in strands:
            part = (s.times < middle) == early
            if len(np.unique(s.camera[part])) > 1 and np.ptp(s.times[part]) > shortest:
                half.append(Strand(s.camera[part], s.times[part], s.xy[part], s.weight[part]))
    return halves


def _halves_of_hands(strands: Sequence[Strand]) -> tuple[list[Strand], list[Strand]]:
    """The inner half of the landmarks and the outer one."""

    def some(part: NDArray[np.bool_]) -> list[Strand]:
        return [Strand(s.camera, s.times, s.xy[:, part], s.weight[:, part]) for s in strands]

    return some(_INNER), some(~_INNER)


def _disagreement(a: OffsetFit, b: OffsetFit) -> Array:
    """What two halves differ by beyond their sigmas, as one sigma (C,) of their mean."""
    expected = np.square(a.uncertainty()[0]) + np.square(b.uncertainty()[0])
    excess = np.square(a.offsets - b.offsets) - expected
    return np.asarray(np.sqrt(np.maximum(excess, 0.0)) / 2)


def _camera_offset(
    camera: int, name: str, fit: OffsetFit, sigmas: Array, noise: float
) -> CameraOffset:
    """``sigmas`` (2,): of the fit, and of the disagreement of halves."""
    verdict = _verdict(camera, fit, sigmas[0], noise)
    if verdict == "ok" and np.hypot(*sigmas) > fit.settings.max_sigma:
        verdict = (
            f"halves of the recording or of the hand disagree (+- {1e3 * sigmas[1]:.0f} ms): look "
            "at this camera's landmarks and calibration"
        )
    good = verdict in ("ok", "reference")
    return CameraOffset(
        camera=name,
        seconds=float(fit.offsets[camera]) if good else float("nan"),
        sigma=float(np.hypot(*sigmas)) if good else float("nan"),
        verdict=verdict,
        noise=float(noise),
        pictures=fit.pictures(camera),
    )


def _verdict(camera: int, fit: OffsetFit, sigma: float, noise: float) -> str:
    settings = fit.settings
    if camera not in fit.free:
        return "reference"
    if not fit.pictures(camera):
        return "sees no hand that another camera sees"
    if noise > settings.max_noise:
        return f"too little motion ({100 * min(noise, 1):.0f} % of it is noise)"
    if not sigma <= settings.max_sigma:
        return f"too uncertain ({1e3 * sigma:.1f} ms): move the hands more, or for longer"
    if abs(fit.offsets[camera]) > settings.largest:
        return f"beyond {settings.largest:g} s: set the clocks first"
    return "ok"
