"""The `hand-mesh` command. Heavy imports happen inside the subcommands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from hand_mesh_ros import (
    cli_amvur,
    cli_calibrate,
    cli_evaluate,
    cli_fused,
    cli_hamuco,
    cli_networks,
    cli_sigma,
    cli_sima,
    cli_time,
    cli_train,
)
from hand_mesh_ros.cli_data import data_app
from hand_mesh_ros.cli_workshop import bench_app, model_app
from hand_mesh_ros.terminal import fail, print_report, progress_bar

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
    rich_markup_mode="rich",
    help="Hands from calibrated cameras: metric pose, mesh and MANO parameters.",
)
app.add_typer(model_app, name="model")
app.add_typer(bench_app, name="bench")
app.add_typer(data_app, name="data")
app.command("calibrate-cell", epilog=cli_calibrate.EPILOG)(cli_calibrate.calibrate_cell)
app.command("evaluate", epilog=cli_evaluate.EPILOG)(cli_evaluate.evaluate)
app.command("train", epilog=cli_train.EPILOG)(cli_train.train)
model_app.command("sigma", epilog=cli_sigma.EPILOG)(cli_sigma.model_sigma)
model_app.command("convert", epilog=cli_networks.CONVERT_EPILOG)(cli_networks.convert)
model_app.command("export", epilog=cli_fused.EXPORT_EPILOG)(cli_fused.export)
bench_app.command("amvur", epilog=cli_amvur.BENCH_EPILOG)(cli_amvur.bench_amvur)
bench_app.command("hamuco", epilog=cli_hamuco.BENCH_EPILOG)(cli_hamuco.bench_hamuco)
bench_app.command("sima", epilog=cli_sima.EPILOG)(cli_sima.bench_sima)
bench_app.command("hamer", epilog=cli_fused.BENCH_EPILOG)(cli_fused.bench_hamer)
bench_app.command("parity", epilog=cli_networks.PARITY_EPILOG)(cli_networks.bench_parity)
data_app.command("shards", epilog=cli_train.SHARDS_EPILOG)(cli_train.shards)
app.command("calibrate-time", epilog=cli_time.EPILOG)(cli_time.calibrate_time)


@app.command(epilog="Example: hand-mesh fetch")
def fetch() -> None:
    """Download and verify the landmark networks (Apache-2.0), once, into the user's cache.

    Also compiles the solver for this machine, which takes some seconds the first time.
    """
    from hand_mesh_ros.hand.compiled import warm_up
    from hand_mesh_ros.networks.assets import AssetError, fetch_landmark_networks

    try:
        paths = fetch_landmark_networks(progress=typer.echo)
    except AssetError as error:
        fail(error)
    for name, path in paths.items():
        typer.echo(f"{name}: {path}")
    compiled = warm_up()
    typer.echo("solver: " + ("compiled" if compiled else "not compiled (Numba is missing): slower"))


@app.command(
    epilog="Examples: hand-mesh demo   |   hand-mesh demo --recording DIR --out out/mine"
)
def demo(
    recording: Annotated[
        Path | None, typer.Option(help="Folder of videos with calibration, or a bag.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the results; emptied first.")] = Path(
        "out/demo"
    ),
    pace: Annotated[
        str, typer.Option(help="lockstep: every frame set is processed; realtime: as recorded.")
    ] = "lockstep",
    cameras: Annotated[int, typer.Option(help="Synthetic cameras.", min=1, max=8)] = 4,
    hands: Annotated[str, typer.Option(help="Synthetic hands, e.g. right or left,right.")] = (
        "left,right"
    ),
    seconds: Annotated[float, typer.Option(help="Length of the synthetic scene.")] = 6.0,
    seed: Annotated[int, typer.Option(help="Seed of the synthetic scene.")] = 0,
) -> None:
    """Run the real nodes on a scene or a recording; leave MCAP, contact sheet and report."""
    if pace not in ("lockstep", "realtime"):
        fail(f"--pace {pace}: it is lockstep or realtime")
    if recording is not None and not recording.exists():
        fail(f"--recording {recording}: no such file or folder")
    try:
        from hand_mesh_ros.ros.demo import DemoFailed, DemoOptions, run_demo
    except ModuleNotFoundError as error:
        fail(f"{error}: the demo needs ROS 2; pip install 'hand-mesh-ros[ros]', or source yours")
    from hand_mesh_ros.data.recordings import BadRecording

    sides = tuple(hand.strip() for hand in hands.split(",") if hand.strip())
    options = DemoOptions(out, recording, pace, cameras, sides, seconds, seed)
    try:
        with progress_bar("demo") as report_progress:
            report = run_demo(options, report_progress)
    except (DemoFailed, BadRecording, ValueError) as error:
        fail(error)
    print_report(report)
    typer.echo(f"wrote {out}/hands.mcap, {out}/sheet.png, {out}/report.json")


@app.command(
    epilog="Examples: hand-mesh reconstruct hand.mp4 --out out/hand   |   "
    "hand-mesh reconstruct cell/ --out out/cell --no-video   |   "
    "hand-mesh reconstruct archive/ --each --no-video"
)
def reconstruct(
    source: Annotated[Path, typer.Argument(help="Video, folder of images, recording or bag.")],
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("out/reconstruct"),
    calibration: Annotated[
        Path | None, typer.Option(help="Intrinsics of a single camera (.yaml, .toml, .dat).")
    ] = None,
    unit_m: Annotated[
        float | None, typer.Option(help="Metres in one unit of a rot_trans calibration.")
    ] = None,
    hand_model: Annotated[
        Path | None, typer.Option(help="Hand model (.npz); default: the free hand.")
    ] = None,
    backend: Annotated[str, typer.Option(help="How views become hands.")] = "landmarks",
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
    max_hands: Annotated[int, typer.Option(help="Most hands to look for.", min=1)] = 2,
    shape: Annotated[
        Path | None, typer.Option(help="The person's hand shape, of calibrate-shape.")
    ] = None,
    video: Annotated[bool, typer.Option(help="Write overlay.mp4 with the mesh drawn.")] = True,
    texture: Annotated[
        bool, typer.Option("--texture", help="Write the skin of every hand: .glb and .obj.")
    ] = False,
    each: Annotated[
        bool, typer.Option("--each", help="SOURCE is a folder of recordings: do what is not done.")
    ] = False,
    ray: Annotated[
        bool | None, typer.Option(help="With --each, run on Ray; default: where it is installed.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="With --each, Ray's actors at most.", min=1)
    ] = None,
    retry: Annotated[
        bool, typer.Option("--retry", help="With --each, try again what failed before.")
    ] = False,
) -> None:
    """Reconstruct hands from files, without ROS: hands.jsonl, overlay.mp4, sheet.png, report."""
    if each:
        from hand_mesh_ros.cli_reconstruct import reconstruct_each
        from hand_mesh_ros.evaluation.reconstruct_many import ManySettings

        if texture:
            fail("--texture is for one recording: leave --each out")
        files = (hand_model, shape, calibration, checkpoint)
        model, person, intrinsics, weights = (f and f.resolve() for f in files)
        settings = ManySettings(
            backend, max_hands, model, person, intrinsics, unit_m, video,
            checkpoint=weights, network_device=device, jitter=jitter, precision=precision,
        )  # fmt: skip
        return reconstruct_each(source, out, settings, ray, workers, retry)
    from hand_mesh_ros.data.recordings import BadRecording, open_recording
    from hand_mesh_ros.evaluation.reconstruct import reconstruct as run
    from hand_mesh_ros.networks.assets import AssetError
    from hand_mesh_ros.perception.build import build_pipeline
    from hand_mesh_ros.perception.estimate import NetworkOptions
    from hand_mesh_ros.perception.pipeline import PipelineSettings

    try:
        recording = open_recording(source, unit_m=unit_m, calibration=calibration)
        pipeline, models = build_pipeline(
            backend=backend,
            network=NetworkOptions(checkpoint, device, jitter, precision=precision),
            hand_model=hand_model,
            pipeline=PipelineSettings(max_hands=max_hands),
            shape=shape,
        )
        with progress_bar("reconstruct") as report_progress:
            report = run(recording, pipeline, models, out, video, report_progress, texture)
    except (BadRecording, AssetError, FileNotFoundError, ValueError) as error:
        fail(error)
    print_report(report)
    more = [f"{out}/{name}" for name in report.get("textures", ())]
    wrote = [f"{out}/{name}" for name in ("hands.jsonl", "sheet.png", "report.json")]
    typer.echo(f"wrote {', '.join([*wrote, *more])}")


@app.command(
    "calibrate-shape",
    epilog="Examples: hand-mesh calibrate-shape cell/ --out person.json   |   "
    "hand-mesh reconstruct hand.mp4 --shape person.json",
)
def calibrate_shape(
    recording: Annotated[Path, typer.Argument(help="Recording of two calibrated cameras or more.")],
    out: Annotated[Path, typer.Option(help="The file to write.")] = Path("shape.json"),
    calibration: Annotated[
        Path | None, typer.Option(help="Intrinsics of a single camera (.yaml, .toml, .dat).")
    ] = None,
    unit_m: Annotated[
        float | None, typer.Option(help="Metres in one unit of a rot_trans calibration.")
    ] = None,
    hand_model: Annotated[
        Path | None, typer.Option(help="Hand model (.npz); default: the free hand.")
    ] = None,
    side: Annotated[
        str, typer.Option(help="both: the hands are one person's; left or right: that hand only.")
    ] = "both",
    max_frames: Annotated[
        int | None, typer.Option(help="Frame sets to look at, spread evenly; default: all.", min=10)
    ] = None,
) -> None:
    """Estimate a person's hand shape once, for later use: bone lengths, with their uncertainty."""
    from hand_mesh_ros.data.recordings import BadRecording, open_recording
    from hand_mesh_ros.evaluation.shape_report import calibrate_recording
    from hand_mesh_ros.networks.assets import AssetError
    from hand_mesh_ros.perception.build import build_pipeline

    if side not in ("both", "left", "right"):
        fail(f"--side {side}: it is both, left or right")
    try:
        opened = open_recording(recording, unit_m=unit_m, calibration=calibration)
        pipeline, models = build_pipeline(hand_model=hand_model)
        with progress_bar("calibrate-shape") as report_progress:
            shape = calibrate_recording(
                opened, pipeline, models, side, max_frames, report_progress
            )
        shape.save(out)
    except (BadRecording, AssetError, OSError, ValueError) as error:
        fail(error)
    _print_shape(shape, models["right"])
    typer.echo(f"wrote {out}")


def _print_shape(shape: Any, model: Any) -> None:
    from rich.console import Console

    from hand_mesh_ros.evaluation.shape_report import shape_tables

    for table in shape_tables(shape, model):
        Console().print(table)


def main() -> None:
    """Entry point of the console script."""
    app()


if __name__ == "__main__":
    main()
