"""Textures of a recording's tracks as files, gathered while it is reconstructed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from hand_mesh_ros.hand.kinematics import forward
from hand_mesh_ros.hand.layout import NUM_HAND_POSE
from hand_mesh_ros.hand.model import HandModel
from hand_mesh_ros.perception.hand_texture import Textured
from hand_mesh_ros.render.mesh_files import ColouredMesh, write_glb, write_obj
from hand_mesh_ros.types import Side


def textured_mesh(hand: Textured, models: Mapping[Side, HandModel]) -> ColouredMesh:
    """The hand in its model's rest pose and its own shape; ``observed`` is 1 or 0 a vertex."""
    model, texture = models[hand.side], hand.texture
    zero = np.zeros((1, 3))
    posed = forward(model, zero, np.zeros((1, NUM_HAND_POSE)), hand.betas[None], zero)
    assert posed.vertices is not None
    return ColouredMesh(
        name=f"{hand.side}_{hand.track_id}",
        vertices=posed.vertices[0],
        faces=model.faces,
        colours=texture.albedo,
        attributes={"observed": texture.observed.astype(int), "sigma": texture.sigma.round(4)},
        extras={
            "track_id": hand.track_id,
            "side": hand.side,
            "model_id": model.model_id,
            "betas": hand.betas.round(4).tolist(),
            "pictures": hand.pictures,
            "observed_share": round(float(texture.observed.mean()), 4),
        },
    )


def write_texture(folder: Path, hand: Textured, models: Mapping[Side, HandModel]) -> list[Path]:
    """``texture_<side>_<track>.glb``, ``.obj`` and the ``.json`` beside it; the files written."""
    mesh = textured_mesh(hand, models)
    path = folder / f"texture_{mesh.name}.glb"
    write_glb(path, mesh)
    write_obj(path.with_suffix(".obj"), mesh)
    return [path, path.with_suffix(".obj"), path.with_suffix(".json")]
