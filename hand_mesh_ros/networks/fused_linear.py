"""Linear maps as a device computes them fastest: its own layout, half precision, GELU inside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Linear = Callable[[Tensor], Tensor]
"""Rows (R, in) to rows (R, out)."""

Precision = torch.dtype | Literal["int8"]
"""What the products of a network's large matrices are computed in."""


_SMALLEST = 1e-12  # scale of a row of zeros


def has_int8() -> bool:
    """If this build of PyTorch multiplies int8 on a CPU by oneDNN."""
    onednn = torch.ops.onednn
    return torch.backends.mkldnn.is_available() and hasattr(onednn, "qlinear_pointwise")


def fastest(device: torch.device | str) -> torch.dtype:
    """float16 on CUDA, bfloat16 on a CPU that has instructions for it, else float32.

    Of the halves float16 has three bits more, which is what is left of a millimetre's tenth; no
    CPU that PyTorch runs on multiplies it faster than float32 by enough to be worth it.
    """
    device = torch.device(device)
    if device.type == "cuda":
        return torch.float16
    if device.type == "cpu" and has_bfloat16():
        return torch.bfloat16
    return torch.float32


def has_bfloat16() -> bool:
    """If this CPU multiplies bfloat16 by AVX-512 or AMX instructions (emulated it is slow)."""
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    asked = (getattr(torch.cpu, name, None) for name in names)
    return any(ask is not None and ask() for ask in asked)


def linear(
    weight: Tensor, bias: Tensor | None, precision: Precision, rows: int, gelu: bool = False
) -> Linear:
    """`functional.linear` with (out, in) weights, and the (exact) GELU of it if wanted.

    rows: how many the layout of the weights is chosen for; any number is computed. Input and
    output are of the precision, float32 where that is "int8".
    """
    if precision == "int8":
        return _quantised(weight, bias, rows, gelu)
    weight = weight.detach().to(precision, copy=True).contiguous()
    bias = None if bias is None else bias.detach().to(precision, copy=True)
    if weight.device.type == "cpu" and _prepacks(precision):
        return _prepacked(weight, bias, rows, gelu)
    if gelu:
        return lambda x: functional.gelu(functional.linear(x, weight, bias))
    return lambda x: functional.linear(x, weight, bias)


def _prepacks(dtype: torch.dtype) -> bool:
    """If oneDNN is in this build, with the operators by which `torch.compile` packs weights."""
    operators = torch.ops.mkldnn
    if not torch.backends.mkldnn.is_available() or not hasattr(operators, "_linear_pointwise"):
        return False
    return dtype == torch.float32 or (dtype == torch.bfloat16 and has_bfloat16())


def _prepacked(weight: Tensor, bias: Tensor | None, rows: int, gelu: bool) -> Linear:
    """By oneDNN with the weights in its blocked layout, which it else makes at every call."""
    packed = torch.ops.mkldnn._reorder_linear_weight(weight, rows)
    run = torch.ops.mkldnn._linear_pointwise
    post, algorithm = ("gelu", "none") if gelu else ("none", "")
    return lambda x: run(x, packed, bias, post, [], algorithm)


def _quantised(weight: Tensor, bias: Tensor | None, rows: int, gelu: bool) -> Linear:
    """int8 weights with a scale each row, times inputs with a scale each row, found as they come.

    Inputs are unsigned about 128, which is what AVX512-VNNI and oneDNN multiply fast.
    """
    weight = weight.detach().float()
    scales = (weight.abs().amax(1) / 127).clamp_(min=_SMALLEST)
    rounded = (weight / scales[:, None]).round_().to(torch.int8)
    packed = torch.ops.onednn.qlinear_prepack(rounded, [rows, weight.shape[1]])
    zeros = torch.zeros(len(scales), dtype=torch.int64)
    bias = torch.zeros_like(scales) if bias is None else bias.detach().float().clone()
    multiply = torch.ops.onednn.qlinear_pointwise

    def run(x: Tensor) -> Tensor:
        sizes = (x.abs().amax(1, keepdim=True) / 127).clamp_(min=_SMALLEST)
        whole = (x / sizes).round_().add_(128).to(torch.uint8)
        y = multiply(
            whole, 1.0, 128, packed, scales, zeros, None, 1.0, 0, torch.float32, "none", [], ""
        )
        y = torch.addcmul(bias, y, sizes)
        return functional.gelu(y) if gelu else y

    return run
