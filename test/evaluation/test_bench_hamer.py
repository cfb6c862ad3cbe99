"""`bench hamer`: its counts and its comparison; of its times only that there are some."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch

from hand_mesh_ros.evaluation import bench_hamer
from hand_mesh_ros.evaluation.hamer_cost import Seconds, alternating, cpu_rates, operations
from hand_mesh_ros.evaluation.random_networks import random_crops, random_network
from hand_mesh_ros.networks.hamer import HAMER, HamerConfig
from hand_mesh_ros.networks.mano_decoder import DecoderConfig
from hand_mesh_ros.networks.vit import ViTConfig
from hand_mesh_ros.networks.wilor import WilorConfig

TINY_VIT = ViTConfig(width=64, depth=2, heads=4, image=(64, 48))
TINY = HamerConfig(TINY_VIT, DecoderConfig(64, dim=32, depth=2, heads=2, dim_head=8, mlp_dim=32))


def test_operations_are_those_that_one_counts_by_hand() -> None:
    tokens, width = 192, 1280
    patches = tokens * width * 3 * 16 * 16
    blocks = 32 * (12 * tokens * width**2 + 2 * tokens**2 * width)
    context = 6 * tokens * width * 1024
    head = 6 * (3 * 512 * 1024 + 512 * 1024) + 1024 * 109  # and more, but little
    counted = operations(HAMER)
    assert counted == pytest.approx(2 * (patches + blocks + context + head), rel=1e-3)
    assert operations(TINY, batch=3) == 3 * operations(TINY)
    assert operations(WilorConfig(TINY_VIT)) > operations(TINY)


@pytest.mark.parametrize("config", [TINY, WilorConfig(TINY_VIT)])
def test_random_networks_look_at_the_picture(config: HamerConfig | WilorConfig) -> None:
    network = random_network(config)
    found = bench_hamer.compare(network, torch.float32, random_crops(4, 64))
    assert found.spread_mm > 3
    assert 0 < found.max_rel < 1e-4 and found.max_mm < 0.01
    values = [v for v in network.parameters() if v.is_floating_point()]
    assert all(torch.isfinite(v).all() and v.std() > 0 for v in values if v.numel() > 1)
    again = random_network(config)
    assert all(torch.equal(a, b) for a, b in zip(values, again.parameters(), strict=True))


def test_functions_take_turns() -> None:
    turns: list[str] = []
    runs = {"a": lambda: turns.append("a"), "b": lambda: turns.append("b")}
    found = alternating(runs, 2)
    assert turns == ["a", "b"] * 3
    assert all(isinstance(s, Seconds) and s.wall >= 0 for s in found.values())


def test_all_figures_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_hamer, "small_configs", lambda: {"hamer tiny": TINY})
    monkeypatch.setattr(bench_hamer, "cpu_rates", partial(cpu_rates, rows=12, width=64))
    told: list[tuple[int, int, str]] = []
    found: dict[str, Any] = bench_hamer.measure(
        lambda *step: told.append(step), repetitions=1, seeds=1, batches=(1, 2), config=TINY
    )
    assert found["cpu_speedup"] > 0
    assert 0 < found["fused_max_rel"] < 1e-3
    assert 0 < found["half_joint_mm"] <= found["half_joint_max_mm"]
    if not torch.cuda.is_available():
        assert found["gpu_speedup"] is None and found["gpu_model_flops_utilisation"] is None
        assert "no CUDA" in found["gpu"]
    assert set(found["cpu"]) == {"1", "2"}
    assert found["cpu"]["2"]["gflop"] == pytest.approx(2 * found["cpu"]["1"]["gflop"])
    assert [done for done, _, _ in told] == sorted(done for done, _, _ in told)
    assert told[-1][0] == told[-1][1]
