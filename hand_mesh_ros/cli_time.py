"""`hand-mesh calibrate-time`: constant time offsets between the cameras of a recording."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hand_mesh_ros.terminal import fail, progress_bar

EPILOG = "Example: hand-mesh calibrate-time cell/ --out time_offsets.yaml"


def calibrate_time(
    recording: Annotated[Path, typer.Argument(help="Recording of two calibrated cameras or more.")],
    out: Annotated[
        Path, typer.Option(help="Parameter file to write; the plot goes beside it, as .png.")
    ] = Path("time_offsets.yaml"),
    reference: Annotated[
        str | None, typer.Option(help="Camera whose clock counts; default: the first by name.")
    ] = None,
    unit_m: Annotated[
        float | None, typer.Option(help="Metres in one unit of a rot_trans calibration.")
    ] = None,
    max_hands: Annotated[int, typer.Option(help="Most hands to look for.", min=1)] = 2,
) -> None:
    """Estimate each camera's constant time offset from the motion of the hands themselves."""
    from rich.console import Console

    from hand_mesh_ros.data.recordings import BadRecording, open_recording
    from hand_mesh_ros.evaluation.time_report import (
        draw_cost,
        offset_table,
        offsets_of_recording,
        parameter_text,
    )
    from hand_mesh_ros.networks.assets import AssetError
    from hand_mesh_ros.perception.build import build_pipeline
    from hand_mesh_ros.perception.pipeline import PipelineSettings

    try:
        opened = open_recording(recording, unit_m=unit_m)
        # Every camera is searched in every set: what is wanted are views, not speed.
        settings = PipelineSettings(max_hands=max_hands, search_every=1)
        pipeline, _ = build_pipeline(pipeline=settings)
        with progress_bar("calibrate-time") as report_progress:
            found = offsets_of_recording(opened, pipeline, reference, report_progress)
    except (BadRecording, AssetError, OSError, ValueError) as error:
        fail(error)
    Console().print(offset_table(found))
    if not any(c.verdict == "ok" for c in found.cameras):
        fail(f"{recording}: no camera's offset can be told; nothing is written")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(parameter_text(found, opened.name))
        draw_cost(found, out.with_suffix(".png"))
    except OSError as error:
        fail(error)
    typer.echo(f"wrote {out} and {out.with_suffix('.png')}")
