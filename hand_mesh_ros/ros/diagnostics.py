"""What /diagnostics says, once a second (REP-107)."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from hand_mesh_ros.types import HandSet

_LEVELS = {
    "ok": DiagnosticStatus.OK,
    "warn": DiagnosticStatus.WARN,
    "error": DiagnosticStatus.ERROR,
}
# Weight of the newest set in running means.
_NEWEST = 0.05


@dataclass
class Statistics:
    """What the running node has done, written by its worker.

    ``stages``: running means of seconds. ``reprojection_px`` by camera: a running mean of the
    median distance between the landmarks of an image and those of the hands that were made.
    """

    sets: int = 0
    hands: int = 0
    latency: float = 0.0
    stages: dict[str, float] = field(default_factory=dict)
    reprojection_px: dict[str, float] = field(default_factory=dict)

    def add(self, hands: HandSet, latency: float, stages: Mapping[str, float]) -> None:
        """Take one result in; ``latency`` and ``stages`` in seconds."""
        self.sets += 1
        self.hands += len(hands.hands)
        self.latency = latency
        for stage, seconds in stages.items():
            _mean(self.stages, stage, seconds)
        for hand in hands.hands:
            estimate = hand.estimate
            for index, errors in zip(estimate.view_indices, estimate.residual_px, strict=False):
                seen = errors[np.isfinite(errors)]
                if len(seen):
                    _mean(self.reprojection_px, hands.views[index], float(np.median(seen)))


def _mean(means: dict[str, float], key: str, newest: float) -> None:
    before = means.get(key, newest)
    means[key] = before + _NEWEST * (newest - before)


@dataclass(frozen=True)
class CameraState:
    """One camera over the last period: frames a second (``rate``), seconds since the capture of

    its newest frame (``age``, NaN without one), frames refused since the start and why frames were
    left out of sets (``dropped``), ``reprojection_px`` (NaN without hands), views that others
    ``contradicted``, and so made no hand. ``moved`` says in words
    that it seems to have been moved, ``clock`` that its stamps are of another clock.
    """

    name: str
    topic: str
    rate: float
    refused: int = 0
    age: float = np.nan
    reprojection_px: float = np.nan
    contradicted: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    moved: str = ""
    clock: str = ""


def pipeline_status(
    node: str,
    statistics: Statistics,
    cameras: Sequence[CameraState],
    counters: Mapping[str, int],
    failures: int,
    waiting: int,
    skipped: int,
    trouble: str = "",
) -> DiagnosticStatus:
    """The whole node. ``counters``: frames and sets that came to nothing, by reason; ``waiting``
    and ``skipped``: sets in the queue, and those that a newer one has pushed out of it;
    ``trouble``: what else there is to warn of, in words.
    """
    stages = dict(statistics.stages)  # the worker goes on writing
    values = {
        "frame sets": str(statistics.sets),
        "hands": str(statistics.hands),
        "latency (s)": f"{statistics.latency:.3f}",
        "sets waiting": str(waiting),
        "sets dropped because a newer one came": str(skipped),
        "failures": str(failures),
        **{f"{stage} (ms)": f"{1e3 * seconds:.1f}" for stage, seconds in stages.items()},
        **{f"frames {reason}": str(count) for reason, count in counters.items()},
        **device_memory(),
    }
    silent = [camera.name for camera in cameras if camera.rate == 0]
    moved = [camera.name for camera in cameras if camera.moved]
    strange = [camera.name for camera in cameras if camera.clock and camera.rate > 0]
    troubles = [trouble] if trouble else []
    if silent:
        troubles.append(f"nothing from {', '.join(silent)}")
    if strange:
        troubles.append(f"another clock's stamps from {', '.join(strange)}")
    if moved:
        troubles.append(f"{', '.join(moved)} moved: calibrate the cell again")
    level = "warn" if troubles else "ok"
    return status(f"{node}: pipeline", level, "; ".join(troubles) or "working", values)


def camera_status(node: str, camera: CameraState) -> DiagnosticStatus:
    """One camera; WARN when nothing comes, when it seems to have moved, or for another clock."""
    values = {
        "rate (Hz)": f"{camera.rate:.2f}",
        "age (s)": f"{camera.age:.3f}",
        "refused": str(camera.refused),
        "reprojection (px)": f"{camera.reprojection_px:.1f}",
        "views contradicted by others": str(camera.contradicted),
        **{f"frames {reason}": str(count) for reason, count in camera.dropped.items()},
    }
    level, text = "ok", f"{camera.rate:.1f} Hz"
    if camera.moved:
        level, text = "warn", camera.moved
    if camera.clock:
        level, text = "warn", camera.clock
    if camera.rate == 0:
        level, text = "warn", f"nothing on {camera.topic}"
    return status(f"{node}: camera {camera.name}", level, text, values)


def device_memory() -> dict[str, str]:
    """Memory of the GPU in use, of this process and free; empty where torch uses none."""
    # a package has its `cuda` only when that is whole: another thread may be importing torch now
    cuda = getattr(sys.modules.get("torch"), "cuda", None)
    if cuda is None or not cuda.is_initialized():
        return {}
    free, total = cuda.mem_get_info()
    return {
        "device memory used (MiB)": f"{cuda.memory_allocated() / 2**20:.0f}",
        "device memory free (MiB)": f"{free / 2**20:.0f} of {total / 2**20:.0f}",
    }


def status(
    name: str, level: str, text: str, values: Mapping[str, str] | None = None
) -> DiagnosticStatus:
    """A status; ``level`` is ok, warn or error."""
    pairs = [KeyValue(key=key, value=value) for key, value in (values or {}).items()]
    return DiagnosticStatus(name=name, level=_LEVELS[level], message=text, values=pairs)
