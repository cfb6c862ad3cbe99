"""Camera poses from nothing but hands: each view's metric landmarks place its hand before it.

A network's landmarks of one view are a hand of roughly the right size, in roughly the right
attitude. Its pixels then give its place (a linear PnP for the translation), and hands that two
cameras saw at the same instants, over a minute of motion, are two point clouds that one rigid
motion joins: the relative pose. It is metric to the ten per cent by which hands differ, and near
enough for bundle adjustment to begin at. It knows no degenerate motion and no
two-fold solutions, and cameras may face each other, but it may be far off. The essential matrix of
all matched landmarks is the other candidate; the one whose epipolar lines fit better is taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.geometry.alignment import procrustes
from hand_mesh_ros.geometry.cameras import undistort
from hand_mesh_ros.geometry.rotations import invert_rigid, rigid
from hand_mesh_ros.perception.cell_epipolar import metric, ray_angle, relative_pose, sampson
from hand_mesh_ros.perception.cell_views import MatchedHands
from hand_mesh_ros.types import Camera

Array = NDArray[np.float64]


class CannotCalibrate(ValueError):
    """The views do not fix the cameras' poses; the text says what is missing and what to do."""


@dataclass(frozen=True)
class StartSettings:
    """``hands``: least number of hands that must join two cameras. ``reach``: metres within which

    a hand's two places agree. ``noise``: one sigma each, radians, that the robust search for an
    essential matrix tries. ``parallax``: radians by which most lines of sight must differ for it.
    """

    hands: int = 10
    reach: float = 0.12
    noise: tuple[float, ...] = (0.006, 0.002, 0.0007)
    parallax: float = 0.05


@dataclass(frozen=True, eq=False)
class PairPose:
    """``T_b_a`` (4, 4) of cameras ``a`` and ``b``, from ``hands`` that both saw.

    ``error`` is the median Sampson distance over the sine of the median angle between lines of
    sight: about the relative error of a point that the two locate.
    """

    a: int
    b: int
    T_b_a: Array
    hands: int
    error: float


def place_hands(cameras: Sequence[Camera], hands: MatchedHands) -> Array:
    """Landmarks (G, C, 21, 3) in each camera's own axes, m, from that view alone; NaN if unseen.

    With attitude and size from the network, the translation t is linear in the pixels:
    x (Z + t_z) = X + t_x and y (Z + t_z) = Y + t_y for all landmarks.
    """
    out = np.full(hands.world.shape, np.nan)
    for c, camera in enumerate(cameras):
        own = hands.seen[:, c]
        xy, world = undistort(camera, hands.uv[own, c]), hands.world[own, c]
        good: NDArray[np.bool_] = np.asarray(np.isfinite(xy).all(-1), dtype=bool)
        xy = np.where(good[..., None], xy, 0.0)
        rows = np.zeros((*xy.shape[:2], 2, 3))
        rows[..., 0, 0] = rows[..., 1, 1] = good
        rows[..., 2] = -xy * good[..., None]
        right = (xy * world[..., 2:] - world[..., :2]) * good[..., None]
        normal = np.einsum("njki,njkl->nil", rows, rows) + 1e-9 * np.eye(3)
        shift = np.linalg.solve(normal, np.einsum("njki,njk->ni", rows, right)[..., None])[..., 0]
        placed = world + shift[:, None]
        out[own, c] = np.where((shift[:, 2] > 0.05)[:, None, None], placed, np.nan)
    return out


def pair_poses(
    cameras: Sequence[Camera], hands: MatchedHands, settings: StartSettings
) -> list[PairPose]:
    """Relative poses of all pairs of cameras that enough hands join."""
    placed = place_hands(cameras, hands)
    normal = np.full(hands.uv.shape, np.nan)
    for c, camera in enumerate(cameras):
        normal[hands.seen[:, c], c] = undistort(camera, hands.uv[hands.seen[:, c], c])
    out = []
    for a, b in combinations(range(len(cameras)), 2):
        both = np.asarray(np.isfinite(placed[:, [a, b]]).all((1, 2, 3)))
        if both.sum() >= settings.hands:
            pose = _pair(
                a, b, placed[both][:, [a, b]], normal[both][:, [a, b]], settings
            )
            out.append(pose)
    return out


def _pair(a: int, b: int, placed: Array, normal: Array, settings: StartSettings) -> PairPose:
    """The best candidate for two cameras; ``placed`` (N, 2, 21, 3), ``normal`` (N, 2, 21, 2)."""
    x, y = normal[:, 0].reshape(-1, 2), normal[:, 1].reshape(-1, 2)
    seen = np.isfinite(x).all(-1) & np.isfinite(y).all(-1)
    x, y = x[seen], y[seen]
    z = placed[..., 2].transpose(1, 0, 2).reshape(2, -1)[:, seen]
    candidates = [_by_clouds(placed[:, 0], placed[:, 1], settings)]
    for noise in settings.noise:
        T = relative_pose(x, y, noise)
        T = None if T is None else metric(T, x, y, z[0], z[1])
        if T is not None and np.median(ray_angle(T, x, y)) > settings.parallax:
            candidates.append(T)
    errors = [float(np.median(sampson(T, x, y))) for T in candidates]
    best = candidates[int(np.argmin(errors))]
    angle = max(float(np.sin(np.median(ray_angle(best, x, y)))), 1e-3)
    return PairPose(a, b, best, len(placed), min(errors) / angle)


def _by_clouds(in_a: Array, in_b: Array, settings: StartSettings) -> Array:
    """Every hand proposes a pose, the one that most hands agree with is refined on these."""
    _, R, t = procrustes(in_a, in_b)
    centre_a, centre_b = in_a.mean(1), in_b.mean(1)
    moved = np.einsum("pij,nj->pni", R, centre_a) + t[:, None]
    distance = np.linalg.norm(moved - centre_b, axis=-1)
    # A soft count, so that the better of two that reach as many hands wins.
    best = int(np.argmax(np.maximum(1 - (distance / settings.reach) ** 2, 0).sum(1)))
    good = distance[best] < settings.reach
    T = rigid(R[best], t[best])
    for _ in range(10):
        _, turn, shift = procrustes(in_a[good].reshape(-1, 3), in_b[good].reshape(-1, 3))
        T = rigid(turn, shift)
        off = np.linalg.norm(centre_a @ turn.T + shift - centre_b, axis=-1)
        again = off < max(min(3 * float(np.median(off[good])), settings.reach), 1e-3)
        if again.sum() < 3 or (again == good).all():
            break
        good = again
    return T


def chained(
    cameras: Sequence[Camera], pairs: Sequence[PairPose], reference: int
) -> tuple[Camera, ...]:
    """Cameras placed in the axes of the ``reference``, along the best spanning tree of the pairs.

    Raises `CannotCalibrate` that names the cameras no hands join to the reference.
    """
    edges = sorted(pairs, key=lambda p: p.error / np.sqrt(p.hands))
    poses: dict[int, Array] = {reference: np.eye(4)}
    while True:
        step = next((p for p in edges if (p.a in poses) != (p.b in poses)), None)
        if step is None:
            break
        if step.a in poses:
            poses[step.b] = step.T_b_a @ poses[step.a]
        else:
            poses[step.a] = invert_rigid(step.T_b_a) @ poses[step.b]
    require_joined(cameras, [(p.a, p.b) for p in pairs], reference)
    return tuple(replace(c, T_camera_world=poses[i]) for i, c in enumerate(cameras))


def require_joined(
    cameras: Sequence[Camera], pairs: Sequence[tuple[int, int]], reference: int
) -> None:
    """`CannotCalibrate` unless the pairs join all cameras; it names those that are apart."""
    joined = {reference}
    while True:
        more = {i for pair in pairs if joined & set(pair) for i in pair} - joined
        if not more:
            break
        joined |= more
    apart = [c.name for i, c in enumerate(cameras) if i not in joined]
    if apart:
        raise CannotCalibrate(
            f"{', '.join(apart)} and {', '.join(cameras[i].name for i in sorted(joined))} hardly "
            "ever see a hand at the same time: move the hand through the space that they share, "
            "or leave them out"
        )
