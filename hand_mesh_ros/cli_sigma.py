"""`hand-mesh model sigma`: how sure a backend's network is, measured on held-out renders."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hand_mesh_ros.terminal import fail, progress_bar

EPILOG = "Example: hand-mesh model sigma hamer.ckpt --jitter 4"


def model_sigma(
    checkpoint: Annotated[
        Path | None, typer.Argument(help="File of the weights; default: those that come along.")
    ] = None,
    backend: Annotated[str, typer.Option(help="The backend they are for.")] = "hamer",
    samples: Annotated[int, typer.Option(help="Held-out renders to ask about.", min=20)] = 200,
    jitter: Annotated[
        int, typer.Option(help="More crops a view, whose spread is to tell the error.", min=0)
    ] = 4,
    device: Annotated[str, typer.Option(help="Torch device of the network.")] = "cpu",
    hand_model: Annotated[
        Path | None, typer.Option(help="Hand model; default: the checkpoint's own.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The file to write; default: beside the weights.")
    ] = None,
) -> None:
    """Calibrate a network's sigmas on renders that nobody trains on: its errors by their spread.

    The backend finds the file beside its weights (CHECKPOINT.sigma.json).
    """
    from hand_mesh_ros.evaluation.network_sigma import measure_sigma
    from hand_mesh_ros.evaluation.renders_v1 import NAME, RenderedSamples, entries
    from hand_mesh_ros.networks.assets import AssetError
    from hand_mesh_ros.perception.build import build_backend, build_observer
    from hand_mesh_ros.perception.estimate import NetworkOptions
    from hand_mesh_ros.perception.learned_fit import LearnedFit
    from hand_mesh_ros.perception.network_sigma import sigma_file

    path = out or (sigma_file(checkpoint.expanduser()) if checkpoint is not None else None)
    if path is None:
        fail("name the checkpoint, or with --out the file to write for the weights that come along")
    try:
        made, _ = build_backend(backend, hand_model, NetworkOptions(checkpoint, device))
        if not isinstance(made, LearnedFit):
            fail(f"--backend {backend}: its sigmas are not a network's")
        half = samples // 2  # one view a hand, and several
        single, several = (entries("validation", (part,)) for part in ("single", "multi"))
        chosen = RenderedSamples(single[: samples - half] + several[:half])
        name = f"{NAME} validation, {len(chosen)} images, jitter {jitter}"
        with progress_bar("sigma") as report:
            rule = measure_sigma(made, build_observer(), chosen, jitter, name, report)
        rule.save(path)
    except (AssetError, OSError, ValueError) as error:
        fail(error)
    typer.echo(f"wrote {path}: {rule.calibration}")
