"""`hand-mesh bench amvur`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hand_mesh_ros.terminal import fail, print_report, progress_bar

BENCH_EPILOG = (
    "Examples: hand-mesh bench amvur   |   hand-mesh bench amvur --experiments   |   "
    "hand-mesh bench amvur --calibrate out/train/amvur-renders/weights.safetensors"
)


def bench_amvur(
    weights: Annotated[
        Path | None, typer.Option(help="Another run's weights than those that ship.")
    ] = None,
    calibrate: Annotated[
        Path | None,
        typer.Option(help="Measure this file's temperatures on 'validation', write them into it."),
    ] = None,
    experiments: Annotated[
        bool, typer.Option(help="Train short runs for the claims about AMVUR; nothing else.")
    ] = False,
    views: Annotated[int, typer.Option(min=64, help="Of an experiment's training.")] = 4000,
    # fewer leave the rate's warm-up, a tenth of them, no step
    steps: Annotated[int, typer.Option(min=20, help="Of an experiment's training.")] = 150,
    seeds: Annotated[int, typer.Option(min=1, help="Of each experiment.")] = 1,
    first_seed: Annotated[
        int, typer.Option(min=0, help="Of those; others that are there already count, too.")
    ] = 0,
    out: Annotated[Path, typer.Option(help="Folder for amvur.json and pictures.")] = Path(
        "out/bench"
    ),
) -> None:
    """Whether AMVUR's sigmas are true, what several views and 2D labels alone are worth.

    Needs the store that `hand-mesh data instants validation` makes (and `train` for experiments);
    those of the test images it makes itself. Experiments need DEODR (`pip install deodr trimesh`)
    for silhouettes; several processes may train different seeds in one folder.
    """
    from hand_mesh_ros.cli_workshop import add_figures
    from hand_mesh_ros.networks.assets import AssetError
    from hand_mesh_ros.training.instants import StoreError

    try:
        if calibrate is not None:
            from hand_mesh_ros.evaluation.amvur_calibrate import calibrate_file

            typer.echo(f"{calibrate}: calibration {calibrate_file(calibrate)}")
            return
        if experiments:
            from hand_mesh_ros.evaluation.amvur_experiments import run_all
            from hand_mesh_ros.evaluation.amvur_outcomes import show
            from hand_mesh_ros.evaluation.amvur_seeds import Amount

            folder = out / "amvur-experiments"
            amount = Amount(views, steps, tuple(range(first_seed, first_seed + seeds)))
            with progress_bar("bench amvur: experiments") as report:
                outcomes = run_all(report, folder, amount)
            show(outcomes)
            typer.echo(f"wrote {folder}/experiments.json, .md and .png, and silhouettes.png")
            return
        from hand_mesh_ros.evaluation.bench_amvur import draw, measure

        with progress_bar("bench amvur") as report:
            figures, answers = measure(report, weights)
    except (AssetError, StoreError, ModuleNotFoundError, ValueError) as error:
        fail(error)
    print_report({"source": "bench amvur", **figures})
    add_figures(out / "amvur.json", figures)
    draw(answers, out / "amvur.png")
