"""HaMeR and WiLoR as ONNX files, for runtimes that are not PyTorch; checked with ONNX Runtime."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from hand_mesh_ros.networks.fused_mano import FusedMano
from hand_mesh_ros.networks.hamer import Hamer
from hand_mesh_ros.networks.mano_decoder import RawMano
from hand_mesh_ros.networks.mano_head import rotations_from_6d
from hand_mesh_ros.networks.reconstruction import Reconstruction
from hand_mesh_ros.networks.wilor import Wilor

NEEDED: Final = "pip install 'hand-mesh-ros[export]'"

INPUT: Final = "crops"
OUTPUTS: Final = ("rotations", "betas", "cam")
"""Of `Reconstruction`; with the hand model in the file all of its fields, in its order."""

_OPSET: Final = 18
_LIMIT: Final = 1e-3  # relative, of what ONNX Runtime answers


def export(network: Hamer | Wilor, path: Path, with_hand_model: bool = False) -> float:
    """Write an ONNX file of the network, float32, for any batch; the largest relative difference.

    Input "crops" (B, 3, S, S), standardised; outputs as `OUTPUTS` names them. The hand model, whose
    licence may forbid passing it on, is only in the file `with_hand_model`, and in WiLoR's, which
    needs it within: raises ValueError without the option for it.
    The file is run by ONNX Runtime, with two batches of other sizes than it was made with; raises
    RuntimeError, and leaves no file, if what it answers is different by more than 1e-3.
    Raises ModuleNotFoundError where onnx, onnxscript or onnxruntime are missing.
    """
    if isinstance(network, Wilor) and not with_hand_model:
        raise ValueError(
            "WiLoR poses its hand model in the network, so that its file must hold it: say that "
            "you want that (--with-hand-model), and do not pass the file on if the model is MANO"
        )
    import onnx  # noqa: F401  # what is missing is told before the work
    import onnxruntime  # noqa: F401
    import onnxscript  # noqa: F401

    size = network.config.backbone.image[0]
    wrapped = _Exported(network, with_hand_model).eval()
    path.parent.mkdir(parents=True, exist_ok=True)
    batch = torch.export.Dim("batch", min=1, max=1024)
    torch.onnx.export(
        wrapped,
        (torch.randn(2, 3, size, size),),
        path,
        input_names=[INPUT],
        output_names=list(wrapped.names),
        opset_version=_OPSET,
        dynamo=True,
        dynamic_shapes=({0: batch},),
        verbose=False,
    )
    try:
        return _checked(wrapped, path, size)
    except Exception:
        for written in (path, _weights_of(path)):
            written.unlink(missing_ok=True)
        raise


class _Exported(nn.Module):
    def __init__(self, network: Hamer | Wilor, with_hand_model: bool) -> None:
        super().__init__()
        self.network = copy.copy(network)
        self.network._modules = {**network._modules, "mano": FusedMano(network.mano)}
        self.with_hand_model = with_hand_model
        self.names = Reconstruction._fields if with_hand_model else OUTPUTS

    def forward(self, crops: Tensor) -> tuple[Tensor, ...]:
        if self.with_hand_model:
            return tuple(self.network(crops))
        assert isinstance(self.network, Hamer)
        raw: RawMano = self.network.regress(self.network.features(crops))
        return rotations_from_6d(raw.pose6d), raw.betas, raw.cam


@torch.no_grad()
def _checked(wrapped: _Exported, path: Path, size: int) -> float:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    worst = 0.0
    for count in (1, 3):
        crops = torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(count))
        theirs = session.run(list(wrapped.names), {INPUT: crops.numpy()})
        for name, ours, there in zip(wrapped.names, wrapped(crops), theirs, strict=True):
            expected = ours.numpy()
            difference = float(np.abs(there - expected).max() / np.abs(expected).max())
            if not difference < _LIMIT:
                raise RuntimeError(
                    f"{path}: ONNX Runtime's {name} of {count} crops differs by {difference:.1e}; "
                    f"the file is not kept"
                )
            worst = max(worst, difference)
    return worst


def _weights_of(path: Path) -> Path:
    """Where weights of more than ONNX's 2 GB are put."""
    return path.with_name(path.name + ".data")
