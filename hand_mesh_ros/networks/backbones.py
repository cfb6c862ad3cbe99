"""Backbones by name: images to feature maps, for the learned networks to stand on.

A backbone is made by a function without arguments that is registered as "module:function", so
that naming one imports no other. Its images are RGB in 0..1; what else its weights were trained
with (mean, deviation) it does itself.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Protocol

from torch import Tensor, nn


class Backbone(Protocol):
    """A torch module: images (N, 3, H, W) in 0..1 to features (N, `channels`, H/32, W/32)."""

    channels: int

    def __call__(self, images: Tensor) -> Tensor: ...


BACKBONES: dict[str, str] = {
    "landmark_trunk": "hand_mesh_ros.networks.backbones:landmark_trunk",
    "landmark_trunk_lite": "hand_mesh_ros.networks.backbones:landmark_trunk_lite",
    "efficientnet_lite0": "hand_mesh_ros.networks.efficientnet:efficientnet_lite0",
}


def create_backbone(name: str) -> nn.Module:
    """A `Backbone` with its pretrained weights; also "module:function" for one of your own.

    Raises ValueError for an unknown name, and what the backbone raises if its weights are absent.
    """
    where = BACKBONES.get(name, name)
    module, colon, function = where.partition(":")
    if not colon:
        raise ValueError(f"unknown backbone {name!r}: choose one of {', '.join(BACKBONES)}")
    make: Callable[[], nn.Module] = getattr(import_module(module), function)
    return make()


class LandmarkTrunk(nn.Module):
    """The trunk of MediaPipe's landmark network, trained on real hands; see `tflite`.

    1152 channels (672 for the lite variant), 7 x 7 for crops of 224 pixels.
    Raises AssetError if `hand-mesh fetch` has not been run.
    """

    def __init__(self, network: str = "hand_landmark_full") -> None:
        super().__init__()
        # Late: the reader needs LiteRT's schema, which other backbones do without.
        from hand_mesh_ros.networks.assets import landmark_network_path
        from hand_mesh_ros.networks.tflite import load_tflite

        self.network = load_tflite(landmark_network_path(network)).trunk()
        self.channels = 1152 if network == "hand_landmark_full" else 672

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images)[0]


def landmark_trunk() -> LandmarkTrunk:
    return LandmarkTrunk()


def landmark_trunk_lite() -> LandmarkTrunk:
    return LandmarkTrunk("hand_landmark_lite")
