"""What /diagnostics says, once a second (REP-107)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from hand_mesh_ros.ros.images import header

_LEVELS = {"ok": DiagnosticStatus.OK, "warn": DiagnosticStatus.WARN}


@dataclass
class Statistics:
    """Counters of the running node, written by its worker."""

    sets: int = 0
    hands: int = 0
    dropped_sets: int = 0
    failures: int = 0
    latency: float = 0.0
    stages: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class CameraRate:
    """Frames a second over the last period, and frames refused since the start."""

    name: str
    rate: float
    refused: int
    topic: str


def diagnostics(
    node: str,
    stamp_ns: int,
    statistics: Statistics,
    counters: Mapping[str, int],
    cameras: Sequence[CameraRate],
) -> DiagnosticArray:
    """One status for the pipeline and one a camera; WARN names what does not arrive."""
    values = {
        "frame sets": str(statistics.sets),
        "hands": str(statistics.hands),
        "latency (s)": f"{statistics.latency:.3f}",
        "sets dropped because a newer one came": str(statistics.dropped_sets),
        "failures": str(statistics.failures),
        **{f"{stage} (ms)": f"{1e3 * seconds:.1f}" for stage, seconds in statistics.stages.items()},
        **{f"frames {reason}": str(count) for reason, count in counters.items()},
    }
    silent = [camera.name for camera in cameras if camera.rate == 0]
    text = f"no images from {', '.join(silent)}" if silent else "working"
    status = [_status(f"{node}: pipeline", "warn" if silent else "ok", text, values)]
    for camera in cameras:
        level = "ok" if camera.rate > 0 else "warn"
        text = f"{camera.rate:.1f} Hz" if camera.rate > 0 else f"nothing on {camera.topic}"
        values = {"rate (Hz)": f"{camera.rate:.2f}", "refused": str(camera.refused)}
        status.append(_status(f"{node}: camera {camera.name}", level, text, values))
    return DiagnosticArray(header=header(stamp_ns, ""), status=status)


def _status(name: str, level: str, text: str, values: Mapping[str, str]) -> DiagnosticStatus:
    pairs = [KeyValue(key=key, value=value) for key, value in values.items()]
    return DiagnosticStatus(name=name, level=_LEVELS[level], message=text, values=pairs)
