from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.transform import Rotation

from hand_mesh_ros.geometry import rotations as rot

vectors = arrays(np.float64, (4, 3), elements=st.floats(-1.7, 1.7))


@given(vectors)
def test_exp_log_and_quaternions_agree_with_scipy(omega: np.ndarray) -> None:
    want = Rotation.from_rotvec(omega)
    R = rot.exp_so3(omega)
    np.testing.assert_allclose(R, want.as_matrix(), atol=1e-12)
    np.testing.assert_allclose(rot.exp_so3(rot.log_so3(R)), R, atol=1e-9)
    np.testing.assert_allclose(rot.quaternion_to_matrix(rot.matrix_to_quaternion(R)), R, atol=1e-12)
    np.testing.assert_allclose(np.abs((rot.matrix_to_quaternion(R) * want.as_quat()).sum(-1)), 1)


@given(vectors, arrays(np.float64, (4, 3), elements=st.floats(-1, 1)))
def test_left_jacobian_is_the_derivative(omega: np.ndarray, direction: np.ndarray) -> None:
    h = 1e-6
    moved = rot.exp_so3(omega + h * direction) @ np.swapaxes(rot.exp_so3(omega), -1, -2)
    want = (rot.left_jacobian(omega) @ direction[..., None])[..., 0]
    np.testing.assert_allclose(rot.log_so3(moved) / h, want, atol=1e-4)


def test_half_turns_survive(rng: np.random.Generator) -> None:
    axis = rng.normal(size=(50, 3))
    axis /= np.linalg.norm(axis, axis=-1, keepdims=True)
    R = rot.exp_so3(axis * np.pi)
    np.testing.assert_allclose(rot.exp_so3(rot.log_so3(R)), R, atol=1e-9)


def test_rigid_inverse_and_projection(rng: np.random.Generator) -> None:
    T = rot.rigid(rot.exp_so3(rng.normal(size=3)), rng.normal(size=3))
    np.testing.assert_allclose(rot.invert_rigid(T) @ T, np.eye(4), atol=1e-12)
    noisy = T[:3, :3] + 1e-3 * rng.normal(size=(3, 3))
    R = rot.project_to_so3(noisy)
    np.testing.assert_allclose(R @ R.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(R) > 0


@given(vectors)
def test_axis_angle_and_quaternions(omega: np.ndarray) -> None:
    q = rot.axis_angle_to_quaternion(omega)
    want = Rotation.from_rotvec(omega).as_quat(canonical=True)
    np.testing.assert_allclose(q * np.sign((q * want).sum(-1, keepdims=True)), want, atol=1e-12)
    assert (q[:, 3] >= 0).all()
    np.testing.assert_allclose(rot.rotation_vector(q), omega, atol=1e-8)


def test_orders_of_quaternions() -> None:
    """A quarter turn about z, written out."""
    half = np.sqrt(0.5)
    q = rot.axis_angle_to_quaternion(np.array([0.0, 0.0, np.pi / 2]))
    np.testing.assert_allclose(q, [0, 0, half, half], atol=1e-12)
    np.testing.assert_allclose(rot.xyzw_to_wxyz(q), [half, 0, 0, half], atol=1e-12)
    np.testing.assert_array_equal(rot.wxyz_to_xyzw(rot.xyzw_to_wxyz(np.arange(4.0))), np.arange(4))


def test_layouts_of_six_numbers() -> None:
    """Columns (1 4 7) and (2 5 8) of a matrix numbered row by row."""
    numbered = np.arange(1.0, 10.0).reshape(3, 3)
    assert rot.matrix_to_6d(numbered).tolist() == [1, 4, 7, 2, 5, 8]
    assert rot.matrix_to_6d(numbered, interleaved=True).tolist() == [1, 2, 4, 5, 7, 8]


@given(vectors)
def test_six_numbers_there_and_back(omega: np.ndarray) -> None:
    R = rot.exp_so3(omega)
    for interleaved in (False, True):
        sixd = rot.matrix_to_6d(R, interleaved=interleaved)
        back = rot.matrix_from_6d(3.0 * sixd, interleaved=interleaved)
        np.testing.assert_allclose(back, R, atol=1e-9)


def test_six_numbers_that_are_no_columns(rng: np.random.Generator) -> None:
    raw = rng.normal(size=(50, 6))
    R = rot.matrix_from_6d(raw)
    np.testing.assert_allclose(R @ np.swapaxes(R, -1, -2), np.eye(3) + 0 * R, atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(R), 1, atol=1e-12)
    first = raw[:, :3] / np.linalg.norm(raw[:, :3], axis=1, keepdims=True)
    np.testing.assert_allclose(R[:, :, 0], first, atol=1e-12)
    assert np.abs((R[:, :, 2] * raw[:, 3:]).sum(-1)).max() < 1e-12  # b lies in the plane of x, y
    parallel = np.array([[0, 0, 2.0, 0, 0, -1.0], [0.0] * 6])
    degenerate = rot.matrix_from_6d(parallel)
    np.testing.assert_allclose(np.linalg.det(degenerate), 1, atol=1e-12)
    np.testing.assert_allclose(degenerate[0, :, 0], [0, 0, 1])


def test_six_numbers_are_hamer_s(shared_data: Path) -> None:
    """HaMeR reads the six numbers column after column; interleaved gives other rotations."""
    from hand_mesh_ros.hand.checkpoints import read_checkpoint

    mean = read_checkpoint(shared_data / "parity" / "hamer_tiny.pt", "mano_head.init_hand_pose")
    with np.load(shared_data / "parity" / "hamer_tiny_io.npz") as arrays:
        sixd = (arrays["decpose_out"] + mean[""]).reshape(2, 16, 6)
        want = np.concatenate(
            [arrays[f"pred_mano_params.{name}"] for name in ("global_orient", "hand_pose")], axis=1
        )
    np.testing.assert_allclose(rot.matrix_from_6d(sixd), want, atol=1e-5)
    assert np.abs(rot.matrix_from_6d(sixd, interleaved=True) - want).max() > 0.1
