"""SiMA-Hand as two backends: `sima-svr` of one view at a time, `sima-mvr` of all views together.

Its answer is a mesh; MANO's parameters come of the solver's fit to the joints of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

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
    import torch

    from hand_mesh_ros.networks.sima import Sima, SimaHands
    from hand_mesh_ros.networks.sima_weights import Kind

Array = NDArray[np.float64]


class SimaNetwork:
    """A `Sima` of either kind as a `HandNetwork`; on the landmark network's evidence, or pixels."""

    def __init__(
        self, network: Sima, name: str, device: str, sigma: SigmaRule, num_threads: int = 1
    ) -> None:
        from hand_mesh_ros.networks.evidence import EvidenceNetwork

        self.device = device
        self.card = NetworkCard(name, together=network.settings.multi, sigma=sigma)
        self._network = network.to(device).eval()
        small = "image" not in network.reads
        self._evidence = EvidenceNetwork(num_threads=num_threads) if small else None

    def region(self, view: View) -> Array:
        """The region that the landmarks give, as in training."""
        return np.asarray(rois_from_landmarks(view.uv)[0])

    def __call__(self, batch: CropBatch) -> NetworkHands:
        """See `HandNetwork`."""
        hands = self.hands(batch)

        def array(value: torch.Tensor) -> Array:
            return value.float().cpu().numpy().astype(np.float64)

        return NetworkHands(array(hands.joints - hands.joints[:, :1]), array(hands.uv))

    def hands(self, batch: CropBatch) -> SimaHands:
        """All that it says, the meshes too, in the crops' order (but `features` in no order)."""
        import torch

        from hand_mesh_ros.networks.torch_threads import one_torch_thread

        with one_torch_thread(self._evidence is not None), torch.inference_mode():
            seen = self._seen(batch)
            if not self._network.settings.multi:
                return self._network(seen)
            hand, column = batch.places()
            shape = (int(hand.max()) + 1, int(column.max()) + 1)
            flat = torch.from_numpy(hand * shape[1] + column).to(self.device)

            def laid(values: torch.Tensor) -> torch.Tensor:
                out = values.new_zeros((shape[0] * shape[1], *values.shape[1:]))
                return out.index_copy(0, flat, values).unflatten(0, shape)

            axes = torch.from_numpy(np.ascontiguousarray(batch.axes, np.float32)).to(self.device)
            said = self._network.together(
                {name: laid(value) for name, value in seen.items()},
                laid(torch.ones_like(flat, dtype=torch.bool)),
                laid(axes),
            )
            # its order is that of hands and their views
            back = flat.argsort().argsort()
            ordered = {
                name: value[back] for name, value in said._asdict().items() if name != "features"
            }
            return said._replace(**ordered)

    def _seen(self, batch: CropBatch) -> dict[str, torch.Tensor]:
        import torch

        if self._evidence is None:
            return {"image": batch.crops.permute(0, 2, 3, 1)}
        evidence = self._evidence(batch.pictures())._asdict()
        return {
            name: torch.from_numpy(np.ascontiguousarray(evidence[name])).to(self.device)
            for name in self._network.reads
        }


def sima_svr(models: Mapping[Side, HandModel] | None, network: NetworkOptions) -> LearnedFit:
    """The backend `sima-svr`; see `sima`."""
    return sima("sima_svr", models, network)


def sima_mvr(models: Mapping[Side, HandModel] | None, network: NetworkOptions) -> LearnedFit:
    """The backend `sima-mvr`; see `sima`."""
    return sima("sima_mvr", models, network)


def sima(
    kind: Kind, models: Mapping[Side, HandModel] | None, options: NetworkOptions
) -> LearnedFit:
    """A backend with the weights that come along, or those of a run of `hand-mesh train`.

    ``models`` None: the hand model that it was trained with. Raises ``AssetError`` for a file that
    is absent, damaged or of another network; ``ValueError`` for a device that is not there.
    """
    from hand_mesh_ros.networks.sima_weights import open_sima, trained_with, weights_path

    device = torch_device(options.device)
    path = weights_path(kind) if options.checkpoint is None else Path(options.checkpoint)
    path = path.expanduser()
    right = trained_with(path)
    sigma = sigma_rule_of(path)
    name = kind.replace("_", "-")
    network = open_sima(kind, right, path)
    made = SimaNetwork(network, name, device, sigma, options.num_threads)
    if models is None:
        models = {"right": right, "left": mirror_model(right)}
    return LearnedFit(made, models, settings_of(options))
