"""A network asked about views, as often as its spread is wanted and in batches that fit memory."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.geometry.rotations import log_so3, project_to_so3
from hand_mesh_ros.perception.cut_crops import Answers, Regions, cut, in_images
from hand_mesh_ros.perception.learned import HandNetwork, NetworkHands
from hand_mesh_ros.perception.network_sigma import SigmaRule
from hand_mesh_ros.types import View

Array = NDArray[np.float64]

_LOG = logging.getLogger(__name__)
_MOST_JITTER: Final = 16
# Shift along and across in regions, logarithm of the size, radians: what detectors differ by.
_JITTER: Final = np.array([0.04, 0.04, 0.06, 0.12]) * np.clip(
    np.random.default_rng(20).normal(size=(_MOST_JITTER, 4)), -2, 2
)


@dataclass(frozen=True)
class AskSettings:
    """``jitter``: how many more crops a view is asked about, each cut a little differently, for the

    spread of the answers, 0 to 16; the answer is the mean of all. ``batch``: most crops the
    network is given at once.
    """

    jitter: int = 0
    batch: int = 32

    def __post_init__(self) -> None:
        if not 0 <= self.jitter <= _MOST_JITTER:
            raise ValueError(f"jitter is {self.jitter}: it is 0 to {_MOST_JITTER} crops")
        if self.batch < 1:
            raise ValueError(f"batch is {self.batch}: it is one crop at least")


@dataclass(frozen=True, eq=False)
class Opinion:
    """What a network says of one view, if it is of one side, in the camera's axes and pixels.

    ``uv`` (21, 2) px with ``uv_sigma`` (21,), ``joints`` (21, 3) m relative to the wrist with
    ``joint_covariance`` (21, 3, 3) m^2, each about their common place; ``pose`` (45,) axis-angle
    and ``betas`` (10,) or None, in parameters of that side's model. ``uv_spread`` (21,), in half
    the region's side ``half``, and ``joint_spread`` (21, 3, 3) are what ``uv_sigma`` and
    ``joint_covariance`` were made of; None where one answer came without. ``visible`` (21,):
    probabilities that the joints are seen, if told.
    """

    uv: Array
    uv_sigma: Array
    joints: Array
    joint_covariance: Array
    pose: Array | None
    betas: Array | None
    half: float
    uv_spread: Array | None
    joint_spread: Array | None
    visible: Array | None = None


class NetworkAsker:
    """Holds what lasts: how many crops the device has room for."""

    def __init__(self, network: HandNetwork, settings: AskSettings) -> None:
        self._network, self._settings = network, settings
        self._batch = settings.batch

    def __call__(
        self, views: Sequence[View], left: NDArray[np.bool_], group: NDArray[np.int_]
    ) -> list[Opinion | None]:
        """Opinions on N views with images, as ``left`` (N,) hands or right ones.

        ``group`` (N,): views of one number show one hand. None where the network has no answer.
        """
        if not len(views):
            return []
        rois = np.stack([np.asarray(self._network.region(v), np.float64) for v in views])
        asked = 1 + self._settings.jitter
        regions = Regions(
            tuple(views) * asked,
            np.concatenate([rois, *(_jittered(rois, d) for d in _JITTER[: asked - 1])]),
            np.tile(np.asarray(left, dtype=bool), asked),
            np.concatenate([group + k * (int(np.max(group)) + 1) for k in range(asked)]),
        )
        answers = in_images(self._answers(regions), regions)
        stacked = {
            f.name: None if (v := getattr(answers, f.name)) is None
            else np.asarray(v, np.float64).reshape(asked, len(views), *v.shape[1:])
            for f in fields(Answers)
        }  # fmt: skip
        return [
            _opinion({k: None if v is None else v[:, i] for k, v in stacked.items()},
                     rois[i, 2] / 2, self._network.card.sigma)
            for i in range(len(views))
        ]  # fmt: skip

    def _answers(self, regions: Regions) -> NetworkHands:
        """The network's answers in batches; fewer at a time where the device has no room."""
        from torch import OutOfMemoryError

        network, card, device = self._network, self._network.card, self._network.device
        parts, begin = [], 0
        order = np.argsort(regions.group, kind="stable") if card.together else None
        ordered = regions if order is None else regions.of(order)
        while begin < len(ordered):
            end = _end(ordered.group, begin, self._batch, card.together)
            try:
                parts.append(network(cut(ordered.of(np.arange(begin, end)), card.rule, device)))
            except OutOfMemoryError as error:
                if self._batch == 1:
                    raise MemoryError(
                        f"device {device} has no room for one crop of {card.name}: choose another "
                        "device"
                    ) from error
                self._batch = max(1, (end - begin) // 2)
                _LOG.warning(
                    "device %s has no room for %d crops of %s at once: from now on %d at a time",
                    device, end - begin, card.name, self._batch,
                )  # fmt: skip
                continue
            begin = end
        whole = _joined(parts)
        return whole if order is None else _taken(whole, np.argsort(order))


def _jittered(rois: Array, by: Array) -> Array:
    out = rois.copy()
    cos, sin = np.cos(rois[:, 3]), np.sin(rois[:, 3])
    out[:, 0] += rois[:, 2] * (by[0] * cos - by[1] * sin)
    out[:, 1] += rois[:, 2] * (by[0] * sin + by[1] * cos)
    out[:, 2] *= np.exp(by[2])
    out[:, 3] += by[3]
    return out


def _end(group: NDArray[np.int_], begin: int, batch: int, together: bool) -> int:
    """Where a batch ends that splits no group, unless that alone is more than a batch."""
    end = min(begin + batch, len(group))
    if together and end < len(group) and group[end] == group[end - 1]:
        first = int(np.searchsorted(group, group[end]))
        end = first if first > begin else int(np.searchsorted(group, group[end], side="right"))
    return end


def _joined(parts: Sequence[NetworkHands]) -> NetworkHands:
    if len(parts) == 1:
        return parts[0]
    columns = {f.name: [getattr(part, f.name) for part in parts] for f in fields(NetworkHands)}
    whole: dict[str, Any] = {
        k: None if v[0] is None else np.concatenate(v) for k, v in columns.items()
    }
    return NetworkHands(**whole)


def _taken(hands: NetworkHands, which: NDArray[np.int_]) -> NetworkHands:
    taken: dict[str, Any] = {k: None if v is None else v[which] for k, v in vars(hands).items()}
    return NetworkHands(**taken)


def _opinion(
    answers: dict[str, Array | None], half: float, rule: SigmaRule
) -> Opinion | None:
    """The mean of a view's answers (R, ...) and what their spread says by the rule."""
    uv, joints = answers["uv"], answers["joints"]
    assert uv is not None and joints is not None
    kept = np.asarray(np.isfinite(uv).all((1, 2)) & np.isfinite(joints).all((1, 2)))
    if not kept[0]:
        return None
    answers = {k: None if v is None else v[kept] for k, v in answers.items()}
    uv, joints = uv[kept], joints[kept]
    told, uv_sigma = answers["covariance"], answers["uv_sigma"]
    joint_spread = _spread(
        joints - joints.mean(1, keepdims=True), None if told is None else about_common(told)
    )
    own = None if uv_sigma is None else np.square(uv_sigma)[..., None, None] * np.eye(2)
    uv_covariance = _spread(uv / half, own)
    uv_spread = None if uv_covariance is None else np.sqrt(uv_covariance[:, 0, 0])
    visible, pose, betas = answers["visible"], answers["pose"], answers["betas"]
    return Opinion(
        uv=uv.mean(0),
        uv_sigma=np.maximum(half * rule.uv_sigma(uv_spread), 0.5),
        joints=joints.mean(0),
        joint_covariance=rule.joint_covariance(joint_spread),
        pose=None if pose is None else log_so3(project_to_so3(pose.mean(0))).reshape(45),
        betas=None if betas is None else betas.mean(0),
        half=half,
        uv_spread=uv_spread,
        joint_spread=joint_spread,
        visible=None if visible is None else visible.mean(0),
    )


def about_common(covariance: Array) -> Array:
    """Each point's own covariance (..., 21, 3, 3) about the mean of all, of the (..., 21, 3, 21, 3)

    of all together: what points share, as where the wrist is, says nothing of the hand's form.
    """
    of_mean = covariance.mean(-2, keepdims=True)
    both = covariance - of_mean - (covariance - of_mean).mean(-4, keepdims=True)
    return np.asarray(np.einsum("...pipj->...pij", both))


def _spread(values: Array, own: Array | None) -> Array | None:
    """Covariances (21, D, D) before the rule, of answers (R, 21, D): by how they differ, alike in

    all axes, and by what the network itself tells (R, 21, D, D); None where there is neither.
    """
    found = None if own is None else own.mean(0)
    if len(values) > 1:
        differ = values.var(axis=0, ddof=1).mean(-1)[:, None, None] * np.eye(values.shape[-1])
        found = differ if found is None else differ + found
    return found
