"""Which views show the same hand: epipolar and handedness consistency, then triangulation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.geometry.cameras import undistort
from hand_mesh_ros.geometry.triangulation import essential, reprojection_errors, triangulate
from hand_mesh_ros.types import Camera, View

Array = NDArray[np.float64]


@dataclass(frozen=True)
class AssociateSettings:
    """``max_cost``: mean epipolar distance, in sigmas, of two views of one hand (clipped at 8).

    ``side_cost`` is added, times the probability that the sides differ. ``palm``: the least and
    greatest believable distance from wrist to middle knuckle, metres. ``max_error``: median
    reprojection error of a view that belongs, in sigmas.
    """

    max_cost: float = 2.5
    side_cost: float = 1.0
    palm: tuple[float, float] = (0.055, 0.135)
    max_error: float = 3.0


def pair_costs(views: Sequence[View], settings: AssociateSettings) -> Array:
    """Cost (N, N) of two views showing one hand; infinite within a camera.

    Sampson's distance of the 21 landmarks (Hartley & Zisserman 11.4.3) over the landmarks' sigma,
    for all pairs at once.
    """
    n = len(views)
    cameras = {id(v.camera): v.camera for v in views}
    keys = list(cameras)
    which = np.array([keys.index(id(v.camera)) for v in views])
    E = np.array([[essential(a, b) for b in cameras.values()] for a in cameras.values()])
    focal = np.array([v.camera.focal for v in views])
    xy = np.stack([undistort(v.camera, v.uv) for v in views])
    h = np.concatenate([xy, np.ones((n, 21, 1))], -1)
    lines = np.einsum("abij,akj->abki", E[which][:, which], h)  # of a's points, in b
    error = np.einsum("abki,bki->abk", lines, h)
    gradient = (lines[..., :2] ** 2).sum(-1)
    gradient = gradient + np.swapaxes(gradient, 0, 1)  # E_ba = E_ab^T
    distance = np.abs(error) / np.sqrt(np.maximum(gradient, 1e-24))
    sigma = np.stack([v.sigma for v in views]) / focal[:, None]
    both = np.sqrt((sigma[:, None] ** 2 + sigma[None] ** 2) / 2)
    cost = np.nanmean(np.minimum(distance / both, 8.0), axis=-1)
    right = np.array([v.right for v in views])
    differ = right[:, None] * (1 - right[None]) + (1 - right[:, None]) * right[None]
    cost = np.where(np.isfinite(cost), cost, np.inf) + settings.side_cost * differ
    frame = np.array([v.index for v in views])
    cost[frame[:, None] == frame[None]] = np.inf
    return np.asarray(cost)


def associate(views: Sequence[View], settings: AssociateSettings) -> list[list[View]]:
    """Groups of views, one hand each, at most one view a camera; singles stay alone.

    Pairs are joined cheapest first as long as the whole group stays believable: every pair of it
    under ``max_cost`` and its triangulation a hand-sized thing in front of the cameras that
    reprojects where it was seen.
    """
    if len(views) < 2:
        return [[v] for v in views]
    cost = pair_costs(views, settings)
    group = list(range(len(views)))
    members: dict[int, list[int]] = {i: [i] for i in group}
    rows, columns = np.triu_indices(len(views), 1)
    order = np.argsort(cost[rows, columns], kind="stable")
    for a, b in zip(rows[order], columns[order], strict=True):
        if not cost[a, b] < settings.max_cost:
            break
        ga, gb = group[a], group[b]
        if ga == gb:
            continue
        joint = members[ga] + members[gb]
        across = cost[np.ix_(members[ga], members[gb])]
        if across.max() < 1.5 * settings.max_cost and believable(
            [views[i] for i in joint], settings
        ):
            members[ga] = joint
            for i in members.pop(gb):
                group[i] = ga
    return [[views[i] for i in sorted(m, key=lambda i: views[i].index)] for m in members.values()]


def believable(views: Sequence[View], settings: AssociateSettings) -> bool:
    """Whether views triangulate to a hand-sized thing that reprojects where it was seen."""
    cameras = [v.camera for v in views]
    uv, sigma = np.stack([v.uv for v in views]), np.stack([v.sigma for v in views])
    points = triangulate(cameras, uv, sigma)
    if not np.isfinite(points).all():
        return False
    if any((_depth(c, points) <= 0).any() for c in cameras):
        return False
    low, high = settings.palm
    if not low <= np.linalg.norm(points[9] - points[0]) <= high:
        return False
    errors = reprojection_errors(cameras, points, uv) / sigma
    return bool((np.nanmedian(errors, axis=-1) < settings.max_error).all())


def _depth(camera: Camera, points: Array) -> Array:
    T = camera.T_camera_world
    return np.asarray(points @ T[2, :3] + T[2, 3])

