"""HaMuCo as a backend: one view alone, or all views of a hand through the cross-view network."""

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
    import torch

    from hand_mesh_ros.networks.hamuco import Hamuco

Array = NDArray[np.float64]

# Half-widths of the crop: by which places may differ, and one sigma of those that do not.
_APART: Final = 0.12
_NOISE: Final = 0.036
# Metres, about, of a half-width at a hand: how far places are apart tells of space, too.
_HALF_WIDTH: Final = 0.1
SHIPPED: Final = Path(__file__).parents[1] / "networks" / "weights" / "hamuco.safetensors"


class HamucoNetwork:
    """A `Hamuco` of evidence or of pictures as a `HandNetwork`; a lone view is answered alone.

    The landmark network's own places are sharper where both agree: the nearer they are, the more
    of them is in the answer, and how far they are apart is how sure it is.
    """

    def __init__(
        self,
        network: Hamuco,
        model_id: str,
        device: str,
        sigma: SigmaRule,
        num_threads: int = 1,
    ) -> None:
        from hand_mesh_ros.networks.evidence import EvidenceNetwork

        self.device = device
        self.card = NetworkCard("hamuco", model_id=model_id, together=True, sigma=sigma)
        self._network = network.to(device).eval()
        small = "coarse" in network.inputs
        self._evidence = EvidenceNetwork(num_threads=num_threads) if small else None

    def region(self, view: View) -> Array:
        """The region that the landmarks give, as in training."""
        return rois_from_landmarks(view.uv)[0]

    def __call__(self, batch: CropBatch) -> NetworkHands:
        """See `HandNetwork`."""
        import torch

        from hand_mesh_ros.networks.torch_threads import one_torch_thread

        hand, column = batch.places()
        mask = np.zeros((hand.max() + 1, column.max() + 1), dtype=bool)
        mask[hand, column] = True
        place = torch.from_numpy(hand), torch.from_numpy(column)

        def laid(values: torch.Tensor) -> torch.Tensor:
            out = values.new_zeros(*mask.shape, *values.shape[1:])
            out[place] = values
            return out

        def tensor(array: Array) -> torch.Tensor:
            return torch.from_numpy(np.ascontiguousarray(array, np.float32)).to(self.device)

        with one_torch_thread(self._evidence is not None), torch.inference_mode():
            inputs = {name: laid(value) for name, value in self._seen(batch).items()}
            there = torch.from_numpy(mask).to(self.device)
            field, axes = laid(tensor(batch.field)), laid(tensor(batch.axes))
            centres = None if batch.centres is None else laid(tensor(batch.centres))
            if mask.shape[1] == 1:
                _, said = self._network.alone(inputs, there, field)
            else:
                alone, said = self._network(inputs, there, axes, field, None, centres)
                lone = there.sum(1) == 1
                if lone.any():
                    said = _chosen(lone, alone, said)

        def taken(value: torch.Tensor) -> Array:
            return value[place].float().cpu().numpy().astype(np.float64)

        uv = taken(said.uv)
        uv_sigma = covariance = None
        if "landmarks" in inputs:
            apart = taken(inputs["landmarks"])[..., :2] - taken(said.marks_uv)
            off = np.square(np.linalg.norm(apart, axis=-1) / _APART)
            uv = uv + apart / (1 + off)[..., None]
            uv_sigma = _NOISE * np.sqrt(1 + off)
            variance = np.square(_HALF_WIDTH * _APART) * off
            covariance = np.einsum("np,pq,ij->npiqj", variance, np.eye(21), np.eye(3))
        return NetworkHands(
            taken(said.points.joints), uv, taken(said.rotations), taken(said.betas),
            covariance=covariance, uv_sigma=uv_sigma,
        )  # fmt: skip

    def _seen(self, batch: CropBatch) -> dict[str, torch.Tensor]:
        import torch

        if self._evidence is None:
            size = (256, 256)
            images = torch.nn.functional.interpolate(batch.crops / 255, size, mode="bilinear")
            return {"image": images.to(self.device)}
        evidence = self._evidence(batch.pictures())._asdict()
        return {
            name: torch.from_numpy(evidence[name]).to(self.device)
            for name in self._network.inputs
        }


def hamuco(models: Mapping[Side, HandModel] | None, network: NetworkOptions) -> LearnedFit:
    """The backend `hamuco`, by its own weights or those of a run of `hand-mesh train`.

    Raises ``AssetError`` for a file that is absent, damaged or of another network; ``ValueError``
    for a device that is not there.
    """
    device = torch_device(network.device)
    right = load_hand_model()
    path = SHIPPED if network.checkpoint is None else Path(network.checkpoint).expanduser()
    made = open_hamuco(path, right)
    rule = sigma_file(path)
    sigma = load_sigma_rule(rule) if rule.is_file() else SigmaRule()
    backend = HamucoNetwork(made, right.model_id, device, sigma, network.num_threads)
    if models is None:
        models = {"right": right, "left": mirror_model(right)}
    return LearnedFit(backend, models, settings_of(network))


def open_hamuco(path: Path, model: HandModel) -> Hamuco:
    """The network of a file of weights that `hand-mesh train` wrote, whichever configuration.

    Raises ``AssetError`` for a file that is absent, damaged or of another network.
    """
    from hand_mesh_ros.networks.assets import AssetError
    from hand_mesh_ros.networks.hamuco import Hamuco
    from hand_mesh_ros.networks.weight_files import misfits, read_weight_file

    found = read_weight_file(path)
    notes = found.notes.get("hamuco")
    if not isinstance(notes, Mapping):
        raise AssetError(f"{path} is not of HaMuCo: its metadata do not say which configuration")
    pretrained = None if notes["features"] == "evidence" else ""  # all weights are in the file
    made = Hamuco(model, weights=pretrained, **notes)
    if problems := misfits(made.weights(), found.tensors):
        raise AssetError(f"{path} is not of this HaMuCo:\n" + "\n".join(problems[:5]))
    made.load_weights(found.tensors)
    return made.eval()


def _chosen(which: torch.Tensor, a: Any, b: Any) -> Any:
    """Of two named tuples of tensors (B, ...), a where `which` (B,), else b."""
    if isinstance(a, tuple):
        return type(a)(*(_chosen(which, x, y) for x, y in zip(a, b, strict=True)))
    return a.where(which.reshape(-1, *([1] * (a.ndim - 1))), b)
