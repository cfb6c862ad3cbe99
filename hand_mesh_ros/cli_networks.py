"""`hand-mesh model convert`, `hand-mesh bench parity`: networks of other people's weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from hand_mesh_ros.terminal import fail, print_report, progress_bar

CONVERT_EPILOG = (
    "Examples: hand-mesh model convert hamer.ckpt hamer.safetensors   |   "
    "hand-mesh model convert wilor_final.ckpt wilor.safetensors --precision bf16"
)
PARITY_EPILOG = "Example: hand-mesh bench parity --fixtures ../shared/data/parity"


def convert(
    source: Annotated[Path, typer.Argument(help="HaMeR's or WiLoR's .ckpt, .pt, .safetensors.")],
    out: Annotated[Path, typer.Argument(help="The .safetensors to write.")],
    precision: Annotated[
        str, typer.Option(help="Of matrices: fp32, fp16 or bf16; the rest stays fp32.")
    ] = "fp32",
    with_hand_model: Annotated[
        bool, typer.Option("--with-hand-model", help="Keep the hand model in it (MANO's licence).")
    ] = False,
) -> None:
    """Make a checkpoint into a file that opens at once, without what only training needs.

    Without MANO too, which is not to be passed on: the converted network is then given the hand
    model beside it (MANO_RIGHT.pkl, or the original checkpoint).
    """
    from hand_mesh_ros.networks import convert as conversion
    from hand_mesh_ros.networks.assets import AssetError

    if precision not in ("fp32", "fp16", "bf16"):
        fail(f"--precision {precision}: it is fp32, fp16 or bf16")
    try:
        done = conversion.convert(source, out, precision, with_hand_model)  # type: ignore[arg-type]
    except (AssetError, OSError) as error:
        fail(error)
    typer.echo(f"{out}: {done.kind}, {done.tensors} tensors, {done.size / 1e6:.1f} MB")
    if done.with_hand_model:
        typer.echo("It holds the hand model: MANO's licence forbids passing this file on.")
    else:
        typer.echo(
            "It holds no hand model, as MANO's licence forbids passing it on: give the one it was "
            "trained with beside it, or convert again with --with-hand-model."
        )


def bench_parity(
    fixtures: Annotated[
        Path, typer.Option(help="Folder of the published networks' outputs, as hamer_tiny_io.npz.")
    ],
    full_size: Annotated[
        bool, typer.Option("--full-size", help="Also one crop through 2.7 GB of random weights.")
    ] = False,
    out: Annotated[Path, typer.Option(help="Folder for parity.json.")] = Path("out/bench"),
) -> None:
    """HaMeR and WiLoR beside the published networks' own outputs, losses and gradients.

    The exit status is 1 if a relative difference is above 1e-4.
    """
    from rich.console import Console

    from hand_mesh_ros.cli_workshop import add_figures
    from hand_mesh_ros.evaluation import bench_parity as bench
    from hand_mesh_ros.networks.assets import AssetError

    try:
        with progress_bar("bench parity") as report:
            outputs = bench.measure(fixtures, report)
            sizes = bench.full_sizes(report) if full_size else {}
    except (AssetError, OSError, ValueError) as error:
        fail(error)
    for table in bench.tables(outputs):
        Console().print(table)
    figures = bench.figures(outputs)
    shown: dict[str, Any] = dict(figures)
    for name, size in sizes.items():
        figures[f"{name}_full_size_s"] = round(size.seconds, 2)
        figures[f"{name}_full_size_parameters"] = size.parameters
        figures[f"{name}_full_size_bytes"] = size.size
        shown[f"{name} in full size"] = (
            f"{size.parameters:,} parameters, {size.size:,} bytes, {size.seconds:.1f} s a crop"
        )
        shown |= {f"{name} {key}": shape for key, shape in size.shapes.items()}
    print_report({"source": "bench parity", **shown})
    add_figures(out / "parity.json", figures)
    if wrong := [name for name in outputs if not figures[f"{name}_max_rel"] <= bench.LIMIT]:
        fail(f"{', '.join(wrong)} differs by more than {bench.LIMIT:g}")
