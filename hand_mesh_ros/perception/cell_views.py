"""The views of a recording before anybody knows where the cameras stand, and which belong together.

Hands are matched across cameras without geometry by their sides (`by_side`), and with a rough
geometry by the epipolar distance of their landmarks (`by_geometry`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.geometry.cameras import undistort
from hand_mesh_ros.geometry.triangulation import essential
from hand_mesh_ros.types import Camera, HandSet, View

Array = NDArray[np.float64]
Labels = NDArray[np.int64]
"""Which hand each view shows, (M,), any numbers; -1: it is not known."""


@dataclass(frozen=True, eq=False)
class CellViews:
    """M views of a cell, flat: ``instant`` (M,) indexes ``stamps_ns`` (I,), ``camera`` (M,) the

    cameras. ``uv`` (M, 21, 2) px, ``sigma`` (M, 21) px, ``world`` (M, 21, 3) the network's metric
    landmarks in the camera's axes, ``right`` (M,) log-odds of a right hand.
    """

    stamps_ns: NDArray[np.int64]
    instant: NDArray[np.int64]
    camera: NDArray[np.int64]
    uv: Array
    sigma: Array
    world: Array
    right: Array

    def __len__(self) -> int:
        return len(self.instant)

    def at(self, instants: NDArray[np.int64]) -> CellViews:
        """Some of the instants, in time order."""
        keep = np.isin(self.instant, instants)
        kept = np.unique(instants)
        return CellViews(
            self.stamps_ns[kept],
            np.searchsorted(kept, self.instant[keep]),
            self.camera[keep],
            self.uv[keep],
            self.sigma[keep],
            self.world[keep],
            self.right[keep],
        )


@dataclass(frozen=True, eq=False)
class MatchedHands:
    """G hands at their instants: ``uv`` (G, C, 21, 2), ``sigma`` (G, C, 21) and ``world``

    (G, C, 21, 3) by camera, NaN where it did not see the hand; ``right`` (G,) mean log-odds.
    """

    instant: NDArray[np.int64]
    uv: Array
    sigma: Array
    world: Array
    right: Array

    @property
    def seen(self) -> NDArray[np.bool_]:
        """(G, C): which cameras saw which hand."""
        return np.asarray(np.isfinite(self.uv[..., 0]).any(-1))

    def chosen(self, which: NDArray[np.generic]) -> MatchedHands:
        """Some of the hands, by mask or index."""
        return MatchedHands(
            self.instant[which], self.uv[which], self.sigma[which], self.world[which],
            self.right[which],
        )


def gather(instants: Iterable[tuple[int, Sequence[View]]], cameras: Sequence[str]) -> CellViews:
    """Views of a recording by instant (stamp in ns, views), of the ``cameras`` named."""
    stamps: list[int] = []
    index: list[int] = []
    views: list[View] = []
    for stamp_ns, seen in instants:
        known = [v for v in seen if v.camera.name in cameras]
        index += [len(stamps)] * len(known)
        views += known
        stamps.append(stamp_ns)
    place = {name: i for i, name in enumerate(cameras)}
    right = np.clip([v.right for v in views], 1e-3, 1 - 1e-3)
    return CellViews(
        np.array(stamps, dtype=np.int64),
        np.array(index, dtype=np.int64),
        np.array([place[v.camera.name] for v in views], dtype=np.int64),
        np.array([v.uv for v in views]).reshape(-1, 21, 2),
        np.array([v.sigma for v in views]).reshape(-1, 21),
        np.array([v.world for v in views]).reshape(-1, 21, 3),
        np.log(right / (1 - right)),
    )


def views_of(sets: Iterable[HandSet]) -> list[tuple[int, tuple[View, ...]]]:
    """What a pipeline's answers hold of views, without their association."""
    return [
        (s.stamp_ns, tuple(v for hand in s.observed for v in hand) + s.unmatched) for s in sets
    ]


def by_side(views: CellViews, sure: float = 0.8, gap: float = 1.5) -> Labels:
    """Match hands of an instant by their sides alone: at most one left and one right a camera.

    A lone hand counts if its log-odds exceed ``sure``, two or more if the most right and the most
    left of them differ by ``gap``. What remains is not matched.
    """
    labels = np.full(len(views), -1, dtype=np.int64)
    order = np.lexsort((views.right, views.camera, views.instant))
    key = (views.instant * (views.camera.max(initial=0) + 1) + views.camera)[order]
    for group in np.split(order, np.flatnonzero(np.diff(key)) + 1):
        if len(group) == 1 and abs(views.right[group[0]]) > sure:
            labels[group] = 2 * views.instant[group] + (views.right[group] > 0)
        elif len(group) > 1 and views.right[group[-1]] - views.right[group[0]] > gap:
            labels[group[0]] = 2 * views.instant[group[0]]
            labels[group[-1]] = 2 * views.instant[group[-1]] + 1
    return labels


def by_geometry(
    views: CellViews, cameras: Sequence[Camera], gate: float, side_cost: float = 0.5
) -> Labels:
    """Match hands of an instant by epipolar distance: groups of which all pairs are within a gate.

    ``gate``: greatest mean Sampson distance (Hartley & Zisserman 11.4.3) of two views' landmarks,
    radians. ``side_cost``, times the probability that the sides differ, is added as a fraction of
    the gate. Pairs are joined cheapest first.
    """
    first, second, cost = _pair_costs(views, cameras, side_cost * gate)
    known = {(int(a), int(b)): float(c) for a, b, c in zip(first, second, cost, strict=True)}
    labels = np.arange(len(views), dtype=np.int64)
    members: dict[int, list[int]] = {i: [i] for i in range(len(views))}
    good = np.flatnonzero(cost < gate)
    for k in good[np.argsort(cost[good], kind="stable")]:
        a, b = int(labels[first[k]]), int(labels[second[k]])
        if a == b:
            continue
        across = [known.get((min(i, j), max(i, j)), np.inf) for i in members[a] for j in members[b]]
        if max(across) < 1.5 * gate:
            labels[members[b]] = a
            members[a] += members.pop(b)
    return labels


def _pair_costs(
    views: CellViews, cameras: Sequence[Camera], side_cost: float
) -> tuple[Labels, Labels, Array]:
    """Pairs of views of an instant by two cameras (first < second), and their cost, radians."""
    normal = np.full((len(views), 21, 3), np.nan)
    for c, camera in enumerate(cameras):
        own = views.camera == c
        normal[own, :, :2], normal[own, :, 2] = undistort(camera, views.uv[own]), 1.0
    probability = 1 / (1 + np.exp(-views.right))
    found: list[tuple[Labels, Labels, Array]] = []
    for a, b in combinations(range(len(cameras)), 2):
        of_a, of_b = np.flatnonzero(views.camera == a), np.flatnonzero(views.camera == b)
        i, j = np.nonzero(views.instant[of_a][:, None] == views.instant[of_b][None])
        i, j = of_a[i], of_b[j]
        E = essential(cameras[a], cameras[b])
        line_b, line_a = normal[i] @ E.T, normal[j] @ E
        gradient = (line_b[..., :2] ** 2).sum(-1) + (line_a[..., :2] ** 2).sum(-1)
        distance = np.abs((normal[j] * line_b).sum(-1)) / np.sqrt(np.maximum(gradient, 1e-24))
        p, q = probability[i], probability[j]
        cost = np.nan_to_num(distance.mean(-1), nan=np.inf)
        cost = cost + side_cost * (p * (1 - q) + q * (1 - p))
        found.append((np.minimum(i, j), np.maximum(i, j), cost))
    if not found:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)
    first, second, cost = (np.concatenate(column) for column in zip(*found, strict=True))
    return first, second, cost


def matched(views: CellViews, labels: Labels, cameras: int) -> MatchedHands:
    """The hands that two cameras or more saw, as arrays by camera."""
    known = np.flatnonzero(labels >= 0)
    _, hand, count = np.unique(labels[known], return_inverse=True, return_counts=True)
    keep = count[hand] > 1
    known = known[keep]
    _, hand = np.unique(hand[keep], return_inverse=True)
    G = int(hand.max(initial=-1)) + 1
    uv, sigma = np.full((G, cameras, 21, 2), np.nan), np.full((G, cameras, 21), np.nan)
    world = np.full((G, cameras, 21, 3), np.nan)
    place = hand, views.camera[known]
    uv[place], sigma[place], world[place] = views.uv[known], views.sigma[known], views.world[known]
    right = np.bincount(hand, views.right[known], G) / np.maximum(np.bincount(hand, minlength=G), 1)
    instant = np.zeros(G, dtype=np.int64)
    instant[hand] = views.instant[known]
    return MatchedHands(instant, uv, sigma, world, right)
