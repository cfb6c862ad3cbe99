"""A tiny recipe on the synthetic cell, and the networks it stands on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lightning", reason="the extra [train] is not installed")
pytest.importorskip("webdataset", reason="the extra [train] is not installed")

import torch  # noqa: E402

TINY = """\
name: tiny
description: A test.
task: mano
data:
  train: {source: cell, count: 8, options: {width: 160, height: 120}}
  validation: {source: cell, count: 4, options: {width: 160, height: 120}}
  crop: 64
model: {backbone: "tiny_backbone:make", channels: 4, hidden: 16}
optimiser: {rate: 0.003, warmup_steps: 1}
trainer: {epochs: 3, batch: 4, accelerator: cpu, devices: 1, ema: 0.5}
"""
# A real convolution, small, so that runs take seconds and need no downloaded file.
BACKBONE = """\
from torch import nn

class Tiny(nn.Sequential):
    channels = 8

    def __init__(self):
        super().__init__(nn.Conv2d(3, 8, 5, stride=8), nn.ReLU(), nn.Dropout2d(0.1))

def make():
    return Tiny()
"""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Sums in one order, so that equal runs give equal bits; and torch as it was, afterwards."""
    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(strict)


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """`tiny("key=value", ...)`: the recipe above with changes."""
    from hand_mesh_ros.training.recipes import read_recipe

    (tmp_path / "tiny_backbone.py").write_text(BACKBONE)
    (tmp_path / "tiny.yaml").write_text(TINY)
    monkeypatch.syspath_prepend(str(tmp_path))
    return lambda *changes: read_recipe(str(tmp_path / "tiny.yaml"), changes)
