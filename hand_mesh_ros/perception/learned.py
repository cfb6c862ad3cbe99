"""What any learned network is asked about hands, and what it answers: the one contract.

A network sees crops and answers in the axes of each crop (`geometry.crop_axes`): a camera turned to
look at the crop's middle, x along its rows, y down, z into the picture. It only ever sees right
hands: crops of left ones are mirrored, and so is the world they are told to stand in. It knows of
no camera, no frame and no solver; `learned_fit.LearnedFit` makes metric hands of what it says.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.perception.network_sigma import SigmaRule
from hand_mesh_ros.types import View

if TYPE_CHECKING:
    import torch

Array = NDArray[np.float64]


@dataclass(frozen=True)
class CropRule:
    """How a network's crops are cut.

    ``size``: pixels of a side. ``corner``: the published networks' crops have the region's middle
    at pixel ``size / 2``, ours (False) between the two middle pixels. ``antialias``: regions that
    shrink to less than 1 / 2.2 are blurred first, as published. ``border``: beyond the image.
    """

    size: int = 224
    corner: bool = False
    antialias: bool = False
    border: Literal["replicate", "zero"] = "replicate"


@dataclass(frozen=True, eq=False)
class CropBatch:
    """N crops of right hands (left ones mirrored), of all hands and cameras of an instant.

    ``crops`` (N, 3, S, S) float32, RGB 0..255, on the network's device. ``group`` (N,): crops of
    one number show one hand at one instant from different cameras. ``axes`` (N, 3, 3) rotates
    world points into the crop's axes; with a mirrored crop it is the mirrored world (x negated)
    that it rotates, in which the hand is a right one, so ``axes[a] @ axes[b].T`` takes crop b's
    axes to crop a's in any case. ``field`` (N,): half the crop's width over the focal length, the
    tangent of half its view. ``centres`` (N, 3): the cameras' in that world, m, if they are told.
    """

    crops: torch.Tensor
    group: NDArray[np.int_]
    axes: Array
    field: Array
    centres: Array | None = None

    def __len__(self) -> int:
        return len(self.group)

    def places(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Hand and number among its views, (N,) each, of every crop."""
        _, hand = np.unique(self.group, return_inverse=True)
        order = np.argsort(hand, kind="stable")
        first = np.searchsorted(hand[order], hand[order])
        column = np.empty(len(hand), dtype=np.int64)
        column[order] = np.arange(len(hand)) - first
        return hand.astype(np.int64), column

    def pictures(self) -> NDArray[np.uint8]:
        """The crops as (N, S, S, 3) uint8 arrays."""
        import cv2

        pixels = np.ascontiguousarray(self.crops.permute(0, 2, 3, 1).cpu().numpy())
        rounded = np.empty(pixels.shape, np.uint8)
        rows = (-1, pixels.shape[2] * 3)
        cv2.convertScaleAbs(pixels.reshape(rows), rounded.reshape(rows))
        return rounded


@dataclass(frozen=True, eq=False)
class NetworkHands:
    """What a network says of N crops, as right hands in the crops' axes; NaN where it cannot tell.

    ``joints`` (N, 21, 3) m relative to the wrist, OpenPose order; their common size need not be
    right. ``uv`` (N, 21, 2): where they are in the crop, -1..1 from edge to edge. ``rotations``
    (N, 16, 3, 3): MANO's total rotations, the first one global; ``betas`` (N, 10).
    ``covariance`` (N, 21, 3, 21, 3) m^2 of all joints together, relative to the wrist, and
    ``uv_sigma`` (N, 21) in units of ``uv``, where the network has an opinion of them; ``visible``
    (N, 21): probability that a joint is seen.
    """

    joints: Array
    uv: Array
    rotations: Array | None = None
    betas: Array | None = None
    covariance: Array | None = None
    uv_sigma: Array | None = None
    visible: Array | None = None

    def __len__(self) -> int:
        return len(self.joints)


@dataclass(frozen=True)
class NetworkCard:
    """What is to be known of a network to use its answers.

    ``points``: what its 21 points are: a hand model's ``joints``, or ``mediapipe``'s landmarks.
    ``model_id``: of the (right) hand model whose rotations and betas it tells; None: it tells
    none. ``together``: it makes use of several crops of one hand (`CropBatch.group`), one of them
    may be missing or wrong; else each crop is answered alone. ``sigma``: what its spread and its
    own covariances mean, as calibrated on held-out renders.
    """

    name: str
    rule: CropRule = field(default_factory=CropRule)
    points: Literal["joints", "mediapipe"] = "joints"
    model_id: str | None = None
    together: bool = False
    sigma: SigmaRule = field(default_factory=SigmaRule)


@runtime_checkable
class HandNetwork(Protocol):
    """A learned network as a backend uses it. ``device`` is a torch device's name."""

    card: NetworkCard
    device: str

    def region(self, view: View) -> Array:
        """The region (4,) of the view's image to cut: centre u, v, side, rotation (`View.roi`)."""
        ...

    def __call__(self, batch: CropBatch) -> NetworkHands:
        """Answers to N crops, N >= 1, in their order.

        Raises torch.OutOfMemoryError where the device has too little memory; the caller then asks
        about fewer crops at a time.
        """
        ...
