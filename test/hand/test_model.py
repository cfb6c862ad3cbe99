"""The shipped free hand: placement, size, mesh, regressor, errors of the loader."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hand_mesh_ros.hand.kinematics import forward, joints_and_jacobian
from hand_mesh_ros.hand.layout import BONES
from hand_mesh_ros.hand.model import FREE_HAND, HandModel, load_hand_model

SHAPES = np.random.default_rng(11).normal(0, 1, (200, 10)).clip(-2.5, 2.5)


@pytest.fixture(scope="module")
def model() -> HandModel:
    return load_hand_model()


def rest_joints(model: HandModel, betas: np.ndarray) -> np.ndarray:
    params = np.zeros((len(betas), 61))
    params[:, 48:58] = betas
    return joints_and_jacobian(model, params)[0]


def test_canonical_placement(model: HandModel) -> None:
    """Right hand flat: fingers along -x, thumb towards +z, straight and a little spread."""
    joints = rest_joints(model, np.zeros((1, 10)))[0]
    assert 0.08 < joints[0, 0] < 0.11 and np.abs(joints[0, 1:]).max() < 0.01
    knuckles = joints[[5, 9, 13, 17]]
    assert (np.diff(knuckles[:, 2]) < -0.012).all()  # index to little: away from the thumb
    assert (joints[[2, 3, 4], 2] > joints[5, 2]).all()
    for first in (5, 9, 13, 17):
        segments = np.diff(joints[first : first + 4], axis=0)
        segments /= np.linalg.norm(segments, axis=1, keepdims=True)
        assert (segments[:, 0] < -0.93).all()
        assert segments[1] @ segments[0] > 0.998
        assert segments[2] @ segments[0] > 0.96  # the tip vertex lies on the nail's free edge
    spread = np.arctan2(*(joints[[8, 12, 16, 20]] - knuckles)[:, [2, 0]].T * [[1], [-1]])
    assert (np.diff(spread) < np.deg2rad(-4)).all()


def test_sizes_are_those_of_adults(model: HandModel) -> None:
    mean = rest_joints(model, np.zeros((1, 10)))[0]
    assert 0.092 < np.linalg.norm(mean[9] - mean[0]) < 0.095
    length = mean[0, 0] - model.v_template[:, 0].min()
    assert 0.180 < length < 0.200  # wrist crease to middle fingertip
    joints = rest_joints(model, SHAPES)
    palms = np.linalg.norm(joints[:, 9] - joints[:, 0], axis=1)
    assert 0.003 < palms.std() < 0.008
    assert (palms > 0.075).all() and (palms < 0.112).all()


def test_every_bone_keeps_a_sane_length_in_every_shape(model: HandModel) -> None:
    joints = rest_joints(model, SHAPES)
    pairs = np.array(BONES)
    lengths = np.linalg.norm(joints[:, pairs[:, 1]] - joints[:, pairs[:, 0]], axis=-1)
    ratio = lengths / lengths.mean(0)
    assert ratio.std(0).max() < 0.09 and ratio.min() > 0.65 and ratio.max() < 1.35


def test_arrays_are_what_skinning_needs(model: HandModel) -> None:
    np.testing.assert_allclose(model.lbs_weights.sum(1), 1, atol=1e-6)
    np.testing.assert_allclose(model.J_regressor.sum(1), 1, atol=1e-6)
    assert model.lbs_weights.min() >= 0 and model.J_regressor.min() >= 0
    assert ((model.J_regressor > 0).sum(1) <= 48).all()
    assert model.albedo is not None and 0 < model.albedo.min() and model.albedo.max() < 1


def test_components_are_ordered_and_one_sigma(model: HandModel) -> None:
    size = np.sqrt((model.shapedirs**2).sum(1).mean(0))
    assert (np.diff(size) < 0).all()
    assert model.shape_std is not None
    np.testing.assert_allclose(size, model.shape_std, atol=1e-6)
    assert 0.004 < size[0] < 0.008 and size[-1] > 2e-4
    gram = np.einsum("vds,vdt->st", model.shapedirs, model.shapedirs)
    off = gram - np.diag(np.diag(gram))
    assert np.abs(off).max() < 1e-3 * gram.max()


def test_mesh_is_closed_and_faces_outwards(model: HandModel) -> None:
    faces = model.faces
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    assert len(np.unique(edges, axis=0)) == len(edges)
    assert len(np.unique(np.sort(edges, axis=1), axis=0)) * 2 == len(edges)
    assert len(np.unique(faces)) == model.num_vertices == len(edges) // 2 - len(faces) + 2
    a, b, c = (model.v_template[faces[:, i]] for i in range(3))
    volume = np.einsum("fi,fi->", a, np.cross(b, c)) / 6
    assert 2.5e-4 < volume < 5.5e-4  # an adult's hand and wrist displace about 0.4 litres


def test_texture_coordinates_cover_every_corner(model: HandModel) -> None:
    assert model.uv is not None and model.uv_faces is not None
    assert model.uv.min() >= 0 and model.uv.max() <= 1
    corners = model.uv[model.uv_faces]
    u, v = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    area = np.abs(u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0])
    assert (area > 0).mean() > 0.98  # the cap at the wrist has none


def test_betas_zero_are_the_template(model: HandModel) -> None:
    posed = forward(model, *(np.zeros((1, n)) for n in (3, 45, 10, 3)))
    np.testing.assert_allclose(posed.vertices, model.v_template[None], atol=1e-12)


def test_a_file_of_the_same_layout_loads(model: HandModel, tmp_path: Path) -> None:
    from hand_mesh_ros.hand.build import write_hand_model

    path = tmp_path / "mine.npz"
    write_hand_model(replace(model, model_id="mine", uv=None, uv_faces=None), path)
    mine = load_hand_model(path)
    assert mine.model_id == "mine" and mine.uv is None
    np.testing.assert_allclose(mine.shapedirs, model.shapedirs, atol=1e-7)
    left = load_hand_model(path, side="left")
    assert left.side == "left" and left.model_id == "mine_mirrored"


def test_loading_says_what_is_wrong(model: HandModel, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_hand_model(tmp_path / "nowhere.npz")
    np.savez(tmp_path / "part.npz", v_template=model.v_template)
    with pytest.raises(ValueError, match=r"part\.npz.*shapedirs.*missing; expected"):
        load_hand_model(tmp_path / "part.npz")
    with pytest.raises(ValueError, match=r"lbs_weights has shape .* expected"):
        replace(model, lbs_weights=model.lbs_weights[:-1])


def test_a_model_cannot_be_changed(model: HandModel) -> None:
    with pytest.raises(ValueError, match="read-only"):
        model.v_template[0] = 0
    assert FREE_HAND.stat().st_size < 1_000_000
