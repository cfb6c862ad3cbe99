"""`hand-mesh evaluate`: a benchmark's table, beside what papers publish."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from hand_mesh_ros.terminal import fail, progress_bar

EPILOG = (
    "Examples: hand-mesh evaluate freihand --root DIR --predictions pred.json   |   "
    "hand-mesh evaluate ho3d --root DIR --backend zero"
)


def evaluate(
    bench: Annotated[str, typer.Argument(help="Name of the benchmark; a wrong one lists all.")],
    root: Annotated[Path | None, typer.Option(help="Folder of the benchmark's files.")] = None,
    backend: Annotated[
        str, typer.Option(help="How views become hands; zero: all points at the camera.")
    ] = "landmarks",
    checkpoint: Annotated[
        Path | None, typer.Option(help="File of the weights of the backend's network.")
    ] = None,
    device: Annotated[str, typer.Option(help="Torch device of the backend's network.")] = "cpu",
    jitter: Annotated[
        int, typer.Option(help="More crops a view, by whose spread its error is judged.")
    ] = 0,
    precision: Annotated[
        str, typer.Option(help="What that computes in: auto, float32, bfloat16, float16, int8.")
    ] = "auto",
    predictions: Annotated[
        Path | None,
        typer.Option(help="Judge this pred.json or npz instead of running a backend."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the results; default: out/evaluate/BENCH.")
    ] = None,
    side: Annotated[
        str, typer.Option(help="given: the hand's side is known, as in papers; estimated.")
    ] = "given",
    boxes: Annotated[
        str, typer.Option(help="given: the sample's box, as in papers; detected.")
    ] = "given",
    views: Annotated[
        str,
        typer.Option(help="one image at a time, all of an instant, or all others: leave-one-out."),
    ] = "one",
    joints: Annotated[
        str, typer.Option(help="model, or regressed from MANO's mesh with tips: freihand, ho3d.")
    ] = "model",
    limit: Annotated[
        int | None, typer.Option(help="Samples to judge, spread evenly; default: all.", min=1)
    ] = None,
    hand_model: Annotated[
        Path | None, typer.Option(help="Hand model (MANO_RIGHT.pkl, .npz); default: the free hand.")
    ] = None,
) -> None:
    """Judge a backend, or a file of predictions, by a benchmark's own metrics.

    Prints the table of papers with their rows; writes scores.json, samples.csv, predictions.npz,
    curves.png and the file that the benchmark's server takes.
    """
    for option, value, known in (
        ("--side", side, ("given", "estimated")),
        ("--boxes", boxes, ("given", "detected")),
        ("--views", views, ("one", "all", "others")),
    ):
        if value not in known:
            fail(f"{option} {value}: it is one of {', '.join(known)}")
    if predictions is not None and not predictions.is_file():
        fail(f"--predictions {predictions}: no such file")
    if predictions is not None and limit is not None:
        fail("--limit is for a backend's run; a file of predictions is judged as a whole")
    from rich.console import Console

    from hand_mesh_ros.evaluation import evaluate as evaluation
    from hand_mesh_ros.evaluation.benchmarks import BenchmarkError, open_benchmark, thinned
    from hand_mesh_ros.evaluation.predict import PredictSettings
    from hand_mesh_ros.evaluation.protocols import paper_table, visibility_table
    from hand_mesh_ros.evaluation.published import published_rows
    from hand_mesh_ros.networks.assets import AssetError
    from hand_mesh_ros.perception.estimate import NetworkOptions

    settings = PredictSettings(side, boxes, views, joints)  # type: ignore[arg-type]  # checked
    try:
        benchmark = open_benchmark(bench, root)
        if predictions is not None:
            name, made = predictions.stem, evaluation.read(predictions, benchmark)
        else:
            benchmark, name = thinned(benchmark, limit), backend
            with progress_bar(f"evaluate {bench}") as report:
                network = NetworkOptions(checkpoint, device, jitter, precision=precision)
                made = evaluation.predictions_of(
                    benchmark, backend, settings, report, hand_model, network
                )
        with Console(stderr=True).status("measuring"):
            how = {"file": str(predictions)} if predictions else asdict(settings)
            judged = evaluation.judge(benchmark, name, made, how)
            files, notes = evaluation.write(judged, out or Path("out/evaluate") / bench)
    except (BenchmarkError, AssetError, OSError, ValueError) as error:
        fail(error)
    rows = published_rows(benchmark.name)
    title = f"{benchmark.name}, {len(made)} samples"
    Console().print(paper_table(title, benchmark.table, judged.rows, rows))
    if judged.by_visibility:
        Console().print(visibility_table(judged.by_visibility))
    for note in notes:
        typer.echo(f"note: {note}")
    typer.echo(f"wrote {', '.join(map(str, files))}")
