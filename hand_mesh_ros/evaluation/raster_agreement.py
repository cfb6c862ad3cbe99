"""Does the training renderer show what DEODR shows, away from outlines?"""

from __future__ import annotations

import numpy as np

from hand_mesh_ros.hand.kinematics import forward
from hand_mesh_ros.hand.model import load_hand_model
from hand_mesh_ros.render import warp_raster
from hand_mesh_ros.render.silhouette import draw
from hand_mesh_ros.render.weights import barycentric, interpolate

_SMOOTH = 0.006  # metres within which neighbours of an interior pixel lie
_SAME = 0.01


def deodr_agreement(size: int = 256, seed: int = 4) -> tuple[float, int]:
    """Share of a hand's interior pixels whose colours DEODR draws equal to 1 %, and their number.

    Interior: no outline within two pixels, of the hand or of a finger before another. Vertices
    have colours at random, and one depth as far as interpolation goes: DEODR interpolates affinely
    on the screen where it has gradients. ``ModuleNotFoundError`` without DEODR.
    """
    import torch

    model, rng = load_hand_model(), np.random.default_rng(seed)
    pose, turn = np.full((1, 45), 0.15), np.array([[0.3, 0.4, 1.0]])
    posed = forward(model, turn, pose, np.zeros((1, 10)), np.zeros((1, 3)))
    assert posed.vertices is not None
    points = posed.vertices[0] - posed.joints[0].mean(0) + [0, 0, 0.42]
    uv = 2.4 * size * points[:, :2] / points[:, 2:] + size / 2
    drawn = warp_raster.rasterise(uv, points[:, 2], model.faces, size, size)
    colours = torch.tensor(0.5 + 0.5 * rng.random((len(uv), 3)))
    pixels, faces = torch.tensor(uv), torch.tensor(np.array(model.faces))
    ids = torch.tensor(drawn.face_ids)
    weights = barycentric(pixels, torch.full((len(uv),), 0.4).double(), faces, ids)
    ours = interpolate(weights, colours, faces, ids).numpy()
    depth = torch.tensor(points[:, 2])
    theirs = draw(pixels, depth, model.faces, colours, size, size).numpy()
    seen = np.where(drawn.mask, drawn.depth, 9.0)
    around = [np.roll(seen, (r, c), (0, 1)) for r in range(-2, 3) for c in range(-2, 3)]
    inside = drawn.mask & (np.ptp(around, axis=0) < _SMOOTH)
    same = np.abs(ours - theirs).max(axis=-1) < _SAME
    return float(same[inside].mean()), int(inside.sum())
