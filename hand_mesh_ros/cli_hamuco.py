"""`hand-mesh bench hamuco`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hand_mesh_ros.terminal import fail, print_report, progress_bar

BENCH_EPILOG = (
    "Examples: hand-mesh bench hamuco   |   hand-mesh bench hamuco --recordings ../shared/data   |"
    "   hand-mesh bench hamuco --ablations"
)


def bench_hamuco(
    weights: Annotated[
        Path | None, typer.Option(help="Another run's weights than those that ship.")
    ] = None,
    recordings: Annotated[
        Path | None, typer.Option(help="Folder with four-cameras, for leave-one-view-out.")
    ] = None,
    held_out: Annotated[
        float,
        typer.Option(min=0.01, max=1, help="Only so much of the recording's end, of 1."),
    ] = 1.0,
    ablations: Annotated[
        bool, typer.Option(help="Train short runs that differ in one switch; nothing else.")
    ] = False,
    instants: Annotated[int, typer.Option(min=1, help="Of an ablation's epoch.")] = 2000,
    epochs: Annotated[int, typer.Option(min=1, help="Of an ablation.")] = 2,
    seeds: Annotated[int, typer.Option(min=1, help="Of each ablation.")] = 3,
    out: Annotated[Path, typer.Option(help="Folder for hamuco.json and pictures.")] = Path(
        "out/bench"
    ),
) -> None:
    """One view, several views, and what the landmark network alone is worth; no 3D label used.

    Needs the stores that `hand-mesh data instants test` and `validation` make (and `train` for the
    ablations, which keep their runs and go on where they were).
    """
    from rich.console import Console
    from rich.table import Table

    from hand_mesh_ros.cli_workshop import add_figures
    from hand_mesh_ros.networks.assets import AssetError
    from hand_mesh_ros.training.instants import StoreError

    try:
        if ablations:
            from hand_mesh_ros.evaluation.hamuco_ablations import COLUMNS, ablate

            folder = out / "hamuco-ablations"
            with progress_bar("bench hamuco: ablations") as report:
                table = ablate(report, folder, instants, epochs, range(seeds))
            shown = Table("PA-MPJPE, mm", *COLUMNS)
            for name, row in table.items():
                shown.add_row(name, *(f"{row[c]:.2f} ± {row[f'{c}_std']:.2f}" for c in COLUMNS))
            Console().print(shown)
            typer.echo(f"wrote {folder}/ablations.json and ablations.png")
            return
        from hand_mesh_ros.evaluation.bench_hamuco import draw, measure

        with progress_bar("bench hamuco") as report:
            figures, errors = measure(report, weights)
            if recordings is not None:
                from hand_mesh_ros.evaluation.hamuco_recordings import left_out

                film = recordings / "four-cameras"
                figures |= left_out(film, report, weights, begin=1 - held_out)
                figures["loo_held_out"] = held_out
    except (AssetError, StoreError, ValueError) as error:
        fail(error)
    print_report({"source": "bench hamuco", **figures})
    out.mkdir(parents=True, exist_ok=True)
    add_figures(out / "hamuco.json", figures)
    for name, each in errors.items():
        draw(each, f"HaMuCo on the store {name!r}, {len(each.shown)} instants",
             out / f"hamuco-{name}.png")  # fmt: skip
