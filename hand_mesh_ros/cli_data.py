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


@data_app.command(
    "instants",
    epilog="Example: hand-mesh data instants train --count 7000 --processes 2; then hand-mesh "
    "train hamuco-renders",
)
def instants_command(
    name: Annotated[str, typer.Argument(help="train, validation or test: which store to make.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder; default: where the recipes look for that name.")
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="renders, renders-v1, dataset, recording or module:function.")
    ] = None,
    option: Annotated[
        list[str] | None, typer.Option("--option", help="KEY=VALUE for the source, as YAML.")
    ] = None,
    count: Annotated[
        int | None, typer.Option(min=1, help="Instants; of a recording, by default all.")
    ] = None,
    views: Annotated[int, typer.Option(min=1, max=8, help="Cameras.")] = 4,
    processes: Annotated[int, typer.Option(min=1, help="Processes that draw.")] = 2,
    seed: Annotated[int, typer.Option(min=0, help="Of the crops' augmentation.")] = 0,
) -> None:
    """Make a store of instants: several views of hands, with the landmark network's evidence.

    The small networks (hamer-small, hamuco, sima, amvur) are trained on such stores, because on a
    CPU the evidence is what costs. What was broken off is gone on with. About 180 kB a view.
    `--source recording --option path=DIR` finds the hands in a recording of calibrated cameras,
    without labels; also `begin`, `end` (fractions of it) and `every` (so many frame sets).
    """
    import yaml

    from hand_mesh_ros.networks.assets import AssetError
    from hand_mesh_ros.training.instant_sources import STORES, folder_of
    from hand_mesh_ros.training.instant_writer import ALL, StoreRequest, write_store
    from hand_mesh_ros.training.instants import StoreError
    from hand_mesh_ros.training.recipes import Augmentation

    if name not in STORES and source is None:
        typer.echo(f"{name!r}: one of {', '.join(STORES)}, or give --source", err=True)
        raise typer.Exit(2)
    known = STORES.get(name, STORES["train"])
    options = dict(known.options) if source is None else {}
    for text in option or ():
        key, _, value = text.partition("=")
        options[key] = yaml.safe_load(value)
    request = StoreRequest(
        source or known.source, options,
        count or (ALL if source == "recording" else known.count), views,
        Augmentation() if known.augmented else None, seed,
    )  # fmt: skip
    try:
        with progress_bar(name) as report:
            store = write_store(request, out or folder_of(name), processes, report)
    except (AssetError, StoreError, ValueError, IndexError, OSError) as error:
        fail(error)
    typer.echo(f"wrote {store.folder}: {len(store)} instants in {store.views} views")


@data_app.command(
    "labels",
    epilog="Example: hand-mesh data labels train --network out/train/hamuco-renders/"
    "weights.safetensors; then hand-mesh train hamuco-renders once more",
)
def labels_command(
    name: Annotated[str, typer.Argument(help="The store: its name, or its folder.")],
    network: Annotated[
        Path | None,
        typer.Option(help="A trained HaMuCo: labels of the next round, by what it says."),
    ] = None,
) -> None:
    """Make a store's labels without truth: one hand fitted to all views of each instant.

    The first round, which training makes itself where it is missing, fits the landmark network's
    answers. Each further round replaces the labels by those that a trained network leads to.
    """
    from hand_mesh_ros.hand.model import load_hand_model
    from hand_mesh_ros.networks.assets import AssetError
    from hand_mesh_ros.perception.hamuco_network import open_hamuco
    from hand_mesh_ros.training.instant_sources import folder_of
    from hand_mesh_ros.training.instants import StoreError
    from hand_mesh_ros.training.pseudo_labels import ensure_labels, refreshed

    folder = Path(name) if "/" in name else folder_of(name)
    try:
        with progress_bar(name) as report:
            if network is None:
                made = ensure_labels(folder, report)
            else:
                made = refreshed(folder, open_hamuco(network, load_hand_model()), report)
    except (AssetError, StoreError, OSError) as error:
        fail(error)
    typer.echo(f"{folder}: labels of {made} parts are new")
