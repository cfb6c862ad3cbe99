"""The backend `amvur`: a probabilistic hand of one view, or of several."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from hand_mesh_ros.hand.mirror import mirror_model
from hand_mesh_ros.hand.model import HandModel, load_hand_model
from hand_mesh_ros.networks.landmarks import rois_from_landmarks
from hand_mesh_ros.perception.estimate import NetworkOptions
from hand_mesh_ros.perception.learned import CropBatch, NetworkCard, NetworkHands
from hand_mesh_ros.perception.learned_fit import LearnedFit, settings_of, torch_device
from hand_mesh_ros.perception.network_sigma import SigmaRule, load_sigma_rule, sigma_file
from hand_mesh_ros.types import Side, View

if TYPE_CHECKING:
    from hand_mesh_ros.networks.amvur import AmvurNetwork

Array = NDArray[np.float64]

SHIPPED: Final = Path(__file__).parents[1] / "networks" / "weights" / "amvur.safetensors"


class AmvurHandNetwork:
    """`AmvurNetwork` as a `HandNetwork`, with the pass of the landmark network that it stands on.

    Its covariances are its own, times the temperatures that are kept with its weights.
    """

    def __init__(
        self,
        network: AmvurNetwork,
        model_id: str,
        device: str,
        sigma: SigmaRule,
        num_threads: int = 1,
    ) -> None:
        from hand_mesh_ros.networks.evidence import EvidenceNetwork

        self.device = device
        self.card = NetworkCard("amvur", model_id=model_id, sigma=sigma)
        self._network = network.to(device).eval()
        self._evidence = EvidenceNetwork(num_threads=num_threads)

    def region(self, view: View) -> Array:
        """The region that the landmarks give, as in training."""
        return np.asarray(rois_from_landmarks(view.uv)[0])

    def __call__(self, batch: CropBatch) -> NetworkHands:
        """See `HandNetwork`."""
        import torch

        from hand_mesh_ros.networks.amvur_prior import evidence_cues
        from hand_mesh_ros.networks.torch_threads import one_torch_thread

        focal = torch.from_numpy(1 / np.asarray(batch.field, dtype=np.float32)).to(self.device)
        with one_torch_thread(), torch.inference_mode():
            found = self._evidence(batch.pictures())._asdict()
            seen = {name: torch.from_numpy(array).to(self.device) for name, array in found.items()}
            hands = self._network(evidence_cues(seen, focal, self._network.settings.maps))
            known = self._network.calibrated(hands)
            told = (hands.joints, hands.uv, hands.prior.rotations, hands.prior.betas,
                    self._network.together(hands), known.uv_sigma, known.visible)  # fmt: skip
        joints, uv, rotations, betas, covariance, uv_sigma, visible = (
            value.float().cpu().numpy().astype(np.float64) for value in told
        )
        return NetworkHands(joints, uv, rotations, betas, covariance, uv_sigma, visible)


def amvur(models: Mapping[Side, HandModel] | None, network: NetworkOptions) -> LearnedFit:
    """The backend, with the weights that come along or those of a run of `hand-mesh train`.

    Raises ``AssetError`` for a file that is absent, damaged or of another network; ``ValueError``
    for a device that is not there.
    """
    device = torch_device(network.device)
    path = SHIPPED if network.checkpoint is None else Path(network.checkpoint).expanduser()
    right = load_hand_model()
    made = open_amvur(path, right)
    beside = sigma_file(path)
    sigma = load_sigma_rule(beside) if beside.is_file() else own_rule(made.calibration.id)
    if models is None:
        models = {"right": right, "left": mirror_model(right)}
    said_by = AmvurHandNetwork(made, right.model_id, device, sigma, network.num_threads)
    return LearnedFit(said_by, models, settings_of(network))


def own_rule(calibration: str) -> SigmaRule:
    """The rule that leaves a network's own, calibrated sigmas as they are."""
    ones, zeros = (1.0,) * 5, (0.0,) * 5
    return SigmaRule(ones, zeros, ones, zeros, calibration=calibration)


def open_amvur(path: Path, model: HandModel) -> AmvurNetwork:
    """The network of a file of weights that `hand-mesh train` wrote, whichever its settings.

    Raises ``AssetError`` for a file that is absent, damaged or of another network.
    """
    from hand_mesh_ros.networks.amvur import AmvurNetwork, AmvurSettings
    from hand_mesh_ros.networks.assets import AssetError
    from hand_mesh_ros.networks.weight_files import misfits, read_weight_file

    found = read_weight_file(path)
    notes = found.notes.get("amvur")
    if not isinstance(notes, Mapping):
        raise AssetError(f"{path} is not of AMVUR: its metadata do not say which settings")
    try:
        told: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in notes.items()}
        settings = AmvurSettings(**told)
    except (TypeError, ValueError) as error:
        raise AssetError(f"{path} is of another version of AMVUR: {error}") from error
    made = AmvurNetwork(model, settings)
    if problems := misfits(made.weights(), found.tensors):
        raise AssetError(f"{path} is not of this AMVUR:\n" + "\n".join(problems[:5]))
    made.load_weights(found.tensors)
    return made.eval()
