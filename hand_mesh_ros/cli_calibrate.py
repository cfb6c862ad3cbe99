"""`hand-mesh calibrate-cell`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hand_mesh_ros.terminal import fail, progress_bar

if TYPE_CHECKING:
    from hand_mesh_ros.perception.cell_bundle import Intrinsics
    from hand_mesh_ros.perception.cell_scale import Baseline

EPILOG = (
    "Examples: hand-mesh calibrate-cell cell/ --shape person.json   |   "
    "hand-mesh calibrate-cell cell/ --from-nothing --reference front --baseline front,left,0.62"
)


def calibrate_cell(
    recording: Annotated[
        Path, typer.Argument(help="Recording of two cameras or more, a minute of moving hands.")
    ],
    out: Annotated[
        Path, typer.Option(help="Folder for cell.yaml, static_tf.sh, cell.json, cell.png.")
    ] = Path("out/cell"),
    shape: Annotated[
        Path | None,
        typer.Option(help="The person's hand shape, of calibrate-shape; default: the mean hand."),
    ] = None,
    from_nothing: Annotated[
        bool, typer.Option("--from-nothing", help="Do not look at the recording's extrinsics.")
    ] = False,
    reference: Annotated[
        str,
        typer.Option(
            help="Camera that keeps its pose (from nothing: whose axes become the world)."
        ),
    ] = "",
    baseline: Annotated[
        str, typer.Option(help="Two cameras and their distance in metres: front,left,0.62.")
    ] = "",
    trusted: Annotated[
        str, typer.Option(help="Two cameras whose given poses stay as they are: front,left.")
    ] = "",
    refine: Annotated[
        str,
        typer.Option(
            help="Intrinsics to refine: focal, centre, distortion (k1). Only where they are "
            "rough: a board knows them better than hands do."
        ),
    ] = "",
    max_frames: Annotated[
        int | None, typer.Option(help="Frame sets to look at, spread evenly; default: all.", min=20)
    ] = None,
    max_hands: Annotated[int, typer.Option(help="Most hands in a picture.", min=1)] = 2,
    unit_m: Annotated[
        float | None, typer.Option(help="Metres in one unit of a rot_trans calibration.")
    ] = None,
    hand_model: Annotated[
        Path | None, typer.Option(help="Hand model (.npz); default: the free hand.")
    ] = None,
) -> None:
    """Find out where a cell's cameras stand from hands that move before them."""
    from rich.console import Console

    from hand_mesh_ros.data.recordings import BadRecording, open_recording
    from hand_mesh_ros.evaluation.cell_report import tables, write
    from hand_mesh_ros.hand.model import load_hand_model
    from hand_mesh_ros.hand.shape import load_shape
    from hand_mesh_ros.networks.assets import AssetError
    from hand_mesh_ros.perception.build import build_observer
    from hand_mesh_ros.perception.cell_calibration import CellSettings
    from hand_mesh_ros.perception.cell_calibration import calibrate_cell as calibrate
    from hand_mesh_ros.perception.cell_watch import watch
    from hand_mesh_ros.types import SIDES

    try:
        settings = CellSettings(
            from_nothing=from_nothing,
            reference=reference,
            baseline=_baseline(baseline),
            trusted_pair=_pair(trusted),
            intrinsics=_intrinsics(refine),
        )
        models = {side: load_hand_model(hand_model, side=side) for side in SIDES}
        known = load_shape(shape, models["right"].model_id) if shape is not None else None
        opened = open_recording(recording, unit_m=unit_m)
        with progress_bar("calibrate-cell") as report:
            observer = build_observer(max_hands=max_hands)
            views = watch(opened, observer, max_frames, max_hands, report)
            found = calibrate(views, opened.cameras, models, known, settings, report)
        given = None if from_nothing else opened.cameras
        paths = write(found, given, out)
    except (BadRecording, AssetError, OSError, ValueError) as error:
        fail(error)
    for table in tables(found, given):
        Console().print(table)
    typer.echo(f"wrote {', '.join(str(path) for path in paths)}")


def _pair(text: str) -> tuple[str, str] | None:
    if not text:
        return None
    names = [name.strip() for name in text.split(",")]
    if len(names) != 2 or not all(names):
        raise ValueError(f"--trusted {text}: name two cameras, as in front,left")
    return names[0], names[1]


def _baseline(text: str) -> Baseline | None:
    from hand_mesh_ros.perception.cell_scale import Baseline

    if not text:
        return None
    parts = [part.strip() for part in text.split(",")]
    try:
        a, b, metres = parts[0], parts[1], float(parts[2])
    except (IndexError, ValueError):
        raise ValueError(
            f"--baseline {text}: name two cameras and metres, as in front,left,0.62"
        ) from None
    return Baseline(a, b, metres)


def _intrinsics(text: str) -> Intrinsics:
    from hand_mesh_ros.perception.cell_bundle import Intrinsics

    known = {"focal", "centre", "distortion"}
    chosen = {part.strip() for part in text.split(",") if part.strip()}
    if not chosen <= known:
        raise ValueError(f"--refine {text}: choose of {', '.join(sorted(known))}")
    return Intrinsics(**{name: True for name in chosen})
