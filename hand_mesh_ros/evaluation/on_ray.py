"""Recordings on Ray: one actor for each GPU, or for each few cores where there is none.

All machines of the cluster must see the recordings and the results under the same paths.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hand_mesh_ros.evaluation.reconstruct_many import (
    ManySettings,
    Result,
    read_result,
    reconstruct_one,
    write_result,
)


def available() -> bool:
    """Whether Ray is installed."""
    return find_spec("ray") is not None


class OnRay:
    """A `reconstruct_many.Run`; `workers` is how many actors at most (None: what there is).

    The cluster is that of RAY_ADDRESS, or of this machine alone. On GPUs networks run by torch.
    An actor that dies (killed, out of memory, a crash in a decoder) is replaced, and the recording
    that it had is listed as failed.
    """

    def __init__(self, workers: int | None = None) -> None:
        self._workers = workers

    def __call__(
        self, recordings: Sequence[Path], settings: ManySettings, out: Path
    ) -> Iterator[Result]:
        import ray

        started = not ray.is_initialized()
        if started:
            ray.init(include_dashboard=False, log_to_driver=False, logging_level="error")
        try:
            yield from self._run(ray, list(recordings), settings, out.resolve())
        finally:
            if started:
                ray.shutdown()

    def _run(
        self, ray: Any, waiting: list[Path], settings: ManySettings, out: Path
    ) -> Iterator[Result]:
        resources = ray.cluster_resources()
        gpus = int(resources.get("GPU", 0))
        cpus = int(resources.get("CPU", 1))
        # no more than there are, or the rest would wait for a place that never comes
        cores = min(settings.num_threads, cpus)
        if gpus:
            settings = replace(settings, runtime="torch", device="cuda")
        places = gpus or max(cpus // cores, 1)
        places = min(places, self._workers or places, len(waiting))
        needs = {"num_gpus": 1, "num_cpus": 0} if gpus else {"num_cpus": cores}
        worker = ray.remote(_Worker).options(max_restarts=0, **needs)
        waiting = [path.resolve() for path in reversed(waiting)]
        running: dict[Any, tuple[Any, Path]] = {}

        def give(actor: Any) -> None:
            path = waiting.pop()
            running[actor.run.remote(path, settings, out)] = actor, path

        for _ in range(places):
            give(worker.remote())
        while running:
            (done,), _ = ray.wait(list(running), num_returns=1)
            actor, path = running.pop(done)
            try:
                yield ray.get(done)
            except ray.exceptions.RayError as error:
                yield _lost(path, out, error)
                ray.kill(actor)
                actor = worker.remote() if waiting else None
            if waiting:
                give(actor)


class _Worker:
    """What runs in an actor."""

    def run(self, source: Path, settings: ManySettings, out: Path) -> Result:
        return reconstruct_one(source, settings, out)


def _lost(path: Path, out: Path, error: Exception) -> Result:
    """The result of a recording whose actor died; its own, if it had just been written."""
    result = read_result(out, path.name)
    if result is None:
        reason = f"the worker died: {str(error).splitlines()[0]}"
        result = Result(path.name, str(path), "failed", reason=reason)
        write_result(out, result)
    return result
