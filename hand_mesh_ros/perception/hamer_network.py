"""HaMeR and WiLoR as backends: the published crop in, observations of a hand out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.geometry.crop_camera import CROP
from hand_mesh_ros.geometry.published_crops import box_squares
from hand_mesh_ros.hand.mirror import mirror_model
from hand_mesh_ros.hand.model import HandModel
from hand_mesh_ros.perception.estimate import NetworkOptions
from hand_mesh_ros.perception.learned import CropBatch, CropRule, NetworkCard, NetworkHands
from hand_mesh_ros.perception.learned_fit import (
    LearnedFit,
    precision_of,
    settings_of,
    torch_device,
)
from hand_mesh_ros.perception.network_sigma import SigmaRule, sigma_rule_of
from hand_mesh_ros.types import Side, View

if TYPE_CHECKING:
    from torch import Tensor

    from hand_mesh_ros.networks.checkpoints import Kind
    from hand_mesh_ros.networks.reconstruction import Reconstruction

Array = NDArray[np.float64]

PUBLISHED: Final = CropRule(size=CROP, corner=True, antialias=True, border="zero")


class PublishedNetwork:
    """HaMeR or WiLoR as a `HandNetwork`: ``network`` takes standardised crops on ``device``."""

    def __init__(
        self,
        network: Callable[[Tensor], Reconstruction],
        name: str,
        model_id: str,
        device: str,
        sigma: SigmaRule,
    ) -> None:
        self.device = device
        self.card = NetworkCard(name, PUBLISHED, model_id=model_id, sigma=sigma)
        self._network = network

    def region(self, view: View) -> Array:
        """The published square about the box of the landmarks."""
        box = np.concatenate([view.uv.min(0), view.uv.max(0)])
        (centre,), (side,) = box_squares(box)
        return np.array([*centre, side, 0.0])

    def __call__(self, batch: CropBatch) -> NetworkHands:
        """See `HandNetwork`."""
        from hand_mesh_ros.networks.crop_sampler import standardised

        said = self._network(standardised(batch.crops))
        rotations, betas, joints, uv = (
            value.float().cpu().numpy().astype(np.float64)
            for value in (said.rotations, said.betas, said.joints, said.joints_2d)
        )
        return NetworkHands(joints - joints[:, :1], 2 * uv, rotations, betas)


def hamer(models: Mapping[Side, HandModel] | None, network: NetworkOptions) -> LearnedFit:
    """The backend `hamer`; see `published`."""
    return published("hamer", models, network)


def wilor(models: Mapping[Side, HandModel] | None, network: NetworkOptions) -> LearnedFit:
    """The backend `wilor`; see `published`."""
    return published("wilor", models, network)


def published(
    kind: Kind, models: Mapping[Side, HandModel] | None, options: NetworkOptions
) -> LearnedFit:
    """A published network's backend. ``models`` None: the checkpoint's own hand model.

    Raises ``AssetError`` without a checkpoint, saying where it is to be had, and for one that is
    another's, damaged or without a hand model; ``ValueError`` for a device that is not there or
    cannot compute with the precision.
    """
    from hand_mesh_ros.networks.assets import AssetError
    from hand_mesh_ros.networks.checkpoints import open_reconstructor, source_of
    from hand_mesh_ros.networks.fused import fused

    if options.checkpoint is None:
        raise AssetError(f"backend {kind!r} needs a checkpoint, none is given: {source_of(kind)}")
    path = Path(options.checkpoint).expanduser()
    network = open_reconstructor(path, kind, None if models is None else models["right"])
    right = network.hand_model
    assert right is not None
    sigma = sigma_rule_of(path)
    device, precision = torch_device(options.device), precision_of(options)
    fast = fused(network, device, precision)
    fast.warm_up(fast.buckets or (1,))
    made = PublishedNetwork(fast, kind, right.model_id, device, sigma)
    if models is None:
        models = {"right": right, "left": mirror_model(right)}
    return LearnedFit(made, models, settings_of(options))
