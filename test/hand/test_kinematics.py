"""Kinematics: analytic Jacobian against differences, equality with unmodified smplx."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hand_mesh_ros.hand.kinematics import NUM_PARAMS, forward, joints_and_jacobian
from hand_mesh_ros.hand.layout import MANO_TO_OPENPOSE
from hand_mesh_ros.hand.mirror import mirror_model
from hand_mesh_ros.hand.model import HandModel, load_hand_model, to_smplx


@pytest.fixture(scope="module")
def model() -> HandModel:
    return load_hand_model()


def with_correctives(model: HandModel) -> HandModel:
    """The same hand with pose corrective shapes on every joint, as MANO has."""
    rng = np.random.default_rng(5)
    return replace(model, posedirs=rng.normal(0, 2e-3, model.posedirs.shape))


def random_params(count: int, seed: int, scale: bool = False) -> np.ndarray:
    rng = np.random.default_rng(seed)
    pose = rng.normal(0, 0.6, (count, 48))
    rest = [rng.normal(0, 1, (count, 10)), rng.normal(0, 0.3, (count, 3))]
    if scale:
        rest.append(rng.uniform(0.7, 1.4, (count, 1)))
    return np.concatenate([pose, *rest], axis=1)


def split(params: np.ndarray) -> list[np.ndarray]:
    return [params[:, :3], params[:, 3:48], params[:, 48:58], params[:, 58:61]]


@pytest.mark.parametrize("correctives", [False, True])
@pytest.mark.parametrize("scale", [False, True])
def test_jacobian_equals_central_differences(
    model: HandModel, correctives: bool, scale: bool
) -> None:
    model = with_correctives(model) if correctives else model
    params = random_params(3, 1, scale)
    params[1, :48] *= 1e-6  # near zero, where the closed forms divide by the angle
    params[2, :48] = 0.0
    _, jacobian = joints_and_jacobian(model, params)
    step = 1e-6
    for i in range(params.shape[1]):
        ahead, behind = params.copy(), params.copy()
        ahead[:, i] += step
        behind[:, i] -= step
        numeric = joints_and_jacobian(model, ahead)[0] - joints_and_jacobian(model, behind)[0]
        np.testing.assert_allclose(jacobian[..., i], numeric / (2 * step), atol=2e-8)


@pytest.mark.parametrize("correctives", [False, True])
def test_joints_only_path_equals_the_mesh(model: HandModel, correctives: bool) -> None:
    model = with_correctives(model) if correctives else model
    params = random_params(5, 2, scale=True)
    posed = forward(model, *split(params), scale=params[:, 61])
    alone = forward(model, *split(params), scale=params[:, 61], with_vertices=False)
    assert alone.vertices is None and posed.vertices is not None
    np.testing.assert_allclose(alone.joints, posed.joints, atol=1e-12)
    np.testing.assert_allclose(joints_and_jacobian(model, params)[0], posed.joints, atol=1e-12)
    np.testing.assert_allclose(posed.joints[:, 4::4], posed.vertices[:, model.tips], atol=1e-12)


@pytest.mark.parametrize("correctives", [False, True])
@pytest.mark.parametrize("side", ["right", "left"])
def test_equals_unmodified_smplx(model: HandModel, side: str, correctives: bool) -> None:
    torch = pytest.importorskip("torch")
    model = with_correctives(model) if correctives else model
    model = model if side == "right" else mirror_model(model)
    params = random_params(6, 3)
    layer = to_smplx(model, batch_size=len(params), dtype=torch.float64)
    names = ("global_orient", "hand_pose", "betas", "transl")
    with torch.no_grad():
        out = layer(**{n: torch.from_numpy(p) for n, p in zip(names, split(params), strict=True)})
    posed = forward(model, *split(params))
    vertices = out.vertices.numpy()
    np.testing.assert_allclose(posed.vertices, vertices, atol=1e-6)
    tips = layer.vertex_joint_selector.extra_joints_idxs.numpy()
    points = np.concatenate([out.joints.numpy(), vertices[:, tips]], axis=1)
    np.testing.assert_allclose(posed.joints, points[:, MANO_TO_OPENPOSE], atol=1e-6)


def test_wrist_is_the_pivot(model: HandModel) -> None:
    """scale * J0(betas) + transl is the wrist, whatever the global rotation."""
    params = random_params(4, 4, scale=True)
    shaped = model.v_template + np.einsum("vds,bs->bvd", model.shapedirs, params[:, 48:58])
    wrist = params[:, 61:] * (model.J_regressor[0] @ shaped) + params[:, 58:61]
    joints, jacobian = joints_and_jacobian(model, params)
    np.testing.assert_allclose(joints[:, 0], wrist, atol=1e-12)
    assert np.abs(jacobian[:, 0, :, :48]).max() == 0


def test_batch_rows_are_independent(model: HandModel) -> None:
    params = random_params(4, 6)
    together = joints_and_jacobian(model, params)
    for row in range(4):
        alone = joints_and_jacobian(model, params[row : row + 1])
        for a, b in zip(alone, together, strict=True):
            np.testing.assert_allclose(a[0], b[row], atol=1e-13)


@pytest.mark.parametrize("shape", [(NUM_PARAMS,), (2, 60), (2, 63)])
def test_wrong_parameter_shapes_are_refused(model: HandModel, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected \(B, 61\)"):
        joints_and_jacobian(model, np.zeros(shape))
