"""What an accelerator's time is lost on besides computing: launching kernels, and copying."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

Core = Callable[[Tensor], tuple[Tensor, ...]]
"""A function of one tensor without branches and without synchronisation."""


class Graphs:
    """A core that is recorded as a CUDA graph for each shape, when that is seen first.

    Replaying is one launch, with no Python in it. Memory of all graphs is shared: what comes out
    is copied, since the next replay writes over it.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        self._recorded: dict[torch.Size, tuple[torch.cuda.CUDAGraph, Tensor, tuple[Tensor, ...]]]
        self._recorded = {}
        self._pool: Any = None

    def __call__(self, x: Tensor) -> tuple[Tensor, ...]:
        if x.shape not in self._recorded:
            self._recorded[x.shape] = self._record(x)
        graph, into, out = self._recorded[x.shape]
        into.copy_(x, non_blocking=True)
        graph.replay()
        return tuple(value.clone() for value in out)

    def _record(
        self, x: Tensor
    ) -> tuple[torch.cuda.CUDAGraph, Tensor, tuple[Tensor, ...]]:
        into = x.clone()
        aside = torch.cuda.Stream(x.device)
        aside.wait_stream(torch.cuda.current_stream(x.device))
        with torch.cuda.stream(aside):  # libraries choose their kernels, and allocate, before
            for _ in range(3):
                self._core(into)
        torch.cuda.current_stream(x.device).wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            out = self._core(into)
        self._pool = graph.pool()
        return graph, into, out


def ahead(parts: Sequence[Tensor], device: torch.device) -> Iterator[Tensor]:
    """The parts on the device, each on its way there while the one before is computed with."""
    if device.type != "cuda" or all(part.device == device for part in parts):
        yield from (part.to(device) for part in parts)
        return
    copies = torch.cuda.Stream(device)

    def send(part: Tensor) -> Tensor:
        with torch.cuda.stream(copies):
            pinned = part if part.is_pinned() or part.is_cuda else part.pin_memory()
            return pinned.to(device, non_blocking=True)

    sent = send(parts[0])
    for following in [*parts[1:], None]:
        computing = torch.cuda.current_stream(device)
        computing.wait_stream(copies)
        sent.record_stream(computing)
        present, sent = sent, sent if following is None else send(following)
        yield present
