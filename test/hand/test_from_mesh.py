"""From vertices back to parameters, over poses and shapes that hands have."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hand_mesh_ros.hand.from_mesh import fit_to_mesh, mesh_distance
from hand_mesh_ros.hand.kinematics import forward
from hand_mesh_ros.hand.limits import pose_prior
from hand_mesh_ros.hand.mirror import mirror_params, mirror_points
from hand_mesh_ros.hand.model import HandModel, Side, load_hand_model


def hands(model: HandModel, count: int, seed: int = 0) -> np.ndarray:
    """Parameters (count, 61): any heading, poses of the prior, shapes within 3 sigma."""
    rng = np.random.default_rng(seed)
    mean, std = pose_prior(model.side)
    return np.concatenate(
        [
            rng.normal(0, 1.5, (count, 3)),
            mean + std * rng.normal(size=(count, 45)),
            rng.uniform(-3, 3, (count, 10)),
            rng.normal(0, 0.3, (count, 3)),
        ],
        axis=1,
    )


def posed(model: HandModel, params: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    out = forward(model, *np.split(params, [3, 48, 58], axis=1))
    assert out.vertices is not None
    return out.vertices, out.joints


def apart(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Distances, millimetres."""
    return np.asarray(1e3 * np.linalg.norm(a - b, axis=-1))


@pytest.mark.parametrize("correctives", [False, True], ids=["plain", "correctives"])
@pytest.mark.parametrize("side", ["right", "left"])
def test_exact_meshes_are_found_again(side: Side, correctives: bool) -> None:
    model = load_hand_model(side=side)
    if correctives:
        noise = np.random.default_rng(1).normal(0, 2e-3, model.posedirs.shape)
        model = replace(model, posedirs=noise, model_id="correctives")
    vertices, joints = posed(model, hands(model, 24))
    params = fit_to_mesh(model, vertices)
    found_vertices, found_joints = posed(model, params)
    assert np.median(apart(found_vertices, vertices)) < 0.02
    assert apart(found_vertices, vertices).max() < 0.3
    assert apart(found_joints, joints).max() < 0.1
    assert mesh_distance(model, params, vertices).max() < 5e-5
    assert np.abs(params[:, 48:58] - hands(model, 24)[:, 48:58]).max() < 0.2


def test_noise_averages_out() -> None:
    """Vertices off by 2 mm an axis: joints off by a fraction of it, and the distance says 2 mm."""
    model = load_hand_model()
    vertices, joints = posed(model, hands(model, 16, seed=3))
    noisy = vertices + np.random.default_rng(4).normal(0, 2e-3, vertices.shape)
    params = fit_to_mesh(model, noisy)
    found_vertices, found_joints = posed(model, params)
    assert np.median(apart(found_vertices, vertices)) < 1.0
    assert np.median(apart(found_joints, joints)) < 0.8 and apart(found_joints, joints).max() < 4
    np.testing.assert_allclose(mesh_distance(model, params, noisy), 2e-3 * np.sqrt(3), rtol=0.06)


def test_left_is_right_in_a_mirror() -> None:
    right = load_hand_model()
    vertices, _ = posed(right, hands(right, 4))
    left_params = fit_to_mesh(load_hand_model(side="left"), mirror_points(vertices))
    mirrored = mirror_params(left_params)
    np.testing.assert_allclose(mirrored, fit_to_mesh(right, vertices), atol=1e-6)


def test_a_hand_does_not_depend_on_its_neighbours() -> None:
    model = load_hand_model()
    vertices, _ = posed(model, hands(model, 70))
    together = fit_to_mesh(model, vertices)
    np.testing.assert_allclose(together[[3, 66]], fit_to_mesh(model, vertices[[3, 66]]), atol=1e-7)


def test_meshes_of_other_models(shared_data: Path) -> None:
    """778 vertices of MANO's layout, from a network's checkpoint."""
    model = load_hand_model(shared_data / "parity" / "hamer_tiny.pt")
    params = 0.3 * hands(model, 8)
    vertices, joints = posed(model, params)
    found_vertices, found_joints = posed(model, fit_to_mesh(model, vertices))
    assert np.median(apart(found_vertices, vertices)) < 0.1
    assert np.median(apart(found_joints, joints)) < 0.1


def test_what_cannot_be_fitted() -> None:
    model = load_hand_model()
    vertices, _ = posed(model, hands(model, 3))
    vertices[1, 17, 2] = np.nan
    params = fit_to_mesh(model, vertices)
    assert np.isnan(params[1]).all() and np.isfinite(params[[0, 2]]).all()
    assert fit_to_mesh(model, vertices[:0]).shape == (0, 61)
    collapsed = fit_to_mesh(model, np.zeros((1, model.num_vertices, 3)))
    assert np.isfinite(collapsed).all()
    assert np.abs(collapsed[0, 48:58]).max() > 5  # a shape that no hand has
    with pytest.raises(ValueError, match=r"\(1, 778, 3\), expected \(B, 1650, 3\).*free_hand"):
        fit_to_mesh(model, np.zeros((1, 778, 3)))
