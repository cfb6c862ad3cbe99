"""What a landmark is: where on the hand model a network's 21 points lie, and how well.

A network marks what its annotators marked: its knuckles lie deeper in the palm than the axes about
which fingers bend, its thumb base on the thenar, its tips short of the fingers' ends. A few
millimetres of that are several pixels. An observation model, named after its source, holds one
offset a landmark, fixed to the bone that ends in it, and the landmark's noise relative to the
others'. `hand-mesh model landmarks` measures both on renders of the hand model, whose joints are
known (`evaluation.landmark_model`).

Other sources by name: ``mano`` is a data set's joints, which are the model's own with the tips of
its tip set; ``hint`` is what people mark in photographs (`evaluation.landmark_sections`).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np

from hand_mesh_ros.geometry.arrays import AnyArray
from hand_mesh_ros.hand.kinematics import Points, points_and_jacobian
from hand_mesh_ros.hand.mirror import mirror_points
from hand_mesh_ros.hand.model import FloatArray, HandModel

PALM: Final = np.array([0, 1, 5, 9, 13, 17])
"""OpenPose joints that are rigid to the wrist in MANO's skeleton."""

DATA: Final = Path(__file__).parent / "data"
MEDIAPIPE: Final = "mediapipe"


@dataclass(frozen=True, eq=False)
class LandmarkModel:
    """``offsets`` (21, 3) m in the right model's zero pose and axes; ``noise`` (21,) relative to

    the mean landmark's. ``source`` names the network or data set, ``model_id`` the hand model.
    ``misfit``: factors on the covariance of a hand fitted to one view and to several, a unit of the
    fit's mean squared reprojection error in sigmas: landmarks err together, and the worse they
    agree with any hand, the further. Zeros: as if each erred for itself.
    """

    source: str
    model_id: str
    offsets: FloatArray
    noise: FloatArray
    misfit: tuple[float, float] = (0.0, 0.0)

    def save(self, path: Path) -> None:
        """Write as JSON, millimetres to two digits."""
        content = {
            "source": self.source,
            "model_id": self.model_id,
            "offsets_mm": np.round(1e3 * self.offsets, 2).tolist(),
            "noise": np.round(self.noise, 3).tolist(),
            "misfit": np.round(self.misfit, 1).tolist(),
        }
        path.write_text(json.dumps(content, indent=1) + "\n")


@lru_cache(maxsize=8)
def load_landmark_model(source: str = MEDIAPIPE) -> LandmarkModel:
    """The observation model of a source; ``ValueError`` lists the known ones."""
    path = DATA / f"landmarks_{source}.json"
    if not path.is_file():
        known = sorted(p.stem.removeprefix("landmarks_") for p in DATA.glob("landmarks_*.json"))
        raise ValueError(f"unknown landmark source {source!r}: choose one of {', '.join(known)}")
    content = json.loads(path.read_text())
    return LandmarkModel(
        content["source"],
        content["model_id"],
        1e-3 * np.array(content["offsets_mm"]),
        np.array(content["noise"]),
        tuple(content.get("misfit", (0.0, 0.0))),
    )


@lru_cache(maxsize=8)
def landmark_noise_id(source: str = MEDIAPIPE) -> str:
    """Names what was measured of a source: ``mediapipe-`` and a hash of all the numbers."""
    model = load_landmark_model(source)
    numbers = np.concatenate([model.offsets.ravel(), model.noise, model.misfit])
    return f"{source}-{hashlib.sha256(numbers.astype('<f8').tobytes()).hexdigest()[:10]}"


@lru_cache(maxsize=16)
def marked_by(model: HandModel, source: str) -> HandModel:
    """The model with the landmarks of a named source: what the solver takes observations for.

    ``ValueError`` lists the known sources.
    """
    return marked_at(model, load_landmark_model(source).offsets)


def marked_at(model: HandModel, offsets: FloatArray) -> HandModel:
    """The model with its landmarks at ``offsets`` (21, 3), m, from the joints of the right hand.

    Each is fixed to the bone that ends in its joint, in the right model's zero pose and axes; on a
    left model they are mirrored.
    """
    there = np.array(offsets) if model.side == "right" else mirror_points(offsets)
    return replace(model, landmarks=there)


@lru_cache(maxsize=16)
def offsets_of(model: HandModel) -> FloatArray:
    """Offsets (21, 3), m, of the landmarks from a model's joints, in the model's axes.

    The model's own where it has been `marked_by` a source or `marked_at` a person's places, else
    MediaPipe's.
    """
    if model.landmarks is not None:
        return model.landmarks
    offsets = load_landmark_model(MEDIAPIPE).offsets
    return offsets if model.side == "right" else mirror_points(offsets)


def landmarks_and_jacobian(model: HandModel, params: AnyArray) -> tuple[AnyArray, AnyArray]:
    """Landmarks (B, 21, 3) of hands ``params`` (B, P) and their Jacobian (B, 21, 3, P).

    NumPy or torch.
    """
    found = landmark_points(model, params)
    return found.points, found.jacobian


def landmark_points(model: HandModel, params: AnyArray) -> Points:
    """`landmarks_and_jacobian`, and what it takes to have the joints as well."""
    return points_and_jacobian(model, params, offsets_of(model))
