"""Where a cell's cameras stand, from a minute of hands that move before them.

Views are matched across cameras (`cell_views`), cameras placed roughly where nothing is known
(`cell_start`), poses, points and, on request, intrinsics adjusted together (`cell_bundle`), matched
again with what is now known, made metric (`cell_scale`) and put into the frame that was asked for,
with what is sure of them (`cell_gauge`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.geometry.cameras import rays
from hand_mesh_ros.geometry.triangulation import triangulate
from hand_mesh_ros.hand.model import HandModel
from hand_mesh_ros.hand.shape import HandShape
from hand_mesh_ros.perception import cell_gauge as gauge
from hand_mesh_ros.perception.cell_bundle import (
    POSE,
    Bundle,
    BundleSettings,
    Intrinsics,
    bundle_adjust,
)
from hand_mesh_ros.perception.cell_scale import Baseline, Scale, by_baseline, by_palm, by_shape
from hand_mesh_ros.perception.cell_start import (
    CannotCalibrate,
    StartSettings,
    chained,
    pair_poses,
    require_joined,
)
from hand_mesh_ros.perception.cell_views import (
    CellViews,
    MatchedHands,
    by_geometry,
    by_side,
    matched,
)
from hand_mesh_ros.types import Camera, Side

Array = NDArray[np.float64]
Progress = Callable[[int, int, str], None]

WORLD: Final = "world"
_ROUNDS: Final = 3
_SECOND: Final = 1_000_000_000


@dataclass(frozen=True)
class CellSettings:
    """How a cell is calibrated.

    ``from_nothing``: the cameras' given poses are not looked at. ``frame``: the name of the frame
    that given poses are in. ``reference``: the camera that the
    gauge is fixed to. It keeps its given pose; from nothing, its axes become the world. Empty: the
    cell as a whole stays where it was (from nothing: the first camera is the reference).
    ``baseline`` or a ``trusted_pair`` of cameras, whose given poses stay as they are, fix the scale
    in place of the hand. ``instants``: most to use, spread over the recording. ``landmark_bias``:
    one sigma, m, of how a network errs on a person's hands all the time. ``first_gate``:
    radians of epipolar distance at which views may be one hand while given poses are not yet
    believed; later gates are multiples of the landmarks' own sigma. The rest is the least evidence
    that is accepted: ``hands`` (seen by two cameras) in all, and ``hands_each`` that join a camera
    to others; ``motion``, m, one sigma of a hand's places; ``parallax``, radians; and the greatest
    sigma of a camera's ``heading``, radians, that is still an answer.
    """

    from_nothing: bool = False
    frame: str = WORLD
    reference: str = ""
    baseline: Baseline | None = None
    trusted_pair: tuple[str, str] | None = None
    intrinsics: Intrinsics = field(default_factory=Intrinsics)
    instants: int = 300
    landmark_bias: float = 0.003
    first_gate: float = 0.15
    hands: int = 20
    hands_each: int = 10
    motion: float = 0.03
    parallax: float = 0.07
    heading: float = 0.05


@dataclass(frozen=True, eq=False)
class CellCalibration:
    """A calibrated cell.

    ``cameras`` with their poses (and intrinsics) in ``frame``; ``covariance`` (C, 6, 6) of
    ``T_frame_camera`` (position m, rotation rad about the frame's axes; zero for what is held);
    ``intrinsic_sigma`` (C, 4) of log f, cx, cy, k1 (NaN where not refined); ``bundle`` with the
    landmarks in ``frame`` and the reprojection errors; ``hands`` as they were matched, and their
    ``stamps_ns`` (G,); ``scale`` says what made it metric, ``reference`` which camera the gauge is
    fixed to (empty: the cell as a whole); ``blocks`` of a second were observed, ``correlation`` is
    how many times the variance of independent landmarks the errors really have.
    """

    cameras: tuple[Camera, ...]
    frame: str
    reference: str
    covariance: Array
    intrinsic_sigma: Array
    bundle: Bundle
    hands: MatchedHands
    stamps_ns: NDArray[np.int64]
    scale: Scale
    blocks: int
    correlation: float
    from_nothing: bool


def calibrate_cell(
    views: CellViews,
    cameras: Sequence[Camera],
    models: Mapping[Side, HandModel],
    shape: HandShape | None = None,
    settings: CellSettings | None = None,
    progress: Progress | None = None,
) -> CellCalibration:
    """Poses of ``cameras`` (their intrinsics known) from ``views`` of moving hands.

    Raises `CannotCalibrate` where the views do not fix them; the text names the cameras.
    """
    settings = settings or CellSettings()
    tell = progress or (lambda done, total, what: None)
    names = [c.name for c in cameras]
    held = _held(names, settings)
    views = _spread(views, len(cameras), settings.instants)
    steps = _ROUNDS + 2
    tell(0, steps, "matching hands")
    placed, hands = _begin(views, cameras, settings)
    bundle = _adjust(placed, hands, BundleSettings(rounds=2, iterations=12))
    sharp = float(np.median(views.sigma / np.array([c.focal for c in cameras])[views.camera, None]))
    for i in range(_ROUNDS):
        tell(1 + i, steps, f"adjusting on {len(hands.instant)} hands")
        labels = by_geometry(views, bundle.cameras, (4.0, 2.0, 2.0)[i] * sharp)
        hands = matched(views, labels, len(cameras))
        _require_hands(cameras, hands, settings)
        last = i == _ROUNDS - 1
        plan = BundleSettings(rounds=3 if last else 1)
        bundle = _adjust(bundle.cameras, hands, plan)
    plan = _with_intrinsics(bundle, views.stamps_ns[hands.instant], settings)
    if settings.intrinsics.free.any() and not held:
        bundle = _adjust(bundle.cameras, hands, plan)
    tell(steps - 1, steps, "measuring the scale")
    stamps = views.stamps_ns[hands.instant]
    bundle, scale = _metric(bundle, hands, stamps, cameras, models, shape, settings, held, plan)
    _require_motion(hands, bundle, settings)
    _require_parallax(hands, bundle, settings)
    found = _in_frame(bundle, hands, stamps, scale, cameras, settings, held)
    _require_certainty(found, settings)
    tell(steps, steps, "done")
    return found


def _held(names: Sequence[str], settings: CellSettings) -> tuple[int, ...]:
    """Indices of the trusted pair; checks everything that settings name."""
    if len(names) < 2:
        raise CannotCalibrate("one camera alone has no pose: a cell has two or more")
    pair = settings.trusted_pair or ()
    for what, name in [("reference", settings.reference), *(("trusted pair", n) for n in pair)]:
        if name and name not in names:
            raise CannotCalibrate(f"the {what} {name!r} is no camera; there are {', '.join(names)}")
    if pair and (settings.from_nothing or settings.baseline is not None or settings.reference):
        raise CannotCalibrate(
            "a trusted pair fixes frame and scale by its given poses: leave out the baseline, the "
            "reference and `from nothing`"
        )
    if pair and pair[0] == pair[1]:
        raise CannotCalibrate(f"the trusted pair is {pair[0]!r} twice: name two cameras")
    return tuple(names.index(n) for n in pair)


def _spread(views: CellViews, cameras: int, most: int) -> CellViews:
    """Instants that two cameras or more saw, at most so many, spread over the recording."""
    seen = np.zeros((len(views.stamps_ns), cameras), bool)
    seen[views.instant, views.camera] = True
    useful = np.flatnonzero(seen.sum(1) > 1)
    if len(useful) > most:
        useful = useful[np.linspace(0, len(useful) - 1, most).astype(int)]
    return views.at(useful)


def _begin(
    views: CellViews, cameras: Sequence[Camera], settings: CellSettings
) -> tuple[tuple[Camera, ...], MatchedHands]:
    """Rough poses, and hands matched well enough to adjust them."""
    if settings.from_nothing:
        hands = matched(views, by_side(views), len(cameras))
        _require_hands(cameras, hands, settings)
        pairs = pair_poses(cameras, hands, StartSettings(hands=settings.hands_each))
        names = [c.name for c in cameras]
        reference = names.index(settings.reference) if settings.reference else 0
        return chained(cameras, pairs, reference), hands
    hands = matched(views, by_geometry(views, cameras, settings.first_gate), len(cameras))
    _require_hands(cameras, hands, settings)
    return tuple(cameras), hands


def _adjust(
    cameras: Sequence[Camera],
    hands: MatchedHands,
    plan: BundleSettings,
    held: Sequence[int] = (),
) -> Bundle:
    G, C, J, _ = hands.uv.shape
    uv = hands.uv.transpose(1, 0, 2, 3).reshape(C, G * J, 2)
    sigma = hands.sigma.transpose(1, 0, 2).reshape(C, G * J)
    points = triangulate(cameras, uv, sigma).reshape(G, J, 3)
    return bundle_adjust(cameras, hands.uv, hands.sigma, points, plan, held)


def _with_intrinsics(
    bundle: Bundle, stamps_ns: NDArray[np.int64], settings: CellSettings
) -> BundleSettings:
    """The last adjustment's settings, told how far landmark errors are from independent."""
    size = len(bundle.information) // len(bundle.cameras)
    constraint = gauge.held_by(bundle.cameras, size, None)
    covariance = gauge.covariance_in_gauge(bundle.information, bundle.cameras, constraint)
    correlation = gauge.variance_factor(covariance, bundle.scores, stamps_ns // _SECOND)
    return BundleSettings(intrinsics=settings.intrinsics, correlation=correlation)


def _metric(
    bundle: Bundle,
    hands: MatchedHands,
    stamps_ns: NDArray[np.int64],
    given: Sequence[Camera],
    models: Mapping[Side, HandModel],
    shape: HandShape | None,
    settings: CellSettings,
    held: tuple[int, ...],
    plan: BundleSettings,
) -> tuple[Bundle, Scale]:
    """The bundle in metres, and what says so."""
    if held:
        known, loose = ([cameras[i] for i in held] for cameras in (given, bundle.cameras))
        a, b = held
        pair = Baseline(given[a].name, given[b].name, _distance(known), 0.0)
        scale = by_baseline(bundle.cameras, pair)
        bundle = gauge.onto(loose, known, scale.factor).bundle(bundle)
        # What is trusted stays as it was given; the rest settles around it.
        cameras = [given[i] if i in held else c for i, c in enumerate(bundle.cameras)]
        bundle = _adjust(cameras, hands, plan, held)
        return bundle, replace(scale, source=f"the trusted pair {pair.a} - {pair.b}")
    if settings.baseline is not None:
        scale = by_baseline(bundle.cameras, settings.baseline)
        return _grown(bundle, scale.factor), scale
    scale = by_palm(bundle.points, hands.right, stamps_ns // _SECOND, models, shape)
    bundle = _grown(bundle, scale.factor)
    if shape is not None:
        again = by_shape(bundle.cameras, hands, bundle.points, stamps_ns, models, shape)
        bundle = _grown(bundle, again.factor)
        scale = replace(again, factor=scale.factor * again.factor)
    return bundle, scale


def _grown(bundle: Bundle, factor: float) -> Bundle:
    return gauge.Similarity(factor, np.eye(3), np.zeros(3)).bundle(bundle)


def _distance(pair: Sequence[Camera]) -> float:
    return float(np.linalg.norm(pair[0].centre - pair[1].centre))


def _in_frame(
    bundle: Bundle,
    hands: MatchedHands,
    stamps_ns: NDArray[np.int64],
    scale: Scale,
    given: Sequence[Camera],
    settings: CellSettings,
    held: tuple[int, ...],
) -> CellCalibration:
    """The metric bundle in the frame that was asked for, with covariances."""
    names = [c.name for c in given]
    reference, frame = settings.reference, settings.frame
    if settings.from_nothing:
        reference = reference or names[0]
        index = names.index(reference)
        frame = given[index].frame_id or reference
        bundle = gauge.relative_to(bundle.cameras, index).bundle(bundle)
    elif not held:
        chosen = [names.index(reference)] if reference else list(range(len(names)))
        bundle = gauge.onto([bundle.cameras[i] for i in chosen], [given[i] for i in chosen]).bundle(
            bundle
        )
    information, scores, pull, size = _rescaled(bundle, 1.0 if held else scale.factor)
    block = stamps_ns // _SECOND
    if held:
        plain = gauge.covariance_of_rest(information, size, held)
        growth = np.zeros_like(plain)
    else:
        fixed = names.index(reference) if reference else None
        constraint = gauge.held_by(bundle.cameras, size, fixed)
        if settings.baseline is not None:
            a, b = (names.index(n) for n in (settings.baseline.a, settings.baseline.b))
            constraint[6] = gauge.baseline_slope(bundle.cameras, size, a, b)
        plain = gauge.covariance_in_gauge(information, bundle.cameras, constraint)
        growth = gauge.growth_covariance(bundle.cameras, constraint, scale.sigma)
    factor = gauge.variance_factor(plain, scores, block)
    covariance = factor * plain + gauge.lasting(plain, pull, settings.landmark_bias) + growth
    intrinsic = np.full((len(names), 4), np.nan)
    variance = np.diag(covariance).reshape(len(names), size)[:, POSE:]
    intrinsic[:, settings.intrinsics.free] = np.sqrt(np.maximum(variance, 0))
    return CellCalibration(
        cameras=bundle.cameras,
        frame=frame,
        reference=reference,
        covariance=gauge.pose_covariances(bundle.cameras, covariance),
        intrinsic_sigma=intrinsic,
        bundle=bundle,
        hands=hands,
        stamps_ns=stamps_ns,
        scale=scale,
        blocks=len(np.unique(block)),
        correlation=factor,
        from_nothing=settings.from_nothing,
    )


def _rescaled(bundle: Bundle, factor: float) -> tuple[Array, Array, Array, int]:
    """Information, scores and pull by parameters whose translations are metric; their number."""
    size = len(bundle.information) // len(bundle.cameras)
    unit = np.ones((len(bundle.cameras), size))
    unit[:, 3:POSE] = 1 / factor
    by = unit.reshape(-1)
    pull = bundle.pull * by / factor
    return bundle.information * np.outer(by, by), bundle.scores * by, pull, size


def _require_hands(
    cameras: Sequence[Camera], hands: MatchedHands, settings: CellSettings
) -> None:
    """Enough hands in all, and enough that join every camera to the others."""
    count = len(hands.instant)
    if count < settings.hands:
        raise CannotCalibrate(
            f"{count} hands were seen by two cameras or more at an instant, at least "
            f"{settings.hands} are needed: record a minute of a hand that moves where cameras see "
            "it together" + ("" if settings.from_nothing else ", or calibrate from nothing if the "
            "given poses are far off")
        )
    seen = hands.seen.astype(int)
    together = seen.T @ seen
    pairs = [
        (a, b)
        for a in range(len(cameras))
        for b in range(a + 1, len(cameras))
        if together[a, b] >= settings.hands_each
    ]
    start = int(np.argmax(seen.sum(0)))
    require_joined(cameras, pairs, start)


def _require_motion(hands: MatchedHands, bundle: Bundle, settings: CellSettings) -> None:
    spread = 0.0
    for side in (hands.right > 0, hands.right <= 0):
        centre = np.nanmedian(bundle.points[side], axis=1)
        if len(centre) > 2:
            # Robust, so that a few wrong points are no motion.
            middle = np.nanmedian(centre, axis=0)
            spread = max(spread, 1.4826 * float(np.nanmedian(np.abs(centre - middle), 0).max()))
    if spread < settings.motion:
        raise CannotCalibrate(
            f"the hand hardly moved ({100 * spread:.1f} cm one sigma, at least "
            f"{100 * settings.motion:g} are needed): move it through the whole space that the "
            "cameras see"
        )


def _require_parallax(hands: MatchedHands, bundle: Bundle, settings: CellSettings) -> None:
    """Every camera must see hands across another's line of sight, not only along it."""
    middle = np.full((*hands.seen.shape, 3), np.nan)
    for i, camera in enumerate(bundle.cameras):
        own = hands.seen[:, i]
        middle[own, i] = rays(camera, np.nanmedian(hands.uv[own, i], axis=1))
    cosine = np.abs(np.einsum("gai,gbi->gab", middle, middle))
    angle = np.arccos(np.clip(cosine, 0, 1))
    best = np.nanmax(np.where(np.isfinite(angle), angle, 0.0), axis=2)
    for i, camera in enumerate(bundle.cameras):
        typical = float(np.median(best[hands.seen[:, i], i]))
        if typical < settings.parallax:
            others = [c.name for j, c in enumerate(bundle.cameras) if j != i]
            raise CannotCalibrate(
                f"{camera.name} looks along the same line as {', '.join(others)} "
                f"({np.degrees(typical):.1f} degrees between lines of sight): distances cannot be "
                "told; move a camera aside, or move the hand to the sides of the line that joins "
                "them"
            )


def _require_certainty(found: CellCalibration, settings: CellSettings) -> None:
    sigma = np.sqrt(np.linalg.eigvalsh(found.covariance[:, 3:, 3:])[:, -1])
    bad = [
        f"{c.name} (+- {np.degrees(s):.1f} degrees)"
        for c, s in zip(found.cameras, sigma, strict=True)
        if not s < settings.heading
    ]
    if bad:
        raise CannotCalibrate(
            f"the headings of {', '.join(bad)} remain uncertain: record more hands in more places "
            "before these cameras"
        )
