"""HaMeR and WiLoR for inference: the same answers by one fast path, chosen by the device."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterable, Sequence
from typing import Final

import torch
from torch import Tensor, nn

from hand_mesh_ros.hand.layout import NUM_BETAS, NUM_JOINTS
from hand_mesh_ros.networks.fused_decoder import FusedDecoder
from hand_mesh_ros.networks.fused_graph import Graphs, ahead
from hand_mesh_ros.networks.fused_linear import Precision, fastest, has_int8
from hand_mesh_ros.networks.fused_mano import FusedMano
from hand_mesh_ros.networks.fused_refine import FusedRefineNet
from hand_mesh_ros.networks.fused_vit import FusedViT
from hand_mesh_ros.networks.hamer import Hamer
from hand_mesh_ros.networks.mano_decoder import RawMano
from hand_mesh_ros.networks.reconstruction import Reconstruction, reconstruct
from hand_mesh_ros.networks.vit import cut_to_shape
from hand_mesh_ros.networks.wilor import QUESTIONS, Wilor

BUCKETS: Final = (1, 2, 4, 8, 16)
"""Batches that an accelerator has a graph for; others are filled up to the next, or split."""

_log = logging.getLogger(__name__)


def fused(
    network: Hamer | Wilor | nn.Module,
    device: torch.device | str = "cpu",
    dtype: Precision | None = None,
    buckets: Sequence[int] | None = None,
) -> FusedNetwork:
    """The network's inference, faster: crops (B, 3, 256, 256) of any B to a `Reconstruction`.

    The network stays as it is, and later changes of its weights are not seen. It may be deleted
    then: what is kept is half its size in half precision.
    dtype: of the large products, None for `fused_linear.fastest`'s; "int8" quantises the weights,
    on a CPU. All else is float32 on every device.
    buckets: see `BUCKETS`; None is those on CUDA, and any batch as it comes elsewhere.
    Raises TypeError for other networks, and ValueError for "int8" where there is none.
    """
    if not isinstance(network, Hamer | Wilor):
        raise TypeError(f"only Hamer and Wilor have a fused path, not {type(network).__name__}")
    device = torch.device(device)
    if dtype == "int8" and device.type != "cpu":
        raise ValueError(f'dtype "int8" is for the CPU, not for {device}')
    device = torch.empty(0, device=device).device  # with its number, as parameters say it
    if next(network.parameters()).device != device:
        network = copy.deepcopy(network).to(device)
    if dtype == "int8" and not has_int8():
        raise ValueError('this build of PyTorch has no int8 products: choose another than "int8"')
    precision = fastest(device) if dtype is None else dtype
    with torch.no_grad():
        core: _Hamer | _Wilor = (
            _Hamer(network, precision)
            if isinstance(network, Hamer)
            else _Wilor(network, precision)
        )
    if buckets is None and device.type == "cuda":
        buckets = BUCKETS
    return FusedNetwork(core, device, precision, buckets)


class FusedNetwork:
    """What `fused` makes; see there. `precision` is of its large products."""

    def __init__(
        self,
        core: _Hamer | _Wilor,
        device: torch.device,
        precision: Precision,
        buckets: Sequence[int] | None,
    ) -> None:
        self.device = device
        self.precision = precision
        self.buckets = tuple(sorted(buckets or ()))
        self._core = core
        self._run = Graphs(core) if device.type == "cuda" else core

    @torch.inference_mode()
    def __call__(self, crops: Tensor) -> Reconstruction:
        """Crops may be on any device; the answer is on the network's, and may be of none."""
        if len(crops) == 0:
            return reconstruct(_nothing(self.device), self._core.mano)
        parts = crops.split(self.buckets[-1]) if self.buckets else [crops]
        raws = [self._raw(part) for part in ahead(parts, self.device)]
        raw = RawMano(*(torch.cat(values) for values in zip(*raws, strict=True)))
        return reconstruct(raw, self._core.mano)

    def warm_up(self, batches: Iterable[int] = (1,)) -> None:
        """Run once with each batch, so that the first hands need not wait; graphs are made here.

        Where the device's memory is too small for a bucket, it and the larger ones are given up
        and larger batches are split; raises what the device raises if not even the first fits.
        """
        for batch in sorted(set(batches)):
            try:
                self(torch.zeros((batch, 3, *self._core.crop), device=self.device))
            except torch.cuda.OutOfMemoryError:
                smaller = tuple(b for b in self.buckets if b < batch)
                if not smaller:
                    raise
                self.buckets = smaller
                torch.cuda.empty_cache()
                _log.warning(
                    "%s has no memory for %d crops at once: larger batches are split into %d",
                    self.device, batch, smaller[-1],
                )  # fmt: skip
                return

    def _raw(self, crops: Tensor) -> RawMano:
        count = len(crops)
        if self.buckets:
            missing = next(b for b in self.buckets if b >= count) - count
            crops = torch.cat([crops, crops.new_zeros((missing, *crops.shape[1:]))])
        found = self._core.finish(self._run(crops))
        return RawMano(*(value[:count] for value in found))


class _Hamer:
    """crops -> the three of `RawMano`."""

    def __init__(self, network: Hamer, precision: Precision) -> None:
        self.image = network.config.backbone.image
        self.crop = (self.image[0], self.image[0])
        self.mano = FusedMano(network.mano)
        self.tokens = FusedViT(network.backbone, precision)
        self.head = FusedDecoder(network.mano_head)

    def __call__(self, crops: Tensor) -> tuple[Tensor, ...]:
        return self.head(self.tokens(cut_to_shape(crops, *self.image)))

    def finish(self, found: tuple[Tensor, ...]) -> RawMano:
        return RawMano(*found)


class _Wilor:
    """crops -> the three of the coarse `RawMano`, and the features; what samples them is after."""

    def __init__(self, network: Wilor, precision: Precision) -> None:
        backbone = network.backbone
        self.image = network.config.backbone.image
        self.crop = (self.image[0], self.image[0])
        self.grid = network.config.backbone.grid
        self.mano = FusedMano(network.mano)
        self.tokens = FusedViT(backbone, precision, backbone.questions())
        readouts = (backbone.decpose, backbone.decshape, backbone.deccam)
        self.readouts = [copy.deepcopy(readout) for readout in readouts]
        means = (backbone.init_hand_pose.view(1, -1, 6), backbone.init_betas, backbone.init_cam)
        self.means = [mean.clone() for mean in means]
        self.refine_net = FusedRefineNet(network.refine_net)

    def __call__(self, crops: Tensor) -> tuple[Tensor, ...]:
        x = self.tokens(cut_to_shape(crops, *self.image))
        asked = (x[:, :NUM_JOINTS], x[:, NUM_JOINTS], x[:, NUM_JOINTS + 1])
        found = zip(self.readouts, asked, self.means, strict=True)
        features = x[:, QUESTIONS:].mT.unflatten(2, self.grid).contiguous()
        return (*(read(token) + mean for read, token, mean in found), features)

    def finish(self, found: tuple[Tensor, ...]) -> RawMano:
        *coarse, features = found
        raw = RawMano(*coarse)
        first = reconstruct(raw, self.mano)
        return raw.plus(self.refine_net(features, first.vertices, first.cam))


_SHAPES: Final = ((NUM_JOINTS, 6), (NUM_BETAS,), (3,))  # of `RawMano`, of one hand


def _nothing(device: torch.device) -> RawMano:
    return RawMano(*(torch.empty((0, *shape), device=device) for shape in _SHAPES))
