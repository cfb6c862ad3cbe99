"""The Warp z-buffer and its gradients against the NumPy rasteriser, DEODR and differences."""

from __future__ import annotations

import numpy as np
import pytest

from hand_mesh_ros.hand.kinematics import forward
from hand_mesh_ros.hand.model import load_hand_model
from hand_mesh_ros.render import rasteriser

raster = pytest.importorskip("hand_mesh_ros.render.warp_raster", reason="warp-lang is missing")
SIZE = 160


@pytest.fixture(scope="module")
def hand() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels (V, 2), depths (V,) and faces of a bent hand that fills most of the picture."""
    model = load_hand_model()
    zero = np.zeros((1, 3))
    pose, turn = np.full((1, 45), 0.15), np.array([[0.3, 0.4, 1.0]])
    posed = forward(model, turn, pose, np.zeros((1, 10)), zero)
    assert posed.vertices is not None
    points = posed.vertices[0] - posed.joints[0].mean(0) + [0, 0, 0.42]
    uv = 380 * points[:, :2] / points[:, 2:] + SIZE / 2
    return uv, points[:, 2], model.faces


def test_it_draws_what_the_numpy_rasteriser_draws(hand) -> None:
    ours, theirs = raster.rasterise(*hand, SIZE, SIZE), rasteriser.rasterise(*hand, SIZE, SIZE)
    assert 0.1 < theirs.mask.mean() < 0.6
    assert np.mean(ours.face_ids != theirs.face_ids) < 1e-3
    both = ours.mask & theirs.mask
    assert np.abs(ours.depth[both] - theirs.depth[both]).max() < 1e-5
    assert np.isinf(ours.depth[~ours.mask]).all()


def test_a_hand_partly_out_of_the_picture_or_behind_the_camera_is_cut_off(hand) -> None:
    uv, depth, faces = hand
    moved = raster.rasterise(uv - [SIZE / 2, 0], depth, faces, SIZE, SIZE)
    whole = raster.rasterise(uv, depth, faces, SIZE, SIZE)
    np.testing.assert_array_equal(moved.mask[:, : SIZE // 2], whole.mask[:, SIZE // 2 :])
    assert not raster.rasterise(uv, -depth, faces, SIZE, SIZE).mask.any()
    unseen = np.where(depth[:, None] > np.median(depth), np.nan, uv)
    ids = raster.rasterise(unseen, depth, faces, SIZE, SIZE).face_ids
    assert np.isfinite(unseen[faces[np.unique(ids[ids >= 0])]]).all()


def test_weights_are_those_of_the_numpy_rasteriser(hand) -> None:
    torch = pytest.importorskip("torch")
    from hand_mesh_ros.render.weights import barycentric, interpolate

    uv, depth, faces = hand
    theirs = rasteriser.rasterise(uv, depth, faces, SIZE, SIZE)
    given = torch.tensor(uv), torch.tensor(depth), torch.tensor(faces)
    ids = torch.tensor(theirs.face_ids)
    weights = barycentric(*given, ids)
    assert np.abs(weights.numpy() - theirs.barycentric).max() < 1e-4
    shown = interpolate(weights, given[1][:, None], given[2], ids)[..., 0].numpy()
    assert np.abs(shown - theirs.depth)[theirs.mask].max() < 1e-5


def test_gradients_are_those_of_differences(hand) -> None:
    torch = pytest.importorskip("torch")
    from hand_mesh_ros.render.weights import barycentric, interpolate

    uv, depth, faces = hand
    ids = torch.tensor(raster.rasterise(uv, depth, faces, SIZE, SIZE).face_ids)
    corners = torch.tensor(faces)
    colour = torch.tensor(np.random.default_rng(0).random((len(uv), 3)))
    aim = torch.tensor(np.random.default_rng(1).random((SIZE, SIZE, 3)))

    def error(pixels, depths):
        shown = interpolate(barycentric(pixels, depths, corners, ids), colour, corners, ids)
        return ((shown - aim) ** 2).sum()

    pixels = torch.tensor(uv, requires_grad=True)
    depths = torch.tensor(depth, requires_grad=True)
    error(pixels, depths).backward()
    step = torch.tensor(np.random.default_rng(2).normal(0, 1, uv.shape)) * 1e-6
    along = torch.tensor(np.random.default_rng(3).normal(0, 1, depth.shape)) * 1e-8
    with torch.no_grad():
        change = (error(pixels + step, depths + along) - error(pixels - step, depths - along)) / 2
    expected = (pixels.grad * step).sum() + (depths.grad * along).sum()
    assert abs(float(expected)) > 1e-7
    np.testing.assert_allclose(float(change), float(expected), rtol=1e-3)


def _deodr() -> None:
    pytest.importorskip("trimesh", reason="DEODR needs trimesh, which is missing")
    pytest.importorskip("deodr", reason="DEODR is missing: pip install deodr trimesh")


def test_the_interior_is_deodrs() -> None:
    _deodr()
    pytest.importorskip("torch")
    from hand_mesh_ros.evaluation.raster_agreement import deodr_agreement

    share, pixels = deodr_agreement(SIZE)
    assert pixels > 1500
    assert share > 0.99


def test_deodrs_outline_pulls_a_hand_to_where_it_is_seen(hand) -> None:
    _deodr()
    torch = pytest.importorskip("torch")
    from hand_mesh_ros.render.silhouette import draw

    uv, depth, faces = hand
    white = torch.ones((len(uv), 1), dtype=torch.float64)
    aim = draw(torch.tensor(uv), torch.tensor(depth), faces, white, SIZE, SIZE)
    shift = torch.tensor([1.5, -1.0], dtype=torch.float64, requires_grad=True)
    shown = draw(torch.tensor(uv) + shift, torch.tensor(depth), faces, white, SIZE, SIZE)
    ((shown - aim) ** 2).sum().backward()
    assert shift.grad is not None
    assert shift.grad[0] > 0 > shift.grad[1]
