"""`hand-mesh data`: the data that this package makes itself, as files and pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hand_mesh_ros.terminal import fail, progress_bar

data_app = typer.Typer(no_args_is_help=True, help="Data this package makes: renders, their card.")


@data_app.callback()
def _data() -> None:
    """Data this package makes."""


@data_app.command(
    "renders-v1", epilog="Example: hand-mesh data renders-v1 --out renders --split test"
)
def renders_v1_command(
    out: Annotated[Path, typer.Option(help="Folder for pictures, masks, depth and labels.")],
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    parts: Annotated[
        list[str] | None, typer.Option("--part", help="single, multi, motion; default: the first 2")
    ] = None,
) -> None:
    """Write the benchmark renders-v1 as files, for use outside of this package.

    `hand-mesh evaluate renders-v1` needs none of them: it draws what it shows.
    """
    from hand_mesh_ros.evaluation.benchmarks import BenchmarkError
    from hand_mesh_ros.evaluation.renders_v1 import write

    try:
        with progress_bar("renders-v1") as report:
            labels = write(out, split, tuple(parts or ("single", "multi")), report)  # type: ignore[arg-type]  # checked there
    except (BenchmarkError, OSError) as error:
        fail(error)
    typer.echo(f"wrote {labels} and the pictures beside it")


@data_app.command("sheet", epilog="Example: hand-mesh data sheet --out docs/renders-v1.jpg")
def sheet_command(
    out: Annotated[Path, typer.Option(help="The picture to write, .jpg or .png.")],
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
) -> None:
    """Draw the contact sheet of renders-v1: what hides hands, several cameras, a motion."""
    from hand_mesh_ros.evaluation.benchmarks import BenchmarkError
    from hand_mesh_ros.evaluation.renders_sheet import contact_sheet
    from hand_mesh_ros.render.sheet import write_image

    try:
        write_image(out, contact_sheet(split))  # type: ignore[arg-type]  # checked there
    except (BenchmarkError, OSError) as error:
        fail(error)
    typer.echo(f"wrote {out}")
