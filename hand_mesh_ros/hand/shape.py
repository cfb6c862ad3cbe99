"""A person's hands: betas with their covariance, landmarks, noise; their file and their use.

Left and right hands of a person share one shape: the left model is the right one's mirror image,
and mirroring leaves betas as they are. So do the places where a network marks its landmarks on
this person's hands, and how well it does.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.hand.kinematics import (
    BETAS,
    HAND_POSE,
    NUM_PARAMS,
    joints_and_jacobian,
)
from hand_mesh_ros.hand.landmarks import marked_at
from hand_mesh_ros.hand.layout import BONES
from hand_mesh_ros.hand.model import HandModel
from hand_mesh_ros.hand.observations import Prior

Array = NDArray[np.float64]

FORMAT: Final = "hand_mesh_shape"
VERSION: Final = 2
_OLD: Final = 1  # betas only
POSE_FREEDOM: Final = 4.0
"""Factor on the pose prior's sigmas where a person's landmarks are known.

The prior is as tight as it is because it has to make up for landmarks that lie elsewhere than on
the average hand; once their places are known, it would only keep the fit from what was seen.
"""
_NUMBERS: Final = 10 + 3 * 21  # of a person: betas and offsets
# One sigma of betas that are held: a few hundredths of a micrometre of a bone.
_HELD = 1e-4


@dataclass(frozen=True, eq=False)
class HandShape:
    """``betas`` (10,) with ``covariance`` (10, 10), of the right hand model ``model_id``.

    ``hands`` were seen, which tell as much as ``effective`` hands whose errors are independent;
    ``landmarks`` names the network that saw them, ``date`` the day (ISO 8601). ``offsets``
    (21, 3), m, is where it marks this person's landmarks, as in `LandmarkModel`, each known to
    ``offsets_sigma`` (21, 3); None: where it usually does. ``correlation`` (73, 73) is that of the
    errors of betas and, row by row, offsets; None (an older file): the offsets' errors are taken
    for independent, which makes the hand a little wider. ``noise`` (21,) is how many times the
    sigmas that the network's observer tells its landmarks really have, ``residual`` the median
    distance of the landmarks from a fit with it, in these sigmas; NaN where nobody measured it.
    """

    model_id: str
    betas: Array
    covariance: Array
    hands: int
    effective: float
    landmarks: str
    date: str
    offsets: Array | None = None
    offsets_sigma: Array | None = None
    correlation: Array | None = None
    noise: Array = field(default_factory=lambda: np.ones(21))
    residual: float = float("nan")

    def uncertainty(self) -> Array:
        """Covariance of what is known of the person: of betas (10, 10), or (73, 73) with offsets.

        Betas first, then x, y, z of each landmark's offset, m. A longer bone and a landmark
        further out look alike, so the two err together.
        """
        if self.offsets_sigma is None:
            return self.covariance
        sigma = np.append(np.sqrt(np.diag(self.covariance)), self.offsets_sigma)
        if self.correlation is not None:
            return self.correlation * sigma * sigma[:, None]
        independent = np.diag(sigma**2)
        independent[: len(self.betas), : len(self.betas)] = self.covariance
        return independent

    def held(self, prior: Prior) -> Prior:
        """The prior with betas that stay as they are, so that bones keep their lengths.

        Where the landmarks' places are known too, the pose is freer by `POSE_FREEDOM`.
        """
        if self.offsets is not None:
            prior = prior.loosened(HAND_POSE, POSE_FREEDOM)
        return prior.with_shape(self.betas, _HELD**2 * np.eye(len(self.betas)))

    def worn(self, model: HandModel) -> HandModel:
        """A left or right hand model with this person's landmarks."""
        return model if self.offsets is None else marked_at(model, self.offsets)

    def save(self, path: Path) -> None:
        """Write as JSON, all at once: a reader never sees half a file."""
        content: dict[str, Any] = {
            "format": FORMAT,
            "version": VERSION,
            "model_id": self.model_id,
            "betas": self.betas.tolist(),
            "covariance": self.covariance.tolist(),
            "hands": self.hands,
            "effective": round(self.effective, 2),
            "landmarks": self.landmarks,
            "date": self.date,
            "noise": np.round(self.noise, 4).tolist(),
            "residual": round(self.residual, 4) if np.isfinite(self.residual) else None,
        }
        if self.offsets is not None and self.offsets_sigma is not None:
            content["offsets_mm"] = np.round(1e3 * self.offsets, 3).tolist()
            content["offsets_sigma_mm"] = np.round(1e3 * self.offsets_sigma, 3).tolist()
            if self.correlation is not None:
                below = [row[:i] for i, row in enumerate(np.round(self.correlation, 5).tolist())]
                content["correlation_below_diagonal"] = below
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_name(f".{path.name}.{os.getpid()}")
        lines = (f" {json.dumps(name)}: {json.dumps(value)}" for name, value in content.items())
        scratch.write_text("{\n" + ",\n".join(lines) + "\n}\n")
        os.replace(scratch, path)


def load_shape(path: Path, model_id: str) -> HandShape:
    """Read and check a shape file for the (right) hand model ``model_id``.

    Raises ``FileNotFoundError`` without the file and ``ValueError`` for one that is no shape, of
    another version, or of another hand model; both say what to do.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"no hand shape at {path}: `hand-mesh calibrate-shape` or ~/calibrate_shape makes one"
        )
    try:
        content = json.loads(path.read_text())
    except ValueError as error:  # JSON and Unicode errors
        raise ValueError(f"{path} is not a hand shape: {error}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"{path} is not a hand shape: its format is not {FORMAT!r}")
    if content.get("version") not in (_OLD, VERSION):
        raise ValueError(
            f"{path} has version {content.get('version')!r} of the format, expected {VERSION}: "
            "calibrate the shape again"
        )
    try:
        shape = _parsed(content)
    except (KeyError, TypeError, ValueError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"{path} is not a good hand shape: {reason}") from error
    if shape.model_id != model_id:
        raise ValueError(
            f"{path} holds a shape of the hand model {shape.model_id!r}, but the one in use is "
            f"{model_id!r}: calibrate the shape with this model, or choose the other model"
        )
    return shape


def _parsed(content: Mapping[str, Any]) -> HandShape:
    betas = np.array(content["betas"], dtype=np.float64)
    covariance = np.array(content["covariance"], dtype=np.float64)
    if betas.shape != (10,) or covariance.shape != (10, 10):
        raise ValueError(f"betas are {betas.shape} and covariance {covariance.shape}")
    if not (np.isfinite(betas).all() and np.isfinite(covariance).all()):
        raise ValueError("betas and covariance must be finite")
    if not np.allclose(covariance, covariance.T, rtol=1e-6, atol=1e-12):
        raise ValueError("the covariance is not symmetric")
    if np.linalg.eigvalsh(covariance).min() <= 0:
        raise ValueError("the covariance is not positive definite")
    offsets, sigma = (_millimetres(content, name) for name in ("offsets_mm", "offsets_sigma_mm"))
    noise = np.array(content.get("noise", np.ones(21)), dtype=np.float64)
    if noise.shape != (21,) or not (np.isfinite(noise) & (noise > 0)).all():
        raise ValueError("the noise must be 21 positive numbers")
    residual = content.get("residual")
    return HandShape(
        model_id=str(content["model_id"]),
        betas=betas,
        covariance=covariance,
        hands=int(content["hands"]),
        effective=float(content["effective"]),
        landmarks=str(content["landmarks"]),
        date=str(content["date"]),
        offsets=offsets,
        offsets_sigma=sigma,
        correlation=_correlation(content),
        noise=noise,
        residual=float("nan") if residual is None else float(residual),
    )


def _millimetres(content: Mapping[str, Any], name: str) -> Array | None:
    """The (21, 3) of that name in metres; None without."""
    if name not in content:
        return None
    values = 1e-3 * np.array(content[name], dtype=np.float64)
    if values.shape != (21, 3) or not np.isfinite(values).all():
        raise ValueError(f"{name} must be 21 rows of three finite numbers")
    return values


def _correlation(content: Mapping[str, Any]) -> Array | None:
    if "correlation_below_diagonal" not in content:
        return None
    rows = content["correlation_below_diagonal"]
    if [len(row) for row in rows] != list(range(_NUMBERS)):
        raise ValueError(f"the correlation must be {_NUMBERS} rows of 0, 1, 2... numbers")
    below = np.zeros((_NUMBERS, _NUMBERS))
    below[np.tril_indices(_NUMBERS, -1)] = np.concatenate(rows)
    correlation = below + below.T + np.eye(_NUMBERS)
    if not (np.isfinite(correlation).all() and np.linalg.eigvalsh(correlation).min() > 0):
        raise ValueError("the correlation is not positive definite")
    return correlation


def bone_lengths(model: HandModel, betas: Array, covariance: Array) -> tuple[Array, Array]:
    """Lengths and one sigma, (20,) each, m, of the bones that end in joints 1 to 20 (OpenPose).

    The fingertips' are those of the zero pose; the others are the same in every pose.
    """
    params = np.zeros((1, NUM_PARAMS))
    params[0, BETAS] = betas
    joints, jacobian = joints_and_jacobian(model, params)
    starts, ends = np.array(BONES).T
    bones = joints[0, ends] - joints[0, starts]
    lengths = np.linalg.norm(bones, axis=-1)
    by_betas = jacobian[0, ends][..., BETAS] - jacobian[0, starts][..., BETAS]
    slope = np.einsum("jd,jdb->jb", bones / lengths[:, None], by_betas)
    return lengths, np.sqrt(np.einsum("jb,bc,jc->j", slope, covariance, slope))


def palm_length(model: HandModel, betas: Array, covariance: Array) -> tuple[float, float]:
    """Distance from wrist to middle knuckle and its sigma, m."""
    lengths, sigmas = bone_lengths(model, betas, covariance)
    return float(lengths[8]), float(sigmas[8])
