"""Left and right: the one place where hands are mirrored.

The mirror plane is x = 0 of whatever frame the numbers are in (the model's own frame, or the
camera's where the image was flipped left to right). With M = diag(-1, 1, 1) a point p becomes
M p, a rotation R becomes M R M, which negates y and z of its axis-angle, and betas stay as they
are. Mirroring twice gives the original back.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.hand.model import FloatArray, HandModel, IntArray

_M = np.array([-1.0, 1.0, 1.0])
_AXIAL = np.array([1.0, -1.0, -1.0])


def mirror_points(points: NDArray[np.floating]) -> FloatArray:
    """Mirror points or displacements (..., 3): vertices, joints, translations."""
    return np.asarray(points, dtype=np.float64) * _M


def mirror_axis_angle(rotations: NDArray[np.floating]) -> FloatArray:
    """Mirror axis-angle rotations (..., 3 n): a global orientation (3) or a hand pose (45)."""
    vectors = np.asarray(rotations, dtype=np.float64)
    mirrored: FloatArray = vectors.reshape(*vectors.shape[:-1], -1, 3) * _AXIAL
    return mirrored.reshape(vectors.shape)


def mirror_matrices(rotations: NDArray[np.floating]) -> FloatArray:
    """Mirror rotation matrices or 3x3 covariances (..., 3, 3): M R M."""
    return np.asarray(rotations, dtype=np.float64) * (_M[:, None] * _M[None, :])


def mirror_params(params: NDArray[np.floating]) -> FloatArray:
    """Mirror stacked parameters (..., 61 or 62) in the order of `kinematics`.

    The order is global_orient 3, hand_pose 45, betas 10, transl 3 and, if there, scale.
    """
    mirrored = np.array(params, dtype=np.float64)
    mirrored[..., :48] = mirror_axis_angle(mirrored[..., :48])
    mirrored[..., 58:61] = mirror_points(mirrored[..., 58:61])
    return mirrored


def mirror_faces(faces: NDArray[np.integer]) -> IntArray:
    """Reverse the winding of triangles (F, 3), so that they face outwards again."""
    return np.ascontiguousarray(np.asarray(faces, dtype=np.int64)[:, [0, 2, 1]])


def mirror_model(model: HandModel) -> HandModel:
    """The other hand: mirrored parameters on it give the mirrored vertices."""
    # posedirs maps (row, column) of each R - I to a displacement: every one of the three changes.
    signs = np.einsum("r,c,d->rcd", _M, _M, _M)
    posedirs = model.posedirs.reshape(-1, 3, 3, model.num_vertices, 3) * signs[None, :, :, None, :]
    return replace(
        model,
        v_template=mirror_points(model.v_template),
        shapedirs=model.shapedirs * _M[:, None],
        posedirs=posedirs.reshape(model.posedirs.shape),
        faces=mirror_faces(model.faces),
        uv_faces=None if model.uv_faces is None else mirror_faces(model.uv_faces),
        hands_mean=_mirror_pose(model.hands_mean),
        hands_components=_mirror_pose(model.hands_components),
        landmarks=None if model.landmarks is None else mirror_points(model.landmarks),
        side="left" if model.side == "right" else "right",
        model_id=_mirrored_id(model.model_id),
    )


def _mirror_pose(poses: FloatArray | None) -> FloatArray | None:
    return None if poses is None else mirror_axis_angle(poses)


def _mirrored_id(model_id: str) -> str:
    suffix = "_mirrored"
    return model_id[: -len(suffix)] if model_id.endswith(suffix) else model_id + suffix
