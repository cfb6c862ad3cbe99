"""The backend `hamer-small`: HaMeR's decoder on the landmark network's trunk, with weights here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.hand.mirror import mirror_model
from hand_mesh_ros.hand.model import HandModel
from hand_mesh_ros.networks.landmarks import rois_from_landmarks
from hand_mesh_ros.perception.estimate import NetworkOptions
from hand_mesh_ros.perception.learned import CropBatch, NetworkCard, NetworkHands
from hand_mesh_ros.perception.learned_fit import LearnedFit, settings_of, torch_device
from hand_mesh_ros.perception.network_sigma import SigmaRule, sigma_rule_of
from hand_mesh_ros.types import Side, View

if TYPE_CHECKING:
    from hand_mesh_ros.networks.hamer_small import HamerSmall

Array = NDArray[np.float64]

SHIPPED: Final = Path(__file__).parents[1] / "networks" / "weights" / "hamer_small.safetensors"


class HamerSmallNetwork:
    """`HamerSmall` as a `HandNetwork`, with the pass of the landmark network that it stands on."""

    def __init__(
        self,
        network: HamerSmall,
        model_id: str,
        device: str,
        sigma: SigmaRule,
        num_threads: int = 1,
    ) -> None:
        from hand_mesh_ros.networks.evidence import EvidenceNetwork

        self.device = device
        self.card = NetworkCard("hamer-small", model_id=model_id, sigma=sigma)
        self._network = network.to(device).eval()
        self._evidence = EvidenceNetwork(num_threads=num_threads)

    def region(self, view: View) -> Array:
        """The region that the landmarks give, as in training."""
        return np.asarray(rois_from_landmarks(view.uv)[0])

    def __call__(self, batch: CropBatch) -> NetworkHands:
        """See `HandNetwork`."""
        import torch

        from hand_mesh_ros.networks.hamer_small import seen_of_evidence
        from hand_mesh_ros.networks.torch_threads import one_torch_thread

        with one_torch_thread(), torch.inference_mode():
            evidence = self._evidence(batch.pictures())
            seen = seen_of_evidence(evidence, batch.field, self.device)
            said, _ = self._network.answer(seen, surface=False)
        rotations, betas, joints, uv = (
            value.float().cpu().numpy().astype(np.float64)
            for value in (said.rotations, said.betas, said.joints, said.joints_2d)
        )
        return NetworkHands(joints - joints[:, :1], 2 * uv, rotations, betas)


def hamer_small(
    models: Mapping[Side, HandModel] | None, network: NetworkOptions
) -> LearnedFit:
    """The backend, with the weights that come along or those of a run of `hand-mesh train`.

    ``models`` None: the hand model that it was trained with. Raises ``AssetError`` for a file that
    is absent, damaged or of another network; ``ValueError`` for a device that is not there.
    """
    from hand_mesh_ros.networks.hamer_small import open_hamer_small

    device = torch_device(network.device)
    path = SHIPPED if network.checkpoint is None else Path(network.checkpoint).expanduser()
    made, right = open_hamer_small(path, None if models is None else models["right"])
    sigma = sigma_rule_of(path)
    said_by = HamerSmallNetwork(made, right.model_id, device, sigma, network.num_threads)
    if models is None:
        models = {"right": right, "left": mirror_model(right)}
    return LearnedFit(said_by, models, settings_of(network))
