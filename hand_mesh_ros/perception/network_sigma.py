"""How sure a network's answer is: from how it spreads, by a rule calibrated on held-out renders.

A network without a covariance of its own is asked about the same hand several times, in crops
that are cut a little differently. How far its answers spread tells how far off they are, but by a
factor, and never all of it: so one sigma is

    sigma^2 = floor^2 + (scale * spread)^2

with a scale and a floor a group of joints. The same rule corrects a network's own covariances.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

LEVEL: Final = np.array([0] + 5 * [1, 2, 3, 4])
"""Group (21,) of each joint: wrist, then roots, middle joints, last joints and tips of fingers."""
NOT_MEASURED: Final = "none"
_LEVELS: Final = 5
_FORMAT: Final = "hand_mesh_sigma"
_SMALLEST: Final = 1e-6

Five = tuple[float, float, float, float, float]


def _all(value: float) -> Five:
    return (value,) * 5


@dataclass(frozen=True)
class SigmaRule:
    """Scales and floors, five each: of wrist, roots, middle, last joints and tips.

    ``uv_*`` are of places in the crop in half its side, ``joint_*`` of joints about their common
    place in metres, per axis; ``pose_sigma`` (radians, one sigma of a finger angle) and
    ``shape_sigma`` (betas) of what it says of the hand model. ``*_usual``: the spread that is
    taken where an answer has none. ``inflation``: factors on the covariances of hands fitted to
    one view and to several, because the errors of an answer's joints are not independent.
    ``calibration`` names what the rule was measured on; the default is a guess for a network that
    nobody has measured.
    """

    uv_scale: Five = _all(1.5)
    uv_floor: Five = _all(0.04)
    joint_scale: Five = _all(1.5)
    joint_floor: Five = (0.010, 0.006, 0.008, 0.010, 0.013)
    pose_sigma: float = 0.35
    shape_sigma: float = 1.0
    uv_usual: Five = _all(0.02)
    joint_usual: Five = (0.004, 0.002, 0.003, 0.004, 0.006)
    inflation: tuple[float, float] = (6.0, 6.0)
    calibration: str = NOT_MEASURED

    @property
    def measured_on(self) -> str:
        """``calibration`` as hands tell it: empty where nothing was measured."""
        return "" if self.calibration == NOT_MEASURED else self.calibration

    def uv_sigma(self, spread: Array | None) -> Array:
        """One sigma (..., 21) of places in the crop from their spread (..., 21)."""
        return _by_rule(self.uv_scale, self.uv_floor, self.uv_usual, spread)

    def joint_covariance(self, spread: Array | None) -> Array:
        """Covariances (..., 21, 3, 3), m^2, of joints from those of their spread."""
        scale, floor, usual = (
            np.square(np.array(x)[LEVEL])[:, None, None]
            for x in (self.joint_scale, self.joint_floor, self.joint_usual)
        )
        spread = usual * np.eye(3) if spread is None else spread
        return np.asarray(floor * np.eye(3) + scale * spread)

    def save(self, path: Path) -> None:
        """Write as JSON."""
        content = {"format": _FORMAT, **asdict(self)}
        path.write_text(json.dumps(content, indent=1) + "\n")


def sigma_file(weights: Path) -> Path:
    """Where the rule of a network is: beside its weights, `hamer.ckpt.sigma.json`."""
    return weights.with_name(f"{weights.name}.sigma.json")


def sigma_rule_of(weights: Path) -> SigmaRule:
    """The rule beside a network's weights; a guess without one. Errors as `load_sigma_rule`."""
    path = sigma_file(weights)
    return load_sigma_rule(path) if path.is_file() else SigmaRule()


def load_sigma_rule(path: Path) -> SigmaRule:
    """Read a rule; FileNotFoundError, or ValueError that says what is wrong with the file."""
    try:
        return sigma_rule_from(json.loads(path.read_text()))
    except ValueError as error:
        raise ValueError(f"{path} is no calibration of a network's sigmas: {error}") from error


def sigma_rule_from(content: Any) -> SigmaRule:
    """The rule of a parsed JSON object, as `SigmaRule.save` writes it; ValueError otherwise."""
    if not isinstance(content, Mapping) or content.get("format") != _FORMAT:
        raise ValueError(f"its format is not {_FORMAT!r}")
    values: dict[str, Any] = {}
    for known in fields(SigmaRule):
        if known.name not in content:
            raise ValueError(f"{known.name} is missing")
        value = content[known.name]
        if known.name == "calibration":
            values[known.name] = str(value)
            continue
        numbers = np.asarray(value, dtype=np.float64)
        five = known.name.endswith(("scale", "floor", "usual"))
        wanted = (_LEVELS,) if five else (2,) if known.name == "inflation" else ()
        if numbers.shape != wanted or not (np.isfinite(numbers) & (numbers >= 0)).all():
            raise ValueError(f"{known.name} is {value}")
        values[known.name] = tuple(numbers.tolist()) if wanted else float(numbers)
    return SigmaRule(**values)


def fit_scale_and_floor(error: Array, spread: Array) -> tuple[Five, Five, Five]:
    """Scales and floors by which ``spread`` (N, 21) becomes one sigma of ``error`` (N, 21, D),

    or covariances (N, 21, D, D) become those of the errors. And the usual spreads, means without
    the largest twentieth. Maximum likelihood for a group of joints, with a share of the answers
    plain wrong: those the solver sets aside by what is likely for the others, so that they must not
    widen it. Rows that are not finite do not count. Raises ValueError with fewer than ten rows of
    a group.
    """
    scales, floors, usual = [], [], []
    error, spread2 = _along_axes(error, spread)
    known = np.isfinite(error).all(-1) & np.isfinite(spread2).all(-1)
    for level in range(_LEVELS):
        here = known & (LEVEL == level)
        if here.sum() < 10:
            raise ValueError(f"only {int(here.sum())} answers to calibrate sigmas with")
        scale, floor = _most_likely(np.square(error[here]), spread2[here])
        scales.append(scale)
        floors.append(floor)
        size = np.sqrt(spread2[here].mean(-1))
        usual.append(float(size[size <= np.quantile(size, 0.95)].mean()))
    return tuple(scales), tuple(floors), tuple(usual)  # type: ignore[return-value]


def _along_axes(error: Array, spread: Array) -> tuple[Array, Array]:
    """Errors (N, 21, D) along the axes of their spreads, and variances (N, 21, D) along these."""
    if spread.ndim == 2:
        return error, np.broadcast_to(np.square(spread)[..., None], error.shape)
    known = np.asarray(np.isfinite(spread).all((-1, -2)))
    variance, axes = np.linalg.eigh(np.where(known[..., None, None], spread, 0.0))
    along = (error[..., None, :] @ axes)[..., 0, :]
    return along, np.where(known[..., None], np.maximum(variance, 0.0), np.nan)


def _most_likely(squared: Array, spread2: Array) -> tuple[float, float]:
    """(scale, floor) for squared errors (M, D), with spreads (M, D), of which some are plain wrong.

    Right ones have sigma^2 = floor^2 + scale^2 spread2, wrong ones a wider Gaussian's; its width
    and the share of either are found as well.
    """
    from scipy.optimize import minimize

    dimensions = squared.shape[-1]
    middle = max(float(np.median(squared.sum(-1))) / dimensions, _SMALLEST**2)
    usual = max(float(spread2.mean()), _SMALLEST**2)

    def log_density(variance: Array | float) -> Array:
        return np.asarray(-0.5 * (np.log(variance) + squared / variance).sum(-1))

    def cost(numbers: Array) -> float:
        floor2, scale2, wider, odds = np.exp(numbers)
        right = middle * (floor2 + scale2 * spread2 / usual)
        wrong = middle * (1 + wider)
        either = np.logaddexp(log_density(right), np.log(odds) + log_density(wrong))
        return float(np.log1p(odds) - np.mean(either))

    limits = [(-16.0, 4.0), (-16.0, 4.0), (1.0, 8.0), (-8.0, -0.5)]
    start = np.log([0.5, 0.5, 20.0, 0.05])
    options = {"maxiter": 2000, "xatol": 1e-3, "fatol": 1e-6}
    found = minimize(cost, start, method="Nelder-Mead", bounds=limits, options=options)
    floor2, scale2 = np.exp(found.x[:2])
    return float(np.sqrt(scale2 * middle / usual)), float(np.sqrt(floor2 * middle))


def _by_rule(scale: Five, floor: Five, usual: Five, spread: Array | None) -> Array:
    spread = np.array(usual)[LEVEL] if spread is None else spread
    return np.hypot(np.array(floor)[LEVEL], np.array(scale)[LEVEL] * spread)
