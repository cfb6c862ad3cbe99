"""Which views show the same hand: epipolar lines, sides and tracks agree, and it triangulates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.geometry.rotations import skew
from hand_mesh_ros.perception.view_arrays import (
    ViewArrays,
    errors_in_sigmas,
    triangulate_arrays,
    view_arrays,
)
from hand_mesh_ros.types import View

Array = NDArray[np.float64]
_CLIPPED: Final = 8.0


@dataclass(frozen=True)
class AssociateSettings:
    """``max_cost``: mean epipolar distance, in sigmas, of two views of one hand (clipped at 8).

    ``side_cost`` is added, times the probability that the sides differ, and ``track_cost`` times
    the probability that the tracks do. ``track_reach``: metres from a track's landmarks at which a
    view's are 1/e as likely the track's. ``palm``: the least and greatest believable distance from
    wrist to middle knuckle, metres. ``max_error``: median reprojection error of a view that
    belongs, in sigmas. ``same_hand``: a view that agrees with no other but lies, in metres,
    closer than this to a hand that two or more others agree on is that hand badly seen.
    """

    max_cost: float = 2.5
    side_cost: float = 1.0
    track_cost: float = 2.0
    track_reach: float = 0.02
    palm: tuple[float, float] = (0.055, 0.135)
    max_error: float = 3.0
    same_hand: float = 0.06


def pair_costs(a: ViewArrays, settings: AssociateSettings, likely: Array | None = None) -> Array:
    """Cost (N, N) of two views showing one hand; infinite within a camera.

    Sampson's distance of the 21 landmarks (Hartley & Zisserman 11.4.3) over the landmarks' sigma,
    for all pairs at once. ``likely`` (N, T): probability that a view shows each track's hand.
    """
    h = np.concatenate([a.xy, np.ones((*a.xy.shape[:-1], 1))], -1)
    R, t = a.P[..., :3], a.P[..., 3]
    turn = R[None] @ np.swapaxes(R, 1, 2)[:, None]  # (from, to): to's axes from from's
    shift = t[None] - (turn @ t[:, None, :, None])[..., 0]
    lines = h[:, None] @ np.swapaxes(skew(shift) @ turn, -1, -2)  # of from's points, in to
    error = (lines * h[None]).sum(-1)
    gradient = lines[..., 0] ** 2 + lines[..., 1] ** 2
    gradient = gradient + np.swapaxes(gradient, 0, 1)
    distance = np.abs(error) / np.sqrt(np.maximum(gradient, 1e-24))
    both = np.sqrt((a.sigma[:, None] ** 2 + a.sigma[None] ** 2) / 2)
    with np.errstate(invalid="ignore"):
        scaled = np.minimum(distance / both, _CLIPPED)
    known = np.isfinite(scaled)
    count = known.sum(-1)
    cost = np.where(known, scaled, 0.0).sum(-1) / np.maximum(count, 1)
    cost = np.where(count > 0, cost, np.inf) + settings.side_cost * (
        a.right[:, None] * (1 - a.right[None]) + (1 - a.right[:, None]) * a.right[None]
    )
    if likely is not None and likely.shape[1] > 1:
        either = likely.sum(1)
        cost = cost + settings.track_cost * (either[:, None] * either[None] - likely @ likely.T)
    cost[a.frame[:, None] == a.frame[None]] = np.inf
    return np.asarray(cost)


def track_likelihood(distance: Array, settings: AssociateSettings) -> Array:
    """Probability (N, T) that a view shows each track's hand, from distances (N, T) in metres.

    The rest of a row's one is for a hand that has no track. Where two tracks' hands overlap in a
    camera, a view is about as likely the one's as the other's, and says nothing.
    """
    weight = np.exp(-distance / settings.track_reach)
    nothing = np.exp(-4.0)
    return np.asarray(weight / (weight.sum(1, keepdims=True) + nothing))


def associate(
    views: Sequence[View], settings: AssociateSettings, distance: Array | None = None
) -> list[list[View]]:
    """Groups of views, one hand each, at most one view a camera; singles stay alone.

    Pairs are joined cheapest first as long as the whole group stays believable: every pair of it
    under ``max_cost`` and its triangulation a hand-sized thing in front of the cameras that
    reprojects where it was seen. A view that disagrees with two or more others on the hand that it
    lies on is in no group. ``distance`` (N, T), metres: see `expect.Expectation.distances`.
    """
    if len(views) < 2:
        return [[v] for v in views]
    arrays = view_arrays(views)
    likely = None if distance is None else track_likelihood(distance, settings)
    cost = pair_costs(arrays, settings, likely)
    group = list(range(len(views)))
    members: dict[int, list[int]] = {i: [i] for i in group}
    rows, columns = np.triu_indices(len(views), 1)
    order = np.argsort(cost[rows, columns], kind="stable")
    for a, b in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if not cost[a, b] < settings.max_cost:
            break
        ga, gb = group[a], group[b]
        if ga == gb:
            continue
        joint = members[ga] + members[gb]
        across = cost[np.ix_(members[ga], members[gb])]
        if across.max() < 1.5 * settings.max_cost and _believable(arrays.select(joint), settings):
            members[ga] = joint
            for i in members.pop(gb):
                group[i] = ga
    kept = _without_outliers(arrays, list(members.values()), settings)
    return [[views[i] for i in sorted(m, key=lambda i: views[i].index)] for m in kept]


def believable(views: Sequence[View], settings: AssociateSettings) -> bool:
    """Whether views triangulate to a hand-sized thing that reprojects where it was seen."""
    return _believable(view_arrays(views), settings)


def _believable(a: ViewArrays, settings: AssociateSettings) -> bool:
    points = triangulate_arrays(a, passes=1)
    if not np.isfinite(points).all():
        return False
    low, high = settings.palm
    if not low <= np.linalg.norm(points[9] - points[0]) <= high:
        return False
    errors, depth = errors_in_sigmas(a, points)
    if not (depth > 0).all():
        return False
    # The median of each view; a landmark that no ray of its camera reaches counts as far off.
    ordered = np.sort(np.where(np.isfinite(errors), errors, np.inf), axis=-1)
    return bool((ordered[:, errors.shape[1] // 2] < settings.max_error).all())


def _without_outliers(
    a: ViewArrays, groups: list[list[int]], settings: AssociateSettings
) -> list[list[int]]:
    """The groups without single views that lie on a hand which two or more others agree on."""
    hands = [triangulate_arrays(a.select(g)) for g in groups if len(g) > 1]
    singles = [g[0] for g in groups if len(g) == 1]
    if not hands or not singles:
        return groups
    alone, outliers = a.select(singles), set()
    for points in hands:
        errors, depth = errors_in_sigmas(alone, points)
        metres = np.nanmean(errors * alone.sigma * depth, axis=-1)
        near = (depth > 0).all(-1) & (metres < settings.same_hand)
        outliers |= {single for single, is_near in zip(singles, near, strict=True) if is_near}
    return [g for g in groups if len(g) > 1 or g[0] not in outliers]
