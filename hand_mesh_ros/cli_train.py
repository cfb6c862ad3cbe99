"""`hand-mesh train` and `hand-mesh data shards`: recipes run, samples written for streaming."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from hand_mesh_ros.terminal import fail, progress_bar

EPILOG = (
    "Examples: hand-mesh train --list   |   hand-mesh train frozen-trunk-mano --smoke   |   "
    "hand-mesh train landmark-trunk-mano --set trainer.devices=2 --set trainer.strategy=ddp"
)
SHARDS_EPILOG = "Example: hand-mesh data shards landmark-trunk-mano --out shards/train"


def train(
    recipe: Annotated[
        str | None, typer.Argument(help="Name of a recipe that comes with this, or a .yaml file.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run; default: out/train/RECIPE.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    smoke: Annotated[
        bool, typer.Option("--smoke", help="Two tiny epochs on the CPU, to see that it runs.")
    ] = False,
    change: Annotated[
        list[str] | None, typer.Option("--set", help="Change a key: trainer.precision=16-mixed.")
    ] = None,
    show: Annotated[bool, typer.Option("--list", help="List the recipes and stop.")] = False,
) -> None:
    """Train a network by a recipe: checkpoints, logs, weights.safetensors and a model card."""
    from hand_mesh_ros.training.recipes import read_recipe
    from hand_mesh_ros.training.recipes import smoke as shortened
    from hand_mesh_ros.training.settings import RecipeError

    if show or recipe is None:
        _list()
        raise typer.Exit(0 if show else 1)
    try:
        read = read_recipe(recipe, change or ())
        read = shortened(read) if smoke else read
        with tempfile.TemporaryDirectory(prefix="hand-mesh-smoke-") as scratch:
            folder = out or (Path(scratch) if smoke else Path("out/train") / read.name)
            try:
                from hand_mesh_ros.training.run import run
            except ModuleNotFoundError as error:
                fail(f"{error}: training needs pip install 'hand-mesh-ros[train]'")
            report = run(read, folder, resume=resume)
    except (RecipeError, OSError, ImportError, RuntimeError, ValueError) as error:
        fail(error)
    metrics = "   ".join(f"{name} {value:g}" for name, value in report["metrics"].items())
    typer.echo(f"{report['epochs']} epochs in {report['seconds']} s: {metrics}")
    if not smoke or out:
        typer.echo(f"wrote {folder}/weights.safetensors, {folder}/model_card.md")


def shards(
    recipe: Annotated[str, typer.Argument(help="Recipe whose source is to be written.")],
    out: Annotated[Path, typer.Option(help="New folder for the tar files.")],
    split: Annotated[str, typer.Option(help="train or validation.")] = "train",
    count: Annotated[int | None, typer.Option(help="Samples; default: the recipe's.")] = None,
    per_shard: Annotated[int, typer.Option(help="Samples in a file.", min=1)] = 1000,
    lossless: Annotated[bool, typer.Option(help="PNG instead of JPEG.")] = False,
) -> None:
    """Write a source's samples as tar files, for training that streams them (data.train.shards)."""
    from hand_mesh_ros.training.recipes import read_recipe
    from hand_mesh_ros.training.settings import RecipeError
    from hand_mesh_ros.training.sources import open_source

    if split not in ("train", "validation"):
        fail(f"--split {split}: it is train or validation")
    try:
        from hand_mesh_ros.training.shards import write_shards

        supply = getattr(read_recipe(recipe).data, split)
        if supply.source is None:
            fail(f"{recipe}: data.{split} is shards already")
        sample = open_source(supply.source, split, supply.options)  # type: ignore[arg-type]
        wanted = count or supply.count
        with progress_bar("writing shards") as report:
            files = write_shards(
                (sample(supply.first + k) for k in range(wanted)),
                out,
                per_shard=per_shard,
                quality=None if lossless else 92,
                progress=lambda done: report(done, wanted, "writing shards"),
            )
    except (RecipeError, OSError, ImportError, ValueError) as error:
        fail(error)
    typer.echo(f"wrote {len(files)} files with {wanted} samples to {out}")


def _list() -> None:
    from rich.console import Console
    from rich.table import Table

    from hand_mesh_ros.training.recipes import read_recipe, recipe_names

    table = Table("recipe", "what it trains", "samples an epoch", "epochs")
    for name in recipe_names():
        recipe = read_recipe(name)
        count, epochs = recipe.data.train.count, recipe.trainer.epochs
        table.add_row(name, recipe.description, f"{count:,}", str(epochs))
    Console().print(table)
