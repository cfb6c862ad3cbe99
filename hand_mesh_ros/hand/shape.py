"""A person's hands: betas with their covariance, landmarks, noise; their file and their use.

Left and right hands of a person share one shape: the left model is the right one's mirror image,
and mirroring leaves betas as they are. So do the places where a network marks its landmarks on
this person's hands, and how well it does.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.geometry.rotations import left_jacobian
from hand_mesh_ros.hand.kinematics import (
    BETAS,
    GLOBAL_ORIENT,
    HAND_POSE,
    NUM_PARAMS,
    joints_and_jacobian,
)
from hand_mesh_ros.hand.landmarks import marked_at
from hand_mesh_ros.hand.layout import BONES
from hand_mesh_ros.hand.model import HandModel
from hand_mesh_ros.hand.observations import Prior
from hand_mesh_ros.hand.solver import Fit

Array = NDArray[np.float64]

FORMAT: Final = "hand_mesh_shape"
VERSION: Final = 2
_OLD: Final = 1  # betas only
POSE_FREEDOM: Final = 4.0
"""Factor on the pose prior's sigmas where a person's landmarks are known.

The prior is as tight as it is because it has to make up for landmarks that lie elsewhere than on
the average hand; once their places are known, it would only keep the fit from what was seen.
"""
# One sigma of betas that are held: a few hundredths of a micrometre of a bone.
_HELD = 1e-4


@dataclass(frozen=True, eq=False)
class HandShape:
    """``betas`` (10,) with ``covariance`` (10, 10), of the right hand model ``model_id``.

    ``hands`` were seen, which tell as much as ``effective`` hands whose errors are independent;
    ``landmarks`` names the network that saw them, ``date`` the day (ISO 8601). ``offsets``
    (21, 3), m, is where it marks this person's landmarks, as in `LandmarkModel`, each known to
    ``offsets_sigma`` (21, 3); None: where it usually does. ``noise`` (21,) is how many times the
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
    noise: Array = field(default_factory=lambda: np.ones(21))
    residual: float = float("nan")

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
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_name(f".{path.name}.{os.getpid()}")
        scratch.write_text(json.dumps(content, indent=1) + "\n")
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


def with_shape_uncertainty(model: HandModel, held: Fit, covariance: Array) -> Fit:
    """A fit with held betas, and covariances that know that betas are only known so well.

    Betas err by ``covariance`` (10, 10), and the other parameters follow: x = x(betas) with the
    slope G = cov(x, betas) cov(betas)^-1 ("consider" covariance; Bierman 1977, ch. VIII). In one
    view this is how an error of the size becomes one of the distance.
    """
    before = held.covariance[BETAS, BETAS]
    slope = np.linalg.solve(before, held.covariance[BETAS]).T  # (61, 10); identity at betas
    joints_slope, wrist_slope = _slopes(model, held.params, slope)
    more = covariance - before
    return replace(
        held,
        covariance=held.covariance + slope @ more @ slope.T,
        joint_covariance=held.joint_covariance
        + joints_slope @ more @ np.swapaxes(joints_slope, -1, -2),
        wrist_covariance=held.wrist_covariance + wrist_slope @ more @ wrist_slope.T,
    )


def _slopes(model: HandModel, params: Array, slope: Array) -> tuple[Array, Array]:
    """How joints (21, 3, 10) and wrist pose (6, 10) follow betas."""
    jacobian = joints_and_jacobian(model, params[None])[1][0]
    joints = jacobian @ slope
    turn = left_jacobian(params[GLOBAL_ORIENT]) @ slope[GLOBAL_ORIENT]
    return joints, np.concatenate([joints[0], turn])
