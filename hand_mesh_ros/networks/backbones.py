"""Backbones by name: images to feature maps, for the learned networks to stand on.

A backbone is made by a function that is registered as "module:function", so that naming one
imports no other. Its images are RGB in 0..1; what else its weights were trained with (mean,
deviation) it does itself. The small ones bring their weights; those of the papers (`resnet`,
`hrnet`, `vit`) read a file that the user downloads, see `pretrained`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn

from hand_mesh_ros.networks.assets import AssetError, home
from hand_mesh_ros.networks.weight_files import misfits, read_weights

Network = TypeVar("Network", bound=nn.Module)


class Backbone(Protocol):
    """A torch module: images (N, 3, H, W) in 0..1 to features (N, `channels`, h, w).

    h x w is H/32 x W/32 for the convolutional ones; `vit` and `densestack` say their own.
    """

    channels: int

    def __call__(self, images: Tensor) -> Tensor: ...


BACKBONES: dict[str, str] = {
    "landmark_trunk": "hand_mesh_ros.networks.backbones:landmark_trunk",
    "landmark_trunk_lite": "hand_mesh_ros.networks.backbones:landmark_trunk_lite",
    "efficientnet_lite0": "hand_mesh_ros.networks.efficientnet:efficientnet_lite0",
    "resnet18": "hand_mesh_ros.networks.resnet:resnet18",
    "resnet34": "hand_mesh_ros.networks.resnet:resnet34",
    "resnet50": "hand_mesh_ros.networks.resnet:resnet50",
    "hrnet_w18": "hand_mesh_ros.networks.hrnet:hrnet_w18",
    "hrnet_w32": "hand_mesh_ros.networks.hrnet:hrnet_w32",
    "hrnet_w64": "hand_mesh_ros.networks.hrnet:hrnet_w64",
    "densestack": "hand_mesh_ros.networks.densestack:densestack",
    "vit_h_hamer": "hand_mesh_ros.networks.vit:vit_h_hamer",
}


def create_backbone(name: str, weights: str | Path | None = None) -> nn.Module:
    """A `Backbone` with its pretrained weights; also "module:function" for one of your own.

    `weights` is a file for those that read one, instead of the one in the cache.
    Raises ValueError for an unknown name or for `weights` given to a backbone that brings its
    own, and what the backbone raises if its weights are absent.
    """
    where = BACKBONES.get(name, name)
    module, colon, function = where.partition(":")
    if not colon:
        raise ValueError(f"unknown backbone {name!r}: choose one of {', '.join(BACKBONES)}")
    make: Callable[..., nn.Module] = getattr(import_module(module), function)
    if weights is None:
        return make()
    if "weights" not in inspect.signature(make).parameters:
        raise ValueError(f"the backbone {name!r} brings its own weights: leave out {weights}")
    return make(weights=weights)


@dataclass(frozen=True)
class Origin:
    """Where a backbone's weights are to be had (`source`), and under which `licence`.

    `ignored` are the beginnings of keys that such files hold beside the backbone's.
    """

    source: str
    licence: str
    ignored: tuple[str, ...] = ()


def pretrained(
    make: Callable[[], Network], name: str, origin: Origin, weights: str | Path | None = None
) -> Network:
    """The network that `make` makes, with the weights of a file.

    The file is `weights`, or else `backbones/NAME.safetensors`, `.pth` or `.ckpt` in the folder
    of `hand-mesh fetch`. It holds tensors by key, bare or under "state_dict"; of a whole
    network's file, the keys that begin with "backbone." count. Nothing in it is ever executed.
    Raises AssetError if there is no such file, naming the source and licence; if it cannot be
    read; and, with all keys in full, if it is not this network's.
    """
    path = _weights_path(name, origin, weights)
    state = _of_backbone(read_weights(path), origin.ignored)
    with torch.device("meta"):  # neither memory nor time for weights that are replaced at once
        network = make()
    problems = misfits(network.state_dict(), state)
    if problems:
        raise AssetError(f"{path} does not hold the weights of {name}:\n" + "\n".join(problems))
    network.load_state_dict(state, strict=False, assign=True)
    return network


def standardise(images: Tensor) -> Tensor:
    """Images (N, 3, H, W) in 0..1 less ImageNet's mean, by its deviation, channel by channel.

    With plain numbers, so that it needs no buffer of its own on any device.
    """
    means, deviations = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    channels = zip(images.unbind(1), means, deviations, strict=True)
    return torch.stack([(x - mean) / deviation for x, mean, deviation in channels], dim=1)


def _weights_path(name: str, origin: Origin, weights: str | Path | None) -> Path:
    if weights is None:
        stem = home() / "backbones" / name
        paths = [stem.with_suffix(suffix) for suffix in (".safetensors", ".pth", ".ckpt")]
    else:
        paths = [Path(weights).expanduser()]
    for path in paths:
        if path.is_file():
            return path
    raise AssetError(
        f"{paths[0]} is missing: the weights of {name} are not part of this package. Get them "
        f"from {origin.source} (licence: {origin.licence}) and put them there"
        + (", also as .pth or .ckpt, or name the file with `weights`" if weights is None else "")
    )


def _of_backbone(state: dict[str, Tensor], ignored: tuple[str, ...]) -> dict[str, Tensor]:
    prefix = "backbone."
    if any(key.startswith(prefix) for key in state):
        state = {k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)}
    return {key: value for key, value in state.items() if not key.startswith(ignored)}


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
