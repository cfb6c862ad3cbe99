"""HaMeR and WiLoR with random weights that behave like trained ones: pictures matter to them."""

from __future__ import annotations

from itertools import chain

import torch
from torch import Tensor, nn

from hand_mesh_ros.hand.model import load_hand_model
from hand_mesh_ros.networks.checkpoint_mano import CheckpointMano
from hand_mesh_ros.networks.hamer import Hamer, HamerConfig
from hand_mesh_ros.networks.mano_decoder import flat_mean, register_mean
from hand_mesh_ros.networks.wilor import Wilor, WilorConfig


def random_network(config: HamerConfig | WilorConfig, seed: int = 0) -> Hamer | Wilor:
    """In evaluation mode, of the free hand. Nothing in it is exactly zero or one.

    Matrices have the variance of PyTorch's own, 1 / (3 inputs), at any width, and biases,
    norms and positions are a tenth away from what fresh ones are, so that leaving one out shows.
    """
    with torch.device("meta"):
        network = Hamer(config) if isinstance(config, HamerConfig) else Wilor(config)
    network = network.to_empty(device="cpu").eval()
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        own = (module.named_parameters(recurse=False), module.named_buffers(recurse=False))
        for name, value in chain(*own):
            if value.is_floating_point():
                _fill(module, name, value.detach(), generator)
    head = network.mano_head if isinstance(network, Hamer) else network.backbone
    register_mean(head, flat_mean())
    network.hand_model = load_hand_model()
    network.mano = CheckpointMano(network.hand_model)
    return network


@torch.no_grad()
def _fill(module: nn.Module, name: str, value: Tensor, generator: torch.Generator) -> None:
    if name == "weight" and isinstance(module, nn.Linear):
        value.normal_(0, (3 * module.in_features) ** -0.5, generator=generator)
    elif name == "weight" and isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        value.normal_(0, (3 * value[0].numel()) ** -0.5, generator=generator)
    else:
        is_scale = name == "running_var" or (name == "weight" and value.ndim == 1)
        value.normal_(float(is_scale), 0.1, generator=generator)


def random_crops(count: int, size: int, seed: int = 0) -> Tensor:
    """(count, 3, size, size), standardised: colours that change slowly, and a little noise."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(count, 3, 8, 8, generator=generator)
    smooth = nn.functional.interpolate(coarse, (size, size), mode="bicubic")
    return smooth + 0.2 * torch.randn(smooth.shape, generator=generator)
