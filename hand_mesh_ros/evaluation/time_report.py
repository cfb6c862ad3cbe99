"""Time offsets out of a recording: in words, as a picture, and as parameters of the node."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from hand_mesh_ros.data.recordings import Recording
from hand_mesh_ros.perception.landmark_tracks import TrackCollector
from hand_mesh_ros.perception.pipeline import HandPipeline
from hand_mesh_ros.perception.time_offsets import TimeOffsets, estimate_offsets

if TYPE_CHECKING:
    from rich.table import Table

Progress = Callable[[int, int, str], None]


def offsets_of_recording(
    recording: Recording, pipeline: HandPipeline, reference: str | None, progress: Progress
) -> TimeOffsets:
    """The offsets of a recording's cameras from the motion of the hands in it.

    Raises ``ValueError`` where fewer than two cameras see a hand, or ``reference`` sees none.
    """
    collector = TrackCollector()
    total = len(recording)
    for index, frames in enumerate(recording):
        collector.add(pipeline.process(frames))
        progress(index + 1, total, "looking for hands")
    progress(total, total, "fitting offsets")
    return estimate_offsets(collector.tracks(), reference)


def offset_table(found: TimeOffsets) -> Table:
    """One line a camera, for a terminal."""
    from rich.table import Table

    table = Table(
        "camera", "offset, ms", "sigma, ms", "noise in the motion", "pictures", "verdict",
        title=f"time offsets to {found.reference}: median speed {found.speed:.2f} m/s, residual "
        f"{found.residual_before:.2f} to {found.residual:.2f} sigma",
    )  # fmt: skip
    for c in found.cameras:
        known = math.isfinite(c.seconds)
        table.add_row(
            c.camera,
            f"{1e3 * c.seconds:+.1f}" if known else "-",
            f"{1e3 * c.sigma:.1f}" if known else "-",
            f"{100 * min(c.noise, 1):.0f} %",
            str(c.pictures),
            c.verdict,
        )
    return table


def parameter_text(found: TimeOffsets, source: str) -> str:
    """The offsets as a parameter file of the node; a camera without one is a comment."""
    lines = [
        f"# Time offsets of {source}, from the motion of the hands in it: what to add to a",
        f"# camera's stamps to have the time of {found.reference}'s clock, in seconds.",
        "/**:",
        "  ros__parameters:",
        "    camera:",
    ]
    for c in found.cameras:
        if math.isfinite(c.seconds):
            lines += [f"      {c.camera}:", f"        time_offset: {c.seconds:.6f}"]
            lines[-1] += f"  # sigma {c.sigma:.6f}"
        else:
            lines.append(f"      # {c.camera}: {c.verdict}")
    return "\n".join(lines) + "\n"


def draw_cost(found: TimeOffsets, path: Path) -> None:
    """Write a picture (PNG) of how the cost rises about each camera's offset."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    for camera, cost in zip(found.cameras, found.cost, strict=True):
        if math.isfinite(camera.seconds) and camera.camera != found.reference:
            at = 1e3 * (camera.seconds + found.grid)
            label = f"{camera.camera}: {1e3 * camera.seconds:+.1f} ± {1e3 * camera.sigma:.1f} ms"
            (line,) = axes.plot(at, cost, label=label)
            axes.axvline(1e3 * camera.seconds, color=line.get_color(), linewidth=0.8, alpha=0.6)
    refused = [c.camera for c in found.cameras if not math.isfinite(c.seconds)]
    axes.set_title(
        f"Time offsets to {found.reference}"
        + (f" (none for {', '.join(refused)})" if refused else "")
    )
    axes.set_xlabel("offset, ms")
    axes.set_ylabel("rise of the cost")
    axes.axvline(0, color="0.5", linewidth=0.8, linestyle=":")
    axes.grid(alpha=0.25)
    if axes.get_legend_handles_labels()[0]:
        axes.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)
