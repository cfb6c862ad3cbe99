"""Named landmark observation models, and hand models that carry one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hand_mesh_ros.evaluation.landmark_sections import measure_sections
from hand_mesh_ros.hand import landmarks
from hand_mesh_ros.hand.kinematics import BONE_OF_POINT, NUM_PARAMS, joints_and_jacobian
from hand_mesh_ros.hand.landmarks import (
    LandmarkModel,
    landmarks_and_jacobian,
    load_landmark_model,
    marked_at,
    marked_by,
    offsets_of,
)
from hand_mesh_ros.hand.mirror import mirror_model, mirror_params, mirror_points
from hand_mesh_ros.hand.model import load_hand_model
from hand_mesh_ros.hand.observations import Observation, Points3D, default_prior
from hand_mesh_ros.hand.shape_evidence import bone_rotations
from hand_mesh_ros.hand.solver import fit

RIGHT = load_hand_model()


def some_hands(count: int = 4) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.4, (count, NUM_PARAMS))


def test_a_data_sets_joints_are_the_models() -> None:
    params = some_hands()
    points, jacobian = landmarks_and_jacobian(marked_by(RIGHT, "mano"), params)
    joints, by_joints = joints_and_jacobian(RIGHT, params)
    np.testing.assert_allclose(points, joints, atol=1e-12)
    np.testing.assert_allclose(jacobian, by_joints, atol=1e-12)


@pytest.mark.parametrize("source", ["mediapipe", "hint", "mano"])
def test_landmarks_hang_on_their_bones(source: str) -> None:
    params = some_hands()
    points = landmarks_and_jacobian(marked_by(RIGHT, source), params)[0]
    joints = joints_and_jacobian(RIGHT, params)[0]
    turned = (bone_rotations(params) @ load_landmark_model(source).offsets[..., None])[..., 0]
    np.testing.assert_allclose(points - joints, turned, atol=1e-12)
    assert len(BONE_OF_POINT) == 21


def test_mirrored_hands_have_mirrored_landmarks() -> None:
    offsets = np.random.default_rng(1).normal(0, 0.004, (21, 3))
    params = some_hands()
    right = marked_at(RIGHT, offsets)
    expected = mirror_points(landmarks_and_jacobian(right, params)[0])
    for left in (mirror_model(right), marked_at(mirror_model(RIGHT), offsets)):
        found = landmarks_and_jacobian(left, mirror_params(params))[0]
        np.testing.assert_allclose(found, expected, atol=1e-9)


def test_without_a_name_they_are_mediapipes() -> None:
    np.testing.assert_array_equal(offsets_of(RIGHT), load_landmark_model("mediapipe").offsets)
    np.testing.assert_array_equal(
        offsets_of(load_hand_model(side="left")),
        mirror_points(load_landmark_model("mediapipe").offsets),
    )


def test_the_solver_fits_the_landmarks_of_the_model() -> None:
    """A data set's joints are fitted to a tenth of a millimetre, where MediaPipe's rule errs."""
    truth = np.zeros(NUM_PARAMS)
    truth[:3], truth[5], truth[58:] = 0.3, 0.4, 0.1
    joints = joints_and_jacobian(RIGHT, truth[None])[0][0]
    observation = Observation(points=Points3D(joints, np.full(21, 1e-4)))
    error = []
    for model in (marked_by(RIGHT, "mano"), RIGHT):
        found = fit(model, observation, default_prior(model), truth + 0.01)
        error.append(np.linalg.norm(found.joints - joints, axis=-1).mean())
    assert error[0] < 1e-4 < 0.002 < error[1]


def test_an_unknown_source_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="'leap': choose one of hint, mano, mediapipe"):
        marked_by(RIGHT, "leap")


def test_what_people_mark_is_what_the_geometry_says() -> None:
    shipped, measured = load_landmark_model("hint"), measure_sections(RIGHT)
    np.testing.assert_allclose(shipped.offsets, measured.offsets, atol=6e-6)
    assert shipped.model_id == RIGHT.model_id


def test_what_people_mark_lies_inside_the_hand() -> None:
    """The middle of a limb is well within its skin, and off the axis about which it bends."""
    offsets = load_landmark_model("hint").offsets
    points = joints_and_jacobian(RIGHT, np.zeros((1, NUM_PARAMS)))[0][0] + offsets
    depth = np.linalg.norm(RIGHT.v_template[None] - points[:, None], axis=-1).min(axis=1)
    assert (depth > 0.0025).all()
    assert np.linalg.norm(offsets, axis=-1).max() < 0.012
    # Fingers bend about axes near their backs: flesh lies towards the palm, -y.
    assert (offsets[[6, 7, 10, 11, 14, 15, 18, 19], 1] < -0.002).all()


def test_a_model_is_read_as_it_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    """Another source's, beside those that ship; numbers to their digits."""
    monkeypatch.setattr(landmarks, "DATA", tmp_path)
    made = LandmarkModel(
        "mine", RIGHT.model_id, 0.01 * rng.normal(size=(21, 3)), np.ones(21), (3.0, 2.5)
    )
    made.save(tmp_path / "landmarks_mine.json")
    read = load_landmark_model("mine")
    np.testing.assert_allclose(read.offsets, made.offsets, atol=6e-6)
    assert (read.source, read.model_id, read.misfit) == ("mine", RIGHT.model_id, (3.0, 2.5))
    assert (read.noise == 1).all()
