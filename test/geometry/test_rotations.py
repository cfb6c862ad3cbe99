from __future__ import annotations

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
