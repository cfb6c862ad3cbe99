"""How sure a learned network's answers are, measured on samples that it was not trained on."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from hand_mesh_ros.evaluation.metrics.uncertainty import nees
from hand_mesh_ros.evaluation.predict import PredictSettings, views_of
from hand_mesh_ros.evaluation.records import Sample
from hand_mesh_ros.geometry.cameras import project
from hand_mesh_ros.geometry.rotations import exp_so3, invert_rigid, log_so3, transform_points
from hand_mesh_ros.hand.landmarks import landmarks_and_jacobian
from hand_mesh_ros.perception.ask_network import AskSettings, NetworkAsker, Opinion
from hand_mesh_ros.perception.estimate import Backend, HandViews
from hand_mesh_ros.perception.learned import CropBatch, HandNetwork, NetworkCard, NetworkHands
from hand_mesh_ros.perception.learned_fit import LearnedFit
from hand_mesh_ros.perception.network_sigma import SigmaRule, fit_scale_and_floor
from hand_mesh_ros.perception.observe import LandmarkObserver
from hand_mesh_ros.types import HandEstimate, View

Array = NDArray[np.float64]

_BATCH = 16
_SURE = 20.0  # log-odds of a side that is given
_ENOUGH = 10  # groups
_SHARES = (0.68, 0.95)


@dataclass(frozen=True, eq=False)
class _Truth:
    """Places (21, 2) px and points (21, 3) m in the camera's axes, of what the network tells."""

    uv: Array
    points: Array


def measure_sigma(
    backend: LearnedFit,
    observer: LandmarkObserver,
    samples: Sequence[Sample],
    jitter: int,
    calibration: str,
    progress: Callable[[int, int, str], None],
) -> SigmaRule:
    """The rule for a network's sigmas, from its errors and spreads on samples with truths.

    Hands are looked for as `evaluate` does, sides are given. ``jitter``: crops more of each view;
    ``calibration`` becomes the rule's name. Joints are compared about their common place and at
    one size, angles and betas only where the samples have the network's own hand model.
    Raises ValueError if too few hands were found, or without jitter for a network that says
    nothing of its own errors.
    """
    ask = NetworkAsker(backend.network, AskSettings(jitter, backend.settings.ask.batch))
    pairs: list[tuple[Opinion, _Truth, Sample]] = []
    found: list[tuple[View, Sample]] = []
    for begin in range(0, len(samples), _BATCH):
        some = [
            (view, sample)
            for sample in samples[begin : begin + _BATCH]
            for view in views_of(observer, [sample], PredictSettings())
        ]
        left = np.array([sample.side == "left" for _, sample in some], dtype=bool)
        opinions = ask([view for view, _ in some], left, _groups(some))
        for opinion, (_, sample) in zip(opinions, some, strict=True):
            truth = _truth(backend, sample)
            if opinion is not None and truth is not None:
                pairs.append((opinion, truth, sample))
        found += some
        progress(min(begin + _BATCH, len(samples)), len(samples), "asking")
    rule = replace(_rule(backend, pairs, calibration), inflation=(1.0, 1.0))
    network = _Calibrated(backend.network, replace(backend.network.card, sigma=rule))
    settings = replace(backend.settings, ask=AskSettings(jitter, backend.settings.ask.batch))
    return replace(rule, inflation=_inflation(LearnedFit(network, backend.models, settings), found))


def _groups(seen: Sequence[tuple[View, Sample]]) -> NDArray[np.int_]:
    """A number (N,) for each group of samples, which show one hand; others are alone."""
    numbers: dict[Hashable, int] = {}
    keys = [(sample.group or ("alone", i)) for i, (_, sample) in enumerate(seen)]
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)


class _Calibrated:
    """A network with another card."""

    def __init__(self, network: HandNetwork, card: NetworkCard) -> None:
        self.card, self.device, self._network = card, network.device, network
        self.region = network.region

    def __call__(self, batch: CropBatch) -> NetworkHands:
        return self._network(batch)


def _inflation(
    backend: LearnedFit, found: Sequence[tuple[View, Sample]]
) -> tuple[float, float]:
    """How much wider covariances of hands of one view and of several have to be, at least 1.

    Between what 68 % and 95 % of the joints ask for, because errors have longer tails than a
    Gaussian and both cannot be right; as for one view where there are no groups of samples.
    """
    several = together(found)
    one = _excess(backend, [[pair] for pair in found])
    return one, _excess(backend, several) if len(several) >= _ENOUGH else one


def together(found: Sequence[tuple[View, Sample]]) -> list[list[tuple[View, Sample]]]:
    """Those views of one hand at one instant of which there are several."""
    groups: dict[int, list[tuple[View, Sample]]] = {}
    for number, pair in zip(_groups(found).tolist(), found, strict=True):
        groups.setdefault(number, []).append(pair)
    return [group for group in groups.values() if len(group) > 1]


def _excess(backend: LearnedFit, hands: Sequence[Sequence[tuple[View, Sample]]]) -> float:
    squared = squared_errors(backend, hands)
    if not len(squared):
        return 1.0
    asked = np.nanquantile(squared, _SHARES) / chi2.ppf(_SHARES, 3)
    return max(1.0, float(np.exp(np.log(asked).mean())))


def squared_errors(backend: Backend, hands: Sequence[Sequence[tuple[View, Sample]]]) -> Array:
    """Squared Mahalanobis distances (N, 21) of the joints of the hands found, as published.

    Each of ``hands`` is the views of one; sides are given.
    """
    squared = [
        nees(made.joints - true, made.covariance) for made, _, true in made_of(backend, hands)
    ]
    return np.stack(squared) if squared else np.zeros((0, 21))


def made_of(
    backend: Backend, hands: Iterable[Sequence[tuple[View, Sample]]]
) -> Iterator[tuple[HandEstimate, tuple[View, ...], Array]]:
    """Hands as the backend makes them, of the views of each, and where their joints are (21, 3)."""
    for seen in hands:
        sample = seen[0][1]
        if sample.joints is None or sample.side is None:
            continue
        views = tuple(replace(view, index=i) for i, (view, _) in enumerate(seen))
        votes = _SURE if sample.side == "right" else -_SURE
        (estimate,) = backend.estimate([HandViews(views, None, votes)])
        if estimate is not None:
            there = invert_rigid(sample.camera.T_camera_world)
            yield estimate, views, transform_points(there, sample.joints)


def _rule(
    backend: LearnedFit, pairs: Sequence[tuple[Opinion, _Truth, Sample]], calibration: str
) -> SigmaRule:
    uv_error, joint_error, uv_spread, joint_spread = [], [], [], []
    for opinion, truth, _ in pairs:
        if opinion.uv_spread is None or opinion.joint_spread is None:
            raise ValueError(
                f"{backend.network.card.name} says nothing of its errors: ask it more than once, "
                "with jitter"
            )
        uv_error.append((opinion.uv - truth.uv) / opinion.half)
        joint_error.append(_at_one_size(opinion.joints, truth.points))
        uv_spread.append(opinion.uv_spread)
        joint_spread.append(opinion.joint_spread)
    if not pairs:
        raise ValueError("no hand was found in the samples")
    uv = fit_scale_and_floor(np.stack(uv_error), np.stack(uv_spread))
    joint = fit_scale_and_floor(np.stack(joint_error), np.stack(joint_spread))
    rule = SigmaRule(uv[0], uv[1], joint[0], joint[1], uv_usual=uv[2], joint_usual=joint[2])
    return replace(_with_parameters(backend, pairs, rule), calibration=calibration)


def _with_parameters(
    backend: LearnedFit, pairs: Sequence[tuple[Opinion, _Truth, Sample]], rule: SigmaRule
) -> SigmaRule:
    poses, betas = [], []
    for opinion, _, sample in pairs:
        mano = getattr(sample, "mano", None)
        if mano is None or opinion.pose is None or mano.mirrored:
            continue
        if mano.model_id.removesuffix("_mirrored") != backend.network.card.model_id:
            continue
        true, told = (exp_so3(p.reshape(15, 3)) for p in (mano.hand_pose, opinion.pose))
        poses.append(log_so3(np.swapaxes(true, -1, -2) @ told).reshape(45))
        if opinion.betas is not None:
            betas.append(opinion.betas - mano.betas)
    if poses:
        rule = replace(rule, pose_sigma=_robust_sigma(np.stack(poses)))
    return replace(rule, shape_sigma=_robust_sigma(np.stack(betas))) if betas else rule


def _robust_sigma(errors: Array) -> float:
    """Root mean square of the errors without the largest hundredth."""
    squared = np.square(errors).ravel()
    return float(np.sqrt(squared[squared <= np.quantile(squared, 0.99)].mean()))


def _truth(backend: LearnedFit, sample: Sample) -> _Truth | None:
    """Joints, or where the landmark network would mark the sample's hand; None without a side."""
    camera = sample.camera.placed(np.eye(4))
    joints, mano, side = sample.joints, getattr(sample, "mano", None), sample.side
    if side is None or joints is None:
        return None
    if backend.network.card.points == "mediapipe":
        if mano is None or mano.mirrored:
            return None
        params = np.concatenate([mano.global_orient, mano.hand_pose, mano.betas, mano.transl])
        joints = landmarks_and_jacobian(backend.worn(side), params[None])[0][0]
    return _Truth(project(camera, joints), np.asarray(joints))


def _at_one_size(told: Array, true: Array) -> Array:
    """Errors (21, 3) about the common place, once ``told`` is as large as the truth."""
    told, true = told - told.mean(0), true - true.mean(0)
    return told * np.clip((told * true).sum() / (told * told).sum(), 0.5, 2.0) - true
