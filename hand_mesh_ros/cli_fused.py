"""`hand-mesh bench hamer` and `hand-mesh model export`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from hand_mesh_ros.terminal import fail, print_report, progress_bar

BENCH_EPILOG = (
    "Examples: hand-mesh bench hamer   |   hand-mesh bench hamer --weights small.safetensors"
)
EXPORT_EPILOG = "Example: hand-mesh model export hamer.ckpt hamer.onnx"


def bench_hamer(
    weights: Annotated[
        list[Path] | None, typer.Option(help="Trained networks, compared beside random ones.")
    ] = None,
    network: Annotated[
        str, typer.Option(help="Whose time is taken, in full size: hamer or wilor.")
    ] = "hamer",
    batch: Annotated[
        list[int] | None, typer.Option(help="Crops at once; 1 if none is given.", min=1)
    ] = None,
    repetitions: Annotated[int, typer.Option(help="Turns, fused beside plain.", min=1)] = 7,
    out: Annotated[Path, typer.Option(help="Folder for hamer.json.")] = Path("out/bench"),
) -> None:
    """The fused path beside the plain network: equality, seconds, operations, rates.

    In full size with random weights, which takes 5 GB. Figures of a GPU are null without one.
    """
    if network not in ("hamer", "wilor"):
        fail(f"--network {network}: it is hamer or wilor")
    from hand_mesh_ros.evaluation.bench_hamer import measure
    from hand_mesh_ros.networks.assets import AssetError

    batches = sorted({1, *(batch or ())})
    try:
        with progress_bar("bench hamer") as report:
            figures = measure(report, weights or (), network, batches, repetitions)  # type: ignore[arg-type]
    except AssetError as error:
        fail(error)
    out.mkdir(parents=True, exist_ok=True)
    name = f"{network}.json"
    (out / name).write_text(json.dumps(figures, indent=2) + "\n")
    plain = {key: value for key, value in figures.items() if not isinstance(value, dict)}
    print_report({"source": "bench hamer", **plain})
    for count, row in figures["cpu"].items():
        print_report({"source": f"CPU, batch {count}", **row})
    print_report({"source": "machine", **figures["machine"]})
    typer.echo(f"wrote {out}/{name}")


def export(
    source: Annotated[Path, typer.Argument(help="HaMeR's or WiLoR's .ckpt, .pt, .safetensors.")],
    out: Annotated[Path, typer.Argument(help="The .onnx to write.")],
    with_hand_model: Annotated[
        bool, typer.Option("--with-hand-model", help="Vertices and joints too (MANO's licence).")
    ] = False,
) -> None:
    """Make a checkpoint into an ONNX file for any batch of crops, and check it.

    Needs onnx, onnxscript and onnxruntime: pip install 'hand-mesh-ros\\[export]'.
    """
    from hand_mesh_ros.networks.assets import AssetError
    from hand_mesh_ros.networks.checkpoints import open_reconstructor
    from hand_mesh_ros.networks.export import NEEDED
    from hand_mesh_ros.networks.export import export as write

    if out.suffix != ".onnx":
        fail(f"{out}: the name of an ONNX file ends in .onnx")
    try:
        network = open_reconstructor(source)
        worst = write(network, out, with_hand_model)
    except ModuleNotFoundError as error:
        fail(f"{error}: {NEEDED}")
    except (AssetError, OSError, ValueError, RuntimeError) as error:
        fail(error)
    typer.echo(f"{out}: equal to the network but for {worst:.1e}, by ONNX Runtime")
    if with_hand_model:
        typer.echo("It holds the hand model: MANO's licence forbids passing this file on.")
