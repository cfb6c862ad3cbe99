"""The fused path on a CUDA device: from a 720p frame that is there already to MANO parameters."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

import numpy as np
import torch

from hand_mesh_ros.evaluation.hamer_cost import operations
from hand_mesh_ros.evaluation.random_networks import random_network
from hand_mesh_ros.geometry.published_crops import blur_sigma, square_matrix
from hand_mesh_ros.networks.crop_sampler import sample_in_batch, standardised, upload
from hand_mesh_ros.networks.fused import fused
from hand_mesh_ros.networks.hamer import HamerConfig
from hand_mesh_ros.networks.reconstruction import Reconstruction
from hand_mesh_ros.networks.wilor import WilorConfig

_FRAME = (720, 1280, 3)
_SIDE = 300.0  # of a hand's square, pixels


def measure_gpu(
    config: HamerConfig | WilorConfig, batch: int = 8, repetitions: int = 20
) -> dict[str, float]:
    """Medians of frame-to-parameters times, fused and eager float32, both with the same crops.

    utilisation: operations by count over time, of the rate of a large bfloat16 product on this
    device.
    """
    device = torch.device("cuda", torch.cuda.current_device())
    plain = random_network(config).to(device)
    fast = fused(plain, device)
    fast.warm_up((batch,))
    random = np.random.default_rng(0)
    pictures = upload([random.integers(0, 256, _FRAME, dtype=np.uint8)], device)
    centres = random.uniform((300, 200), (980, 520), (batch, 2))
    sides = np.full(batch, _SIDE)
    mirrored = np.arange(batch) % 2 == 1
    matrices, blur = square_matrix(centres, sides, mirrored), blur_sigma(sides)
    frame = np.zeros(batch, np.int64)
    size = config.backbone.image[0]

    def run(network: Callable[[torch.Tensor], Reconstruction]) -> object:
        crops = sample_in_batch(pictures, frame, matrices, size, "zero", blur)
        return network(standardised(crops)).rotations

    with torch.inference_mode():
        seconds_fast = _seconds(lambda: run(fast), repetitions)
        seconds_plain = _seconds(lambda: run(plain), repetitions)
        rate = _product_rate(device, repetitions)
    work = operations(config, batch)
    return {
        "batch": batch,
        "seconds_fused": seconds_fast,
        "seconds_plain": seconds_plain,
        "speedup": seconds_plain / seconds_fast,
        "tflop": work / 1e12,
        "tflops_fused": work / seconds_fast / 1e12,
        "tflops_bfloat16_product": rate / 1e12,
        "utilisation": work / seconds_fast / rate,
    }


def _product_rate(device: torch.device, repetitions: int, size: int = 8192) -> float:
    """FLOP/s of a bfloat16 product of two large square matrices."""
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    return 2 * size**3 / _seconds(lambda: a @ b, repetitions)


def _seconds(run: Callable[[], object], repetitions: int) -> float:
    for _ in range(3):
        run()
    found = []
    for _ in range(repetitions):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        run()
        end.record()
        end.synchronize()
        found.append(1e-3 * begin.elapsed_time(end))
    return median(found)
