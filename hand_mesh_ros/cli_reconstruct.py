"""`hand-mesh reconstruct --each`: a folder of recordings, on Ray or here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from hand_mesh_ros.terminal import fail, progress_bar

if TYPE_CHECKING:
    from hand_mesh_ros.evaluation.reconstruct_many import ManySettings

_SHOWN = 20


def reconstruct_each(
    folder: Path,
    out: Path,
    settings: ManySettings,
    ray: bool | None,
    workers: int | None,
    retry: bool,
) -> None:
    """Reconstruct all recordings of a folder that are not done yet, and list what failed.

    `ray` None: where it is installed. Exits with 1 if something failed.
    """
    from hand_mesh_ros.evaluation import on_ray
    from hand_mesh_ros.evaluation.reconstruct_many import one_by_one, reconstruct_many
    from hand_mesh_ros.networks.assets import AssetError, landmark_network_path

    if ray and not on_ray.available():
        fail("--ray: Ray is not installed; pip install 'hand-mesh-ros[ray]', or --no-ray")
    if workers is not None and ray is False:
        fail("--workers is for Ray: leave --no-ray out")
    use_ray = on_ray.available() if ray is None else ray
    try:
        # once, before a thousand recordings fail by it
        for name in ("palm_detection_full", "hand_landmark_full"):
            landmark_network_path(name)
        run = on_ray.OnRay(workers) if use_ray else one_by_one
        with progress_bar("reconstruct") as report:
            summary = reconstruct_many(folder, out, settings, run, retry=retry, progress=report)
    except (AssetError, OSError, ValueError) as error:
        fail(error)
    typer.echo(
        f"{summary['done']} of {summary['recordings']} recordings done; results in {out}/results"
    )
    failures = summary["failures"]
    for name, reason in list(failures.items())[:_SHOWN]:
        typer.secho(f"failed: {name}: {reason}", err=True, fg=typer.colors.RED)
    if len(failures) > _SHOWN:
        typer.echo(f"... and {len(failures) - _SHOWN} more in {out}/summary.json", err=True)
    if failures:
        raise typer.Exit(1)
