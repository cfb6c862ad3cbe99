"""`RefineNet` for inference: norms are in the convolutions, and two of those are one."""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from hand_mesh_ros.networks.mano_decoder import RawMano
from hand_mesh_ros.networks.refine_net import RefineNet


class FusedRefineNet:
    """As `RefineNet` in evaluation mode, in float32."""

    def __init__(self, net: RefineNet) -> None:
        net = self._net = copy.deepcopy(net)
        self._stem = net.deconv.first_conv
        coarse, fine = (list(cast(nn.Sequential, branch)) for branch in net.deconv.deconv)
        (weight, bias), (beside, beside_bias) = _folded(*coarse[:2]), _folded(*fine[:2])
        # Both branches double the same map: as one convolution.
        self._doubled = torch.cat([weight, beside], dim=1), torch.cat([bias, beside_bias])
        self._again = _folded(*fine[3:5])

    def __call__(self, features: Tensor, vertices: Tensor, cam: Tensor) -> RawMano:
        x = self._stem(features)
        coarse, fine = _double(x, *self._doubled).chunk(2, dim=1)
        maps = [_double(fine, *self._again), coarse, x]
        return self._net.read(self._net.sample(maps, vertices, cam))


def _double(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return functional.conv_transpose2d(x, weight, bias, stride=2, padding=1).relu_()


def _folded(up: nn.Module, norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Weight (in, out, 4, 4) and bias of a transposed convolution with the norm behind it."""
    assert isinstance(up, nn.ConvTranspose2d) and isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    bias = norm.bias - norm.running_mean * scale
    return (up.weight * scale[:, None, None]).detach(), bias.detach()
