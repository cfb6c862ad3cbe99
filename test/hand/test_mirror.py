"""Mirroring: mirrored parameters on the mirrored model are the mirrored hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hand_mesh_ros.geometry.rotations import exp_so3
from hand_mesh_ros.hand import mirror
from hand_mesh_ros.hand.kinematics import forward
from hand_mesh_ros.hand.model import HandModel, load_hand_model

RNG = np.random.default_rng(3)
PARAMS = RNG.normal(0, 0.7, (5, 62))
PARAMS[:, 61] = RNG.uniform(0.8, 1.2, 5)


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "correctives"])
def model(request: pytest.FixtureRequest) -> HandModel:
    model = load_hand_model()
    if not request.param:
        return model
    return replace(model, posedirs=RNG.normal(0, 2e-3, model.posedirs.shape))


def pose(model: HandModel, params: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    parts = np.split(params[:, :61], [3, 48, 58], axis=1)
    posed = forward(model, *parts, scale=params[:, 61])
    assert posed.vertices is not None
    return posed.vertices, posed.joints


def test_mirrored_parameters_on_the_mirrored_model(model: HandModel) -> None:
    right = pose(model, PARAMS)
    left = pose(mirror.mirror_model(model), mirror.mirror_params(PARAMS))
    for a, b in zip(right, left, strict=True):
        np.testing.assert_allclose(mirror.mirror_points(a), b, atol=1e-12)


def test_mirroring_twice_is_the_identity(model: HandModel) -> None:
    twice = mirror.mirror_model(mirror.mirror_model(model))
    assert twice.side == "right" and twice.model_id == model.model_id
    for name in ("v_template", "shapedirs", "posedirs", "faces", "uv_faces"):
        np.testing.assert_array_equal(getattr(twice, name), getattr(model, name))
    np.testing.assert_array_equal(mirror.mirror_params(mirror.mirror_params(PARAMS)), PARAMS)


def test_mirrored_faces_still_face_outwards(model: HandModel) -> None:
    left = mirror.mirror_model(model)
    a, b, c = (left.v_template[left.faces[:, i]] for i in range(3))
    assert np.einsum("fi,fi->", a, np.cross(b, c)) > 0


def test_matrices_and_axis_angles_agree() -> None:
    rotations = RNG.normal(0, 1, (7, 3))
    np.testing.assert_allclose(
        mirror.mirror_matrices(exp_so3(rotations)),
        exp_so3(mirror.mirror_axis_angle(rotations)),
        atol=1e-12,
    )
