"""`hand-mesh bench sima`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from hand_mesh_ros.terminal import fail, print_report, progress_bar

EPILOG = (
    "Examples: hand-mesh bench sima   |   hand-mesh bench sima --ablations --seeds 3   |   "
    "hand-mesh bench sima --untaught a.safetensors --taught b.safetensors"
)


def bench_sima(
    ablations: Annotated[
        bool, typer.Option("--ablations", help="Train with and without each module instead.")
    ] = False,
    instants: Annotated[int, typer.Option(min=4, help="An epoch, of --ablations.")] = 1000,
    epochs: Annotated[int, typer.Option(min=1, help="Of --ablations.")] = 4,
    seeds: Annotated[int, typer.Option(min=1, help="Of --ablations.")] = 1,
    untaught: Annotated[
        list[Path] | None, typer.Option(help="Students without a teacher, one a seed, to compare.")
    ] = None,
    taught: Annotated[
        list[Path] | None, typer.Option(help="Students of the same seeds with one.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for sima.json and plots.")] = Path("out/bench"),
) -> None:
    """SiMA-Hand's four errors of one view, taught or not, and of several; by occlusion and views.

    With --ablations: IFF, JFF, VFF, HSFE and HOFE each left out, in short trainings (minutes each).
    With --untaught and --taught: what the teacher is worth over several seeds, by occlusion.
    """
    from hand_mesh_ros.networks.assets import AssetError
    from hand_mesh_ros.training.instants import StoreError

    try:
        if ablations:
            _ablations(out, instants, epochs, seeds)
        elif untaught or taught:
            _teaching(out, untaught or [], taught or [])
        else:
            _figures(out)
    except (AssetError, StoreError, OSError, ValueError) as error:
        fail(error)


def _figures(out: Path) -> None:
    from hand_mesh_ros.cli_workshop import add_figures
    from hand_mesh_ros.evaluation.bench_sima import measure

    with progress_bar("bench sima") as report:
        figures, files = measure(report, out)
    print_report({"source": "bench sima", **figures})
    add_figures(out / "sima.json", figures)
    for file in files:
        typer.echo(f"wrote {file}")


def _teaching(out: Path, untaught: list[Path], taught: list[Path]) -> None:
    from hand_mesh_ros.evaluation.sima_teaching import compare, draw, show
    from hand_mesh_ros.training.instant_sources import folder_of
    from hand_mesh_ros.training.instants import InstantStore

    with progress_bar("bench sima: teaching") as report:
        found = compare(InstantStore(folder_of("validation")), untaught, taught, report)
    show(found)
    out.mkdir(parents=True, exist_ok=True)
    path = out / "sima_teaching.json"
    path.write_text(json.dumps(found, indent=2) + "\n")
    typer.echo(f"wrote {path} and {draw(found, out / 'sima_teaching.png')}")


def _ablations(out: Path, instants: int, epochs: int, seeds: int) -> None:
    from hand_mesh_ros.evaluation.sima_ablations import Size, ablate, draw, table

    with progress_bar("ablations") as report:
        found = ablate(report, out / "sima_ablations", Size(instants, epochs, seeds))
    for name, figures in table(found):
        print_report({"source": name, **figures})
    path = out / "sima_ablations.json"
    path.write_text(json.dumps(found, indent=2) + "\n")
    typer.echo(f"wrote {path} and {draw(found, out / 'sima_ablations.png')}")
