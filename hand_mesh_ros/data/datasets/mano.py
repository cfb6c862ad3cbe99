"""From MANO's numbers as a data set stores them to parameters in the camera's axes.

Three things stand between: poses relative to MANO's mean pose or in its components, translations
that are added in other axes (the global rotation turns about the wrist, which is not the model's
origin), and hands that are placed by a joint. Each needs arrays of MANO's own file; without it the
numbers stay as they are, in `HandSample.stored_mano`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hand_mesh_ros.data.datasets.base import DatasetInfo
from hand_mesh_ros.data.samples import PoseKind, StoredMano
from hand_mesh_ros.hand.conventions import move_hand, pose_from_pca, pose_with_mean
from hand_mesh_ros.hand.kinematics import HandPosed, forward
from hand_mesh_ros.hand.model import HandModel, load_hand_model
from hand_mesh_ros.types import FloatArray, ManoParameters, Side

HandModels = Mapping[Side, HandModel]
_SAME = 1.0  # m; the sum of differences below which a left hand's first axes are a right hand's


class Posed(NamedTuple):
    """A hand in the camera's axes; both None where no model was given that it needs."""

    mano: ManoParameters | None
    vertices: FloatArray | None  # (V, 3) m, None also where the hand's place is not known


def load_hand_models(right: Path, left: Path | None = None) -> HandModels:
    """Models of both sides from MANO's files; without a left file, the right one mirrored.

    Raises as `load_hand_model` does.
    """
    models: dict[Side, HandModel] = {"right": load_hand_model(right, "right")}
    models["left"] = load_hand_model(right if left is None else left, "left")
    return with_left_corrected(models)


def with_left_corrected(models: HandModels) -> HandModels:
    """Models whose left hand grows to its own side.

    MANO_LEFT.pkl as published has the x of its shape directions as in the right hand, not
    mirrored, so that betas of fits to left hands (InterHand2.6M's, for one) deform it wrongly. Its
    users' common remedy: where the sum of |left - right| over x is below 1, negate x.
    """
    if not {"left", "right"} <= models.keys():
        return models
    left, right = models["left"], models["right"]
    if left.shapedirs.shape != right.shapedirs.shape:
        return models
    if np.abs(left.shapedirs[:, 0] - right.shapedirs[:, 0]).sum() >= _SAME:
        return models
    return {**models, "left": replace(left, shapedirs=left.shapedirs * [[-1.0], [1.0], [1.0]])}


def check_models(models: HandModels | None, pose: PoseKind, info: DatasetInfo) -> None:
    """ValueError where models cannot make total rotations of the data set's poses."""
    for model in (models or {}).values():
        lacks = [
            what
            for what, there in (
                ("mean pose", model.hands_mean is not None or pose == "total"),
                ("pose components", model.hands_components is not None or pose != "pca"),
            )
            if not there
        ]
        if lacks:
            raise ValueError(
                f"{info.title} stores poses that need MANO's {' and '.join(lacks)}, which hand "
                f"model '{model.model_id}' does not have; give models of MANO's own files, or none"
            )


def num_vertices(models: HandModels | None, info: DatasetInfo) -> int:
    """How many vertices a mesh of the data set must have."""
    return next((m.num_vertices for m in (models or {}).values()), info.vertices)


def posed(stored: StoredMano, models: HandModels | None) -> Posed:
    """A stored hand's parameters and mesh in the camera's axes, as far as they can be had."""
    model = (models or {}).get(stored.side)
    if model is None:
        return Posed(_without_model(stored), None)
    mano = to_parameters(stored, model)
    if not np.isfinite(mano.transl).all():
        return Posed(mano, None)
    hand = _forward(model, mano.global_orient, mano.hand_pose, mano.betas, mano.transl)
    assert hand.vertices is not None
    return Posed(mano, np.asarray(hand.vertices[0]))


def to_parameters(stored: StoredMano, model: HandModel) -> ManoParameters:
    """Total rotations and the translation in the camera's axes; NaN for an unknown place.

    Raises ValueError where the model has no mean pose or components and they are needed.
    """
    if stored.pose == "pca":
        pose = pose_from_pca(model, stored.hand_pose)
    elif stored.pose == "mean_relative":
        pose = pose_with_mean(model, stored.hand_pose)
    else:
        pose = stored.hand_pose
    transl = _transl(stored, model, pose)
    T = stored.T_camera_stored
    moved = move_hand(model, T[:3, :3], T[:3, 3], stored.global_orient, stored.betas, transl)
    return ManoParameters(
        model.model_id, stored.side, moved.global_orient, pose, stored.betas, moved.transl
    )


def _transl(stored: StoredMano, model: HandModel, pose: FloatArray) -> FloatArray:
    if stored.transl is not None:
        return stored.transl
    if stored.anchor is None:
        return np.full(3, np.nan)
    joint, place = stored.anchor
    at_origin = _forward(model, stored.global_orient, pose, stored.betas, np.zeros(3))
    return np.asarray(place - at_origin.joints[0, joint])


def _forward(model: HandModel, *parts: FloatArray) -> HandPosed:
    orient, pose, betas, transl = (part[None] for part in parts)
    return forward(model, orient, pose, betas, transl)


def _without_model(stored: StoredMano) -> ManoParameters | None:
    """What can be said without a model: total rotations that are in the camera's axes already."""
    same_axes = np.array_equal(stored.T_camera_stored, np.eye(4))
    if stored.pose != "total" or not same_axes or stored.anchor is not None:
        return None
    transl = np.full(3, np.nan) if stored.transl is None else stored.transl
    return ManoParameters(
        f"mano_{stored.side}",
        stored.side,
        stored.global_orient,
        stored.hand_pose,
        stored.betas,
        transl,
    )
