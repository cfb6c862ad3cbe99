"""The backend of every learned network: what it says of all views becomes one metric hand.

The network is asked once about all views of all hands. Its answers are turned into observations
(places in the images, relative 3D, finger angles and shape as a prior), each with the sigma that
its calibration gives it, and the solver makes one hand of them, by the real cameras: metric by
several views, by depth, or by a calibrated shape.

The landmarks that found a hand are a witness: an answer that puts it elsewhere in its own picture
is not believed, and a hand of which nothing is believed, or which no cameras could see as it is
said to be, is made of the landmarks alone.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.hand.model import HandModel
from hand_mesh_ros.hand.shape import HandShape
from hand_mesh_ros.networks.landmarks import rois_from_landmarks
from hand_mesh_ros.perception.ask_network import AskSettings, NetworkAsker, Opinion
from hand_mesh_ros.perception.depth import depth_at_landmarks
from hand_mesh_ros.perception.estimate import (
    PRECISIONS,
    HandViews,
    NetworkOptions,
    times_covariance,
)
from hand_mesh_ros.perception.fit_hand import FitSettings, HandFitter, Person, Told
from hand_mesh_ros.perception.landmark_fit import LandmarkFit
from hand_mesh_ros.perception.learned import HandNetwork
from hand_mesh_ros.types import HandEstimate, Side, View

if TYPE_CHECKING:
    import torch

Array = NDArray[np.float64]

_LOG = logging.getLogger(__name__)
_TOO_MANY: Final = 30
# Relative 3D and finger angles of one answer say the same thing twice.
_TWICE: Final = np.sqrt(2.0)
_LEAST_MISFIT: Final = 0.01


@dataclass(frozen=True)
class LearnedFitSettings(FitSettings):
    """``ask``: how the network is asked.

    ``witness``: median distance, in sigmas, of its places from the landmarks that found the hand,
    past which an answer is not believed.
    """

    witness: float = 4.0
    ask: AskSettings = field(default_factory=AskSettings)


def settings_of(options: NetworkOptions) -> LearnedFitSettings:
    """What a backend's options say of how its network is asked; ``ValueError`` for a bad one."""
    return LearnedFitSettings(ask=AskSettings(options.jitter, options.batch))


def precision_of(options: NetworkOptions) -> torch.dtype | Literal["int8"] | None:
    """What the network's large products are computed in; None: what suits the device.

    ``ValueError`` for none of `PRECISIONS`.
    """
    import torch

    if options.precision not in PRECISIONS:
        raise ValueError(f"precision {options.precision!r}: it is one of {', '.join(PRECISIONS)}")
    if options.precision == "auto":
        return None
    return "int8" if options.precision == "int8" else getattr(torch, options.precision)


def torch_device(name: str) -> str:
    """The device's name; ``ValueError`` where there is no such device."""
    import torch

    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as error:  # AssertionError: torch without CUDA
        reason = str(error).partition("\n")[0]
        raise ValueError(f"device {name!r} cannot be used: {reason}") from error
    return name


class LearnedFit(HandFitter):
    """A `Backend` by a network. It is not asked about views without an image, of edge nodes.

    ``models`` are what the estimates are of: those that the network was trained with, or others
    of MANO's skeleton, which its finger angles suit as well but its betas do not.
    """

    needs_images = True

    def __init__(
        self,
        network: HandNetwork,
        models: Mapping[Side, HandModel],
        settings: LearnedFitSettings | None = None,
        shape: HandShape | None = None,
    ) -> None:
        self.network = network
        self.settings = settings or LearnedFitSettings()
        super().__init__(models, self.settings, shape, network.card.points == "mediapipe")
        self._ask = NetworkAsker(network, self.settings.ask)
        self._landmarks = LandmarkFit(models, shape=shape)
        self._contradicted = 0

    def use_shape(self, shape: HandShape | None) -> None:
        """See `HandFitter.use_shape`."""
        super().use_shape(shape)
        self._landmarks.use_shape(shape)

    def estimate(self, hands: Sequence[HandViews]) -> list[HandEstimate | None]:
        """See `Backend`."""
        person = self._person
        asked = [
            (number, side, view)
            for number, hand in enumerate(hands)
            for side in self._sides(hand)
            for view in hand.views
            if view.frame is not None and view.frame.image.size
        ]
        opinions = self._ask(
            [_in_its_image(view) for _, _, view in asked],
            np.array([side == "left" for _, side, _ in asked], dtype=bool),
            np.array([2 * number + (side == "left") for number, side, _ in asked], dtype=np.int64),
        )
        said: list[dict[Side, list[tuple[View, Opinion]]]] = [{} for _ in hands]
        for (number, side, view), opinion in zip(asked, opinions, strict=True):
            if opinion is not None:
                said[number].setdefault(side, []).append((view, opinion))
        return [self._one(hand, sides, person) for hand, sides in zip(hands, said, strict=True)]

    def _one(
        self, hand: HandViews, said: Mapping[Side, list[tuple[View, Opinion]]], person: Person
    ) -> HandEstimate | None:
        """The hand of what is believed, or else of its landmarks."""
        told = {
            side: self._told(believed)
            for side, opinions in said.items()
            if (believed := [pair for pair in opinions if self._agree(*pair)])
        }
        made = self._best(hand, told, person) if told else None
        if made is not None:
            self._contradicted = 0
            wider = self.network.card.sigma.inflation[len(made.view_indices) > 1]
            return times_covariance(made, wider * misfit(made, told[made.side]))
        if said:
            self._contradicted += 1
            if self._contradicted == _TOO_MANY:
                _LOG.warning(
                    "what %s says of the last %d hands is not what their landmarks say: are "
                    "its weights trained? These hands are made of their landmarks",
                    self.network.card.name,
                    _TOO_MANY,
                )
        return self._landmarks.estimate([hand])[0]

    def _agree(self, view: View, opinion: Opinion) -> bool:
        apart = np.linalg.norm(opinion.uv + _moved(view) - view.uv, axis=-1)
        sigma = np.hypot(opinion.uv_sigma, view.sigma)
        return bool(np.median(apart / sigma) < self.settings.witness)

    def _told(self, said: Sequence[tuple[View, Opinion]]) -> Told:
        card, count = self.network.card, len(said)
        opinions = [opinion for _, opinion in said]
        poses = [o.pose for o in opinions if o.pose is not None]
        betas = [o.betas for o in opinions if o.betas is not None]
        visible = [o.visible for o in opinions if o.visible is not None]
        twice = _TWICE if poses else 1.0
        # views of one network err alike: together they are no surer than one
        noise = np.stack([o.joint_covariance for o in opinions]) * count * twice**2
        same_model = card.model_id == self.models["right"].model_id
        return Told(
            views=tuple(_as_said(view, opinion) for view, opinion in said),
            relative_noise=noise,
            pose=_mean(poses, twice * card.sigma.pose_sigma) if poses else None,
            betas=_mean(betas, card.sigma.shape_sigma) if betas and same_model else None,
            visible=np.stack(visible) if visible else None,
            calibration=card.sigma.measured_on,
        )


def misfit(made: HandEstimate, told: Told) -> float:
    """Mean square of how far the hand made is from the form that each view told, in its sigmas.

    What is right of several views, of landmarks and of a form in space agrees; where it does not,
    the hand is as much less sure. Never below a hundredth, which chance may reach.
    """
    joints = made.joints - made.joints.mean(0)
    squared = []
    for view, noise in zip(told.views, told.relative_noise, strict=True):
        R = view.camera.T_camera_world[:3, :3]
        apart = joints @ R.T - (view.world - view.world.mean(0))
        squared.append((apart * np.linalg.solve(noise, apart[..., None])[..., 0]).sum(-1))
    return max(_LEAST_MISFIT, float(np.mean(squared)) / 3)


def _as_said(view: View, opinion: Opinion) -> View:
    """The view with the network's landmarks in place of its own, and their depth."""
    said = replace(
        view, uv=opinion.uv + _moved(view), sigma=opinion.uv_sigma, world=opinion.joints,
        depth=None, depth_sigma=None,
    )  # fmt: skip
    if view.frame is None or view.frame.depth is None:
        return said
    depth, sigma = depth_at_landmarks(view.frame.depth, view.camera, opinion.uv, opinion.joints)
    return replace(said, depth=depth, depth_sigma=sigma)


def _moved(view: View) -> Array:
    """By how much, (2,) px, landmarks of a late frame were moved to the time of their set.

    `expect.Expectation.at_set_time` moves the landmarks, not the region, which is the image's.
    """
    return np.asarray(rois_from_landmarks(view.uv)[0, :2] - view.roi[:2])


def _in_its_image(view: View) -> View:
    return replace(view, uv=view.uv - _moved(view))


def _mean(values: Sequence[Array], sigma: float) -> tuple[Array, Array]:
    """Mean of views' parameters, and one sigma, wider where they differ."""
    stacked = np.stack(values)
    return stacked.mean(0), np.hypot(sigma, stacked.std(0))
